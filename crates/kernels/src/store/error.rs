//! What can go wrong with the store.

use std::{io, path::PathBuf};

use base::ErrorKind;

use crate::{image::ImageError, names::NameError};

/// Why a kernel of the store is not used.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A file cannot be read.
    #[error("cannot read {file}")]
    Read {
        /// The file, within the kernel's directory.
        file: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A file has another length.
    #[error("{file} has {found} bytes where {wanted} belong")]
    Length {
        /// The file.
        file: String,
        /// How many bytes it has.
        found: u64,
        /// How many it had.
        wanted: u64,
    },
    /// A file has another content.
    #[error("{file} was changed: its digest is another")]
    Digest {
        /// The file.
        file: String,
    },
    /// The manifest makes no sense.
    #[error("its manifest cannot be understood: {0}")]
    Manifest(String),
    /// A manifest that a later Wythe wrote.
    #[error("its manifest is of version {0}, which only a later Wythe understands")]
    Version(u32),
    /// The manifest is another kernel's.
    #[error("its directory has the name of another kernel")]
    Name,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The host did not let us.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Where.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// There is no such kernel.
    #[error("no such kernel: {0}")]
    NotFound(String),
    /// There are several.
    #[error("several kernels are called {0}: name one by its digest")]
    Ambiguous(String),
    /// It is there and cannot be used.
    #[error("kernel {name} is damaged")]
    Damaged {
        /// Its digest.
        name: String,
        /// What is wrong.
        #[source]
        damage: Damage,
    },
    /// A machine runs with it.
    #[error("kernel {0} is in use by a virtual machine: stop that first")]
    InUse(String),
    /// Too many of them.
    #[error("there are more than {} kernels: remove some", super::KERNELS_MAX)]
    TooMany,
    /// It cannot be called that.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The file is no kernel that could be started.
    #[error("{file} is no kernel that can be started")]
    Image {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: ImageError,
    },
    /// A module is for another kernel.
    #[error("module {module} is for kernel {found}, and this is {wanted}")]
    OtherRelease {
        /// The module.
        module: String,
        /// What it is for.
        found: String,
        /// What it should be for.
        wanted: String,
    },
    /// There are more or larger modules than a kernel has.
    #[error("{0}")]
    Modules(String),
}

impl StoreError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            StoreError::Io { .. } | StoreError::Damaged { .. } => ErrorKind::Internal,
            StoreError::NotFound(_) => ErrorKind::NotFound,
            StoreError::InUse(_) => ErrorKind::Conflict,
            StoreError::Ambiguous(_)
            | StoreError::TooMany
            | StoreError::Name(_)
            | StoreError::Image { .. }
            | StoreError::OtherRelease { .. }
            | StoreError::Modules(_) => ErrorKind::InvalidInput,
        }
    }
}
