//! Records: versioned JSON in files that are replaced whole.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    path::Path,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest record that is read, in bytes. A machine with all its disks has some 20 KiB.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Why a record was not read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It is no record.
    #[error("it is no record")]
    Text(#[source] serde_json::Error),
    /// Another version of Wythe has written it.
    #[error("it has version {found}, and this is version {known}")]
    Version {
        /// What was found.
        found: u32,
        /// What can be read.
        known: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct Document<T> {
    version: u32,
    record: T,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Writes a record in place of the old one: whoever reads it finds one or the other.
pub(crate) fn write<T: Serialize>(path: &Path, version: u32, content: &T) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&Document { version, record: content })?;
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // The name is on the disk when the directory is.
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Reads a record.
pub(crate) fn read<T: DeserializeOwned>(path: &Path, known: u32) -> Result<T, RecordError> {
    let file = File::open(path).map_err(RecordError::Read)?;
    let mut text = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut text).map_err(RecordError::Read)?;
    let Versioned { version } = serde_json::from_slice(&text).map_err(RecordError::Text)?;
    if version != known {
        return Err(RecordError::Version { found: version, known });
    }
    let document: Document<T> = serde_json::from_slice(&text).map_err(RecordError::Text)?;
    Ok(document.record)
}

/// The same, nothing if there is none.
pub(crate) fn find<T: DeserializeOwned>(path: &Path, known: u32) -> Result<Option<T>, RecordError> {
    match read(path, known) {
        Err(RecordError::Read(error)) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec;

    #[test]
    fn a_machine_is_read_as_it_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine.json");
        assert!(find::<spec::Spec>(&path, 1).unwrap().is_none());
        let spec = spec::example();
        write(&path, spec::VERSION, &spec).unwrap();
        assert_eq!(read::<spec::Spec>(&path, spec::VERSION).unwrap(), spec);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, include_str!("../tests/golden/machine.json").trim_end());
        let error = read::<spec::Spec>(&path, 2).unwrap_err();
        assert_eq!(error.to_string(), "it has version 1, and this is version 2");
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("machine.json");
        for text in ["", "{}", "[]", "{\"version\":1}", "{\"version\":1,\"record\":{}}"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read::<spec::Spec>(&path, 1), Err(RecordError::Text(_))), "{text}");
        }
    }
}
