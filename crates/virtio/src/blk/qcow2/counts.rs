//! Which clusters of the file are used, and new ones.
//!
//! A count of zero in the file is never believed: new clusters come from the end of the file, or
//! are those that were given back since it was opened. So a file whose counts are wrong may grow,
//! but nothing that anybody refers to is written over.
//!
//! Source: QEMU, docs/interop/qcow2.txt, "Host cluster management".

use std::{fs::File, io, os::unix::fs::FileExt as _};

use super::{
    Damage,
    entry::{self, Shape},
    header::{Header, TABLE_BYTES_MAX},
    tables::{self, Tables},
};

/// The refcounts of an image.
#[derive(Debug)]
pub(super) struct Counts {
    shape: Shape,
    order: u32,
    /// The place of each block, or zero.
    table: Vec<u64>,
    at: u64,
    /// What of the table is to be written; all of it, to a new place, if it has moved.
    changed: bool,
    moved: bool,
    blocks: Tables,
    /// The first cluster behind all that are used.
    end: u64,
    /// Clusters that nobody refers to any more, and whose count is zero.
    free: Vec<u64>,
    /// Clusters that the table left behind when it moved.
    left: Vec<u64>,
}

/// A new cluster.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    /// Where it is.
    pub(super) at: u64,
    /// Nothing was ever written to it.
    pub(super) is_zero: bool,
}

impl Counts {
    /// The counts of an image of so many bytes.
    pub(super) fn open(file: &File, header: &Header, file_bytes: u64) -> io::Result<Counts> {
        let shape = Shape { version: header.version, cluster_bits: header.cluster_bits };
        let cluster = shape.cluster();
        let bytes = u64::from(header.refcount_clusters) * cluster;
        let fits = header.refcounts_at.checked_add(bytes).is_some_and(|end| end <= file_bytes);
        if !fits || !header.refcounts_at.is_multiple_of(cluster) || bytes == 0 {
            return Err(Damage::Place { what: "refcount table", at: header.refcounts_at }.into());
        }
        let mut raw = vec![0; usize::try_from(bytes).unwrap_or(0)];
        file.read_exact_at(&mut raw, header.refcounts_at)?;
        let table: Vec<u64> = (0..raw.len() / 8).map(|n| tables::entry(&raw, n)).collect();
        for block in &table {
            let at = entry::decode_block(*block, cluster)?.unwrap_or(0);
            if at.checked_add(cluster).is_none_or(|end| at != 0 && end > file_bytes) {
                return Err(Damage::Place { what: "block of refcounts", at }.into());
            }
        }
        Ok(Counts {
            shape,
            order: header.refcount_order,
            table,
            at: header.refcounts_at,
            changed: false,
            moved: false,
            blocks: Tables::new(cluster),
            end: file_bytes.div_ceil(cluster),
            free: Vec::new(),
            left: Vec::new(),
        })
    }

    /// Where the table is, and how many clusters it has.
    pub(super) fn place(&self) -> (u64, u64) {
        (self.at, (self.table.len() as u64 * 8) >> self.shape.cluster_bits)
    }

