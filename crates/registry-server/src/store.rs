//! The registry's store: blobs on the disk, and the table of who has them.
//!
//! A blob gets its name on the disk before the table knows it, and loses it after. Between the two
//! nothing is collected (`gate`), and a kill leaves at worst files that the next collection takes.
//!
//! Everything here may block.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
    time::Duration,
};

use base::{Digest, ErrorKind, clock::Timestamp};
use image::{Blobs, GrowingBlob, OpenError};
use registry::MANIFEST_BYTES_MAX;

use crate::{
    name::{Name, Tag},
    table::{BlobRow, Dropped, Row, Rule, Table, TableError},
    wire::Manifest,
};

/// Younger than this, nothing is collected: it may be part of a push under way.
pub const GRACE: Duration = Duration::from_secs(3600);

/// What a cache serves again counts as young again after this.
const USED_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// The store of one registry.
#[derive(Debug)]
pub struct Store {
    blobs: Blobs,
    table: Table,
    /// Held shared from naming a blob to noting it, and alone by whoever takes names away.
    gate: RwLock<()>,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The host did not let us.
    #[error("cannot {doing}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// What the host said.
        source: io::Error,
    },
    /// The table failed.
    #[error(transparent)]
    Table(#[from] TableError),
}

impl StoreError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        if self.is_full() {
            return ErrorKind::Exhausted;
        }
        match self {
            StoreError::Open(error) => error.kind(),
            StoreError::Disk { .. } | StoreError::Table(TableError::Store(_)) => {
                ErrorKind::Internal
            }
            StoreError::Table(TableError::Row(_)) => ErrorKind::Corrupt,
            StoreError::Table(TableError::Newer(_)) => ErrorKind::Unsupported,
        }
    }

    /// Whether the disk is full.
    pub(crate) fn is_full(&self) -> bool {
        let source = match self {
            StoreError::Disk { source, .. } => source,
            StoreError::Table(error) => match error.of_disk() {
                Some(source) => source,
                None => return false,
            },
            StoreError::Open(_) => return false,
        };
        matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

/// What a manifest lacks to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Something that it names is not in the repository.
    Missing(Digest),
    /// A blob is not as long as it says.
    Length { blob: Digest, is: u64, said: u64 },
}

/// What was collected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Manifests that nothing reached.
    pub manifests: usize,
    /// Blobs, those of manifests included.
    pub blobs: usize,
    /// Bytes of disk that are free again, unless the engine has the same blobs.
    pub bytes: u64,
}

