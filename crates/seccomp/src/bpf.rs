//! Classic BPF: instructions, and a small assembler that knows how far they can jump.

/// One instruction of classic BPF, laid out as the kernel's `struct sock_filter`.
///
/// Source: linux/filter.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// What it does.
    pub code: u16,
    /// How many instructions to skip if a test holds.
    pub jt: u8,
    /// How many instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// `A = word at k` of `struct seccomp_data`
pub(crate) const LOAD: u16 = 0x20;
/// `A &= k`
pub(crate) const AND: u16 = 0x54;
/// `skip k`
pub(crate) const JUMP: u16 = 0x05;
/// `return k`
pub(crate) const RETURN: u16 = 0x06;

/// A test of the accumulator against the operand, unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// `A == k`
    Equal,
    /// `A > k`
    Greater,
    /// `A >= k`
    GreaterOrEqual,
}

impl Test {
    pub(crate) fn code(self) -> u16 {
        match self {
            Test::Equal => 0x15,
            Test::Greater => 0x25,
            Test::GreaterOrEqual => 0x35,
        }
    }
}

/// Offsets in `struct seccomp_data` (linux/seccomp.h).
pub(crate) const NUMBER: u32 = 0;
/// See [`NUMBER`].
pub(crate) const ARCH: u32 = 4;

/// The offset of one half of an argument; all architectures known here have the low half first.
pub(crate) fn argument(index: u8, high: bool) -> u32 {
    16 + 8 * u32::from(index) + if high { 4 } else { 0 }
}

/// An instruction that does not branch.
pub(crate) fn plain(code: u16, k: u32) -> Instruction {
    Instruction { code, jt: 0, jf: 0, k }
}

/// A program that is written from its end to its beginning, so that the lengths of what a test
/// jumps over are known when the test is written.
#[derive(Debug, Default)]
pub(crate) struct Backwards(Vec<Instruction>);

impl Backwards {
    /// Puts an instruction before all there are.
    pub(crate) fn before(&mut self, instruction: Instruction) {
        self.0.push(instruction);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Puts a test before all there are. If it fails control goes on with the next instruction,
    /// if it holds with what stood first when there were `holds_at` instructions.
    pub(crate) fn test(&mut self, test: Test, k: u32, holds_at: usize) {
        let skip = self.len() - holds_at;
        match u8::try_from(skip) {
            Ok(jt) => self.before(Instruction { code: test.code(), jt, jf: 0, k }),
            // A test jumps 255 instructions at most; an unconditional jump has 32 bits.
            Err(_) => {
                self.before(plain(JUMP, u32::try_from(skip).unwrap_or(u32::MAX)));
                self.before(Instruction { code: test.code(), jt: 0, jf: 1, k });
            }
        }
    }

    /// The program, in its order.
    pub(crate) fn forwards(mut self) -> Vec<Instruction> {
        self.0.reverse();
        self.0
    }
}