    /// The places of all blocks.
    pub(super) fn blocks(&self) -> impl Iterator<Item = u64> + '_ {
        self.table.iter().copied().filter(|block| *block != 0)
    }

    /// The count of a cluster, which is given by its number.
    pub(super) fn get(&mut self, file: &File, cluster: u64) -> io::Result<u64> {
        let (block, index) = self.split(cluster);
        match self.table.get(block).copied().unwrap_or(0) {
            0 => Ok(0),
            at => {
                self.load(file, at)?;
                Ok(get_bits(self.blocks.bytes(at), index, self.order))
            }
        }
    }

    /// The block of a cluster's count, and which it is there.
    fn split(&self, cluster: u64) -> (usize, usize) {
        let bits = self.shape.cluster_bits + 3 - self.order;
        let block = usize::try_from(cluster >> bits).unwrap_or(usize::MAX);
        let index = usize::try_from(cluster & ((1 << bits) - 1));
        (block, index.expect("a block has at most 2^24 counts"))
    }

    fn load(&mut self, file: &File, at: u64) -> io::Result<()> {
        if !self.blocks.has(at) {
            self.make_room(file)?;
            self.blocks.load(file, at)?;
        }
        Ok(())
    }

    /// Blocks may be written at any time: new counts only ever say too much, and lower ones come
    /// after nobody refers to the cluster any more.
    fn make_room(&mut self, file: &File) -> io::Result<()> {
        if !self.blocks.make_room() {
            self.blocks.write(file)?;
            self.blocks.make_room();
        }
        Ok(())
    }

    fn set(&mut self, file: &File, cluster: u64, count: u64) -> io::Result<()> {
        let (block, index) = self.split(cluster);
        let at = self.ensure_block(file, block)?;
        self.load(file, at)?;
        let bytes = self.blocks.bytes(at);
        let (offset, changed) = set_bits(bytes, index, self.order, count);
        self.blocks.set(at, offset, &changed);
        Ok(())
    }

    /// The place of a block; a new one, if there is none.
    fn ensure_block(&mut self, file: &File, block: usize) -> io::Result<u64> {
        if block >= self.table.len() {
            self.grow_table(file, block)?;
        }
        if self.table[block] == 0 {
            let cluster = self.append(1)?;
            self.make_room(file)?;
            let at = cluster << self.shape.cluster_bits;
            self.blocks.insert(at, vec![0; 1 << self.shape.cluster_bits]);
            self.table[block] = at;
            self.changed = true;
            // Its own count is in itself, or in the next block, whose own is then in that.
            self.set(file, cluster, 1)?;
        }
        Ok(self.table[block])
    }

    /// Moves the table to the end of the file, where it has room for this block and more.
    fn grow_table(&mut self, file: &File, block: usize) -> io::Result<()> {
        let per_cluster = 1usize << (self.shape.cluster_bits - 3);
        let wanted = block.saturating_add(block / 2 + 2);
        let entries = wanted.checked_next_multiple_of(per_cluster).unwrap_or(usize::MAX);
        if entries as u64 > TABLE_BYTES_MAX / 8 {
            return Err(Damage::TooLarge.into());
        }
        let (old, old_clusters) = self.place();
        let clusters = (entries / per_cluster) as u64;
        let first = self.append(clusters)?;
        let old = old >> self.shape.cluster_bits;
        self.left.extend(old..old + old_clusters);
        self.table.resize(entries, 0);
        self.at = first << self.shape.cluster_bits;
        (self.changed, self.moved) = (true, true);
        for cluster in first..first + clusters {
            self.set(file, cluster, 1)?;
        }
        Ok(())
    }

    /// Clusters at the end of the file, whose counts are not set yet.
    fn append(&mut self, clusters: u64) -> io::Result<u64> {
        let first = self.end;
        let end =
            first.checked_add(clusters).filter(|end| *end < 1 << (55 - self.shape.cluster_bits));
        self.end = end.ok_or(Damage::TooLarge)?;
        Ok(first)
    }

    /// A cluster that nobody refers to, with a count of one.
    pub(super) fn allocate(&mut self, file: &File) -> io::Result<Fresh> {
        let (cluster, is_zero) = match self.free.pop() {
            Some(cluster) => (cluster, false),
            None => (self.append(1)?, true),
        };
        self.set(file, cluster, 1)?;
        Ok(Fresh { at: cluster << self.shape.cluster_bits, is_zero })
    }

    /// Clusters that stand in one row at the end of the file, each with a count of one.
    pub(super) fn allocate_run(&mut self, file: &File, clusters: u64) -> io::Result<u64> {
        let first = self.append(clusters)?;
        for cluster in first..first + clusters {
            self.set(file, cluster, 1)?;
        }
        Ok(first << self.shape.cluster_bits)
    }

    /// One reference to a cluster is gone, and the file no longer has it either; whether it was
    /// the last.
    pub(super) fn release(&mut self, file: &File, cluster: u64) -> io::Result<bool> {
        match self.get(file, cluster)? {
            0 => Err(Damage::Count { at: cluster << self.shape.cluster_bits, count: 0 }.into()),
            1 => {
                self.set(file, cluster, 0)?;
                self.free.push(cluster);
                Ok(true)
            }
            more => self.set(file, cluster, more - 1).map(|()| false),
        }
    }

    /// Writes everything but what makes the file use it.
    pub(super) fn write_blocks(&mut self, file: &File) -> io::Result<()> {
        self.blocks.write(file)?;
        if self.moved { self.write_table(file) } else { Ok(()) }
    }

    /// Writes the counts that [`Counts::release`] has lowered; whether there were any.
    pub(super) fn write_lowered(&mut self, file: &File) -> io::Result<bool> {
        self.blocks.write(file)
    }

    fn write_table(&self, file: &File) -> io::Result<()> {
        let bytes: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        file.write_all_at(&bytes, self.at)
    }

    /// Makes the file use what was written, which must be on the disk. Gives the clusters that the
    /// table has left, if it has moved, or nothing if nothing had to be done.
    pub(super) fn write_references(&mut self, file: &File) -> io::Result<Option<Vec<u64>>> {
        if !self.changed {
            return Ok(None);
        }
        if self.moved {
            let clusters = u32::try_from(self.place().1).map_err(|_| Damage::TooLarge)?;
            let mut fields = self.at.to_be_bytes().to_vec();
            fields.extend(clusters.to_be_bytes());
            // The place and the length stand side by side, within one sector.
            file.write_all_at(&fields, 48)?;
        } else {
            self.write_table(file)?;
        }
        (self.changed, self.moved) = (false, false);
        Ok(Some(std::mem::take(&mut self.left)))
    }
}

