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
    document::{self, Document, MANIFEST, MEMORY, Parent},
    failed,
    files::Files,
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
    /// Where it is, if it was not handed over as files.
    dir: Option<PathBuf>,
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
        let mut followed = Snapshot::follow(Link::read(dir)?, Link::read);
        if let Err(SnapshotError::Parent { path, .. }) = &mut followed
            && let Ok(real) = path.canonicalize()
        {
            *path = real;
        }
        followed
    }

    /// Reads one from its files and those of all that it goes back to, the nearest first. Paths in
    /// them are not followed.
    ///
    /// # Errors
    /// [`SnapshotError`]; [`SnapshotError::Parts`] if it goes back to fewer or more.
    pub fn read(files: Files, older: Vec<Files>) -> Result<Snapshot, SnapshotError> {
        let mut older = older.into_iter();
        let next = |_: &Path| Link::handed_over(older.next().ok_or(SnapshotError::Parts)?);
        let snapshot = Snapshot::follow(Link::handed_over(files)?, next)?;
        match older.next() {
            None => Ok(snapshot),
            Some(_) => Err(SnapshotError::Parts),
        }
    }

    /// Goes back from the newest of a chain.
    fn follow(
        newest: Link,
        mut read: impl FnMut(&Path) -> Result<Link, SnapshotError>,
    ) -> Result<Snapshot, SnapshotError> {
        let mut ids = vec![newest.id];
        let mut older: Vec<Link> = Vec::new();
        while let Some((wanted, path)) = older.last().unwrap_or(&newest).parent.clone() {
            let bytes = newest.manifest.memory_bytes;
            let parent = may_follow(wanted, &ids)
                .and_then(|()| read(&path))
                .and_then(|link| link.is(wanted, bytes))
                .map_err(|source| SnapshotError::Parent { path, source: Box::new(source) })?;
            ids.push(wanted);
            older.push(parent);
        }
        Ok(Snapshot::of(newest, older))
    }

    fn of(newest: Link, older: Vec<Link>) -> Snapshot {
        let mut snapshot =
            Snapshot { manifest: newest.manifest, files: vec![], dirs: vec![], held: vec![] };
        let mut add = |dir, file, runs: &[Range<usize>]| {
            let by = snapshot.files.len();
            snapshot.held = runs::over(std::mem::take(&mut snapshot.held), by, runs);
            snapshot.files.push(file);
            snapshot.dirs.extend(dir);
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
        let open = |name: &str| document::open(&dir.join(name));
        let description = open(MANIFEST).map_err(failed("open the description"))?;
        let document = Document::parse(description)?;
        let memory = open(MEMORY).map_err(failed("open the memory's file"))?;
        Link::of(document, memory, Some(dir.to_owned()))
    }

    /// One whose files were handed over.
    fn handed_over(files: Files) -> Result<Link, SnapshotError> {
        Link::of(Document::parse(files.description)?, files.memory, None)
    }

    fn of(document: Document, file: File, dir: Option<PathBuf>) -> Result<Link, SnapshotError> {
        let Document { parent, machine: manifest, .. } = document;
        let id = manifest.id.ok_or(SnapshotError::NoId)?;
        let (parent, pages) = match parent {
            Some(Parent { id, path, pages }) => {
                (Some((id, dir.iter().collect::<PathBuf>().join(path))), pages)
            }
            None => (None, Vec::new()),
        };
        let bytes = usize::try_from(manifest.memory_bytes).unwrap_or(usize::MAX);
        let runs = runs::offsets(&pages, bytes).ok_or(SnapshotError::Pages)?;
        Ok(Link { id, dir, file, manifest, parent, runs })
    }

    /// It, if it has this id and so much memory.
    fn is(self, wanted: Id, bytes: u64) -> Result<Link, SnapshotError> {
        if self.id != wanted {
            return Err(SnapshotError::Changed { wanted, found: self.id });
        }
        let found = self.manifest.memory_bytes;
        if found != bytes {
            return Err(SnapshotError::Memory { wanted: bytes, found });
        }
        Ok(self)
    }
}

/// Whether a chain with these ids may go on to this one.
fn may_follow(wanted: Id, ids: &[Id]) -> Result<(), SnapshotError> {
    if ids.contains(&wanted) {
        return Err(SnapshotError::Circle);
    }
    if ids.len() >= CHAIN_MAX {
        return Err(SnapshotError::TooLong);
    }
    Ok(())
}
