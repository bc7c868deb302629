//! Why a file system was not made.

use std::io;

use archive::Name;

use super::HELD_MAX;
use crate::{PathError, SizeError, XattrError};

/// Why a file system was not made.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// No disk has that size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The disk could not be written.
    #[error("cannot write the disk")]
    Write(#[source] io::Error),
    /// A file's content could not be read, or it ends too early.
    #[error("cannot read {name}")]
    Read {
        /// Which file.
        name: Name,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The blocks are used up.
    #[error("the files do not fit on a disk of {bytes} bytes")]
    Full {
        /// How large it is.
        bytes: u64,
    },
    /// The inodes are used up.
    #[error("a disk of {bytes} bytes has room for {inodes} files and directories, and not more")]
    Inodes {
        /// How large it is.
        bytes: u64,
        /// How many it has.
        inodes: u64,
    },
    /// More than [`HELD_MAX`].
    #[error("there are too many names: they are held in memory, and more than {HELD_MAX} bytes")]
    Names,
    /// A path that cannot be, or leads nowhere.
    #[error("cannot put {name} on the disk: {fault}")]
    Path {
        /// Which.
        name: Name,
        /// What is wrong with it.
        fault: PathError,
    },
    /// Something that a path is to be, and nothing can be.
    #[error("cannot put {name} on the disk: {what}")]
    Node {
        /// Which.
        name: Name,
        /// Why not.
        what: &'static str,
    },
    /// Attributes that the file system has no room for.
    #[error("cannot put {name} on the disk: {fault}")]
    Xattr {
        /// Whose.
        name: Name,
        /// What is wrong with them.
        fault: XattrError,
    },
}

pub(super) fn wrong_path(path: &[u8], fault: PathError) -> FillError {
    FillError::Path { name: Name::new(path), fault }
}

pub(super) fn wrong_node(path: &[u8], what: &'static str) -> FillError {
    FillError::Node { name: Name::new(path), what }
}
