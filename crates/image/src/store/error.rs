//! What can go wrong in the store itself.

use std::{io, path::PathBuf};

use base::{Digest, ErrorKind};

use super::{resolve::ResolveError, table::TableError};
use crate::{
    layer::LayerError, mounts::MountError, reference::ReferenceError, wire::DocumentError,
};

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// One process at a time.
    #[error("the image store {path} is in use by another process")]
    InUse {
        /// The store.
        path: PathBuf,
    },
    /// The host does not let us.
    #[error("cannot open the image store {path}")]
    Disk {
        /// What could not be opened.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The table cannot be read.
    #[error("cannot read {path}")]
    Table {
        /// The table.
        path: PathBuf,
        /// Why.
        #[source]
        source: TableError,
    },
    /// The mounts of an earlier run could not be taken over.
    #[error(transparent)]
    Mounts(#[from] MountError),
}

impl OpenError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            OpenError::InUse { .. } => ErrorKind::Conflict,
            OpenError::Disk { source, .. } => disk_kind(source),
            OpenError::Table { source: TableError::Newer { .. }, .. } => ErrorKind::Unsupported,
            OpenError::Table { source: TableError::Damaged(_), .. } => ErrorKind::Corrupt,
            OpenError::Mounts(error) => error.kind(),
        }
    }
}

/// Why the store did not do what it was asked, whatever that was.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The host did not let us.
    #[error("cannot {doing}")]
    Disk {
        /// What was being done.
        doing: &'static str,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// A blob that must be there is not.
    #[error("blob {0} is not in the image store")]
    Missing(Digest),
    /// A blob is not what its name says.
    #[error("blob {blob} of the image store has the digest {found}")]
    Damaged {
        /// Its name.
        blob: Digest,
        /// What it is.
        found: Digest,
    },
    /// A blob that should be a document is none.
    #[error("cannot read {blob}")]
    Document {
        /// Which.
        blob: Digest,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// A blob that should be a layer is none.
    #[error("cannot unpack layer {blob}")]
    Layer {
        /// Which.
        blob: Digest,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// A layer is not the one that the image's configuration names.
    #[error("layer {blob} unpacks to {found}, but the image's configuration says {wanted}")]
    DiffId {
        /// Which.
        blob: Digest,
        /// What the configuration says.
        wanted: Digest,
        /// What it is.
        found: Digest,
    },
}

impl StoreError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Disk { source, .. } => disk_kind(source),
            StoreError::Missing(_) | StoreError::Damaged { .. } | StoreError::DiffId { .. } => {
                ErrorKind::Corrupt
            }
            StoreError::Document { source, .. } => source.kind(),
            StoreError::Layer { source, .. } => source.kind(),
        }
    }
}

/// Why an image did not get a name.
#[derive(Debug, thiserror::Error)]
pub enum TagError {
    /// The name is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A digest is not given, it is found.
    #[error("cannot name an image \"{0}\": a name has a tag, not a digest")]
    Digest(String),
    /// There is no such image.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The table was not written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TagError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TagError::Reference(_) | TagError::Digest(_) => ErrorKind::InvalidInput,
            TagError::Resolve(error) => error.kind(),
            TagError::Store(error) => error.kind(),
        }
    }
}

/// A full disk and missing rights are the caller's to mend; everything else is not expected.
#[expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]
pub(crate) fn disk_kind(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::Exhausted
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ErrorKind::PermissionDenied
        }
        _ => ErrorKind::Internal,
    }
}
