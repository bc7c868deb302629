//! Writes tar archives: ustar headers, with PAX records for what does not fit in them.
//!
//! The same entries give the same bytes. Sparse files are written in GNU's PAX format 1.0.
//!
//! Source: POSIX.1-2017 "pax"; GNU tar manual, "Storing Sparse Files".

use std::io::{self, Write};

use super::{Attributes, Device, DeviceClass, Entry, EntryKind, Segment, Time, tar::BLOCK_BYTES};

/// An archive being written.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    /// Bytes of data that the entry still announces.
    left: u64,
    padding: usize,
}

/// The largest number in an octal field of 12 bytes.
const OCTAL_12_MAX: u64 = 0o77_777_777_777;
/// The largest number in an octal field of 8 bytes.
const OCTAL_8_MAX: u64 = 0o7_777_777;

impl<W: Write> TarWriter<W> {
    /// Begins an archive.
    pub fn new(out: W) -> TarWriter<W> {
        TarWriter { out, left: 0, padding: 0 }
    }

    /// Writes the headers of an entry. For a regular file its data must follow through
    /// [`TarWriter::data`]: all of it, or of a sparse file that of its segments.
    ///
    /// # Errors
    /// When the output fails; or `InvalidInput` when data of the entry before is missing, or the
    /// entry holds what no archive can express.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_data()?;
        let map = match &entry.kind {
            EntryKind::File { segments: Some(segments), size } => sparse_map(segments, *size),
            EntryKind::File { segments: None, .. }
            | EntryKind::HardLink(_)
            | EntryKind::Symlink(_)
            | EntryKind::Directory
            | EntryKind::Device(_)
            | EntryKind::Fifo => Vec::new(),
        };
        let stored = stored_bytes(&entry.kind) + map.len() as u64;
        let records = records(entry, stored)?;
        if !records.is_empty() {
            let size = records.len() as u64;
            self.header(&Fields { kind: b'x', name: b"pax", size, ..Fields::default() })?;
            self.padded(&records)?;
        }
        self.header(&Fields::of(entry, stored))?;
        self.out.write_all(&map)?;
        self.left = stored - map.len() as u64;
        self.padding = padding(stored);
        if self.left == 0 {
            self.end_data()?;
        }
        Ok(())
    }

    /// Writes data of the entry.
    ///
    /// # Errors
    /// When the output fails; `InvalidInput` when it is more than was announced.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| invalid("more data than the entry announced"))?;
        self.out.write_all(bytes)?;
        match self.left {
            0 => self.end_data(),
            _ => Ok(()),
        }
    }

    /// Ends the archive and returns the output.
    ///
    /// # Errors
    /// As [`TarWriter::entry`].
    pub fn finish(mut self) -> io::Result<W> {
        self.end_data()?;
        self.out.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// The output as far as it was written; what is put there is not looked at.
    pub fn out_mut(&mut self) -> &mut W {
        &mut self.out
    }

    fn end_data(&mut self) -> io::Result<()> {
        if self.left > 0 {
            return Err(invalid("less data than the entry announced"));
        }
        let padding = std::mem::take(&mut self.padding);
        self.out.write_all(&[0; BLOCK_BYTES][..padding])
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.write_all(&[0; BLOCK_BYTES][..padding(bytes.len() as u64)])
    }

    fn header(&mut self, fields: &Fields<'_>) -> io::Result<()> {
        self.out.write_all(&fields.encode())
    }
}

impl<W: Write> Write for TarWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.data(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

fn padding(bytes: u64) -> usize {
    let padding = bytes.next_multiple_of(BLOCK_BYTES as u64) - bytes;
    usize::try_from(padding).expect("less than a block")
}

fn stored_bytes(kind: &EntryKind) -> u64 {
    match kind {
        EntryKind::File { segments: Some(segments), .. } => segments.iter().map(|s| s.length).sum(),
        EntryKind::File { segments: None, size } => *size,
        EntryKind::HardLink(_)
        | EntryKind::Symlink(_)
        | EntryKind::Directory
        | EntryKind::Device(_)
        | EntryKind::Fifo => 0,
    }
}

/// What a ustar header says; numbers and names that do not fit are cut, and PAX has them whole.
#[derive(Default)]
struct Fields<'e> {
    kind: u8,
    name: &'e [u8],
    target: &'e [u8],
    size: u64,
    mode: u16,
    uid: u32,
    gid: u32,
    mtime: u64,
    device: Option<Device>,
}