impl Store {
    /// Opens the store of this directory, and makes it where there is none. `neighbours` are
    /// stores that may have the same blobs.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read.
    pub fn open(root: &Path, neighbours: Vec<PathBuf>) -> Result<Store, StoreError> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(root);
        made.map_err(disk("make the store's directory"))?;
        let blobs = Blobs::open(root, neighbours)?;
        let table = Table::open(&root.join("registry.redb"))?;
        Ok(Store { blobs, table, gate: RwLock::new(()) })
    }

    /// Begins a blob.
    pub(crate) fn begin(&self) -> Result<GrowingBlob, StoreError> {
        self.blobs.begin().map_err(disk("begin a blob"))
    }

    /// Takes a blob into a repository if it is what it should be; answers whether it is. If not,
    /// it is gone.
    pub(crate) fn add_blob(
        &self,
        name: &Name,
        blob: GrowingBlob,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let bytes = match self.blobs.place(blob, digest) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(false),
            Err(source) => return Err(disk("store a blob")(source)),
        };
        self.table.put_blob(name, digest, BlobRow { bytes, since: now() })?;
        Ok(true)
    }

    /// Puts a blob that another repository has, or with none named any other, into this one too.
    /// Whether there is one.
    pub(crate) fn mount(
        &self,
        name: &Name,
        from: Option<&Name>,
        digest: &Digest,
    ) -> Result<bool, StoreError> {
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(from) = from
            && self.table.blob(from, digest)?.is_none()
        {
            return Ok(false);
        }
        let Some(bytes) = self.blobs.bytes(digest) else { return Ok(false) };
        self.table.put_blob(name, digest, BlobRow { bytes, since: now() })?;
        Ok(true)
    }

    /// A blob of a repository, and its length. With `relied`, it stays for half of [`GRACE`] at
    /// least: whoever pushes asks what is there and sends the rest.
    pub(crate) fn blob(
        &self,
        name: &Name,
        digest: &Digest,
        relied: bool,
    ) -> Result<Option<(File, u64)>, StoreError> {
        let Some(row) = self.table.blob(name, digest)? else { return Ok(None) };
        let now = now();
        let old = now.saturating_sub(row.since) > GRACE.as_secs() / 2;
        if relied && old && !self.table.renew_blob(name, digest, now)? {
            return Ok(None);
        }
        match self.blobs.read(digest) {
            Ok(found) => Ok(Some(found)),
            // Lost: to bring it again is all that helps.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(disk("open a blob")(source)),
        }
    }

    /// Takes a blob out of a repository.
    pub(crate) fn drop_blob(&self, name: &Name, digest: &Digest) -> Result<Dropped, StoreError> {
        Ok(self.table.drop_blob(name, digest)?)
    }

    /// Takes a manifest into a repository. With `whole`, all that it names must be there.
    pub(crate) fn put_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        bytes: &[u8],
        manifest: Manifest,
        tag: Option<&Tag>,
        whole: bool,
    ) -> Result<Option<Lack>, StoreError> {
        if whole && let Some(lack) = self.wrong_length(name, &manifest)? {
            return Ok(Some(lack));
        }
        let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let mut blob = self.begin()?;
        blob.write_all(bytes).map_err(disk("store a manifest"))?;
        self.blobs.place(blob, digest).map_err(disk("store a manifest"))?;
        let row = Row {
            media_type: manifest.media_type,
            bytes: bytes.len() as u64,
            since: now(),
            blobs: manifest.blobs.iter().map(|(digest, _)| *digest).collect(),
            manifests: manifest.manifests.iter().map(|entry| entry.digest).collect(),
            subject: manifest.subject,
            artifact_type: manifest.artifact_type,
            annotations: manifest.annotations,
        };
        Ok(self.table.put_manifest(name, digest, &row, tag, whole)?.map(Lack::Missing))
    }

    /// Keeps a manifest that came from elsewhere, and what it names as far as that is here.
    pub(crate) fn keep_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        bytes: &[u8],
        manifest: Manifest,
    ) -> Result<(), StoreError> {
        let blobs: Vec<_> = manifest.blobs.iter().map(|(blob, _)| *blob).collect();
        self.put_manifest(name, digest, bytes, manifest, None, false)?;
        for blob in blobs {
            self.mount(name, None, &blob)?;
        }
        Ok(())
    }

    fn wrong_length(&self, name: &Name, manifest: &Manifest) -> Result<Option<Lack>, StoreError> {
        for (blob, said) in &manifest.blobs {
            let is = self.table.blob(name, blob)?.map(|row| row.bytes);
            match is {
                Some(is) if is != *said => {
                    return Ok(Some(Lack::Length { blob: *blob, is, said: *said }));
                }
                Some(_) => {}
                None => return Ok(Some(Lack::Missing(*blob))),
            }
        }
        Ok(None)
    }

    /// A manifest and its bytes.
    pub(crate) fn manifest(
        &self,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<(Row, Vec<u8>)>, StoreError> {
        let Some(row) = self.table.manifest(name, digest)? else { return Ok(None) };
        let file = match self.blobs.read(digest) {
            Ok((file, _)) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(disk("open a manifest")(source)),
        };
        let mut bytes = Vec::new();
        let read = file.take(MANIFEST_BYTES_MAX).read_to_end(&mut bytes);
        read.map_err(disk("read a manifest"))?;
        Ok(Some((row, bytes)))
    }

    /// Whether a manifest is here; it counts as young again, so that a cache keeps what is used.
    pub(crate) fn uses_manifest(&self, name: &Name, digest: &Digest) -> Result<bool, StoreError> {
        let Some(row) = self.table.manifest(name, digest)? else { return Ok(false) };
        if self.blobs.bytes(digest).is_none() {
            return Ok(false);
        }
        let now = now();
        match now.saturating_sub(row.since) > USED_AGAIN.as_secs() {
            true => Ok(self.table.renew_manifest(name, digest, now)?),
            false => Ok(true),
        }
    }

    /// The table, for what concerns no file.
    pub(crate) fn table(&self) -> &Table {
        &self.table
    }

    /// Takes away what nothing reaches and is older than `grace`: blobs that no manifest of their
    /// repository has, and, with `untagged`, manifests that no tag leads to.
    ///
    /// # Errors
    /// When table or disk do not let us; the rest goes the next time.
    pub fn collect(&self, untagged: bool, grace: Duration) -> Result<Collected, StoreError> {
        let gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let before =
            now().saturating_sub(grace.as_secs()).saturating_add(u64::from(grace.is_zero()));
        let swept = self.table.collect(Rule { untagged, before })?;
        let unnamed = self.blobs.unname(|digest| swept.needed.contains(digest));
        let unnamed = unnamed.map_err(disk("collect blobs"))?;
        drop(gate);
        let bytes = unnamed.blobs.iter().map(|(_, bytes)| bytes).sum();
        Ok(Collected { manifests: swept.manifests, blobs: unnamed.blobs.len(), bytes })
    }
}

fn disk(doing: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    move |source| StoreError::Disk { doing, source }
}

fn now() -> u64 {
    Timestamp::now().seconds()
}
