//! Control registers and the modes they make.

/// cr0: protection.
pub(crate) const PE: u64 = 1;
/// cr0: `fwait` heeds TS.
pub(crate) const MP: u64 = 1 << 1;
/// cr0: x87 is emulated.
pub(crate) const EM: u64 = 1 << 2;
/// cr0: the task was switched.
pub(crate) const TS: u64 = 1 << 3;
/// cr0: always set.
pub(crate) const ET: u64 = 1 << 4;
/// cr0: x87 errors are exceptions.
pub(crate) const NE: u64 = 1 << 5;
/// cr0: the supervisor heeds write protection.
pub(crate) const WP: u64 = 1 << 16;
/// cr0: alignment checks can be switched on.
pub(crate) const AM: u64 = 1 << 18;
/// cr0: not write-through.
pub(crate) const NW: u64 = 1 << 29;
/// cr0: caches off.
pub(crate) const CD: u64 = 1 << 30;
/// cr0: paging.
pub(crate) const PG: u64 = 1 << 31;
/// What cr0 has.
pub(crate) const CR0: u64 = PE | MP | EM | TS | ET | NE | WP | AM | NW | CD | PG;

/// cr4: `rdtsc` needs privilege.
pub(crate) const TSD: u64 = 1 << 2;
/// cr4: debugging extensions.
pub(crate) const DE: u64 = 1 << 3;
/// cr4: large pages.
pub(crate) const PSE: u64 = 1 << 4;
/// cr4: wide page tables.
pub(crate) const PAE: u64 = 1 << 5;
/// cr4: machine checks.
pub(crate) const MCE: u64 = 1 << 6;
/// cr4: global pages.
pub(crate) const PGE: u64 = 1 << 7;
/// cr4: `rdpmc` for users.
pub(crate) const PCE: u64 = 1 << 8;
/// cr4: SSE.
pub(crate) const OSFXSR: u64 = 1 << 9;
/// cr4: SSE exceptions have their vector.
pub(crate) const OSXMMEXCPT: u64 = 1 << 10;
/// What of cr4 this processor has.
pub(crate) const CR4: u64 = TSD | DE | PSE | PAE | MCE | PGE | PCE | OSFXSR | OSXMMEXCPT;

/// efer: `syscall`.
pub(crate) const SCE: u64 = 1;
/// efer: long mode is wanted.
pub(crate) const LME: u64 = 1 << 8;
/// efer: it is there.
pub(crate) const LMA: u64 = 1 << 10;
/// efer: pages without instructions.
pub(crate) const NXE: u64 = 1 << 11;
/// What can be written to efer.
pub(crate) const EFER: u64 = SCE | LME | NXE;

/// What says how addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Control {
    pub(crate) cr0: u64,
    pub(crate) cr2: u64,
    pub(crate) cr3: u64,
    pub(crate) cr4: u64,
    pub(crate) efer: u64,
}

impl Control {
    /// As after a reset.
    pub(crate) fn reset() -> Control {
        Control { cr0: CD | NW | ET, cr2: 0, cr3: 0, cr4: 0, efer: 0 }
    }

    pub(crate) fn paging(&self) -> bool {
        self.cr0 & PG != 0
    }

    pub(crate) fn protected(&self) -> bool {
        self.cr0 & PE != 0
    }

    /// Long mode, 64-bit or compatibility.
    pub(crate) fn long(&self) -> bool {
        self.efer & LMA != 0
    }

    /// Whether a page can forbid instructions.
    pub(crate) fn no_execute(&self) -> bool {
        self.efer & NXE != 0 && self.cr4 & PAE != 0
    }
}

/// How instructions are decoded; every block belongs to one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Mode {
    /// 16, 32 or 64: the code segment's.
    pub(crate) code: u8,
    /// The same of the stack's.
    pub(crate) stack: u8,
}

impl Mode {
    /// As a number below 256.
    pub(crate) fn key(self) -> u8 {
        self.code | self.stack >> 4
    }
}
