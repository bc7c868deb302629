//! Reading the archive around the images: every file of it hashed and set aside, in one pass.
//!
//! Names in the archive are keys here and never looked up in a file system.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

use base::Digest;

use super::{LoadError, inflate};
use crate::{
    layer::{EntryKind, Limits, tar::Archive},
    progress::{Progress, Tell},
    store::{Lease, SealedBlob, Store, StoreError, digest_of},
    wire::DOCUMENT_BYTES_MAX,
};

/// Entries of one archive.
const ENTRIES_MAX: u64 = 20_000;
/// Bytes of all files of one archive.
const BYTES_MAX: u64 = 1 << 40;
/// Bytes behind the end of the archive that are read and passed over.
const PADDING_BYTES_MAX: u64 = 1 << 20;
/// Longest name.
const NAME_BYTES_MAX: usize = 512;
/// Files up to this length are held in memory ...
const SMALL_BYTES: u64 = 64 << 10;
/// ... as long as they are no more than this together.
const SMALL_BYTES_SUM: u64 = 16 << 20;
/// Links that are followed to one file.
const LINKS_MAX: usize = 8;

/// The files of an archive.
#[derive(Debug, Default)]
pub(super) struct Staged<'s> {
    /// Digest and length of each file, by name.
    files: BTreeMap<String, (Digest, u64)>,
    /// Where links lead.
    links: BTreeMap<String, String>,
    contents: BTreeMap<Digest, Content<'s>>,
    small: u64,
}

/// The bytes of a file.
#[derive(Debug)]
pub(super) enum Content<'s> {
    Memory(Vec<u8>),
    File(SealedBlob<'s>),
}

impl Content<'_> {
    /// Moves it into the store. The caller has pinned it.
    pub(super) fn place(self, lease: &Lease<'_>, store: &Store) -> Result<Digest, StoreError> {
        match self {
            Content::Memory(bytes) => store.put(lease, &bytes),
            Content::File(blob) => blob.place(lease),
        }
    }
}

/// Reads the whole archive.
pub(super) fn stage<'s>(
    store: &'s Store,
    input: impl Read,
    tell: Tell<'_>,
) -> Result<Staged<'s>, LoadError> {
    let mut counted = Counted { inner: input, bytes: 0, told: 0, tell };
    let inflated = inflate::inflate(&mut counted).map_err(LoadError::Read)?;
    let limits = Limits { file_bytes: BYTES_MAX, ..Limits::default() };
    let mut archive = Archive::new(inflated, &limits);
    let mut staged = Staged::default();
    let (mut entries, mut bytes) = (0, 0);
    while let Some(entry) = archive.next_entry().map_err(LoadError::Tar)? {
        entries += 1;
        if entries > ENTRIES_MAX {
            return Err(LoadError::TooLarge { what: "entries", max: ENTRIES_MAX });
        }
        let name = clean(&entry.path)?;
        match entry.kind {
            EntryKind::Directory => {}
            EntryKind::File { size, segments: None } => {
                bytes += size;
                if bytes > BYTES_MAX {
                    return Err(LoadError::TooLarge { what: "bytes", max: BYTES_MAX });
                }
                let content = staged.read(store, &mut archive, size)?;
                staged.file(name, content)?;
            }
            EntryKind::HardLink(target) => staged.link(name, clean(&target)?)?,
            EntryKind::Symlink(target) => {
                let target = beside(&name, &target)?;
                staged.link(name, target)?;
            }
            EntryKind::File { .. } | EntryKind::Device(_) | EntryKind::Fifo => {
                return Err(refused(&entry.path, "only plain files and links belong there"));
            }
        }
    }
    drop(archive);
    // Archives are padded at the end; whoever writes them to a pipe wants that read too.
    let mut padding = counted.take(PADDING_BYTES_MAX);
    std::io::copy(&mut padding, &mut std::io::sink()).map_err(LoadError::Read)?;
    Ok(staged)
}

impl<'s> Staged<'s> {
    /// Digest and length of the file of that name.
    pub(super) fn find(&self, name: &str) -> Option<(Digest, u64)> {
        let mut name = name;
        for _ in 0..LINKS_MAX {
            match self.links.get(name) {
                Some(target) => name = target,
                None => return self.files.get(name).copied(),
            }
        }
        None
    }

    /// As [`Staged::find`], where the name stands in a document and not yet in its clean form.
    pub(super) fn find_named(&self, name: &str) -> Result<(Digest, u64), LoadError> {
        let clean = clean(name.as_bytes())?;
        self.find(&clean).ok_or_else(|| LoadError::Missing(format!("\"{clean}\"")))
    }

    /// Length of the file with this digest.
    pub(super) fn length(&self, digest: &Digest) -> Option<u64> {
        self.contents.get(digest).map(|content| match content {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File(blob) => blob.bytes,
        })
    }

