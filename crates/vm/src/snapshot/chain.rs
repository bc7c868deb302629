//! Reading a snapshot and those that it goes back to.

use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use hv::{GuestMemory, memory::Part};

use super::{
    Id, Manifest, SnapshotError,
    document::{self, Document, MEMORY, Parent},
    failed,
    runs::{self, Held},
};

/// Most snapshots of a chain, with the one that holds everything.
pub const CHAIN_MAX: usize = 16;

/// A snapshot that was read.
#[derive(Debug)]
pub struct Snapshot {
    /// The machine.
    pub manifest: Manifest,
    /// Of each snapshot of the chain, that which holds everything first, and where they are.
    files: Vec<File>,
    dirs: Vec<PathBuf>,
    /// What does not come from the first.
    held: Vec<Held>,
}

/// One of a chain.
struct Link {
    id: Id,
    dir: PathBuf,
    file: File,
    manifest: Manifest,
    parent: Option<(Id, PathBuf)>,
    runs: Vec<Range<usize>>,
}

impl Snapshot {
    /// Reads one, with all that it goes back to.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(dir: &Path) -> Result<Snapshot, SnapshotError> {
        let newest = Link::read(dir)?;
        let mut ids = vec![newest.id];
        let mut older: Vec<Link> = Vec::new();
        while let Some((wanted, path)) = older.last().unwrap_or(&newest).parent.clone() {
            let bytes = newest.manifest.memory_bytes;
            let parent = parent(&path, wanted, bytes, &ids).map_err(|source| {
                let path = path.canonicalize().unwrap_or(path);
                SnapshotError::Parent { path, source: Box::new(source) }
            })?;
            ids.push(wanted);
            older.push(parent);
        }
        Ok(Snapshot::of(newest, older))
    }

    /// One that holds everything.
    pub(super) fn whole(manifest: Manifest, memory: File) -> Snapshot {
        Snapshot { manifest, files: vec![memory], dirs: vec![], held: vec![] }
    }

    fn of(newest: Link, older: Vec<Link>) -> Snapshot {
        let mut snapshot =
            Snapshot { manifest: newest.manifest, files: vec![], dirs: vec![], held: vec![] };
        let mut add = |dir, file, runs: &[Range<usize>]| {
            let by = snapshot.files.len();
            snapshot.held = runs::over(std::mem::take(&mut snapshot.held), by, runs);
            snapshot.files.push(file);
            snapshot.dirs.push(dir);
        };
        for link in older.into_iter().rev() {
            add(link.dir, link.file, &link.runs);
        }
        add(newest.dir, newest.file, &newest.runs);
        snapshot
    }

    /// The memory, mapped: pages are read when they are touched, and what is written stays the
    /// machine's own.
    ///
    /// # Errors
    /// Those of [`GuestMemory::restore_parts`].
    pub fn memory(&self) -> io::Result<GuestMemory> {
        let file = |by: usize| self.files.get(by).ok_or(io::ErrorKind::NotFound);
        let part = |held: &Held| Ok(Part { file: file(held.by)?, range: held.range.clone() });
        let parts: Vec<Part<'_>> = self.held.iter().map(part).collect::<io::Result<_>>()?;
        GuestMemory::restore_parts(file(0)?.try_clone()?, self.manifest.memory_bytes, &parts)
    }

    /// Where it and all that it goes back to are, that which holds everything first; nothing of
    /// one that was read from files.
    pub fn directories(&self) -> &[PathBuf] {
        &self.dirs
    }
}

impl Link {
    fn read(dir: &Path) -> Result<Link, SnapshotError> {
        let Document { parent, machine: manifest, .. } = Document::read(dir)?;
        let id = manifest.id.ok_or(SnapshotError::NoId)?;
        let path = dir.join(MEMORY);
        let file = document::open(&path).map_err(failed("open the memory's file"))?;
        let (parent, pages) = match parent {
            Some(Parent { id, path, pages }) => (Some((id, dir.join(path))), pages),
            None => (None, Vec::new()),
        };
        let bytes = usize::try_from(manifest.memory_bytes).unwrap_or(usize::MAX);
        let runs = runs::offsets(&pages, bytes).ok_or(SnapshotError::Pages)?;
        Ok(Link { id, dir: dir.to_owned(), file, manifest, parent, runs })
    }
}

/// The snapshot that another one goes back to, after those with these ids.
fn parent(dir: &Path, wanted: Id, bytes: u64, ids: &[Id]) -> Result<Link, SnapshotError> {
    if ids.contains(&wanted) {
        return Err(SnapshotError::Circle);
    }
    if ids.len() >= CHAIN_MAX {
        return Err(SnapshotError::TooLong);
    }
    let link = Link::read(dir)?;
    if link.id != wanted {
        return Err(SnapshotError::Changed { wanted, found: link.id });
    }
    let found = link.manifest.memory_bytes;
    if found != bytes {
        return Err(SnapshotError::Memory { wanted: bytes, found });
    }
    Ok(link)
}
