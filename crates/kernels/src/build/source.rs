//! The source of Linux out of its package: a tar archive within a tar archive.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Read, Write as _},
    os::unix::fs::{OpenOptionsExt as _, symlink},
    path::{Component, Path, PathBuf},
};

use archive::{
    EntryKind, Limits,
    tar::{Archive, TarError},
};

use crate::{
    compressed,
    debian::deb::{self, DebError},
};

/// Most files of a source. Linux has 80,000.
const ENTRIES_MAX: usize = 400_000;

/// Most bytes of a source. Linux has 1.3 GB.
const BYTES_MAX: u64 = 8 << 30;

/// Why a source was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The package is damaged.
    #[error(transparent)]
    Package(#[from] DebError),
    /// The archive in it is damaged.
    #[error("the archive in the package is damaged")]
    Tar(#[source] TarError),
    /// It cannot be written, or read.
    #[error("cannot unpack {path}")]
    File {
        /// What.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A name leads out of the directory, or it is something that a source does not have.
    #[error("{0} has no place in a source")]
    Strange(String),
    /// It is larger than any source.
    #[error("it is larger than a source of Linux can be")]
    Large,
    /// The archive is not in the package.
    #[error("there is no linux-source-….tar in the package")]
    Missing,
}

/// Unpacks the source in a package into a directory, and says where it is.
pub(super) fn unpack(package: &Path, to: &Path) -> Result<PathBuf, SourceError> {
    let opened = File::open(package).map_err(DebError::Read)?;
    let mut files = deb::files(BufReader::new(opened))?;
    while let Some(entry) = files.next_entry().map_err(DebError::Tar)? {
        let path = String::from_utf8_lossy(&entry.path).into_owned();
        let name = path.rsplit('/').next().unwrap_or(&path);
        let is_source = name.starts_with("linux-source-") && name.contains(".tar");
        if is_source && matches!(entry.kind, EntryKind::File { segments: None, .. }) {
            let inner = BufReader::with_capacity(128 << 10, Content(&mut files));
            let unpacked = compressed::reader(inner).map_err(|source| file(&path, source))?;
            return tree(BufReader::with_capacity(128 << 10, unpacked), to);
        }
    }
    Err(SourceError::Missing)
}

fn file(path: &str, source: io::Error) -> SourceError {
    SourceError::File { path: path.to_owned(), source }
}

/// The content of the entry at which an archive stands.
struct Content<'a, R>(&'a mut Archive<R>);

impl<R: BufRead> Read for Content<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let chunk = self.0.chunk_up_to(to.len() as u64).map_err(io::Error::other)?;
        let chunk = chunk.unwrap_or_default();
        for (to, from) in to.iter_mut().zip(chunk) {
            *to = *from;
        }
        Ok(chunk.len())
    }
}

/// Unpacks an archive with one directory at its top, and says where that is.
fn tree(source: impl BufRead, to: &Path) -> Result<PathBuf, SourceError> {
    let limits = Limits { content_bytes: BYTES_MAX, ..Limits::default() };
    let mut archive = Archive::new(source, &limits);
    let mut place = Place { root: to, links: BTreeSet::new() };
    let (mut top, mut entries, mut left) = (None, 0, BYTES_MAX);
    while let Some(entry) = archive.next_entry().map_err(SourceError::Tar)? {
        entries += 1;
        if entries > ENTRIES_MAX {
            return Err(SourceError::Large);
        }
        let shown = String::from_utf8_lossy(&entry.path).into_owned();
        let strange = || SourceError::Strange(shown.clone());
        let failed = |source| file(&shown, source);
        let path = place.path(&shown).ok_or_else(strange)?;
        top = top.or_else(|| path.components().next().map(|it| to.join(it)));
        let whole = to.join(&path);
        match entry.kind {
            EntryKind::Directory => fs::create_dir_all(whole).map_err(failed)?,
            EntryKind::Symlink(target) => {
                let target = String::from_utf8(target).map_err(|_| strange())?;
                place.parent(&whole).and_then(|()| symlink(target, &whole)).map_err(failed)?;
                place.links.insert(path);
            }
            EntryKind::File { segments: None, .. } => {
                place.parent(&whole).map_err(failed)?;
                let mode = if entry.attributes.mode & 0o111 == 0 { 0o644 } else { 0o755 };
                let mut options = OpenOptions::new();
                options.write(true).create_new(true).mode(mode);
                let mut to = BufWriter::new(options.open(&whole).map_err(failed)?);
                while let Some(chunk) = archive.chunk().map_err(SourceError::Tar)? {
                    left = left.checked_sub(chunk.len() as u64).ok_or(SourceError::Large)?;
                    to.write_all(chunk).map_err(failed)?;
                }
                to.flush().map_err(failed)?;
            }
            EntryKind::File { .. }
            | EntryKind::HardLink(_)
            | EntryKind::Device(_)
            | EntryKind::Fifo => return Err(strange()),
        }
    }
    top.ok_or(SourceError::Missing)
}

