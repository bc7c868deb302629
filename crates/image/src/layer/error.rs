//! Why a layer was not written.

use std::io;

use base::ErrorKind;

use archive::{Exceeded, Name, tar::TarError};

use super::Compression;

/// Why a layer was not written.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// The input failed.
    #[error("cannot read the layer")]
    Read(#[source] io::Error),
    /// The compressed stream is damaged, cut off, or needs too large a window.
    #[error("cannot decompress the layer as {compression:?}")]
    Decompress {
        /// What it looked like.
        compression: Compression,
        /// What the decompressor said.
        #[source]
        source: io::Error,
    },
    /// A compression that no image specification allows.
    #[error("the layer is compressed with {0}; plain tar, gzip and zstd can be read")]
    Compression(&'static str),
    /// The archive as a whole is too large.
    #[error("the layer is too large: {0}")]
    Size(#[source] Exceeded),
    /// The archive's form is wrong.
    #[error(transparent)]
    Tar(TarError),
    /// An entry cannot be in a layer.
    #[error("entry \"{path}\" of the layer cannot be accepted")]
    Entry {
        /// Which.
        path: Name,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// The image or the directory could not be written.
    #[error("cannot write the layer")]
    Write(#[source] io::Error),
    /// One entry could not be written.
    #[error("cannot write entry \"{path}\" of the layer")]
    WriteEntry {
        /// Which.
        path: Name,
        /// What the host said.
        #[source]
        source: io::Error,
    },
    /// The thread that reads and decompresses could not be started.
    #[error("cannot start a thread to read the layer")]
    Thread(#[source] io::Error),
}

/// Why one entry cannot be in a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// The path has no component or an entry other than a directory is at the root.
    #[error("only a directory can be the root")]
    Root,
    /// A path or target holds a NUL byte.
    #[error("the name holds a NUL byte")]
    Nul,
    /// `..` leads out of the root.
    #[error("the path leads out of the root")]
    Escapes,
    /// A component is longer than file systems allow.
    #[error("a component of the path is longer than 255 bytes")]
    Component,
    /// A whiteout without a name, or something below a whiteout.
    #[error("the whiteout names nothing that could be hidden")]
    Whiteout,
    /// More symbolic links lead to it than a path may have.
    #[error("more than 40 symbolic links lead to it")]
    Links,
    /// A parent is not a directory in this layer.
    #[error("\"{0}\" above it is not a directory")]
    Parent(Name),
    /// A hard link's target is not in this layer.
    #[error("its target \"{0}\" is not in the layer")]
    LinkTarget(Name),
    /// A hard link's target is a directory.
    #[error("its target \"{0}\" is a directory")]
    LinkDirectory(Name),
    /// A hard link's target is not an acceptable path.
    #[error("its target is not acceptable: {0}")]
    LinkPath(Box<EntryError>),
    /// A symbolic link to nothing.
    #[error("the target of the symbolic link is empty")]
    EmptyTarget,
    /// A device node, where only files are wanted.
    #[error(
        "it is device node {major}:{minor}: only files, directories, links and pipes are taken"
    )]
    HostDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A device number that Linux cannot express.
    #[error("device {major}:{minor} does not exist on Linux")]
    Device {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// The image would need more blocks than EROFS can address.
    #[error("the image grows beyond 16 TiB")]
    ImageSize,
    /// A limit was reached.
    #[error(transparent)]
    Limit(#[from] Exceeded),
}

impl LayerError {
    pub(super) fn entry(path: &[u8], source: EntryError) -> LayerError {
        LayerError::Entry { path: Name::new(path), source }
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LayerError::Read(_) => ErrorKind::Unavailable,
            LayerError::Decompress { .. } => ErrorKind::Corrupt,
            LayerError::Compression(_) => ErrorKind::Unsupported,
            LayerError::Size(_) | LayerError::Thread(_) => ErrorKind::Exhausted,
            LayerError::Tar(error) => error.kind(),
            LayerError::Entry { source, .. } => source.kind(),
            LayerError::Write(source) | LayerError::WriteEntry { source, .. } => host(source),
        }
    }
}

impl EntryError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            EntryError::Limit(_) | EntryError::ImageSize => ErrorKind::Exhausted,
            EntryError::LinkPath(inner) => inner.kind(),
            EntryError::Root
            | EntryError::Nul
            | EntryError::Escapes
            | EntryError::Component
            | EntryError::Whiteout
            | EntryError::Links
            | EntryError::Parent(_)
            | EntryError::LinkTarget(_)
            | EntryError::LinkDirectory(_)
            | EntryError::EmptyTarget
            | EntryError::Device { .. }
            | EntryError::HostDevice { .. } => ErrorKind::InvalidInput,
        }
    }
}

/// A full disk is the caller's to mend; everything else is not expected.
#[expect(clippy::wildcard_enum_match_arm, reason = "io::ErrorKind is open")]
fn host(error: &io::Error) -> ErrorKind {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            ErrorKind::Exhausted
        }
        io::ErrorKind::PermissionDenied => ErrorKind::PermissionDenied,
        _ => ErrorKind::Internal,
    }
}
