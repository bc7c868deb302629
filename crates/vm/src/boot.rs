//! Loading a kernel: what stands in its file, where everything goes, how the processor begins.
//!
//! ```text
//! file ──Kernel::read──▶ Kernel ──plan──▶ Plan ──load──▶ guest memory
//!        (bzimage, elf)    (pieces, entry)   │
//!                                            └─Entry::apply──▶ CpuState
//! ```
//!
//! The file may be anything: every number in it is checked before it is used, and what is read at
//! once is bounded. Pieces go from file to guest without a copy in between.

mod bzimage;
mod elf;
mod map;
mod params;
mod pvh;
mod registers;
mod source;

use std::io;

use hv::{GuestMemory, memory::NotMemory};

use crate::layout;

pub use map::{Kind, Region, memory_map};
pub use registers::firmware;
pub use source::Source;

/// What became of a kernel's file, or of the machine it was to boot in.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file could not be read.
    #[error("cannot read the {what}")]
    Read {
        /// Which one.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It begins like no kernel.
    #[error("this is no kernel: neither a bzImage nor an ELF file for x86-64")]
    Unknown,
    /// It begins like a kernel, and goes on otherwise.
    #[error("the kernel's {part} makes no sense: {why}")]
    Malformed {
        /// Which part.
        part: &'static str,
        /// What is wrong.
        why: String,
    },
    /// A kernel that cannot begin in long mode.
    #[error("this kernel cannot be started: {0}")]
    Unsupported(String),
    /// It needs memory that is not there.
    #[error(
        "the kernel wants memory from {start:#x} to {end:#x}, and the machine's ends at {memory:#x}"
    )]
    TooLarge {
        /// First address.
        start: u64,
        /// Address behind the last.
        end: u64,
        /// Where memory ends.
        memory: u64,
    },
    /// There is no place for it.
    #[error("an initrd of {bytes} bytes has no room behind the kernel, which ends at {kernel:#x}")]
    InitrdTooLarge {
        /// How long it is.
        bytes: u64,
        /// Where the kernel ends.
        kernel: u64,
    },
    /// More than the kernel reads.
    #[error("the command line has {bytes} bytes, and this kernel reads {most}")]
    CommandLineTooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        most: usize,
    },
    /// A zero ends it.
    #[error("the command line has a zero byte in it")]
    CommandLineZero,
    /// A place of the plan is none of the machine's.
    #[error("cannot write what the kernel begins with")]
    Memory(#[from] NotMemory),
}

/// A run of bytes that goes from the kernel's file into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it is in the file.
    pub from: u64,
    /// How long it is.
    pub bytes: u64,
    /// Where it goes, in guest-physical addresses.
    pub guest: u64,
}

/// How the first processor begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// In long mode, with the zero page's address in rsi.
    ///
    /// Source: Linux `Documentation/arch/x86/boot.rst`, 64-bit boot protocol.
    Long {
        /// First instruction.
        rip: u64,
    },
    /// In protected mode without paging, with the start info's address in ebx.
    ///
    /// Source: Xen `docs/misc/pvh.pandoc`.
    Protected {
        /// First instruction.
        eip: u32,
    },
}

/// A kernel, as its file describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What of it goes where.
    pub pieces: Vec<Piece>,
    /// First address that it needs.
    pub start: u64,
    /// Address behind the last one that it needs before it knows where memory is.
    pub end: u64,
    /// How it begins.
    pub entry: Entry,
    /// Longest command line, in bytes and without the zero at its end.
    pub command_line_max: usize,
    /// Highest address of an initrd's last byte.
    pub initrd_max: u64,
    /// The set-up header as the zero page wants it, from 0x1f1 on.
    header: Vec<u8>,
}

impl Kernel {
    /// What a file says of itself.
    ///
    /// # Errors
    /// [`BootError`] if it is no kernel that can be started here.
    pub fn read(file: &Source) -> Result<Kernel, BootError> {
        let head = file.head("kernel")?;
        if head.starts_with(elf::MAGIC) {
            elf::kernel(file, &head)
        } else if bzimage::is(&head) {
            bzimage::kernel(file, &head)
        } else {
            Err(BootError::Unknown)
        }
    }
}

/// Where everything of one boot goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The kernel.
    pub kernel: Kernel,
    /// The initrd: address and length.
    pub initrd: Option<(u64, u64)>,
    /// What the guest is told of its memory.
    pub map: Vec<Region>,
    /// The command line.
    pub command_line: String,
    /// Where the first of the ACPI tables is.
    pub rsdp: Option<u64>,
}

/// What is booted, beside the kernel.
#[derive(Clone, Debug, Default)]
pub struct Cargo<'a> {
    /// The command line.
    pub command_line: &'a str,
    /// How long all initrds together are, in bytes.
    pub initrd_bytes: u64,
    /// Where the first of the ACPI tables is, if there are any.
    pub rsdp: Option<u64>,
}

