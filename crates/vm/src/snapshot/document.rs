//! The file that describes a machine.

use std::{
    fmt,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::{fs::OFlags, rand::GetRandomFlags};
use serde::{Deserialize, Serialize, de::Error as _};

use super::{Manifest, SnapshotError, failed, runs::Pages};

/// The version of the format. It grows when a reader of the old one could not read the new.
pub const VERSION: u32 = 2;

/// Longest description of a machine, in bytes: one with 160 devices has less than one MiB, and the
/// longest list of pages less than two.
const BYTES_MAX: u64 = 16 << 20;

/// Names in the directory.
pub(super) const MEMORY: &str = "memory";
pub(super) const MANIFEST: &str = "machine.json";

/// The same while they are written.
pub(super) const MEMORY_NEW: &str = "memory.new";
pub(super) const MANIFEST_NEW: &str = "machine.json.new";

/// Tells one snapshot from every other: 128 random bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(u128);

impl Id {
    pub(super) fn new() -> io::Result<Id> {
        let mut bytes = [0; 16];
        // So few bytes come whole or not at all.
        rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(Id(u128::from_le_bytes(bytes)))
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Id {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Id, D::Error> {
        let text = String::deserialize(from)?;
        let digits = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = digits.then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        number.map(Id).ok_or_else(|| D::Error::custom("an id has 32 hexadecimal digits"))
    }
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) version: u32,
    /// What it goes back to.
    pub(super) parent: Option<Parent>,
    pub(super) machine: Manifest,
}

/// Another snapshot, and what differs in memory.
#[derive(Serialize, Deserialize)]
pub(super) struct Parent {
    pub(super) id: Id,
    /// Where it is; if that is no absolute path, as seen from the directory of this snapshot.
    pub(super) path: PathBuf,
    /// The pages that this snapshot holds.
    pub(super) pages: Pages,
}

/// What every version of the file says.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Document {
    /// Reads that of a file.
    pub(super) fn parse(file: File) -> Result<Document, SnapshotError> {
        let mut text = Vec::new();
        let mut bounded = io::Read::take(file, BYTES_MAX);
        io::Read::read_to_end(&mut bounded, &mut text).map_err(failed("read the description"))?;
        let unreadable = match serde_json::from_slice::<Document>(&text) {
            Ok(document) if document.version == VERSION => return Ok(document),
            Ok(Document { version, .. }) => return Err(SnapshotError::Version { found: version }),
            Err(error) => error,
        };
        // Of another version not even the shape is known.
        match serde_json::from_slice(&text) {
            Ok(Versioned { version }) if version != VERSION => {
                Err(SnapshotError::Version { found: version })
            }
            _ => Err(SnapshotError::Unreadable(unreadable)),
        }
    }

    /// Writes that of a directory in one step.
    pub(super) fn write(&self, dir: &Path) -> Result<(), SnapshotError> {
        let new = dir.join(MANIFEST_NEW);
        let file = File::create(&new).map_err(failed("write the description"))?;
        self.write_to(&file)?;
        fs::rename(&new, dir.join(MANIFEST)).map_err(failed("write the description"))
    }

    /// Writes it to an empty file.
    pub(super) fn write_to(&self, mut file: &File) -> Result<(), SnapshotError> {
        let text = serde_json::to_vec(self).map_err(SnapshotError::Unreadable)?;
        io::Write::write_all(&mut file, &text).map_err(failed("write the description"))
    }
}

/// Opens a file of a snapshot; what is no file, and might make who opens it wait, is refused.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    plain(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?.into())
}

/// Refuses what is no file.
pub(super) fn plain(file: File) -> io::Result<File> {
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file")),
    }
}
