//! An image that is written once, by whoever makes a disk: data first, as it comes, and tables
//! last.
//!
//! ```text
//! header │ data, in the order in which it was written │ L2 tables │ L1 │ blocks of counts │ counts
//! ```
//!
//! Nothing is kept of clusters that nobody writes, and nothing in the file is an image before it
//! is finished.
//!
//! Source: QEMU, docs/interop/qcow2.txt.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _};

use super::{
    Compression, CreateError,
    create::{CLUSTER_BITS, REFCOUNT_ORDER},
    entry::{COPIED, Entry, Shape},
    header::{self, Header, TABLE_BYTES_MAX},
};

const CLUSTER: u64 = 1 << CLUSTER_BITS;

/// Entries of a table of the second level, and of one of the first in a cluster.
const ENTRIES: u64 = CLUSTER / 8;

/// Counts in a block of them.
const COUNTS: u64 = (CLUSTER * 8) >> REFCOUNT_ORDER;

/// An image on its way.
#[derive(Debug)]
pub struct Packing {
    file: File,
    /// Where clusters of the disk are, by their numbers.
    clusters: BTreeMap<u64, u64>,
    /// The number of the next cluster of the file.
    next: u64,
}

impl Packing {
    /// Writes an image to an empty file.
    pub fn new(file: File) -> Packing {
        // The header has the first cluster.
        Packing { file, clusters: BTreeMap::new(), next: 1 }
    }

    /// Writes bytes of the disk, at any place and in any order.
    ///
    /// # Errors
    /// Those of pwrite(2), and `EFBIG` if no image is so large.
    pub fn write_at(&mut self, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            let within = at % CLUSTER;
            let room = usize::try_from(CLUSTER - within).unwrap_or(usize::MAX);
            let (part, rest) = bytes.split_at(room.min(bytes.len()));
            let place = self.place(at / CLUSTER)?;
            self.file.write_all_at(part, place * CLUSTER + within)?;
            bytes = rest;
            at = at.checked_add(part.len() as u64).ok_or(io::ErrorKind::FileTooLarge)?;
        }
        Ok(())
    }

    fn place(&mut self, cluster: u64) -> io::Result<u64> {
        if cluster >= ENTRIES * (TABLE_BYTES_MAX / 8) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let next = self.next;
        let place = *self.clusters.entry(cluster).or_insert(next);
        self.next = next.max(place + 1);
        Ok(place)
    }

    /// Writes the tables of a disk of so many bytes.
    ///
    /// # Errors
    /// [`CreateError`], also if something was written beyond the disk's end; what is in the file
    /// then is no image.
    pub fn finish(mut self, bytes: u64) -> Result<File, CreateError> {
        let end = self.clusters.last_key_value().map_or(0, |(last, _)| last * CLUSTER);
        let l1_entries = bytes.div_ceil(CLUSTER * ENTRIES);
        let fits = end < bytes && l1_entries * 8 <= TABLE_BYTES_MAX;
        if !bytes.is_multiple_of(512) || bytes == 0 || !fits {
            return Err(CreateError::Size { bytes });
        }
        let l1_at = self.write_mapping(l1_entries)?;
        let (refcounts_at, refcount_clusters) = self.write_counts()?;
        let header = Header {
            version: 3,
            cluster_bits: CLUSTER_BITS,
            bytes,
            l1_entries: usize::try_from(l1_entries).unwrap_or(usize::MAX),
            l1_at,
            refcounts_at,
            refcount_clusters,
            refcount_order: REFCOUNT_ORDER,
            compression: Compression::Deflate,
            has_autoclear: false,
            unwritable: None,
            backing: None,
        };
        self.file.write_all_at(&header::compose(&header), 0)?;
        self.file.set_len(self.next * CLUSTER)?;
        Ok(self.file)
    }

    /// Clusters at the end of the file, and where they are.
    fn append(&mut self, clusters: u64) -> u64 {
        let at = self.next * CLUSTER;
        self.next += clusters;
        at
    }

    /// Writes where the disk's clusters are; gives the place of the first table.
    fn write_mapping(&mut self, l1_entries: u64) -> io::Result<u64> {
        let shape = Shape { version: 3, cluster_bits: CLUSTER_BITS };
        let mut l1 = vec![0; usize::try_from(l1_entries).unwrap_or(usize::MAX)];
        let clusters = std::mem::take(&mut self.clusters);
        let mut rest = clusters.iter().peekable();
        while let Some((first, _)) = rest.peek() {
            let index = **first / ENTRIES;
            let mut l2 = vec![0; usize::try_from(ENTRIES).unwrap_or(usize::MAX)];
            while let Some((cluster, place)) =
                rest.next_if(|(cluster, _)| **cluster / ENTRIES == index)
            {
                let entry = shape.encode(Entry::Data { at: place * CLUSTER, own: true });
                set(&mut l2, cluster % ENTRIES, entry);
            }
            let at = self.append(1);
            self.file.write_all_at(&raw(&l2), at)?;
            set(&mut l1, index, at | COPIED);
        }
        let at = self.append(l1_entries.div_ceil(ENTRIES));
        self.file.write_all_at(&raw(&l1), at)?;
        Ok(at)
    }

    /// Writes that every cluster of the file is used once; gives the place of the table and how
    /// many clusters it has.
    fn write_counts(&mut self) -> Result<(u64, u32), CreateError> {
        let (blocks, tables) = counts_for(self.next);
        let first = self.append(blocks);
        let at = self.append(tables);
        let mut left = self.next;
        for block in 0..blocks {
            let counts: Vec<u8> = (0..left.min(COUNTS)).flat_map(|_| 1u16.to_be_bytes()).collect();
            left -= left.min(COUNTS);
            self.file.write_all_at(&counts, first + block * CLUSTER)?;
        }
        let places: Vec<u64> = (0..blocks).map(|block| first + block * CLUSTER).collect();
        self.file.write_all_at(&raw(&places), at)?;
        let bytes = self.next * CLUSTER;
        let tables = u32::try_from(tables).map_err(|_| CreateError::Size { bytes })?;
        Ok((at, tables))
    }
}

/// How many blocks of counts, and clusters for the table of those, a file of so many clusters
/// needs, which have to be counted themselves.
fn counts_for(clusters: u64) -> (u64, u64) {
    let (mut blocks, mut tables) = (0, 0);
    loop {
        let wanted = (clusters + blocks + tables).div_ceil(COUNTS);
        let needed = wanted.div_ceil(ENTRIES);
        if (wanted, needed) == (blocks, tables) {
            return (blocks, tables);
        }
        (blocks, tables) = (wanted, needed);
    }
}

fn set(table: &mut [u64], index: u64, entry: u64) {
    if let Some(place) = usize::try_from(index).ok().and_then(|index| table.get_mut(index)) {
        *place = entry;
    }
}

/// A table as it stands in the file.
fn raw(table: &[u64]) -> Vec<u8> {
    table.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_count_themselves() {
        for (clusters, wanted) in [(1, (1, 1)), (COUNTS - 2, (1, 1)), (COUNTS - 1, (2, 1))] {
            assert_eq!(counts_for(clusters), wanted, "{clusters}");
        }
        let (blocks, tables) = counts_for(COUNTS * ENTRIES);
        assert!(blocks * COUNTS >= COUNTS * ENTRIES + blocks + tables && tables == 2);
    }
}
