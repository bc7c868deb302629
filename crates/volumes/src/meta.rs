//! What is kept of a volume beside its content, written once and never changed.
//!
//! The format has a version; a newer one is refused, not guessed.

use std::{collections::BTreeMap, fs, io, path::Path};

use base::clock::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::VolumeName;

/// Version of the format.
const FORMAT: u32 = 1;
/// The file's name.
const FILE: &str = "meta.json";
/// Largest record that is read: labels and options are what makes it long.
const BYTES_MAX: u64 = 4 << 20;

/// A volume's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Meta {
    pub(crate) format: u32,
    pub(crate) name: VolumeName,
    pub(crate) created: Timestamp,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) anonymous: bool,
}

/// A snapshot's record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotMeta {
    pub(crate) format: u32,
    pub(crate) name: VolumeName,
    pub(crate) created: Timestamp,
    /// Whether it shares blocks with what it was made of.
    #[serde(default)]
    pub(crate) shared: bool,
}

/// A record of the current format.
pub(crate) trait Record: Serialize + DeserializeOwned {
    fn format(&self) -> u32;
}

impl Record for Meta {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Record for SnapshotMeta {
    fn format(&self) -> u32 {
        self.format
    }
}

impl Meta {
    pub(crate) fn new(name: VolumeName) -> Meta {
        let (labels, options) = (BTreeMap::new(), BTreeMap::new());
        let created = Timestamp::now();
        Meta { format: FORMAT, name, created, labels, options, anonymous: false }
    }
}

impl SnapshotMeta {
    pub(crate) fn new(name: VolumeName, shared: bool) -> SnapshotMeta {
        SnapshotMeta { format: FORMAT, name, created: Timestamp::now(), shared }
    }
}

/// Writes a record into a directory that nobody reads yet.
pub(crate) fn write(directory: &Path, record: &impl Record, durable: bool) -> io::Result<()> {
    let text = serde_json::to_vec(record).map_err(io::Error::from)?;
    let path = directory.join(FILE);
    fs::write(&path, text)?;
    if durable {
        fs::File::open(&path)?.sync_all()?;
    }
    Ok(())
}

/// Reads a record; the text says why it cannot be used.
pub(crate) fn read<R: Record>(directory: &Path) -> Result<R, String> {
    let path = directory.join(FILE);
    let length = fs::metadata(&path).map_err(|error| format!("its record: {error}"))?.len();
    if length > BYTES_MAX {
        return Err(format!("its record has more than {BYTES_MAX} bytes"));
    }
    let text = fs::read(&path).map_err(|error| format!("its record: {error}"))?;
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let broken = |error: serde_json::Error| format!("its record is damaged: {error}");
    let version: Version = serde_json::from_slice(&text).map_err(broken)?;
    if version.format > FORMAT {
        let newer = version.format;
        return Err(format!("its record has format {newer}, and this build knows up to {FORMAT}"));
    }
    let record: R = serde_json::from_slice(&text).map_err(broken)?;
    debug_assert!(record.format() <= FORMAT, "it was looked at above");
    Ok(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_it_was_written_and_newer_ones_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut meta = Meta::new("db".parse().unwrap());
        meta.created = Timestamp(7);
        meta.labels.insert("tier".to_owned(), "back".to_owned());
        write(dir.path(), &meta, true).unwrap();
        let text = fs::read_to_string(dir.path().join(FILE)).unwrap();
        let golden = r#"{"format":1,"name":"db","created":7,"labels":{"tier":"back"},"options":{},"anonymous":false}"#;
        assert_eq!(text, golden);
        assert_eq!(read::<Meta>(dir.path()), Ok(meta));
        fs::write(dir.path().join(FILE), r#"{"format":2}"#).unwrap();
        assert!(read::<Meta>(dir.path()).unwrap_err().contains("format 2"));
        fs::write(dir.path().join(FILE), "").unwrap();
        assert!(read::<Meta>(dir.path()).unwrap_err().contains("damaged"));
    }
}
