//! What of a floating-point case is not compared, because processors differ among themselves: the
//! tests run on Intel's and on AMD's, and have to give the same answer on both.
#![allow(clippy::wildcard_enum_match_arm, reason = "iced's lists are long")]

use iced_x86::{Instruction, Mnemonic as M, OpKind};

use crate::{
    fpu_case::Case,
    host::{DATA, DATA_LEN, Event},
};

/// A part of what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything.
    Case,
    /// The data pages.
    Memory,
    /// Every floating-point register.
    Registers,
    /// Exception flags in mxcsr.
    SimdFlags,
    /// The summary bits of x87's status word: ES and B.
    Summary,
    /// Which x87 register is the top, and which are empty.
    MmxMode,
    /// Which NaN a lane holds.
    Nans,
}

/// What a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) instruction: &'a Instruction,
    pub(crate) case: &'a Case,
    /// Where the memory operand is.
    pub(crate) address: u64,
    /// How it ended on the host.
    pub(crate) event: Event,
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
        applies: |seen| seen.is(&[M::Maskmovq, M::Maskmovdqu]) && seen.event != Event::Done,
        part: Part::Case,
        why: "bytes that are masked out may fault: Intel SDM volume 2, MASKMOVDQU",
    },
    Rule {
        applies: |seen| {
            seen.is(&[M::Fst, M::Fstp, M::Fist, M::Fistp, M::Fisttp, M::Fbstp])
                && seen.case.fpu.control & 0x3f != 0x3f
                && seen.page_fault()
        },
        part: Part::Case,
        why: "a page fault and an x87 exception that keeps the value from being stored come in \
              either order: Intel SDM volume 3, priority among exceptions",
    },
    Rule {
        applies: |seen| seen.x87_pending() && seen.has_memory() && !seen.reachable(),
        part: Part::Case,
        why: "so do a page fault and an x87 exception that was pending before",
    },
    Rule {
        applies: |seen| seen.has_memory() && !seen.reachable() && !seen.address.is_multiple_of(16),
        part: Part::Case,
        why: "so do a page fault and the protection fault of an operand that is not aligned",
    },
    Rule {
        applies: |seen| {
            seen.is(&[M::Cvtpi2ps, M::Cvtpi2pd]) && seen.has_memory() && seen.x87_pending()
        },
        part: Part::Case,
        why: "without an MMX register it may or may not wait for x87: CVTPI2PS in Intel SDM \
              volume 2 and AMD APM volume 5",
    },
    Rule {
        applies: |seen| seen.is(&[M::Cvtpi2ps]),
        part: Part::MmxMode,
        why: "whether an operand in memory leaves x87's mode is told differently: CVTPI2PS in \
              Intel SDM volume 2 and AMD APM volume 5",
    },
    Rule {
        applies: |seen| seen.event != Event::Done && seen.uses_mmx(),
        part: Part::MmxMode,
        why: "whether an MMX instruction that faults has left x87's mode is nowhere said, and \
              the next attempt does it in any case",
    },
    Rule {
        applies: |seen| matches!(seen.event, Event::Signal { number: libc::SIGFPE, .. }),
        part: Part::SimdFlags,
        why: "which flags stand beside that of the exception that is delivered depends on what \
              else was looked for in the other lanes and steps: Intel SDM volume 1, 11.5.2",
    },
    Rule {
        applies: |seen| seen.is(&[M::Dpps, M::Dppd, M::Haddps, M::Haddpd, M::Hsubps, M::Hsubpd]),
        part: Part::Nans,
        why: "of two NaNs that meet within one operand, the one that is kept is not specified",
    },
    Rule {
        applies: |seen| seen.is(&[M::Fldenv, M::Frstor, M::Fxrstor, M::Fxrstor64]),
        part: Part::Summary,
        why: "a status word that contradicts its own flags is no state that a processor stores",
    },
    Rule {
        applies: |seen| seen.is(AREAS) && seen.event != Event::Done,
        part: Part::Memory,
        why: "an instruction in many steps may have stored some of its bytes before it faults",
    },
    Rule {
        applies: |seen| seen.is(AREAS) && seen.event != Event::Done,
        part: Part::Registers,
        why: "and may have loaded some of its registers",
    },
];

/// Instructions that reach their memory in many steps.
const AREAS: &[M] = &[
    M::Fxsave,
    M::Fxsave64,
    M::Fxrstor,
    M::Fxrstor64,
    M::Fnsave,
    M::Frstor,
    M::Fnstenv,
    M::Fldenv,
    M::Fbstp,
    M::Fbld,
];

/// Whether a part of this case is not compared.
pub(crate) fn leaves_out(part: Part, seen: &Seen<'_>) -> bool {
    RULES.iter().any(|rule| rule.part == part && (rule.applies)(seen))
}

impl Seen<'_> {
    fn is(&self, of: &[M]) -> bool {
        of.contains(&self.instruction.mnemonic())
    }

    fn page_fault(&self) -> bool {
        matches!(self.event, Event::Signal { number: libc::SIGSEGV, .. })
    }

    fn has_memory(&self) -> bool {
        (0..self.instruction.op_count())
            .any(|n| matches!(self.instruction.op_kind(n), OpKind::Memory | OpKind::MemorySegRDI))
    }

    /// Whether all of the operand lies in the data pages.
    fn reachable(&self) -> bool {
        let bytes = self.instruction.memory_size().size().max(16) as u64;
        self.address >= DATA && self.address.saturating_add(bytes) <= DATA + DATA_LEN as u64
    }

    fn x87_pending(&self) -> bool {
        self.case.fpu.status & !self.case.fpu.control & 0x3f != 0
    }

    fn uses_mmx(&self) -> bool {
        (0..self.instruction.op_count()).any(|n| self.instruction.op_register(n).is_mm())
    }
}

/// Bytes of a saved area that are not compared: what is reserved; the last instruction's opcode and
/// addresses, which processors keep at different times; and the mask of mxcsr, which has a bit more
/// on AMD.
///
/// Source: Intel SDM volume 1, 8.1.8 to 8.1.10 and table 10-2; AMD APM volume 2, 11.4.4 (`FXSAVE`
/// keeps the addresses only while an exception is pending).
pub(crate) fn unspecified(instruction: &Instruction) -> &'static [(usize, usize)] {
    let doubles = instruction.memory_size().size().is_multiple_of(28);
    match instruction.mnemonic() {
        M::Fxsave | M::Fxsave64 => &[
            (5, 24),
            (28, 32),
            (42, 48),
            (58, 64),
            (74, 80),
            (90, 96),
            (106, 112),
            (122, 128),
            (138, 144),
            (154, 160),
            (416, 512),
        ],
        M::Fnstenv | M::Fnsave if doubles => &[(2, 4), (6, 8), (10, 28)],
        M::Fnstenv | M::Fnsave => &[(6, 14)],
        _ => &[],
    }
}
