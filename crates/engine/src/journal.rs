//! A short-lived journal of changes: what makes a change survive the daemon's death at once.
//!
//! A change is one `write(2)`: it is in the kernel's hands when [`Journal::append`] returns, so a
//! killed daemon loses nothing. Nothing here waits for the disk; what must survive a power cut is
//! carried over into the store by `records.rs`, and the journal is emptied then.
//!
//! ```text
//! file   = "WYTHEJ1\n" epoch:u64  frame*
//! frame  = length:u32  crc:u32  sequence:u64  body         (length counts the body)
//! body   = operation:u8 (1 put, 0 delete)  key_length:u16  key  value
//! ```
//! Numbers are little-endian. The CRC covers epoch, sequence and body, so a frame that an earlier
//! use of the file left behind is never taken for one of this use. Reading ends at the first
//! frame that is not whole: a torn write was never acknowledged.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

const MAGIC: &[u8; 8] = b"WYTHEJ1\n";
const FRAME_HEAD: usize = 16;
const PUT: u8 = 1;
const DELETE: u8 = 0;

/// Longest body of a frame, in bytes; a longer one is taken for damage. A record holds a request,
/// whose largest part is a seccomp profile.
pub(crate) const BODY_BYTES_MAX: usize = 8 << 20;

/// Room that an empty journal keeps for itself, in bytes: on a full disk there is still some for
/// the records of what makes room.
const RESERVE_BYTES: u64 = 256 << 10;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its place in the order of all changes.
    pub(crate) sequence: u64,
    /// Of which record.
    pub(crate) key: String,
    /// What it is from now on; `None` when it is gone.
    pub(crate) value: Option<Vec<u8>>,
}

/// A file of changes.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    file: File,
    epoch: u64,
    /// Bytes that hold whole frames; 0 when it is empty, the head not written.
    end: u64,
}

impl Journal {
    /// Opens a journal, or makes an empty one, and reads what is in it.
    pub(crate) fn open(path: &Path) -> io::Result<(Journal, Vec<Change>)> {
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (epoch, changes, end) = parse(&bytes);
        let end = u64::try_from(end).expect("a file's size fits 64 bits");
        Ok((Journal { path: path.to_owned(), file, epoch, end }, changes))
    }

    /// How many bytes it holds.
    pub(crate) fn len(&self) -> u64 {
        self.end
    }

    /// Empties it. `epoch` must be one that was not used before.
    pub(crate) fn clear(&mut self, epoch: u64) -> io::Result<()> {
        self.file.set_len(0)?;
        // Not every file system can, and a full one cannot now.
        let keep = rustix::fs::FallocateFlags::KEEP_SIZE;
        let _ = rustix::fs::fallocate(&self.file, keep, 0, RESERVE_BYTES);
        self.epoch = epoch;
        self.end = 0;
        Ok(())
    }