impl<'e> Fields<'e> {
    fn of(entry: &'e Entry, size: u64) -> Fields<'e> {
        let Attributes { mode, uid, gid, mtime, .. } = entry.attributes;
        let (kind, target, device): (_, &[u8], _) = match &entry.kind {
            EntryKind::File { .. } => (b'0', b"", None),
            EntryKind::HardLink(target) => (b'1', target, None),
            EntryKind::Symlink(target) => (b'2', target, None),
            EntryKind::Directory => (b'5', b"", None),
            EntryKind::Device(device) => match device.class {
                DeviceClass::Character => (b'3', b"", Some(*device)),
                DeviceClass::Block => (b'4', b"", Some(*device)),
            },
            EntryKind::Fifo => (b'6', b"", None),
        };
        let mtime = u64::try_from(mtime.seconds).unwrap_or(0);
        Fields { kind, name: &entry.path, target, size, mode, uid, gid, mtime, device }
    }

    fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let mut put = |at: usize, bytes: &[u8]| block[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, cut(self.name));
        put(100, octal8(self.mode.into()).as_bytes());
        put(108, octal8(self.uid.into()).as_bytes());
        put(116, octal8(self.gid.into()).as_bytes());
        put(124, octal12(self.size).as_bytes());
        put(136, octal12(self.mtime).as_bytes());
        put(148, b"        ");
        put(156, &[self.kind]);
        put(157, cut(self.target));
        put(257, b"ustar\x0000");
        if let Some(device) = self.device {
            put(329, octal8(device.major.into()).as_bytes());
            put(337, octal8(device.minor.into()).as_bytes());
        }
        let sum: u32 = block.iter().map(|&b| u32::from(b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    }
}

/// Bytes of a name in a header.
const NAME_BYTES: usize = 100;

fn cut(name: &[u8]) -> &[u8] {
    name.get(..NAME_BYTES).unwrap_or(name)
}

fn octal8(number: u64) -> String {
    format!("{:07o}\0", if number > OCTAL_8_MAX { 0 } else { number })
}

fn octal12(number: u64) -> String {
    format!("{:011o}\0", if number > OCTAL_12_MAX { 0 } else { number })
}

/// The PAX records that an entry needs.
fn records(entry: &Entry, stored: u64) -> io::Result<Vec<u8>> {
    let Attributes { uid, gid, mtime, xattrs, .. } = &entry.attributes;
    let mut out = Vec::new();
    let mut add = |key: &str, value: &[u8]| record(&mut out, key.as_bytes(), value);
    let sparse = match &entry.kind {
        EntryKind::File { segments: Some(_), size } => Some(*size),
        EntryKind::File { .. }
        | EntryKind::HardLink(_)
        | EntryKind::Symlink(_)
        | EntryKind::Directory
        | EntryKind::Device(_)
        | EntryKind::Fifo => None,
    };
    // Besides long names, those that readers without an encoding in common would take apart.
    let plain = |name: &[u8]| name.len() <= NAME_BYTES && name.is_ascii();
    if name_has_nul(&entry.path) {
        return Err(invalid("a path with a NUL byte"));
    }
    if sparse.is_none() && !plain(&entry.path) {
        add("path", &entry.path);
    }
    if let EntryKind::HardLink(target) | EntryKind::Symlink(target) = &entry.kind {
        if name_has_nul(target) {
            return Err(invalid("a link target with a NUL byte"));
        }
        if !plain(target) {
            add("linkpath", target);
        }
    }
    if stored > OCTAL_12_MAX {
        add("size", stored.to_string().as_bytes());
    }
    for (key, id) in [("uid", *uid), ("gid", *gid)] {
        if u64::from(id) > OCTAL_8_MAX {
            add(key, id.to_string().as_bytes());
        }
    }
    let whole =
        mtime.nanoseconds == 0 && u64::try_from(mtime.seconds).is_ok_and(|s| s <= OCTAL_12_MAX);
    if !whole {
        add("mtime", time(*mtime).as_bytes());
    }
    if let Some(size) = sparse {
        add("GNU.sparse.major", b"1");
        add("GNU.sparse.minor", b"0");
        add("GNU.sparse.name", &entry.path);
        add("GNU.sparse.realsize", size.to_string().as_bytes());
    }
    for xattr in xattrs {
        if xattr.name.contains(&b'=') {
            return Err(invalid("an extended attribute with = in its name"));
        }
        record(&mut out, &[b"SCHILY.xattr.", &*xattr.name].concat(), &xattr.value);
    }
    Ok(out)
}

fn name_has_nul(name: &[u8]) -> bool {
    name.contains(&0)
}

/// One record: its length counts the digits of the length too.
fn record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    out.extend(length.to_string().as_bytes());
    out.push(b' ');
    out.extend(key);
    out.push(b'=');
    out.extend(value);
    out.push(b'\n');
}

/// The records of these keys, as they stand in a PAX header.
pub fn records_of(pairs: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (key, value) in pairs {
        record(&mut out, key.as_bytes(), value);
    }
    out
}

/// Seconds with a sign and nine decimals.
fn time(time: Time) -> String {
    match (time.seconds, time.nanoseconds) {
        (seconds, 0) => seconds.to_string(),
        (seconds @ 0.., nanoseconds) => format!("{seconds}.{nanoseconds:09}"),
        (seconds, nanoseconds) => {
            let (seconds, back) = (-(seconds + 1), 1_000_000_000 - nanoseconds);
            format!("-{seconds}.{back:09}")
        }
    }
}

/// The map of a sparse file, as lines, padded. The empty last segment tells old readers the size.
fn sparse_map(segments: &[Segment], size: u64) -> Vec<u8> {
    let mut lines = format!("{}\n", segments.len() + 1);
    for segment in segments {
        lines += &format!("{}\n{}\n", segment.offset, segment.length);
    }
    lines += &format!("{size}\n0\n");
    let mut map = lines.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK_BYTES), 0);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_its_own_digits() {
        for value_bytes in [1, 3, 4, 90, 91, 92, 93, 990, 991, 992] {
            let mut out = Vec::new();
            record(&mut out, b"key", &vec![b'v'; value_bytes]);
            let text = String::from_utf8(out).unwrap();
            let (length, _) = text.split_once(' ').unwrap();
            assert_eq!(length.parse::<usize>().unwrap(), text.len());
        }
    }

    #[test]
    fn data_that_does_not_fit_its_entry_is_refused() {
        let attributes = Attributes::default();
        let kind = EntryKind::File { size: 3, segments: None };
        let entry = Entry { path: b"a".to_vec(), attributes, kind };
        let mut tar = TarWriter::new(Vec::new());
        tar.entry(&entry).unwrap();
        assert!(tar.data(b"four").is_err());
        let mut tar = TarWriter::new(Vec::new());
        tar.entry(&entry).unwrap();
        assert!(tar.finish().is_err());
    }
}
