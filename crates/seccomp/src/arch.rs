//! Architectures, and how the several worlds that spell them do so.

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

    /// libseccomp's constant, as profiles name it.
    pub fn scmp_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "SCMP_ARCH_X86_64",
            Arch::X86 => "SCMP_ARCH_X86",
            Arch::Aarch64 => "SCMP_ARCH_AARCH64",
        }
    }

    /// The architecture of one of libseccomp's constants.
    pub(crate) fn from_scmp_name(name: &str) -> Option<Arch> {
        [Arch::X86_64, Arch::X86, Arch::Aarch64].into_iter().find(|arch| arch.scmp_name() == name)
    }

    /// The name in `includes` and `excludes` of Docker's profiles.
    pub(crate) fn docker_name(self) -> &'static str {
        match self {
            Arch::X86_64 => "amd64",
            Arch::X86 => "x86",
            Arch::Aarch64 => "arm64",
        }
    }

    /// What the kernel puts into `seccomp_data.arch`.
    ///
    /// Source: linux/audit.h: the ELF machine, with bits for 64 bits and little end.
    pub(crate) fn audit(self) -> u32 {
        const BITS_64: u32 = 0x8000_0000;
        const LITTLE_END: u32 = 0x4000_0000;
        match self {
            Arch::X86_64 => 62 | BITS_64 | LITTLE_END,
            Arch::X86 => 3 | LITTLE_END,
            Arch::Aarch64 => 183 | BITS_64 | LITTLE_END,
        }
    }

    /// Whether a machine of architecture `host` also runs programs of this one.
    pub(crate) fn runs_on(self, host: Arch) -> bool {
        self == host || (self == Arch::X86 && host == Arch::X86_64)
    }
}
