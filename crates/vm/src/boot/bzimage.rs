//! bzImage: a compressed Linux with its decompressor in front and a header that says how to load it.
//!
//! Source: Linux `Documentation/arch/x86/boot.rst`.

use super::{
    BootError, Entry, Kernel, Piece, Source,
    source::{long, quad, word},
};
use crate::layout;

/// Offsets in the file, the same as in the zero page.
pub(super) const HEADER: usize = 0x1f1;
const SETUP_SECTORS: usize = 0x1f1;
const BOOT_FLAG: usize = 0x1fe;
const JUMP_BYTES: usize = 0x201;
const MAGIC: usize = 0x202;
const VERSION: usize = 0x206;
const LOAD_FLAGS: usize = 0x211;
const CODE32_START: usize = 0x214;
const INITRD_MAX: usize = 0x22c;
const RELOCATABLE: usize = 0x234;
const EXTENDED_LOAD_FLAGS: usize = 0x236;
const COMMAND_LINE_MAX: usize = 0x238;
const PREFERRED: usize = 0x258;
const INIT_BYTES: usize = 0x260;

/// "HdrS".
pub(super) const MAGIC_VALUE: u32 = 0x5372_6448;

/// `boot_flag`.
pub(super) const BOOT_FLAG_VALUE: u16 = 0xaa55;

/// First version that says whether there is a 64-bit entry: Linux 3.8.
const VERSION_MIN: u16 = 0x020c;

/// `LOADED_HIGH`: it goes to 1 MiB and not below.
const LOADED_HIGH: u8 = 1;

/// `XLF_KERNEL_64`.
const KERNEL_64: u16 = 1;

/// Where the 64-bit entry is, behind the beginning of the protected-mode part.
const ENTRY_64: u64 = 0x200;

/// Sectors of the set-up code if the header says none.
const SETUP_SECTORS_DEFAULT: u64 = 4;

/// Bytes of a sector.
const SECTOR: u64 = 512;

/// Where the header ends at most: the zero page has the memory map's neighbours next.
const HEADER_END_MAX: usize = 0x290;

/// Whether a file begins like one.
pub(super) fn is(head: &[u8]) -> bool {
    long(head, MAGIC) == Some(MAGIC_VALUE) && word(head, BOOT_FLAG) == Some(BOOT_FLAG_VALUE)
}

pub(super) fn kernel(file: &Source, head: &[u8]) -> Result<Kernel, BootError> {
    let short = || malformed("it ends within".to_owned());
    let version = word(head, VERSION).ok_or_else(short)?;
    if version < VERSION_MIN {
        return Err(BootError::Unsupported(format!(
            "its boot protocol is {}.{:02}, older than 2.12 of Linux 3.8",
            version >> 8,
            version & 0xff
        )));
    }
    let byte = |at: usize| head.get(at).copied().ok_or_else(short);
    let flags = word(head, EXTENDED_LOAD_FLAGS).ok_or_else(short)?;
    if byte(LOAD_FLAGS)? & LOADED_HIGH == 0 || flags & KERNEL_64 == 0 {
        return Err(BootError::Unsupported("it has no 64-bit entry".to_owned()));
    }
    let sectors = match byte(SETUP_SECTORS)? {
        0 => SETUP_SECTORS_DEFAULT,
        sectors => u64::from(sectors),
    };
    let from = (sectors + 1) * SECTOR;
    let bytes =
        file.bytes("kernel")?.checked_sub(from).filter(|bytes| *bytes > ENTRY_64).ok_or_else(
            || malformed(format!("nothing follows {sectors} sectors of set-up code")),
        )?;
    let start = address(head).ok_or_else(short)?;
    let init = long(head, INIT_BYTES).ok_or_else(short)?;
    let end = start.checked_add(bytes.max(u64::from(init)));
    let end = end.ok_or_else(|| malformed(format!("it is to be loaded at {start:#x}")))?;
    let command_line = long(head, COMMAND_LINE_MAX).ok_or_else(short)?;
    let command_line = usize::try_from(command_line).unwrap_or(usize::MAX);
    let header_end = MAGIC + usize::from(byte(JUMP_BYTES)?);
    let header_end = header_end.clamp(INIT_BYTES + 4, HEADER_END_MAX);
    Ok(Kernel {
        pieces: vec![Piece { from, bytes, guest: start }],
        start,
        end,
        entry: Entry::Long { rip: start + ENTRY_64 },
        command_line_max: command_line.min(layout::COMMAND_LINE_MAX),
        initrd_max: long(head, INITRD_MAX).ok_or_else(short)?.into(),
        header: head.get(HEADER..header_end).ok_or_else(short)?.to_vec(),
    })
}

/// Where it goes: where it would rather be, so that it need not move, or else where it must be.
fn address(head: &[u8]) -> Option<u64> {
    let preferred = quad(head, PREFERRED)?;
    let relocatable = *head.get(RELOCATABLE)? != 0;
    if relocatable && preferred >= layout::HIGH {
        Some(preferred)
    } else {
        long(head, CODE32_START).map(u64::from)
    }
}

fn malformed(why: String) -> BootError {
    BootError::Malformed { part: "set-up header", why }
}
