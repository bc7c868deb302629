//! What of an integer case is not compared: flags and results that the manuals leave undefined, and
//! what Intel's and AMD's processors, or their kernels, do differently. The tests run on all of
//! them and have to give the same answer.
#![allow(clippy::wildcard_enum_match_arm, reason = "iced's lists are long")]

use iced_x86::{Instruction, Mnemonic as M, OpKind, Register};

use crate::{
    host::{CODE, DATA, DATA_LEN, Event, Outcome},
    integer::Case,
};

/// Arithmetic flags.
const CF: u64 = 1;
const PF: u64 = 4;
const AF: u64 = 16;
const ZF: u64 = 64;
const SF: u64 = 128;
const OF: u64 = 2048;
const ALL: u64 = CF | PF | AF | ZF | SF | OF;
const DF: u64 = 1024;
/// Alignment check, which `popf` sets.
const AC: u64 = 1 << 18;

/// A part of what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything.
    Case,
    /// Which fault it is, and where.
    Fault,
    /// Registers and memory.
    Result,
    /// The data pages.
    Memory,
    /// The upper half of the first operand's register.
    UpperHalf,
    /// The upper halves of rcx, rsi and rdi.
    UpperCounts,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) instruction: &'a Instruction,
    pub(crate) case: &'a Case,
    /// How it ended on the host, and here.
    pub(crate) theirs: &'a Outcome,
    pub(crate) ours: &'a Outcome,
}

/// A difference that is nobody's mistake.
struct Rule {
    applies: fn(&Seen<'_>) -> bool,
    part: Part,
    /// Why, and who says so.
    #[allow(dead_code, reason = "for readers")]
    why: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        applies: |seen| {
            seen.is(&[M::Shld, M::Shrd]) && shift_count(seen.instruction, seen.case) > seen.bits()
        },
        part: Part::Result,
        why: "the result is undefined: Intel SDM volume 2, SHLD",
    },
    Rule {
        applies: |seen| seen.is(&[M::Bswap]) && seen.bits() == 16,
        part: Part::Result,
        why: "the result is undefined: Intel SDM volume 2, BSWAP",
    },
    Rule {
        applies: |seen| seen.is(&[M::Bsf, M::Bsr]) && seen.bits() == 32,
        part: Part::UpperHalf,
        why: "of a zero, older processors clear the upper half and keep the lower one: Intel SDM \
              volume 2, BSF",
    },
    Rule {
        applies: |seen| seen.is(&[M::Cmpxchg]) && seen.bits() == 32,
        part: Part::UpperHalf,
        why: "a register that is not exchanged is written with itself, or not written",
    },
    Rule {
        applies: |seen| {
            seen.instruction.is_string_instruction()
                && seen.case.code.contains(&0x67)
                && seen.case.gpr[1] & 0xffff_ffff == 0
        },
        part: Part::UpperCounts,
        why: "whether a string of no rounds writes its 32-bit registers is nowhere said",
    },
    Rule {
        applies: |seen| seen.is(&[M::Movsxd]) && seen.bits() == 16 && seen.memory_fails(),
        part: Part::Fault,
        why: "with 16 bits it reads 2 bytes or 4: MOVSXD in Intel SDM volume 2 and AMD APM volume 3",
    },
    Rule {
        applies: |seen| seen.faults_of_address() && beyond_48(seen),
        part: Part::Case,
        why: "with five levels of paging, addresses have 57 bits",
    },
    Rule {
        applies: |seen| {
            seen.ours.event != seen.theirs.event
                && seen.faults_of_address()
                && has_segment(seen.case)
        },
        part: Part::Fault,
        why: "whether a prefix that names another segment makes a fault of the stack one of data",
    },
    Rule {
        applies: |seen| seen.faults_of_address() && straddles(seen),
        part: Part::Fault,
        why: "of an operand across a border, the first byte is told or the first beyond it; a page \
              fault and one of the address come in either order",
    },
    Rule {
        applies: |seen| seen.faults_of_address() && seen.two_operands_fail(),
        part: Part::Fault,
        why: "which of two operands that fail is told",
    },
    Rule {
        applies: |seen| seen.is(&[M::Cmpxchg16b]) && seen.faults_of_address(),
        part: Part::Fault,
        why: "a page fault and one of alignment come in either order",
    },
    Rule {
        applies: |seen| seen.is(&[M::Enter]) && seen.end_of_frame_fails(),
        part: Part::Case,
        why: "how much of a frame is touched: Intel SDM volume 2, ENTER; AMD APM volume 3, ENTER",
    },
    Rule {
        applies: |seen| seen.is(&[M::Enter]) && seen.theirs.event != Event::Done,
        part: Part::Memory,
        why: "some of its frame pointers may have been pushed before the fault",
    },
];

/// Whether a part of this case is not compared.
pub(crate) fn leaves_out(part: Part, seen: &Seen<'_>) -> bool {
    RULES.iter().any(|rule| rule.part == part && (rule.applies)(seen))
}

fn reachable(address: u64, bytes: u64) -> bool {
    address >= DATA && address.saturating_add(bytes) <= DATA + DATA_LEN as u64
}

/// Whether an address has 57 bits but not 48.
fn long_address(address: u64) -> bool {
    address.wrapping_add(1 << 47) >> 48 != 0 && address.wrapping_add(1 << 56) >> 57 == 0
}

/// Whether the host has an address here that would be none with four levels of paging.
fn beyond_48(seen: &Seen<'_>) -> bool {
    let fault = matches!(seen.theirs.event, Event::Signal { number: libc::SIGSEGV, address, .. } if long_address(address));
    let target = seen.theirs.rip.wrapping_add(CODE);
    fault || seen.theirs.event == Event::Done && long_address(target)
}