    /// The first bytes of the file with this digest, no more than `most`.
    pub(super) fn bytes(&self, digest: &Digest, most: u64) -> Result<Option<Vec<u8>>, LoadError> {
        match self.contents.get(digest) {
            None => Ok(None),
            Some(Content::Memory(bytes)) => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                Ok(Some(bytes.get(..most).unwrap_or(bytes).to_vec()))
            }
            Some(Content::File(blob)) => {
                let mut bytes = Vec::new();
                let read = blob.open().and_then(|file| file.take(most).read_to_end(&mut bytes));
                let doing = "read a file of the archive";
                read.map_err(|source| StoreError::Disk { doing, source })?;
                Ok(Some(bytes))
            }
        }
    }

    /// The document with this digest; a longer one than we read is cut, and refused later.
    pub(super) fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, LoadError> {
        self.bytes(digest, DOCUMENT_BYTES_MAX + 1)
    }

    /// Takes the file with this digest.
    pub(super) fn take(&mut self, digest: &Digest) -> Option<Content<'s>> {
        self.contents.remove(digest)
    }

    fn read(
        &mut self,
        store: &'s Store,
        archive: &mut Archive<impl std::io::BufRead>,
        size: u64,
    ) -> Result<(Digest, u64, Content<'s>), LoadError> {
        if size <= SMALL_BYTES && self.small + size <= SMALL_BYTES_SUM {
            self.small += size;
            let mut bytes = Vec::new();
            while let Some(chunk) = archive.chunk().map_err(LoadError::Tar)? {
                bytes.extend_from_slice(chunk);
            }
            return Ok((digest_of(&bytes), size, Content::Memory(bytes)));
        }
        let mut blob = store.new_blob()?;
        while let Some(chunk) = archive.chunk().map_err(LoadError::Tar)? {
            let doing = "set a file of the archive aside";
            blob.write_all(chunk).map_err(|source| StoreError::Disk { doing, source })?;
        }
        let blob = blob.seal();
        Ok((blob.digest, blob.bytes, Content::File(blob)))
    }

    fn file(
        &mut self,
        name: String,
        (digest, bytes, content): (Digest, u64, Content<'s>),
    ) -> Result<(), LoadError> {
        if let Some(wanted) = blob_name(&name)?.filter(|wanted| *wanted != digest) {
            return Err(LoadError::Digest { name, wanted, found: digest });
        }
        self.contents.entry(digest).or_insert(content);
        let same = !self.links.contains_key(&name)
            && self.files.get(&name).is_none_or(|(had, _)| *had == digest);
        if !same {
            return Err(refused(name.as_bytes(), "the name stands for two different files"));
        }
        self.files.insert(name, (digest, bytes));
        Ok(())
    }

    fn link(&mut self, name: String, target: String) -> Result<(), LoadError> {
        let taken = self.files.contains_key(&name)
            || self.links.get(&name).is_some_and(|had| *had != target);
        if taken {
            return Err(refused(name.as_bytes(), "the name stands for two different files"));
        }
        if blob_name(&name)?.is_some() {
            return Err(refused(name.as_bytes(), "a blob is a file, not a link"));
        }
        self.links.insert(name, target);
        Ok(())
    }
}

/// The digest that a file must have by its name, if it lies among the blobs.
///
/// Source: OCI image-spec, image-layout.md, "Blobs".
fn blob_name(name: &str) -> Result<Option<Digest>, LoadError> {
    match name.strip_prefix("blobs/sha256/") {
        None => Ok(None),
        Some(hex) => Digest::from_hex(hex)
            .map(Some)
            .map_err(|_| refused(name.as_bytes(), "a blob is named by its digest")),
    }
}

/// A name without `.` and empty components; refused if it leads out of the archive.
fn clean(path: &[u8]) -> Result<String, LoadError> {
    if path.starts_with(b"/") {
        return Err(refused(path, "the name is absolute"));
    }
    join(path, Vec::new())
}

/// The target of a symbolic link, from where the link is.
fn beside(link: &str, target: &[u8]) -> Result<String, LoadError> {
    if target.starts_with(b"/") {
        return Err(refused(target, "the target of a link is absolute"));
    }
    let mut parents: Vec<&str> = link.split('/').collect();
    parents.pop();
    join(target, parents)
}

fn join<'p>(path: &'p [u8], mut parts: Vec<&'p str>) -> Result<String, LoadError> {
    let text = std::str::from_utf8(path).map_err(|_| refused(path, "the name is not UTF-8"))?;
    if text.len() > NAME_BYTES_MAX || text.contains('\0') {
        return Err(refused(path, "the name is too long or holds a NUL byte"));
    }
    let depth = parts.len();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            // In a name `..` is refused at once; in a link's target it may lead to a neighbour.
            ".." if depth == 0 || parts.pop().is_none() => {
                return Err(refused(path, "the name leads out of the archive"));
            }
            ".." => {}
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

fn refused(path: &[u8], why: &'static str) -> LoadError {
    let name = path.get(..path.len().min(256)).unwrap_or(path).escape_ascii().to_string();
    LoadError::Entry { name, why }
}

/// Tells how much was read, every so often.
struct Counted<'t, R> {
    inner: R,
    bytes: u64,
    told: u64,
    tell: Tell<'t>,
}

/// Bytes between two messages.
const TELL_BYTES: u64 = 1 << 20;

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(into)?;
        self.bytes += read as u64;
        if self.bytes - self.told >= TELL_BYTES || read == 0 && self.told != self.bytes {
            self.told = self.bytes;
            (self.tell)(Progress::Reading { bytes: self.bytes });
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_and_those_that_lead_out_are_refused() {
        assert_eq!(clean(b"./blobs//sha256/./x").unwrap(), "blobs/sha256/x");
        assert_eq!(clean(b"./").unwrap(), "");
        for bad in [&b"/etc/passwd"[..], b"../x", b"a/../../x", b"a/../b", b"a\0b", b"\xff"] {
            assert!(clean(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn links_lead_to_neighbours_and_not_out() {
        assert_eq!(beside("a/layer.tar", b"../b/layer.tar").unwrap(), "b/layer.tar");
        assert_eq!(beside("a/layer.tar", b"x").unwrap(), "a/x");
        assert!(beside("a/layer.tar", b"../../x").is_err());
        assert!(beside("a/layer.tar", b"/x").is_err());
    }
}
