//! A cache of clusters that are tables: blocks of refcounts, or tables of the second level.

use std::{collections::HashMap, fs::File, io, ops::Range, os::unix::fs::FileExt as _};

/// How many bytes of tables are kept; in tests so few that they come and go.
const BYTES: usize = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// At least so many tables are, however large they are.
const TABLES_MIN: usize = 2;

/// Tables by their place in the file.
#[derive(Debug)]
pub(super) struct Tables {
    cluster: usize,
    tables: HashMap<u64, Table>,
    clock: u64,
}

#[derive(Debug)]
struct Table {
    bytes: Vec<u8>,
    /// What is to be written.
    dirty: Option<Range<usize>>,
    used: u64,
}

impl Tables {
    pub(super) fn new(cluster: u64) -> Tables {
        let cluster = usize::try_from(cluster).expect("a cluster is at most 2 MiB");
        Tables { cluster, tables: HashMap::new(), clock: 0 }
    }

    pub(super) fn has(&self, at: u64) -> bool {
        self.tables.contains_key(&at)
    }

    /// Makes room for one more by dropping the one that was not used for longest; false if all are
    /// to be written first.
    pub(super) fn make_room(&mut self) -> bool {
        if self.tables.len() < TABLES_MIN.max(BYTES / self.cluster) {
            return true;
        }
        let clean = self.tables.iter().filter(|(_, table)| table.dirty.is_none());
        let oldest = clean.min_by_key(|(_, table)| table.used).map(|(at, _)| *at);
        oldest.is_some_and(|at| self.tables.remove(&at).is_some())
    }

    /// Reads a table if it is not here.
    pub(super) fn load(&mut self, file: &File, at: u64) -> io::Result<()> {
        if !self.has(at) {
            let mut bytes = vec![0; self.cluster];
            file.read_exact_at(&mut bytes, at)?;
            self.put(at, bytes, None);
        }
        Ok(())
    }

    /// A table that the file does not have yet.
    pub(super) fn insert(&mut self, at: u64, bytes: Vec<u8>) {
        let all = 0..bytes.len();
        self.put(at, bytes, Some(all));
    }

    fn put(&mut self, at: u64, bytes: Vec<u8>, dirty: Option<Range<usize>>) {
        self.clock += 1;
        self.tables.insert(at, Table { bytes, dirty, used: self.clock });
    }

    /// The bytes of a table that is here.
    pub(super) fn bytes(&mut self, at: u64) -> &[u8] {
        self.clock += 1;
        let Some(table) = self.tables.get_mut(&at) else { return &[] };
        table.used = self.clock;
        &table.bytes
    }

    /// Changes bytes of a table that is here.
    pub(super) fn set(&mut self, at: u64, offset: usize, bytes: &[u8]) {
        let Some(table) = self.tables.get_mut(&at) else { return };
        let range = offset..offset + bytes.len();
        table.bytes[range.clone()].copy_from_slice(bytes);
        let dirty = table.dirty.take().unwrap_or_else(|| range.clone());
        table.dirty = Some(dirty.start.min(range.start)..dirty.end.max(range.end));
    }

    /// Drops a table that belongs to nobody any more.
    pub(super) fn forget(&mut self, at: u64) {
        self.tables.remove(&at);
    }

    /// Writes what is to be written; whether there was anything.
    pub(super) fn write(&mut self, file: &File) -> io::Result<bool> {
        let mut wrote = false;
        for (at, table) in &mut self.tables {
            let Some(dirty) = table.dirty.clone() else { continue };
            file.write_all_at(&table.bytes[dirty.clone()], at + dirty.start as u64)?;
            table.dirty = None;
            wrote = true;
        }
        Ok(wrote)
    }
}

/// An entry of 8 bytes.
pub(super) fn entry(bytes: &[u8], index: usize) -> u64 {
    let chunk = bytes.get(index * 8..).and_then(<[u8]>::first_chunk);
    chunk.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
