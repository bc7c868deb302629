//! An image and those behind it, from paths to open files.
//!
//! Apart from the images themselves, so that a machine's process needs no paths: whoever may open
//! files does, and hands them over.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{
    Image, Raw,
    qcow2::{self, OpenError, Qcow2},
};

/// Most images that one disk is made of.
pub const DEPTH_MAX: usize = 16;

/// What a file's bytes mean. It is always said and never guessed: a guest can write any header to
/// the beginning of its raw disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// A qcow2 image.
    Qcow2,
}

/// Which backing images an image may name. What it names is what its guest can read, so an image
/// from elsewhere must not choose freely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backings {
    /// None.
    Refused,
    /// Those in the image's own directory.
    Beside,
    /// Any.
    Anywhere,
}

/// One image of a chain.
#[derive(Debug)]
pub struct Layer {
    /// Its file, open for reading, and for writing if it is the first and is to be written to.
    pub file: File,
    /// What it is.
    pub format: Format,
}

/// Why a chain was not opened.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    /// A file cannot be opened, or it is no image.
    #[error("cannot open the image {}", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It names a backing image that it may not.
    #[error("the image {} may not have {name} as its backing image", path.display())]
    Refused {
        /// Which image.
        path: PathBuf,
        /// What it names.
        name: String,
    },
    /// It does not say of what format its backing image is.
    #[error(
        "the image {} does not say whether its backing image is raw or qcow2; \
         `qemu-img rebase -u -b NAME -F FORMAT` writes it down",
        path.display()
    )]
    NoFormat {
        /// Which image.
        path: PathBuf,
    },
    /// The backing image is of a format that Wythe does not read.
    #[error("the image {} has a backing image of format {format}", path.display())]
    Format {
        /// Which image.
        path: PathBuf,
        /// What it says.
        format: String,
    },
    /// Too many, or images in a circle.
    #[error("the image {} has more than {DEPTH_MAX} images behind it", path.display())]
    Depth {
        /// The first.
        path: PathBuf,
    },
}

/// Opens an image and all behind it; the first is the one that the disk is.
///
/// # Errors
/// [`ChainError`].
pub fn open(
    path: &Path,
    format: Format,
    write: bool,
    backings: Backings,
) -> Result<Vec<Layer>, ChainError> {
    let mut layers = Vec::new();
    let mut next = Some((path.to_owned(), format));
    while let Some((path, format)) = next.take() {
        if layers.len() == DEPTH_MAX {
            return Err(ChainError::Depth { path });
        }
        let failed = |source| ChainError::Open { path: path.clone(), source };
        let file = open_file(&path, write && layers.is_empty()).map_err(failed)?;
        if format == Format::Qcow2 {
            let header = qcow2::read_header(&file).map_err(failed)?;
            if let Some(backing) = header.backing {
                next = Some(follow(&path, backing, backings)?);
            }
        }
        layers.push(Layer { file, format });
    }
    Ok(layers)
}

/// Opens a file that can be an image. Others are not waited for, as opening a pipe would.
fn open_file(path: &Path, write: bool) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).write(write).custom_flags(flags).open(path)?;
    let kind = file.metadata()?.file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file and no disk"));
    }
    Ok(file)
}

/// The path and the format of what an image has behind it.
fn follow(
    image: &Path,
    backing: qcow2::Backing,
    allowed: Backings,
) -> Result<(PathBuf, Format), ChainError> {
    let path = image.to_owned();
    let name = backing.name.strip_prefix("file:").unwrap_or(&backing.name);
    let beside = !name.contains('/') && ![".", "..", ""].contains(&name);
    let may = match allowed {
        Backings::Refused => false,
        Backings::Beside => beside,
        Backings::Anywhere => true,
    };
    if !may {
        return Err(ChainError::Refused { path, name: backing.name });
    }
    let format = match backing.format.as_deref() {
        Some("raw") => Format::Raw,
        Some("qcow2") => Format::Qcow2,
        Some(format) => return Err(ChainError::Format { path, format: format.to_owned() }),
        None => return Err(ChainError::NoFormat { path }),
    };
    let directory = image.parent().unwrap_or(Path::new(""));
    Ok((directory.join(name), format))
}

/// The image that a chain of files is.
///
/// # Errors
/// [`OpenError`].
pub fn image(layers: Vec<Layer>, write: bool) -> Result<Image, OpenError> {
    let last = layers.len().saturating_sub(1);
    let mut behind = None;
    for (index, Layer { file, format }) in layers.into_iter().enumerate().rev() {
        let write = write && index == 0;
        behind = Some(match (format, behind) {
            (Format::Qcow2, backing) => Image::Qcow2(Box::new(Qcow2::open(file, write, backing)?)),
            (Format::Raw, _) if index < last => return Err(OpenError::Backing("no")),
            (Format::Raw, _) => Image::Raw(Raw::new(file)?),
        });
    }
    behind.ok_or(OpenError::Backing("no"))
}
