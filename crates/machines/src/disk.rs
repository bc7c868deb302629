//! Disks: what a user says of one, what is recorded, and how it becomes an image.
//!
//! What a file's bytes mean is recorded when the machine is made and never guessed again: a guest
//! can write any header to the beginning of its raw disk.

mod grow;
mod open;
mod wish;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use grow::{GrowError, grow};
pub use open::{DiskError, recognise};
pub(crate) use open::{layers, open};
pub use wish::{Wish, WishError};

/// A machine's disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disk {
    /// Where it is.
    pub place: Place,
    /// What its bytes mean.
    pub format: Format,
    /// The guest may not write.
    pub read_only: bool,
    /// The images behind a qcow2 image, the nearest first: these and no others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backing: Vec<PathBuf>,
    /// It is what cloud-init is told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub seed: bool,
}

/// Where a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A file of this name in the machine's directory, which goes with the machine.
    Own(String),
    /// A file or a block device of the user's, by its absolute path.
    Outside(PathBuf),
}

/// What a disk's bytes mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// They are the disk's.
    Raw,
    /// A qcow2 image.
    Qcow2,
}

impl Disk {
    /// Its file, of a machine with this directory.
    pub fn path(&self, directory: &Path) -> PathBuf {
        match &self.place {
            // One component, whatever the record says.
            Place::Own(name) => directory.join(Path::new(name).file_name().unwrap_or_default()),
            Place::Outside(path) => path.clone(),
        }
    }

    /// Whether a machine that runs can change it.
    pub fn is_written(&self) -> bool {
        !self.read_only
    }
}

/// The name of the machine's own disk at a place.
pub(crate) fn own_name(index: usize) -> String {
    format!("disk-{index}")
}

/// The name of the disk that cloud-init reads.
pub(crate) const SEED: &str = "seed";
