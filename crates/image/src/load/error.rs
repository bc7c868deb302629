//! Why an archive was not loaded.

use std::io;

use base::{Digest, ErrorKind};

use crate::{
    layer::tar::TarError, platform::Platform, reference::ReferenceError, store::StoreError,
    wire::DocumentError,
};

/// Why an archive was not loaded. Nothing of it is in the store then.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The input failed, or is damaged.
    #[error("cannot read the archive")]
    Read(#[source] io::Error),
    /// It is no tar archive, or a damaged one.
    #[error("cannot read the archive")]
    Tar(#[source] TarError),
    /// A name in it is none that an image archive has.
    #[error("entry \"{name}\" of the archive cannot be accepted: {why}")]
    Entry {
        /// The name, escaped.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// There is too much in it.
    #[error("the archive has more than {max} {what}")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much there may be.
        max: u64,
    },
    /// It is another kind of archive.
    #[error("this is no image archive: {0}")]
    NotAnImage(&'static str),
    /// A file is not what its name or a descriptor says.
    #[error("\"{name}\" has the digest {found}, not {wanted}")]
    Digest {
        /// The file.
        name: String,
        /// What it should have.
        wanted: Digest,
        /// What it has.
        found: Digest,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("{blob} has {found} bytes, not {wanted}")]
    Size {
        /// The blob.
        blob: Digest,
        /// What the descriptor says.
        wanted: u64,
        /// What it has.
        found: u64,
    },
    /// A file that another one names is not there.
    #[error("the archive lacks {0}")]
    Missing(String),
    /// A document is none.
    #[error("cannot read {name}")]
    Document {
        /// Which.
        name: String,
        /// Why.
        #[source]
        source: DocumentError,
    },
    /// Manifest and configuration do not fit.
    #[error("manifest {manifest} has {layers} layers, but its configuration {diff_ids}")]
    Layers {
        /// The manifest.
        manifest: Digest,
        /// Layers there.
        layers: usize,
        /// Layers in the configuration.
        diff_ids: usize,
    },
    /// Something other than an image.
    #[error("{manifest} is no image that can be unpacked: its {what} is of type \"{media_type}\"")]
    MediaType {
        /// The manifest.
        manifest: Digest,
        /// Configuration or layer.
        what: &'static str,
        /// Its type.
        media_type: String,
    },
    /// Nothing for the platform that was asked for, or nothing at all.
    #[error("no image in the archive is for {}", wanted_or_any(.wanted.as_ref()))]
    NoPlatform {
        /// Which was asked for, if any.
        wanted: Option<Platform>,
    },
    /// A name of an image is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The store could not take it, or a layer is bad.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn wanted_or_any(wanted: Option<&Platform>) -> String {
    wanted.map_or_else(|| "any platform".to_owned(), ToString::to_string)
}

impl LoadError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LoadError::Read(_) => ErrorKind::Unavailable,
            LoadError::Tar(error) => error.kind(),
            LoadError::Entry { .. } | LoadError::NotAnImage(_) => ErrorKind::InvalidInput,
            LoadError::TooLarge { .. } => ErrorKind::Exhausted,
            LoadError::Digest { .. }
            | LoadError::Size { .. }
            | LoadError::Missing(_)
            | LoadError::Layers { .. } => ErrorKind::Corrupt,
            LoadError::Document { source, .. } => source.kind(),
            LoadError::MediaType { .. } => ErrorKind::Unsupported,
            LoadError::NoPlatform { .. } => ErrorKind::NotFound,
            LoadError::Reference(error) => error.kind(),
            LoadError::Store(error) => error.kind(),
        }
    }
}
