//! Writing: new clusters for what is not the image's own, and tables in an order that survives.

use std::{io, os::fd::AsFd as _, os::unix::fs::FileExt as _};

use rustix::fs::{FallocateFlags, fallocate};

use super::{
    Damage, Qcow2,
    counts::Fresh,
    entry::{COPIED, Entry, Packed, decode_l1},
};
use crate::{
    blk::{raw::write_zeros, request::Clear},
    queue::Reader,
};

/// What is written.
enum Source<'a> {
    Guest(&'a mut Reader),
    Zeros,
}

impl Qcow2 {
    pub(in crate::blk) fn write(
        &mut self,
        at: u64,
        from: &mut Reader,
        bytes: usize,
    ) -> io::Result<()> {
        self.write_all(at, Source::Guest(from), bytes as u64)
    }

    fn write_all(&mut self, mut at: u64, mut from: Source<'_>, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let (index, within, step) = self.piece(at, bytes);
            self.write_piece(index, within, step, &mut from)?;
            at += step as u64;
            bytes -= step as u64;
        }
        Ok(())
    }

    /// Writes within one cluster of the disk.
    fn write_piece(
        &mut self,
        index: u64,
        within: u64,
        bytes: usize,
        from: &mut Source<'_>,
    ) -> io::Result<()> {
        self.writable()?;
        let old = self.lookup(index)?;
        if let Entry::Data { at, own: true } = old {
            self.is_own(at)?;
            return self.put(at + within, bytes, from);
        }
        let fresh = self.allocate()?;
        let written = self
            .surround(index, old, fresh, within, bytes)
            .and_then(|()| self.put(fresh.at + within, bytes, from))
            .and_then(|()| self.set_entry(index, Entry::Data { at: fresh.at, own: true }));
        if let Err(error) = written {
            // Nobody refers to it.
            self.give_back(fresh.at)?;
            return Err(error);
        }
        self.let_go(old);
        Ok(())
    }

    fn put(&mut self, at: u64, bytes: usize, from: &mut Source<'_>) -> io::Result<()> {
        match from {
            Source::Guest(reader) => reader.write_to(self.file.as_fd(), at, bytes)?,
            Source::Zeros => write_zeros(&self.file, at, bytes as u64)?,
        }
        self.data_end = self.data_end.max(at + bytes as u64);
        Ok(())
    }

    /// Fills a new cluster with what the disk has before and behind the part that is written.
    fn surround(
        &mut self,
        index: u64,
        old: Entry,
        fresh: Fresh,
        within: u64,
        bytes: usize,
    ) -> io::Result<()> {
        if fresh.is_zero && self.is_zero(index, old) {
            return Ok(());
        }
        let start = index << self.shape.cluster_bits;
        let behind = within + bytes as u64;
        let parts = [0..within, behind..self.cluster()];
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            // The last cluster may go beyond the end of the disk; zeros stand there.
            let there = part.end.min(self.bytes - start).saturating_sub(part.start);
            let [there, all] = [there, part.end - part.start]
                .map(|bytes| usize::try_from(bytes).expect("a cluster is at most 2 MiB"));
            let mut copy = Vec::with_capacity(all);
            self.read_piece(old, start + part.start, part.start, there, &mut copy)?;
            copy.resize(all, 0);
            self.file.write_all_at(&copy, fresh.at + part.start)?;
            self.data_end = self.data_end.max(fresh.at + part.end);
        }
        Ok(())
    }

    /// Whether a cluster of the disk is known to read as zeros.
    fn is_zero(&self, index: u64, entry: Entry) -> bool {
        match entry {
            Entry::Zero { .. } => true,
            Entry::Absent => !self.is_backed(index),
            Entry::Data { .. } | Entry::Compressed(_) => false,
        }
    }

    /// Whether the backing image has something for a cluster.
    fn is_backed(&self, index: u64) -> bool {
        let start = index << self.shape.cluster_bits;
        self.backing.as_ref().is_some_and(|backing| start < backing.bytes())
    }

    /// Makes a part of the disk read as zeros, or forgets it.
    pub(in crate::blk) fn clear(
        &mut self,
        mut at: u64,
        mut bytes: u64,
        how: Clear,
    ) -> io::Result<()> {
        while bytes > 0 {
            let (index, within, step) = self.piece(at, bytes);
            let step = step as u64;
            let to_end = at + step == self.bytes || within + step == self.cluster();
            let entry = self.lookup(index)?;
            if within == 0 && to_end {
                self.clear_cluster(index, entry, how)?;
            } else if how != Clear::Discard && !self.is_zero(index, entry) {
                self.write_all(at, Source::Zeros, step)?;
            }
            at += step;
            bytes -= step;
        }
        Ok(())
    }

    fn clear_cluster(&mut self, index: u64, old: Entry, how: Clear) -> io::Result<()> {
        self.writable()?;
        let new = match (self.is_backed(index), self.shape.version) {
            (false, _) => Entry::Absent,
            (true, 3) => Entry::Zero { kept: None },
            // Version 2 cannot hide what the backing image has.
            (true, _) if how == Clear::Discard => return Ok(()),
            (true, _) => {
                let start = index << self.shape.cluster_bits;
                let bytes = self.cluster().min(self.bytes - start);
                return self.write_all(start, Source::Zeros, bytes);
            }
        };
        let is_as_good = old == new || old == Entry::Zero { kept: None };
        if !is_as_good {
            self.set_entry(index, new)?;
            self.let_go(old);
        }
        Ok(())
    }

    /// Changes an entry of the second level. The table becomes the image's own, if it was not.
    fn set_entry(&mut self, index: u64, entry: Entry) -> io::Result<()> {
        let (first, second) = self.split(index);
        let table = self.own_table(first)?;
        self.load(table)?;
        self.l2.set(table, second * 8, &self.shape.encode(entry).to_be_bytes());
        Ok(())
    }

    /// A table of the second level that may be written to.
    fn own_table(&mut self, first: usize) -> io::Result<u64> {
        let entry = self.l1.get(first).copied().ok_or(Damage::TooLarge)?;
        let old = decode_l1(entry, self.cluster())?;
        if let Some((table, true)) = old {
            self.is_own(table)?;
            return Ok(table);
        }
        // Both may write tables, so they come before the new one.
        self.make_room()?;
        let fresh = self.allocate()?;
        let mut bytes = vec![0; 1 << self.shape.cluster_bits];
        if let Some((table, _)) = old {
            self.load(table)?;
            bytes.copy_from_slice(self.l2.bytes(table));
            self.l2.forget(table);
            self.metadata.remove(&(table >> self.shape.cluster_bits));
            self.freed.push(table >> self.shape.cluster_bits);
        }
        self.l2.insert(fresh.at, bytes);
        self.checked.insert(fresh.at);
        self.metadata.insert(fresh.at >> self.shape.cluster_bits);
        self.l1[first] = fresh.at | COPIED;
        let dirty = self.l1_dirty.take().unwrap_or(first..first + 1);
        self.l1_dirty = Some(dirty.start.min(first)..dirty.end.max(first + 1));
        Ok(fresh.at)
    }

    fn writable(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the host could not say what is on its disk before"));
        }
        if self.counts.is_none() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        Ok(())
    }

    /// Whether a cluster that is said to be the image's own is counted once: if not, somebody else
    /// refers to it too, and writing to it would change what is theirs.
    fn is_own(&mut self, at: u64) -> io::Result<()> {
        let cluster = at >> self.shape.cluster_bits;
        let Qcow2 { counts: Some(counts), file, .. } = self else {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        };
        match counts.get(file, cluster)? {
            1 => Ok(()),
            count => Err(Damage::Count { at, count }.into()),
        }
    }

    fn allocate(&mut self) -> io::Result<Fresh> {
        let Qcow2 { counts: Some(counts), file, .. } = self else {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        };
        counts.allocate(file)
    }

    /// Takes back a cluster that was allocated and is not referred to.
    fn give_back(&mut self, at: u64) -> io::Result<()> {
        let cluster = at >> self.shape.cluster_bits;
        let Qcow2 { counts: Some(counts), file, .. } = self else { return Ok(()) };
        counts.release(file, cluster).map(|_| ())
    }

    /// Notes that the disk does not refer to a cluster any more.
    fn let_go(&mut self, old: Entry) {
        let bits = self.shape.cluster_bits;
        match old {
            Entry::Absent | Entry::Zero { kept: None } => {}
            Entry::Data { at, .. } | Entry::Zero { kept: Some(at) } => self.freed.push(at >> bits),
            Entry::Compressed(Packed { at, bytes }) => {
                self.unpacked = None;
                self.freed.extend(at >> bits..=(at + bytes as u64 - 1) >> bits);
            }
        }
    }

    /// Writes everything that is only in memory, and has the host write all of it to its disk.
    ///
    /// ```text
    /// data, counts ──sync──▶ counts' table ──sync──▶ tables ──sync──▶ first table
    ///              ──sync──▶ lower counts ──sync
    /// ```
    ///
    /// Each refers only to what is on the disk already, so that a crash at any point leaves counts
    /// that are too high, never too low; after the last none is too high either. Where nothing is
    /// to be written, nothing is synced but the data.
    pub(in crate::blk) fn flush(&mut self) -> io::Result<()> {
        let Qcow2 { counts: Some(counts), file, .. } = &mut *self else { return Ok(()) };
        counts.write_blocks(file)?;
        self.sync()?;
        let Qcow2 { counts: Some(counts), file, .. } = &mut *self else { return Ok(()) };
        if let Some(left) = counts.write_references(file)? {
            self.freed.extend(left);
            self.sync()?;
        }
        if self.l2.write(&self.file)? {
            self.sync()?;
        }
        if let Some(dirty) = self.l1_dirty.clone() {
            let entries = self.l1[dirty.clone()].iter();
            let bytes: Vec<u8> = entries.flat_map(|entry| entry.to_be_bytes()).collect();
            self.file.write_all_at(&bytes, self.l1_at + dirty.start as u64 * 8)?;
            self.sync()?;
            self.l1_dirty = None;
        }
        self.release_freed()
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other("the host could not say what is on its disk before"));
        }
        // After a failure the kernel counts pages as clean that never reached the disk.
        self.file.sync_data().inspect_err(|_| self.failed = true)
    }

    /// Lowers the counts of what nobody refers to any more, not even on the disk, and has the
    /// host write them to it.
    fn release_freed(&mut self) -> io::Result<()> {
        let bits = self.shape.cluster_bits;
        let Qcow2 { counts: Some(counts), file, freed, .. } = &mut *self else { return Ok(()) };
        while let Some(cluster) = freed.pop() {
            if counts.release(file, cluster)? {
                let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Room for the host; where it cannot have it, the cluster is used again later.
                let _ = fallocate(&*file, hole, cluster << bits, 1 << bits);
            }
        }
        if counts.write_lowered(file)? { self.sync() } else { Ok(()) }
    }
}

impl Drop for Qcow2 {
    fn drop(&mut self) {
        // What the guest wanted to be sure of, it has flushed; and nobody is there to be told.
        if self.counts.is_some() {
            let _ = self.flush();
        }
    }
}
