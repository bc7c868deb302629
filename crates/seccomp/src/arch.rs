//! Architectures.

/// An architecture whose system calls are known by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// x86-64, `SCMP_ARCH_X86_64`.
    X86_64,
    /// i386, `SCMP_ARCH_X86`.
    X86,
    /// AArch64, `SCMP_ARCH_AARCH64`.
    Aarch64,
}

impl Arch {
    /// The architecture this program was compiled for, if its calls are known.
    pub fn native() -> Option<Arch> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Arch::X86_64),
            "aarch64" => Some(Arch::Aarch64),
            "x86" => Some(Arch::X86),
            _ => None,
        }
    }
}
