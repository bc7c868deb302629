//! qcow2 images, version 2 and 3.
//!
//! ```text
//! disk ─▶ L1 table ─▶ L2 table ─▶ cluster ─┬▶ data in the file, or compressed
//!                                          ├▶ zeros
//!                                          └▶ nothing: the backing image has it, or zeros
//! ```
//!
//! What is found in the file is checked before it is used; an image that contradicts itself gives
//! errors and is not written to where it does. Tables are changed in memory and written when the
//! guest flushes, in an order in which a crash of the host at any point leaves an image that is
//! whole and has everything that was flushed, and at worst some clusters that nobody uses.
//!
//! Not here: encryption, external data files, extended entries (clusters in parts), and writing to
//! images that have snapshots within them.
//!
//! Source: QEMU, docs/interop/qcow2.txt.

mod counts;
mod create;
mod entry;
mod grow;
mod header;
mod packing;
mod tables;
#[cfg(test)]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of patterns")]
mod tests;
mod unpack;
mod write;

use std::{
    collections::HashSet,
    fs::File,
    io::{self, Seek as _, SeekFrom},
    ops::Range,
    os::unix::fs::FileExt as _,
};

use super::{
    Image,
    sink::{Sink, padded},
};
use counts::Counts;
pub use create::{CreateError, create};
use entry::{Entry, Shape, decode_l1};
pub use grow::{GrowError, grow};
use header::Compression;
pub(super) use header::HEADER_MAX;
pub use header::{Backing, Header};
pub use packing::Packing;
use tables::Tables;

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// It does not begin as one.
    #[error("it is not a qcow2 image")]
    NotQcow2,
    /// A version that there was not when this was written.
    #[error("qcow2 version {0}; known are 2 and 3")]
    Version(u32),
    /// The header cannot be.
    #[error("the header is damaged: {0}")]
    Header(&'static str),
    /// What Wythe cannot read.
    #[error("qcow2 with {0} is not supported")]
    Unsupported(&'static str),
    /// Larger than Wythe takes, or than the format can be.
    #[error("the qcow2 image is too large")]
    TooLarge,
    /// A table or a cluster that is not in the file, or where another table is.
    #[error("the qcow2 image is damaged: a {what} at {at:#x}")]
    Place {
        /// What it is.
        what: &'static str,
        /// Where it is said to be.
        at: u64,
    },
    /// An entry of a table that cannot be.
    #[error("the qcow2 image is damaged: an entry {entry:#x}")]
    Entry {
        /// Its bits.
        entry: u64,
    },
    /// A cluster that is used and has another count.
    #[error("the qcow2 image is damaged: the cluster at {at:#x} is counted {count} times")]
    Count {
        /// Where it is.
        at: u64,
        /// What the count is.
        count: u64,
    },
    /// A compressed cluster that cannot be expanded.
    #[error("the qcow2 image is damaged: the compressed cluster at {at:#x}")]
    Packed {
        /// Where it is.
        at: u64,
    },
}

impl From<Damage> for io::Error {
    fn from(damage: Damage) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, damage)
    }
}