    /// Adds a change. If that fails the journal is as it was.
    pub(crate) fn append(&mut self, change: &Change) -> io::Result<()> {
        let mut bytes = Vec::new();
        if self.end == 0 {
            bytes.extend_from_slice(MAGIC);
            bytes.extend_from_slice(&self.epoch.to_le_bytes());
        }
        frame(&mut bytes, self.epoch, change)?;
        match self.file.write_all_at(&bytes, self.end) {
            Ok(()) => {
                self.end += u64::try_from(bytes.len()).expect("a buffer's size fits 64 bits");
                Ok(())
            }
            Err(error) => {
                // What a full disk took of the frame must not stand before the next one.
                self.file.set_len(self.end)?;
                Err(error)
            }
        }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

fn frame(out: &mut Vec<u8>, epoch: u64, change: &Change) -> io::Result<()> {
    let too_long = || io::Error::new(io::ErrorKind::InvalidInput, "the record is too long");
    let value = change.value.as_deref().unwrap_or_default();
    let length = 3 + change.key.len() + value.len();
    if length > BODY_BYTES_MAX {
        return Err(too_long());
    }
    let key_length = u16::try_from(change.key.len()).map_err(|_| too_long())?;
    let mut body = Vec::with_capacity(length);
    body.push(if change.value.is_some() { PUT } else { DELETE });
    body.extend_from_slice(&key_length.to_le_bytes());
    body.extend_from_slice(change.key.as_bytes());
    body.extend_from_slice(value);
    out.extend_from_slice(&u32::try_from(length).map_err(|_| too_long())?.to_le_bytes());
    out.extend_from_slice(&checksum(epoch, change.sequence, &body).to_le_bytes());
    out.extend_from_slice(&change.sequence.to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Reads these bytes as a journal, and checks that writing what was read gives them again.
pub(crate) fn check(bytes: &[u8]) {
    let (epoch, changes, end) = parse(bytes);
    let mut again = [&MAGIC[..], &epoch.to_le_bytes()].concat();
    for change in &changes {
        frame(&mut again, epoch, change).expect("it was in a journal");
    }
    if !changes.is_empty() {
        assert_eq!(bytes.get(..end), Some(&again[..]), "a journal is not what was written");
    }
}

/// Epoch, whole frames, and where they end. A file without a head is an empty journal.
fn parse(bytes: &[u8]) -> (u64, Vec<Change>, usize) {
    let Some(mut rest) = bytes.strip_prefix(MAGIC) else { return (0, Vec::new(), 0) };
    let Some((epoch, frames)) = rest.split_first_chunk() else { return (0, Vec::new(), 0) };
    let epoch = u64::from_le_bytes(*epoch);
    rest = frames;
    let mut changes = Vec::new();
    while let Some((change, after)) = parse_frame(epoch, rest) {
        changes.push(change);
        rest = after;
    }
    if changes.is_empty() {
        (epoch, changes, 0)
    } else {
        (epoch, changes, bytes.len() - rest.len())
    }
}

fn parse_frame(epoch: u64, bytes: &[u8]) -> Option<(Change, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<FRAME_HEAD>()?;
    let (length, head) = head.split_first_chunk::<4>()?;
    let (crc, sequence) = head.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let sequence = u64::from_le_bytes(sequence.try_into().ok()?);
    if length > BODY_BYTES_MAX {
        return None;
    }
    let (body, rest) = rest.split_at_checked(length)?;
    if checksum(epoch, sequence, body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let (operation, body) = body.split_first()?;
    let (key_length, body) = body.split_first_chunk::<2>()?;
    let (key, value) = body.split_at_checked(usize::from(u16::from_le_bytes(*key_length)))?;
    let key = String::from_utf8(key.to_vec()).ok()?;
    let value = match (*operation, value) {
        (PUT, value) => Some(value.to_vec()),
        (DELETE, []) => None,
        _ => return None,
    };
    Some((Change { sequence, key, value }, rest))
}

/// CRC-32 as ISO-HDLC, Ethernet and gzip have it.
fn checksum(epoch: u64, sequence: u64, body: &[u8]) -> u32 {
    let numbers = epoch.to_le_bytes().into_iter().chain(sequence.to_le_bytes());
    !numbers.chain(body.iter().copied()).fold(u32::MAX, |crc, byte| {
        let [low, ..] = crc.to_le_bytes();
        TABLE[usize::from(low ^ byte)] ^ (crc >> 8)
    })
}

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "at is below 256")]
        let mut crc = at as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change(sequence: u64, key: &str, value: Option<&str>) -> Change {
        Change { sequence, key: key.to_owned(), value: value.map(|v| v.as_bytes().to_vec()) }
    }

    #[test]
    fn the_checksum_is_the_well_known_one() {
        // The check value of CRC-32/ISO-HDLC is that of "123456789".
        let alone = |bytes: &[u8]| {
            !bytes.iter().fold(u32::MAX, |crc, byte| {
                TABLE[usize::from(crc.to_le_bytes()[0] ^ byte)] ^ (crc >> 8)
            })
        };
        assert_eq!(alone(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn the_format_is_the_golden_one() {
        let mut bytes = Vec::new();
        frame(&mut bytes, 7, &change(1, "a", Some("{}"))).unwrap();
        frame(&mut bytes, 7, &change(2, "a", None)).unwrap();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        let golden = "060000006898a90d0100000000000000010100617b7d\
                      040000007898dd39020000000000000000010061";
        assert_eq!(hex, golden);
    }

    #[test]
    fn what_was_appended_is_read_again_and_a_cleared_journal_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        let changes = [change(1, "a", Some("x")), change(2, "a", None), change(3, "b", Some(""))];
        let (mut journal, none) = Journal::open(&path).unwrap();
        assert!(none.is_empty());
        journal.clear(9).unwrap();
        for change in &changes {
            journal.append(change).unwrap();
        }
        let (mut journal, read) = Journal::open(&path).unwrap();
        assert_eq!(read, changes);
        journal.append(&change(4, "c", None)).unwrap();
        assert_eq!(Journal::open(&path).unwrap().1.len(), 4);
        journal.clear(10).unwrap();
        assert!(Journal::open(&path).unwrap().1.is_empty());
    }

    proptest! {
        #[test]
        fn a_cut_journal_yields_a_beginning_of_what_was_written(cut in 0_usize..200, flip in any::<u8>()) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&5_u64.to_le_bytes());
            let all: Vec<_> = (1..5).map(|n| change(n, "key", Some("some value"))).collect();
            for change in &all {
                frame(&mut bytes, 5, change).unwrap();
            }
            bytes.truncate(cut);
            if let Some(last) = bytes.last_mut() {
                *last ^= flip;
            }
            let (_, read, end) = parse(&bytes);
            prop_assert!(all.starts_with(&read));
            prop_assert!(end <= bytes.len());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let with_head: Vec<u8> = MAGIC.iter().copied().chain(bytes).collect();
            let _ = parse(&with_head);
        }
    }
}
