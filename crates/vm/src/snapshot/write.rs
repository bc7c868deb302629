//! Writing a snapshot.

use std::{
    fs::{self, File},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use hv::{GuestMemory, memory::PAGE};

use super::{
    CHAIN_MAX, Disk, Id, Manifest, Snapshot, SnapshotError,
    document::{Document, MANIFEST, MEMORY, MEMORY_NEW, Parent, VERSION},
    failed,
    files::Files,
    runs::{self, RUNS_MAX},
};
use crate::{Machine, machine::SaveError};

/// How much memory is looked at at once.
const CHUNK: usize = 1 << 20;

/// What else a snapshot is to have.
#[derive(Clone, Debug, Default)]
pub struct Save<'a> {
    /// The snapshot that it goes back to: only what was written since is stored. It has to be the
    /// one that the machine was last saved as, or restored from.
    pub parent: Option<&'a Path>,
    /// The disks that belong to it. Whoever restores it names the same ones
    /// ([`Builder::disks`](crate::Builder::disks)).
    pub disks: Vec<Disk>,
}

impl Machine {
    /// Writes a paused machine into a directory, which is made if need be.
    ///
    /// # Errors
    /// [`SnapshotError`]; what is in the directory then is no snapshot, or the one that was there
    /// before.
    pub fn snapshot(&self, dir: &Path) -> Result<(), SnapshotError> {
        self.save(dir, &Save::default())
    }

    /// The same, as is said.
    ///
    /// # Errors
    /// As [`Machine::snapshot`].
    pub fn save(&self, dir: &Path, save: &Save<'_>) -> Result<(), SnapshotError> {
        fs::create_dir_all(dir).map_err(failed("make the snapshot's directory"))?;
        let parent = save.parent.map(|parent| find_parent(parent, dir)).transpose()?;
        let id = Id::new().map_err(failed("make an id"))?;
        let resumed = self.resumed();
        self.written_since(id, |manifest, pages, since| {
            if let Some((parent, _)) = parent
                && since != Some(parent)
            {
                return Err(SnapshotError::NotSince { parent, since });
            }
            let manifest = Manifest { id: Some(id), disks: save.disks.clone(), ..manifest };
            let parent = parent.map(|(id, path)| {
                let pages = runs::runs(pages, RUNS_MAX);
                Parent { id, path, pages }
            });
            let written = write(dir, self.memory(), parent, manifest)?;
            // It is of one moment only if nothing moved meanwhile.
            if self.resumed() != resumed {
                return Err(SaveError::NotPaused.into());
            }
            written.publish()
        })
    }

    /// Writes a paused machine to files that are empty: all of it, or what was written since the
    /// snapshot that it was last saved as, or restored from. That is named by this path then, as
    /// seen from the directory of the files.
    ///
    /// # Errors
    /// [`SnapshotError`]; what is in the files then is no snapshot.
    pub fn save_to(&self, files: &Files, parent: Option<&Path>) -> Result<(), SnapshotError> {
        let id = Id::new().map_err(failed("make an id"))?;
        let resumed = self.resumed();
        self.written_since(id, |manifest, pages, since| {
            let machine = Manifest { id: Some(id), ..manifest };
            let parent = match parent {
                None => None,
                Some(path) => {
                    let id = since.ok_or(SnapshotError::NoParent)?;
                    let pages = runs::runs(pages, RUNS_MAX);
                    Some(Parent { id, path: path.to_owned(), pages })
                }
            };
            write_parts(self.memory(), parent.as_ref(), &files.memory)?;
            if self.resumed() != resumed {
                return Err(SaveError::NotPaused.into());
            }
            Document { version: VERSION, parent, machine }.write_to(&files.description)
        })
    }
}

/// The id of the snapshot that one in this directory is to go back to, and where it is.
fn find_parent(parent: &Path, dir: &Path) -> Result<(Id, PathBuf), SnapshotError> {
    let wrong =
        |source| SnapshotError::Parent { path: parent.to_owned(), source: Box::new(source) };
    let read = Snapshot::open(parent).map_err(wrong)?;
    if read.directories().len() >= CHAIN_MAX {
        return Err(SnapshotError::TooLong);
    }
    let real = |path: &Path| fs::canonicalize(path).map_err(failed("find the snapshot"));
    let dir = real(dir)?;
    for older in read.directories() {
        if real(older)? == dir {
            return Err(SnapshotError::Itself);
        }
    }
    let id = read.manifest.id.ok_or(SnapshotError::NoId).map_err(wrong)?;
    Ok((id, path_from(&dir, &real(parent)?)))
}