/// Why an image was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The host could not read it, or it is damaged.
    #[error("cannot read the image")]
    Read(#[from] io::Error),
    /// It can be read, but not written to.
    #[error("the image can only be read: {0}")]
    Unwritable(&'static str),
    /// It names a backing image and was given none, or the other way round.
    #[error("the image has {0} backing image")]
    Backing(&'static str),
}

/// An open image.
#[derive(Debug)]
pub struct Qcow2 {
    file: File,
    shape: Shape,
    bytes: u64,
    compression: Compression,
    backing: Option<Image>,
    l1: Vec<u64>,
    l1_at: u64,
    l1_dirty: Option<Range<usize>>,
    l2: Tables,
    /// There if it can be written to.
    counts: Option<Counts>,
    /// The numbers of all clusters in which tables are.
    metadata: HashSet<u64>,
    /// Tables of the second level all of whose entries were looked at.
    checked: HashSet<u64>,
    /// The file's length when it was opened: nothing that stood in it then is beyond.
    opened_bytes: u64,
    /// Up to where data may be; beyond there is nothing but zeros.
    data_end: u64,
    /// Clusters with one reference less as soon as the file does not have it any more.
    freed: Vec<u64>,
    /// The compressed cluster that was expanded last, and where it is.
    unpacked: Option<(u64, Vec<u8>)>,
    /// The host has failed to say what is on its disk; nothing is written any more.
    failed: bool,
}

impl Qcow2 {
    /// The image in a file over a backing image, which is given if the header names one.
    ///
    /// # Errors
    /// [`OpenError`]
    pub fn open(file: File, write: bool, backing: Option<Image>) -> Result<Qcow2, OpenError> {
        let header = read_header(&file)?;
        match (&header.backing, &backing) {
            (Some(_), None) => return Err(OpenError::Backing("a")),
            (None, Some(_)) => return Err(OpenError::Backing("no")),
            (Some(_), Some(_)) | (None, None) => {}
        }
        if let (true, Some(reason)) = (write, header.unwritable) {
            return Err(OpenError::Unwritable(reason));
        }
        let opened_bytes = (&file).seek(SeekFrom::End(0))?;
        let shape = Shape { version: header.version, cluster_bits: header.cluster_bits };
        let l1 = read_l1(&file, &header, shape, opened_bytes)?;
        let counts = write.then(|| Counts::open(&file, &header, opened_bytes)).transpose()?;
        let mut image = Qcow2 {
            file,
            shape,
            bytes: header.bytes,
            compression: header.compression,
            backing,
            l1,
            l1_at: header.l1_at,
            l1_dirty: None,
            l2: Tables::new(shape.cluster()),
            counts,
            metadata: HashSet::new(),
            checked: HashSet::new(),
            opened_bytes,
            data_end: opened_bytes,
            freed: Vec::new(),
            unpacked: None,
            failed: false,
        };
        image.find_metadata().map_err(io::Error::from)?;
        if write && header.has_autoclear {
            // What others keep beside the disk, such as bitmaps of what was written, is out of
            // date from now on, and this is how they know.
            image.file.write_all_at(&[0; 8], 88)?;
        }
        Ok(image)
    }

    /// Notes where the tables are; two in one place cannot be.
    fn find_metadata(&mut self) -> Result<(), Damage> {
        let bits = self.shape.cluster_bits;
        let l1 = (self.l1_at, (self.l1.len() as u64 * 8).div_ceil(self.shape.cluster()));
        let mut pieces = vec![(0, 1), l1];
        if let Some(counts) = &self.counts {
            pieces.push(counts.place());
            pieces.extend(counts.blocks().map(|at| (at, 1)));
        }
        for entry in &self.l1 {
            if let Some((at, _)) = decode_l1(*entry, self.shape.cluster())? {
                pieces.push((at, 1));
            }
        }
        for (at, clusters) in pieces {
            for cluster in at >> bits..(at >> bits) + clusters {
                if !self.metadata.insert(cluster) {
                    return Err(Damage::Place { what: "table within another", at });
                }
            }
        }
        Ok(())
    }

    /// How large the disk is.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.counts.is_none()
    }

    pub(super) fn cluster(&self) -> u64 {
        self.shape.cluster()
    }

    pub(super) fn read(
        &mut self,
        mut at: u64,
        to: &mut dyn Sink,
        mut bytes: usize,
    ) -> io::Result<()> {
        while bytes > 0 {
            let (index, within, step) = self.piece(at, bytes as u64);
            let entry = self.lookup(index)?;
            self.read_piece(entry, at, within, step, to)?;
            at += step as u64;
            bytes -= step;
        }
        Ok(())
    }

    /// The cluster of a place, where in it that is, and how much of so many bytes it has.
    fn piece(&self, at: u64, bytes: u64) -> (u64, u64, usize) {
        let within = at & (self.cluster() - 1);
        let step = (self.cluster() - within).min(bytes);
        let step = usize::try_from(step).expect("a cluster is at most 2 MiB");
        (at >> self.shape.cluster_bits, within, step)
    }

    /// Reads a part of a cluster whose entry is known; `at` is the same place in the disk.
    fn read_piece(
        &mut self,
        entry: Entry,
        at: u64,
        within: u64,
        bytes: usize,
        to: &mut dyn Sink,
    ) -> io::Result<()> {
        match entry {
            Entry::Zero { .. } => to.zeros(bytes),
            Entry::Data { at, .. } => {
                padded(to, &self.file, self.data_end, at + within, bytes)?;
            }
            Entry::Compressed(packed) => {
                if self.unpacked.as_ref().is_none_or(|(at, _)| *at != packed.at) {
                    let cluster = self.unpack(packed)?;
                    self.unpacked = Some((packed.at, cluster));
                }
                // A cluster is at most 2 MiB.
                let within = usize::try_from(within).unwrap_or(usize::MAX);
                let cluster = self.unpacked.as_ref().and_then(|(_, all)| all.get(within..));
                let piece = cluster.and_then(|rest| rest.get(..bytes));
                to.bytes(piece.ok_or(Damage::Packed { at: packed.at })?);
            }
            Entry::Absent => self.read_backing(at, bytes, to)?,
        }
        Ok(())
    }

    fn read_backing(&mut self, at: u64, bytes: usize, to: &mut dyn Sink) -> io::Result<()> {
        let Some(backing) = &mut self.backing else {
            to.zeros(bytes);
            return Ok(());
        };
        let there = usize::try_from(backing.bytes().saturating_sub(at)).unwrap_or(usize::MAX);
        let there = there.min(bytes);
        backing.read(at, to, there)?;
        to.zeros(bytes - there);
        Ok(())
    }

    /// Where in the tables a cluster of the disk is: the entry of the first level, and the one
    /// of the second.
    fn split(&self, index: u64) -> (usize, usize) {
        let bits = self.shape.cluster_bits - 3;
        let first = usize::try_from(index >> bits).unwrap_or(usize::MAX);
        let second = usize::try_from(index & ((1 << bits) - 1));
        (first, second.expect("a table has at most 2^18 entries"))
    }

    /// What the tables say of a cluster of the disk.
    fn lookup(&mut self, index: u64) -> io::Result<Entry> {
        let (first, second) = self.split(index);
        let entry = self.l1.get(first).copied().unwrap_or(0);
        let Some((table, _)) = decode_l1(entry, self.cluster())? else { return Ok(Entry::Absent) };
        self.load(table)?;
        let entry = tables::entry(self.l2.bytes(table), second);
        Ok(self.shape.decode(entry)?)
    }

    /// Has a table of the second level in memory, and all of it looked at once.
    fn load(&mut self, table: u64) -> io::Result<()> {
        if self.l2.has(table) {
            return Ok(());
        }
        self.make_room()?;
        self.l2.load(&self.file, table)?;
        if !self.checked.contains(&table) {
            let checked = self.check(table);
            if checked.is_err() {
                self.l2.forget(table);
            }
            checked?;
            self.checked.insert(table);
        }
        Ok(())
    }

    /// Whether all entries of a table, as it stood in the file when that was opened, refer to what
    /// was there then. Only afterwards may the file grow, or they could refer to anything.
    fn check(&mut self, table: u64) -> Result<(), Damage> {
        let entries = 1usize << (self.shape.cluster_bits - 3);
        for index in 0..entries {
            let raw = tables::entry(self.l2.bytes(table), index);
            let place = match self.shape.decode(raw)? {
                Entry::Absent | Entry::Zero { kept: None } => continue,
                Entry::Data { at, .. } | Entry::Zero { kept: Some(at) } => at..at + 1,
                Entry::Compressed(packed) => packed.at..packed.at + packed.bytes as u64,
            };
            let bits = self.shape.cluster_bits;
            let clusters = place.start >> bits..=(place.end - 1) >> bits;
            let taken = clusters.into_iter().any(|cluster| self.metadata.contains(&cluster));
            if taken || place.start >= self.opened_bytes {
                return Err(Damage::Place { what: "cluster of data", at: place.start });
            }
        }
        Ok(())
    }

    /// Makes room for one more table of the second level.
    fn make_room(&mut self) -> io::Result<()> {
        if !self.l2.make_room() {
            self.flush()?;
            self.l2.make_room();
        }
        Ok(())
    }
}

/// The header of an image.
///
/// # Errors
/// Those of the host, and [`Damage`].
pub fn read_header(file: &File) -> io::Result<Header> {
    let mut bytes = vec![0; HEADER_MAX];
    let mut there = 0;
    while there < bytes.len() {
        match file.read_at(&mut bytes[there..], there as u64)? {
            0 => break,
            more => there += more,
        }
    }
    bytes.truncate(there);
    Ok(Header::parse(&bytes)?)
}

fn read_l1(file: &File, header: &Header, shape: Shape, file_bytes: u64) -> io::Result<Vec<u64>> {
    let entries = usize::try_from(header.l1_needed()).map_err(|_| Damage::TooLarge)?;
    let (at, bytes) = (header.l1_at, entries * 8);
    let fits = at.checked_add(bytes as u64).is_some_and(|end| end <= file_bytes);
    if entries > 0 && (!fits || !at.is_multiple_of(shape.cluster())) {
        return Err(Damage::Place { what: "table", at }.into());
    }
    let mut raw = vec![0; bytes];
    file.read_exact_at(&mut raw, at)?;
    let l1: Vec<u64> = (0..entries).map(|n| tables::entry(&raw, n)).collect();
    for entry in &l1 {
        let Some((at, _)) = decode_l1(*entry, shape.cluster())? else { continue };
        if at + shape.cluster() > file_bytes {
            return Err(Damage::Place { what: "table", at }.into());
        }
    }
    Ok(l1)
}