/// Finds a place for everything.
///
/// # Errors
/// [`BootError`] if there is none, or if the command line is too long.
pub fn plan(kernel: Kernel, memory: &GuestMemory, cargo: &Cargo<'_>) -> Result<Plan, BootError> {
    let low_end = memory.ranges().first().map_or(0, |range| range.guest + range.bytes as u64);
    if kernel.start < layout::HIGH || kernel.end > low_end {
        let (start, end) = (kernel.start, kernel.end);
        return Err(BootError::TooLarge { start, end, memory: low_end });
    }
    let bytes = cargo.command_line.len();
    if bytes > kernel.command_line_max {
        return Err(BootError::CommandLineTooLong { bytes, most: kernel.command_line_max });
    }
    if cargo.command_line.contains('\0') {
        return Err(BootError::CommandLineZero);
    }
    let initrd = match cargo.initrd_bytes {
        0 => None,
        bytes => Some((initrd_address(&kernel, low_end, bytes)?, bytes)),
    };
    Ok(Plan {
        map: memory_map(memory.ranges()),
        command_line: cargo.command_line.to_owned(),
        rsdp: cargo.rsdp,
        kernel,
        initrd,
    })
}

/// As high as the kernel and the memory below the hole allow, at a page.
fn initrd_address(kernel: &Kernel, low_end: u64, bytes: u64) -> Result<u64, BootError> {
    let top = low_end.min(kernel.initrd_max.saturating_add(1));
    let page = hv::memory::PAGE as u64;
    let start = top.checked_sub(bytes).map(|start| start / page * page);
    start
        .filter(|start| *start >= kernel.end)
        .ok_or(BootError::InitrdTooLarge { bytes, kernel: kernel.end })
}

/// Bytes of a kernel's first entropy.
pub const SEED_BYTES: usize = 32;

impl Plan {
    /// Puts everything into memory that is all zeros yet. The seed is what a Linux kernel begins
    /// its random numbers with; PVH has no place for one.
    ///
    /// # Errors
    /// [`BootError::Read`] if a file is shorter than it was, [`BootError::Memory`].
    pub fn load(
        &self,
        memory: &GuestMemory,
        kernel: &Source,
        initrds: &[Source],
        seed: &[u8; SEED_BYTES],
    ) -> Result<(), BootError> {
        for piece in &self.kernel.pieces {
            kernel.place("kernel", piece, memory)?;
        }
        if let Some((address, _)) = self.initrd {
            let mut guest = address;
            for initrd in initrds {
                let bytes = initrd.bytes("initrd")?;
                initrd.place("initrd", &Piece { from: 0, bytes, guest }, memory)?;
                guest += bytes.next_multiple_of(INITRD_ALIGN);
            }
        }
        memory.write(layout::COMMAND_LINE, self.command_line.as_bytes())?;
        match self.kernel.entry {
            Entry::Long { .. } => {
                memory.write(layout::ZERO_PAGE, &params::zero_page(self))?;
                memory.write(layout::SETUP_DATA, &params::setup_data(seed))?;
            }
            Entry::Protected { .. } => memory.write(layout::START_INFO, &pvh::start_info(self))?,
        }
        registers::load(memory, self.kernel.entry)?;
        Ok(())
    }
}

/// Archives that stand one behind the other begin at multiples of 4.
///
/// Source: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`.
const INITRD_ALIGN: u64 = 4;

/// How long several initrds are as one.
///
/// # Errors
/// [`BootError::Read`].
pub fn initrd_bytes(initrds: &[Source]) -> Result<u64, BootError> {
    initrds.iter().try_fold(0u64, |all, initrd| {
        let bytes = initrd.bytes("initrd")?;
        all.next_multiple_of(INITRD_ALIGN).checked_add(bytes).ok_or_else(|| BootError::Read {
            what: "initrd",
            source: io::Error::other("longer than any memory"),
        })
    })
}

#[cfg(test)]
mod tests;

/// What a fuzzer calls.
#[doc(hidden)]
pub mod fuzzing {
    use super::{Cargo, Kernel, Source, plan};

    /// Any bytes as a kernel, through to memory.
    pub fn kernel(bytes: &[u8]) {
        let file = Source::from(bytes.to_vec());
        let Ok(kernel) = Kernel::read(&file) else { return };
        let Ok(memory) = hv::GuestMemory::new(64 << 20) else { return };
        let cargo = Cargo { command_line: "x", initrd_bytes: 0, rsdp: None };
        let Ok(plan) = plan(kernel, &memory, &cargo) else { return };
        plan.load(&memory, &file, &[], &[0; 32]).expect("what was planned can be loaded");
    }
}
