//! Why layers were not made available.

use std::{io, path::PathBuf};

use base::{Digest, ErrorKind};

use super::Attach;
use crate::store::{StoreError, disk_kind};

/// Why layers were not made available.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// It is not in the store, nor is what it could be made of.
    #[error("layer {0} is not in the image store")]
    Missing(Digest),
    /// It could not be made again.
    #[error("cannot make a layer again from its blob")]
    Unpack(#[source] Box<StoreError>),
    /// The host did not let us have a directory.
    #[error("cannot use {path} for mounts")]
    Disk {
        /// Which.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The kernel did not mount it.
    #[error("cannot mount layer {layer} ({how:?})")]
    Mount {
        /// Which.
        layer: Digest,
        /// By file or by loop device.
        how: Attach,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The kernel did not stack them.
    #[error("cannot mount an overlay of {layers} layers")]
    Overlay {
        /// How many.
        layers: usize,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl MountError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            MountError::Missing(_) => ErrorKind::NotFound,
            MountError::Unpack(error) => error.kind(),
            MountError::Disk { source, .. }
            | MountError::Mount { source, .. }
            | MountError::Overlay { source, .. } => disk_kind(source),
        }
    }
}
