//! ELF files: an uncompressed Linux (`vmlinux`), or whatever has a PVH entry.
//!
//! A note says where the PVH entry is; a file without one, or with notes of Linux's own, is taken
//! for a Linux with its 64-bit entry at the header's.
//!
//! Source: System V ABI, chapters 4 and 5; Xen `xen/include/public/elfnote.h`.

use super::{
    BootError, Entry, Kernel, Piece, Source, params,
    source::{long, quad, word},
};
use crate::layout;

/// How every ELF file begins.
pub(super) const MAGIC: &[u8] = b"\x7fELF";

/// 64 bits, little-endian.
const CLASS_64: u8 = 2;
const LITTLE_ENDIAN: u8 = 1;

/// `EM_X86_64`.
const MACHINE: u16 = 62;

/// `ET_EXEC`.
const EXECUTABLE: u16 = 2;

/// Bytes of a program header.
const PROGRAM_HEADER: usize = 56;

/// Most program headers: Linux has five.
const PROGRAM_HEADERS_MAX: u16 = 64;

/// `PT_LOAD` and `PT_NOTE`.
const LOAD: u32 = 1;
const NOTE: u32 = 4;

/// Longest segment of notes, in bytes: Linux has 500.
const NOTES_MAX: u64 = 64 << 10;

/// `XEN_ELFNOTE_PHYS32_ENTRY`, of the owner "Xen".
const PHYS32_ENTRY: u32 = 18;
const XEN: &[u8] = b"Xen\0";

/// The owner of Linux's own notes.
const LINUX: &[u8] = b"Linux\0";

struct Segment {
    kind: u32,
    offset: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
}

pub(super) fn kernel(file: &Source, head: &[u8]) -> Result<Kernel, BootError> {
    check(head)?;
    let segments = segments(file, head)?;
    let mut pieces = Vec::new();
    let (mut start, mut end) = (u64::MAX, 0);
    for segment in segments.iter().filter(|segment| segment.kind == LOAD) {
        let upto = load_end(segment, file.bytes("kernel")?)?;
        if segment.memory_bytes > 0 {
            (start, end) = (start.min(segment.physical), end.max(upto));
        }
        let (from, bytes, guest) = (segment.offset, segment.file_bytes, segment.physical);
        pieces.extend((bytes > 0).then_some(Piece { from, bytes, guest }));
    }
    let entry = match pvh_entry(file, &segments)? {
        Some(eip) => Entry::Protected { eip },
        None => Entry::Long { rip: quad(head, 24).ok_or_else(short)? },
    };
    let at = match entry {
        Entry::Long { rip } => rip,
        Entry::Protected { eip } => eip.into(),
    };
    if !pieces.iter().any(|piece| (piece.guest..piece.guest + piece.bytes).contains(&at)) {
        return Err(malformed("entry", format!("{at:#x} is in no segment of the file")));
    }
    Ok(Kernel {
        pieces,
        start,
        end,
        entry,
        command_line_max: params::VMLINUX_COMMAND_LINE_MAX.min(layout::COMMAND_LINE_MAX),
        initrd_max: u32::MAX.into(),
        header: params::vmlinux_header(),
    })
}

fn check(head: &[u8]) -> Result<(), BootError> {
    let unsupported = |why: &str| Err(BootError::Unsupported(why.to_owned()));
    if head.get(4) != Some(&CLASS_64) || head.get(5) != Some(&LITTLE_ENDIAN) {
        return unsupported("an ELF file must have 64 bits and be little-endian");
    }
    if word(head, 18) != Some(MACHINE) {
        return unsupported("it is for another processor than x86-64");
    }
    if word(head, 16) != Some(EXECUTABLE) {
        return unsupported("an ELF file must be an executable with fixed addresses");
    }
    Ok(())
}

fn segments(file: &Source, head: &[u8]) -> Result<Vec<Segment>, BootError> {
    let at = quad(head, 32).ok_or_else(short)?;
    let bytes = word(head, 54).ok_or_else(short)?;
    let count = word(head, 56).ok_or_else(short)?;
    if usize::from(bytes) != PROGRAM_HEADER || count == 0 || count > PROGRAM_HEADERS_MAX {
        let why = format!("{count} program headers of {bytes} bytes");
        return Err(malformed("ELF header", why));
    }
    let table = file.read("kernel", at, usize::from(count) * PROGRAM_HEADER)?;
    let segment = |header: &[u8]| {
        Some(Segment {
            kind: long(header, 0)?,
            offset: quad(header, 8)?,
            physical: quad(header, 24)?,
            file_bytes: quad(header, 32)?,
            memory_bytes: quad(header, 40)?,
        })
    };
    table.chunks_exact(PROGRAM_HEADER).map(|header| segment(header).ok_or_else(short)).collect()
}

/// The address behind a segment, if its numbers fit together and into the file.
fn load_end(segment: &Segment, file_bytes: u64) -> Result<u64, BootError> {
    let in_file = segment.offset.checked_add(segment.file_bytes);
    if segment.file_bytes > segment.memory_bytes || in_file.is_none_or(|end| end > file_bytes) {
        let Segment { offset, file_bytes, memory_bytes, .. } = segment;
        let why = format!("{file_bytes} bytes at {offset} of the file for {memory_bytes}");
        return Err(malformed("segment", why));
    }
    segment
        .physical
        .checked_add(segment.memory_bytes)
        .ok_or_else(|| malformed("segment", format!("it is at {:#x}", segment.physical)))
}

/// Where the notes say that it begins in protected mode. A Linux is taken at its 64-bit entry all
/// the same: PVH has no place for the seed of its random numbers.
fn pvh_entry(file: &Source, segments: &[Segment]) -> Result<Option<u32>, BootError> {
    let (mut entry, mut linux) = (None, false);
    for segment in segments.iter().filter(|segment| segment.kind == NOTE) {
        let bytes = segment.file_bytes;
        if bytes > NOTES_MAX {
            return Err(malformed("segment of notes", format!("it has {bytes} bytes")));
        }
        let count = usize::try_from(bytes).unwrap_or(usize::MAX);
        let notes = file.read("kernel", segment.offset, count)?;
        for note in Notes(&notes) {
            linux |= note.owner == LINUX;
            if note.kind == PHYS32_ENTRY && note.owner == XEN {
                // Some give four bytes, others eight of which the upper ones are zero.
                entry = entry.or(long(note.description, 0));
            }
        }
    }
    Ok(entry.filter(|_| !linux))
}

struct Note<'a> {
    owner: &'a [u8],
    kind: u32,
    description: &'a [u8],
}

/// Notes, each a header of three words, a name and a description at multiples of 4.
struct Notes<'a>(&'a [u8]);

impl<'a> Iterator for Notes<'a> {
    type Item = Note<'a>;

    fn next(&mut self) -> Option<Note<'a>> {
        let owner_bytes = usize::try_from(long(self.0, 0)?).ok()?;
        let bytes = usize::try_from(long(self.0, 4)?).ok()?;
        let kind = long(self.0, 8)?;
        let rest = self.0.get(12..)?;
        let owner = rest.get(..owner_bytes)?;
        let rest = rest.get(owner_bytes.next_multiple_of(4)..)?;
        let description = rest.get(..bytes)?;
        // The last one may go without what fills it up.
        self.0 = rest.get(bytes.next_multiple_of(4)..).unwrap_or_default();
        Some(Note { owner, kind, description })
    }
}

fn short() -> BootError {
    malformed("ELF header", "the file ends within".to_owned())
}

fn malformed(part: &'static str, why: String) -> BootError {
    BootError::Malformed { part, why }
}