/// How a snapshot names another: those of one directory may be moved together.
fn path_from(dir: &Path, parent: &Path) -> PathBuf {
    match (dir.parent(), parent.parent(), parent.file_name()) {
        (Some(one), Some(other), Some(name)) if one == other => Path::new("..").join(name),
        _ => parent.to_owned(),
    }
}

/// A snapshot whose files are whole, but not yet where they are looked for.
struct Written<'a> {
    dir: &'a Path,
    document: Document,
}

fn write<'a>(
    dir: &'a Path,
    memory: &GuestMemory,
    parent: Option<Parent>,
    machine: Manifest,
) -> Result<Written<'a>, SnapshotError> {
    let new = new_memory(dir);
    let file = File::create(&new).map_err(failed("make the memory's file"))?;
    write_parts(memory, parent.as_ref(), &file)?;
    Ok(Written { dir, document: Document { version: VERSION, parent, machine } })
}

fn new_memory(dir: &Path) -> PathBuf {
    dir.join(MEMORY_NEW)
}

/// Writes the pages of a memory that its parent's snapshot lacks, or all.
fn write_parts(
    memory: &GuestMemory,
    parent: Option<&Parent>,
    file: &File,
) -> Result<(), SnapshotError> {
    let ranges = match parent {
        Some(parent) => runs::offsets(&parent.pages, memory.bytes()).ok_or(SnapshotError::Pages)?,
        None => memory.written().map_err(failed("find out what was written"))?,
    };
    write_memory(memory, &ranges, file).map_err(failed("write the memory"))
}

impl Written<'_> {
    /// Puts the files into their places. Between the two steps there is no snapshot there.
    fn publish(self) -> Result<(), SnapshotError> {
        match fs::remove_file(self.dir.join(MANIFEST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace the snapshot")(error));
            }
            _ => {}
        }
        let to = self.dir.join(MEMORY);
        fs::rename(new_memory(self.dir), to).map_err(failed("write the memory"))?;
        self.document.write(self.dir)
    }
}

/// Writes the pages of these ranges that are not zero; a file has zeros where nothing was written.
fn write_memory(memory: &GuestMemory, ranges: &[Range<usize>], file: &File) -> io::Result<()> {
    file.set_len(memory.bytes() as u64)?;
    let mut chunk = vec![0; CHUNK];
    for range in ranges {
        let (mut at, end) = (range.start, range.end);
        while at < end {
            let bytes = (end - at).min(CHUNK);
            memory.copy_out(at, &mut chunk[..bytes]);
            write_chunk(file, at, &chunk[..bytes])?;
            at += bytes;
        }
    }
    Ok(())
}

/// Writes runs of pages that are not zero.
fn write_chunk(file: &File, at: usize, chunk: &[u8]) -> io::Result<()> {
    for (from, to) in not_zero(chunk) {
        file.write_all_at(&chunk[from..to], (at + from) as u64)?;
    }
    Ok(())
}

/// Where runs of pages that are not zero begin and end.
fn not_zero(chunk: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (n, page) in chunk.chunks(PAGE).enumerate() {
        if page.iter().all(|byte| *byte == 0) {
            continue;
        }
        let (from, to) = (n * PAGE, n * PAGE + page.len());
        match runs.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => runs.push((from, to)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_zeros_are_left_out() {
        let mut chunk = vec![0; 6 * PAGE];
        assert_eq!(not_zero(&chunk), []);
        for at in [PAGE, 3 * PAGE - 1, 5 * PAGE + 7] {
            chunk[at] = 1;
        }
        assert_eq!(not_zero(&chunk), [(PAGE, 3 * PAGE), (5 * PAGE, 6 * PAGE)]);
    }

    #[test]
    fn snapshots_of_one_directory_may_be_moved_together() {
        let from = |dir: &str, parent: &str| path_from(Path::new(dir), Path::new(parent));
        assert_eq!(from("/a/one", "/a/two"), Path::new("../two"));
        assert_eq!(from("/a/one", "/b/two"), Path::new("/b/two"));
        assert_eq!(from("/a/one", "/a"), Path::new("/a"));
    }
}
