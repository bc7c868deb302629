//! Why an instruction does not end as it should.

/// The mark of an operation that stopped; why is in [`Cpu::stop`](crate::cpu::Cpu::stop), so that
/// what every instruction returns fits in a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stopped;

/// What an operation of an instruction gives.
pub(crate) type Did<T = ()> = Result<T, Stopped>;

/// Why an instruction stopped. Nothing of it has happened then, but whole steps of a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The guest's handler is to run.
    Exception(Exception),
    /// It reaches beyond memory, or writes where instructions are, and has to be carried out on
    /// its own, with the block that it is in left before and after.
    Alone,
    /// It reads from a device; the answer is not there yet.
    Read,
    /// A fault while a double fault was delivered.
    TripleFault,
}

/// An exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exception {
    /// Which one.
    pub(crate) vector: u8,
    /// What is pushed after the return address, if it is one of those.
    pub(crate) code: Option<u32>,
    /// The address for cr2, or what dr6 gets.
    pub(crate) address: u64,
}

/// Vectors of exceptions.
pub(crate) mod vector {
    /// Divide error.
    pub(crate) const DE: u8 = 0;
    /// Debug.
    pub(crate) const DB: u8 = 1;
    /// Non-maskable interrupt.
    pub(crate) const NMI: u8 = 2;
    /// Bounds.
    pub(crate) const BR: u8 = 5;
    /// Invalid opcode.
    pub(crate) const UD: u8 = 6;
    /// No x87.
    pub(crate) const NM: u8 = 7;
    /// Double fault.
    pub(crate) const DF: u8 = 8;
    /// Invalid TSS.
    pub(crate) const TS: u8 = 10;
    /// Segment not present.
    pub(crate) const NP: u8 = 11;
    /// Stack.
    pub(crate) const SS: u8 = 12;
    /// General protection.
    pub(crate) const GP: u8 = 13;
    /// Page fault.
    pub(crate) const PF: u8 = 14;
    /// x87 error.
    pub(crate) const MF: u8 = 16;
    /// SIMD error.
    pub(crate) const XM: u8 = 19;
}

impl Exception {
    /// One without an error code.
    pub(crate) const fn plain(vector: u8) -> Exception {
        Exception { vector, code: None, address: 0 }
    }

    /// One with an error code.
    pub(crate) const fn coded(vector: u8, code: u32) -> Exception {
        Exception { vector, code: Some(code), address: 0 }
    }

    /// An address that is none; of the stack's it is [`Exception::of_stack`].
    pub(crate) const fn non_canonical(address: u64) -> Exception {
        Exception { vector: vector::GP, code: Some(0), address }
    }

    /// The same exception of an instruction that reaches the stack.
    pub(crate) const fn of_stack(self) -> Exception {
        match self {
            Exception { vector: vector::GP, code: Some(0), address } if address != 0 => {
                Exception { vector: vector::SS, code: Some(0), address }
            }
            other => other,
        }
    }

    /// A page fault.
    pub(crate) const fn page(address: u64, code: u32) -> Exception {
        Exception { vector: vector::PF, code: Some(code), address }
    }
}

/// What becomes of an exception while another is delivered.
///
/// Source: Intel SDM volume 3, table 6-5.
pub(crate) fn nested(first: u8, second: Exception) -> Result<Exception, Stop> {
    let contributory = |v| matches!(v, vector::DE | vector::TS..=vector::GP);
    match first {
        vector::DF => Err(Stop::TripleFault),
        vector::PF if contributory(second.vector) || second.vector == vector::PF => {
            Ok(Exception::coded(vector::DF, 0))
        }
        first if contributory(first) && contributory(second.vector) => {
            Ok(Exception::coded(vector::DF, 0))
        }
        _ => Ok(second),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_faults_are_a_double_fault_by_the_table() {
        let double = Ok(Exception::coded(vector::DF, 0));
        let page = Exception::page(5, 2);
        let protection = Exception::coded(vector::GP, 0);
        assert_eq!(nested(vector::GP, protection), double);
        assert_eq!(nested(vector::GP, page), Ok(page));
        assert_eq!(nested(vector::PF, page), double);
        assert_eq!(nested(vector::PF, protection), double);
        assert_eq!(nested(vector::UD, protection), Ok(protection));
        assert_eq!(nested(vector::DF, page), Err(Stop::TripleFault));
    }
}