/// A directory that is being filled; nobody else writes there.
struct Place<'a> {
    root: &'a Path,
    /// Links that were made in it, through which nothing is written.
    links: BTreeSet<PathBuf>,
}

impl Place<'_> {
    /// An entry's path, if it stays within.
    fn path(&self, text: &str) -> Option<PathBuf> {
        let mut path = PathBuf::new();
        for part in Path::new(text).components() {
            match part {
                Component::CurDir => {}
                Component::Normal(name) => path.push(name),
                Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
            }
        }
        let through_link = path.ancestors().any(|above| self.links.contains(above));
        (!path.as_os_str().is_empty() && !through_link).then_some(path)
    }

    fn parent(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(self.root))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::debian::deb::tests::{deb, tar_xz};

    fn package(files: &[(&str, &[u8])]) -> Vec<u8> {
        deb(&[("./usr/src/linux-source-6.1.tar.xz", &tar_xz(files)), ("./z", b"z")])
    }

    fn unpacked(package: &[u8]) -> Result<(tempfile::TempDir, PathBuf), SourceError> {
        let directory = tempfile::tempdir().unwrap();
        let deb = directory.path().join("package.deb");
        fs::write(&deb, package).unwrap();
        let found = unpack(&deb, &directory.path().join("source"))?;
        Ok((directory, found))
    }

    #[test]
    fn a_source_is_unpacked_out_of_both_archives() {
        let large = vec![7; 300_000];
        let (directory, found) = unpacked(&package(&[
            ("linux-source-6.1/", b""),
            ("linux-source-6.1/Kconfig", b"mainmenu"),
            ("linux-source-6.1/a/b/large.c", &large),
        ]))
        .unwrap();
        assert_eq!(found, directory.path().join("source/linux-source-6.1"));
        assert_eq!(fs::read(found.join("Kconfig")).unwrap(), b"mainmenu");
        assert_eq!(fs::read(found.join("a/b/large.c")).unwrap(), large);
    }

    #[test]
    fn nothing_is_written_outside_of_the_directory() {
        for name in ["../evil", "/tmp/evil", "a/../../evil"] {
            let error = unpacked(&package(&[(name, b"x")])).unwrap_err();
            assert!(matches!(error, SourceError::Strange(_)), "{error:?}");
        }
        let place =
            Place { root: Path::new("/r"), links: BTreeSet::from([PathBuf::from("a/link")]) };
        assert_eq!(place.path("a/link/x"), None);
        assert_eq!(place.path("a/link"), None);
        assert_eq!(place.path("./a/linked"), Some(PathBuf::from("a/linked")));
        let twice = package(&[("linux/a", b"x"), ("linux/a", b"y")]);
        assert!(matches!(unpacked(&twice).unwrap_err(), SourceError::File { .. }));
    }

    #[test]
    fn a_package_without_a_source_is_said_to_be_one() {
        assert!(matches!(unpacked(&deb(&[("./a", b"a")])).unwrap_err(), SourceError::Missing));
        let damaged = deb(&[("./usr/src/linux-source-6.1.tar.xz", b"\xfd7zXZ\0rest")]);
        assert!(unpacked(&damaged).is_err());
    }
}