/// A count of two to the power of `order` bits.
fn get_bits(bytes: &[u8], index: usize, order: u32) -> u64 {
    if order < 3 {
        let per_byte = 8 >> order;
        let shift = (index % per_byte) << order;
        let byte = bytes.get(index / per_byte).copied().unwrap_or(0);
        return u64::from(byte) >> shift & ((1 << (1 << order)) - 1);
    }
    let width = 1 << (order - 3);
    let bytes = bytes.get(index * width..).and_then(|from| from.get(..width)).unwrap_or(&[]);
    bytes.iter().fold(0, |count, byte| count << 8 | u64::from(*byte))
}

/// The bytes that change when a count is set, and where they are.
fn set_bits(bytes: &[u8], index: usize, order: u32, count: u64) -> (usize, Vec<u8>) {
    let [.., low] = count.to_be_bytes();
    if order < 3 {
        let per_byte = 8 >> order;
        let (at, shift) = (index / per_byte, (index % per_byte) << order);
        let mask = ((1u8 << (1 << order)) - 1) << shift;
        let byte = bytes.get(at).copied().unwrap_or(0);
        return (at, vec![byte & !mask | low << shift & mask]);
    }
    let width = 1 << (order - 3);
    (index * width, count.to_be_bytes()[8 - width..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_every_width_stand_side_by_side() {
        for order in 0..=6 {
            let mut bytes = vec![0; 256];
            let most = if order == 6 { u64::MAX } else { (1 << (1 << order)) - 1 };
            for (index, count) in [(3, most), (4, 1), (5, most), (4, 0), (31, 1)] {
                let (at, changed) = set_bits(&bytes, index, order, count);
                bytes[at..at + changed.len()].copy_from_slice(&changed);
            }
            let got: Vec<u64> = (2..7).map(|index| get_bits(&bytes, index, order)).collect();
            assert_eq!(got, [0, most, 0, most, 0], "{order}");
            assert_eq!(get_bits(&bytes, 31, order), 1);
        }
        assert_eq!(get_bits(&[0b0000_0100], 2, 0), 1, "the lowest bit is the first");
    }
}