fn has_segment(case: &Case) -> bool {
    let segment = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64 | 0x65);
    case.code.iter().take(4).any(segment)
}

/// Whether the two faults are told for places that one operand may have in common.
fn straddles(seen: &Seen<'_>) -> bool {
    let at = |outcome: &Outcome| match outcome.event {
        Event::Signal { number: libc::SIGSEGV, address, .. } if address != 0 => Some(address),
        _ => None,
    };
    let border = |address: u64| address & 0xfff >= 0xff0 || address & 0xfff == 0;
    match (at(seen.theirs), at(seen.ours)) {
        (Some(a), Some(b)) => a.abs_diff(b) < 16 && border(a) && border(b),
        // The last page of the lower half.
        (Some(a), None) | (None, Some(a)) => a >> 12 == (1 << 35) - 1,
        (None, None) => false,
    }
}

impl Seen<'_> {
    fn is(&self, of: &[M]) -> bool {
        of.contains(&self.instruction.mnemonic())
    }

    fn bits(&self) -> u64 {
        bits(self.instruction)
    }

    fn faults_of_address(&self) -> bool {
        let ours = matches!(self.ours.event, Event::Signal { number, .. } if [libc::SIGSEGV, libc::SIGBUS].contains(&number));
        let theirs = matches!(self.theirs.event, Event::Done)
            || matches!(self.theirs.event, Event::Signal { number, .. } if [libc::SIGSEGV, libc::SIGBUS].contains(&number));
        ours && theirs
    }

    /// Where the memory operand is.
    fn address(&self) -> Option<u64> {
        let value = |register: Register, _, _| match register {
            Register::FS => Some(self.case.bases[0]),
            Register::GS => Some(self.case.bases[1]),
            register if register.is_segment_register() => Some(0),
            register => Some(self.case.gpr[register.full_register().number()]),
        };
        (0..self.instruction.op_count())
            .find(|&n| self.instruction.op_kind(n) == OpKind::Memory)
            .and_then(|n| self.instruction.virtual_address(n, 0, value))
    }

    fn memory_fails(&self) -> bool {
        self.address().is_some_and(|address| !reachable(address, 8))
    }

    /// Whether both the source and the destination of a string, or the operand in memory and the
    /// stack, are out of reach.
    fn two_operands_fail(&self) -> bool {
        let [rsp, rsi, rdi] = [4, 6, 7].map(|n| self.case.gpr[n]);
        if self.instruction.is_string_instruction() {
            let low = if self.case.code.contains(&0x67) { 0xffff_ffff } else { u64::MAX };
            return !reachable(rsi & low, 8) && !reachable(rdi & low, 8);
        }
        let stack = !reachable(rsp.wrapping_sub(8), 16);
        stack && (self.memory_fails() || self.is(&[M::Enter, M::Leave, M::Call]))
    }

    fn end_of_frame_fails(&self) -> bool {
        let depth = u64::from(self.instruction.immediate8_2nd() & 31);
        let size = u64::from(self.instruction.immediate16()) + 8 * (depth + 2);
        !reachable(self.case.gpr[4].wrapping_sub(size), size)
    }
}

fn bits(instruction: &Instruction) -> u64 {
    let bytes = match instruction.op_kind(0) {
        OpKind::Register => instruction.op_register(0).size(),
        _ => instruction.memory_size().size(),
    };
    bytes as u64 * 8
}

/// The count of a shift, as far as it counts.
fn shift_count(instruction: &Instruction, case: &Case) -> u64 {
    let last = instruction.op_count().saturating_sub(1);
    let count = match instruction.op_kind(last) {
        OpKind::Immediate8 => instruction.immediate8().into(),
        _ => case.gpr[1] & 0xff,
    };
    count & if bits(instruction) == 64 { 63 } else { 31 }
}

/// The flags that an instruction leaves defined.
///
/// Source: Intel SDM volume 2 and AMD APM volume 3, the instructions' own pages; what either
/// leaves undefined is not here.
pub(crate) fn defined(instruction: &Instruction, case: &Case) -> u64 {
    let bits = bits(instruction);
    let count = || shift_count(instruction, case);
    DF | match instruction.mnemonic() {
        M::And | M::Or | M::Xor | M::Test => ALL & !AF,
        M::Mul | M::Imul => CF | OF,
        M::Div | M::Idiv => 0,
        M::Bsf | M::Bsr => ZF,
        // AMD's manual leaves ZF undefined, too; all its processors keep it, as Intel's do.
        M::Bt | M::Bts | M::Btr | M::Btc => CF | ZF,
        M::Shl | M::Sal | M::Shr => match count() {
            0 => ALL,
            1 => ALL & !AF,
            count if count >= bits => PF | ZF | SF,
            _ => ALL & !AF & !OF,
        },
        M::Sar => match count() {
            0 => ALL,
            1 => ALL & !AF,
            _ => ALL & !AF & !OF,
        },
        M::Rol | M::Ror | M::Rcl | M::Rcr => match count() {
            0 | 1 => ALL,
            _ => ALL & !OF,
        },
        M::Shld | M::Shrd => match count() {
            0 => ALL,
            1 => ALL & !AF,
            count if count > bits => 0,
            count if count == bits => PF | ZF | SF,
            _ => ALL & !AF & !OF,
        },
        M::Popf | M::Popfq => ALL | AC,
        _ => ALL,
    }
}
