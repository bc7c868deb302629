//! Which instructions a model has.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "the decoder knows more instructions and operands than a processor has"
)]

use hv::Model;
use iced_x86::{CpuidFeature, Instruction, Mnemonic};

/// Whether a model has an instruction.
pub(crate) fn offered(instruction: &Instruction, model: Model) -> bool {
    instruction.cpuid_features().iter().all(|feature| has(*feature, instruction, model))
}

/// Whether it is one that processors had before they had floating point, or got without it: then it
/// is none of x87, MMX and SSE. `wait` was there before what it waits for.
pub(super) fn is_integer(instruction: &Instruction) -> bool {
    use CpuidFeature as F;
    let old = |feature: &F| {
        matches!(
            feature,
            F::INTEL8086 | F::INTEL186 | F::INTEL286 | F::INTEL386 | F::INTEL486 | F::X64 | F::CMOV
        )
    };
    instruction.mnemonic() != Mnemonic::Wait && instruction.cpuid_features().iter().all(old)
}

fn has(feature: CpuidFeature, instruction: &Instruction, model: Model) -> bool {
    use CpuidFeature as F;
    match feature {
        F::INTEL8086
        | F::INTEL8086_ONLY
        | F::INTEL186
        | F::INTEL286
        | F::INTEL286_ONLY
        | F::INTEL386
        | F::INTEL386_ONLY
        | F::INTEL486
        | F::FPU
        | F::FPU287
        | F::FPU387
        | F::X64
        | F::CLFSH
        | F::CMOV
        | F::CPUID
        | F::CX8
        | F::FXSR
        | F::MMX
        | F::MSR
        | F::MULTIBYTENOP
        | F::PAUSE
        | F::RDPMC
        | F::RDTSCP
        | F::SEP
        | F::SSE
        | F::SSE2
        | F::SYSCALL
        | F::TSC
        | F::UDBG => true,
        // A hint that processors without it take for nothing.
        F::PREFETCHW | F::CET_IBT => true,
        F::CET_SS => matches!(instruction.mnemonic(), Mnemonic::Rdsspd | Mnemonic::Rdsspq),
        F::SSE3 | F::SSSE3 | F::SSE4_1 | F::SSE4_2 | F::POPCNT | F::CMPXCHG16B => {
            model >= Model::V2
        }
        _ => false,
    }
}
