//! The disks that belong to a snapshot: not their bytes, but what tells whether they are the same.

use serde::{Deserialize, Serialize};

/// A disk as its owner knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// What the guest sees of its identity; empty where it has none.
    pub serial: String,
    /// How its bytes are to be read.
    pub format: Format,
    /// What they are.
    pub identity: Identity,
}

/// A disk's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Byte for byte.
    Raw,
    /// qcow2.
    Qcow2,
}

/// What tells a disk's content from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Identity {
    /// A digest of it, as `sha256:…`.
    Digest(String),
    /// Its file, which nobody has written to since.
    File {
        /// How long it is.
        bytes: u64,
        /// When it was last written, in seconds since 1970, and nanoseconds.
        modified: (i64, u32),
    },
}

/// How a machine's disks differ from those of its snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisksDiffer {
    /// There are more or fewer.
    #[error("the snapshot has {there} disks, and this machine {here}")]
    Count {
        /// Of the snapshot.
        there: usize,
        /// Of this machine.
        here: usize,
    },
    /// One is another.
    #[error("disk {index} is {here}, and in the snapshot {there}")]
    Another {
        /// Which, in the order in which they were given.
        index: usize,
        /// That of the snapshot.
        there: Box<Disk>,
        /// That of this machine.
        here: Box<Disk>,
    },
}

impl std::fmt::Display for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let format = match self.format {
            Format::Raw => "raw",
            Format::Qcow2 => "qcow2",
        };
        write!(f, "\"{}\" ({format}, ", self.serial.escape_debug())?;
        match &self.identity {
            Identity::Digest(digest) => write!(f, "{})", digest.escape_debug()),
            Identity::File { bytes, modified: (seconds, nanoseconds) } => {
                write!(f, "{bytes} bytes, written at {seconds}.{nanoseconds:09})")
            }
        }
    }
}

/// Whether these are a snapshot's disks.
pub(crate) fn compare(there: &[Disk], here: &[Disk]) -> Result<(), DisksDiffer> {
    let differ = there.iter().zip(here).position(|(there, here)| there != here);
    if let Some(index) = differ {
        let of = |disks: &[Disk]| Box::new(disks[index].clone());
        return Err(DisksDiffer::Another { index, there: of(there), here: of(here) });
    }
    if there.len() != here.len() {
        return Err(DisksDiffer::Count { there: there.len(), here: here.len() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(serial: &str, digest: &str) -> Disk {
        let identity = Identity::Digest(digest.to_owned());
        Disk { serial: serial.to_owned(), format: Format::Raw, identity }
    }

    #[test]
    fn the_disk_that_differs_is_named() {
        let there = [disk("root", "sha256:aa"), disk("data", "sha256:bb")];
        assert_eq!(compare(&there, &there), Ok(()));
        let said = |here: &[Disk]| compare(&there, here).unwrap_err().to_string();
        assert_eq!(
            said(&[there[0].clone(), disk("data", "sha256:cc")]),
            "disk 1 is \"data\" (raw, sha256:cc), and in the snapshot \"data\" (raw, sha256:bb)"
        );
        assert_eq!(said(&there[..1]), "the snapshot has 2 disks, and this machine 1");
        assert_eq!(said(&[]), "the snapshot has 2 disks, and this machine 0");
        let identity = Identity::File { bytes: 7, modified: (1_700_000_000, 5) };
        let file = Disk { serial: "ro\not".to_owned(), format: Format::Qcow2, identity };
        assert_eq!(
            said(&[file]),
            "disk 0 is \"ro\\not\" (qcow2, 7 bytes, written at 1700000000.000000005), \
             and in the snapshot \"root\" (raw, sha256:aa)"
        );
    }
}
