//! The networks that users made, on disk: one small file, replaced as a whole.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::design::Made;

/// Version of the file's format.
const FORMAT: u64 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    format: u64,
    networks: Vec<Made>,
}

/// The file; none for what need not outlive the process.
#[derive(Debug, Default)]
pub(super) struct Book(Option<PathBuf>);

impl Book {
    pub(super) fn new(data: Option<&Path>) -> Book {
        Book(data.map(|data| data.join("networks.json")))
    }

    /// What was last written, by id.
    ///
    /// # Errors
    /// If it cannot be read, or a newer version wrote it.
    pub(super) fn read(&self) -> io::Result<BTreeMap<String, Made>> {
        let Some(path) = &self.0 else { return Ok(BTreeMap::new()) };
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            other => other?,
        };
        let content: Content = serde_json::from_slice(&bytes)?;
        if content.format > FORMAT {
            let text = format!("{} is of a newer version", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(content.networks.into_iter().map(|made| (made.id.clone(), made)).collect())
    }

    /// Replaces it; after that it is on the disk, or all is as it was.
    ///
    /// # Errors
    /// What the file system said.
    pub(super) fn write(&self, networks: &BTreeMap<String, Made>) -> io::Result<()> {
        let Some(path) = &self.0 else { return Ok(()) };
        let content = Content { format: FORMAT, networks: networks.values().cloned().collect() };
        let next = path.with_extension("next");
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&next)?;
        file.write_all(&serde_json::to_vec_pretty(&content)?)?;
        file.sync_all()?;
        fs::rename(&next, path)?;
        path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
    }
}

#[cfg(test)]
mod tests {
    use base::clock::Timestamp;
    use net::Network;

    use super::*;

    #[test]
    fn what_is_written_is_read_and_newer_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let book = Book::new(Some(dir.path()));
        assert!(book.read().unwrap().is_empty());
        let network = Network::new("wyb0".parse().unwrap(), "10.0.0.0/24".parse().unwrap());
        let made = Made {
            id: "ab".repeat(32),
            name: "mine".to_owned(),
            created: Timestamp(1),
            network,
            range: None,
            range6: None,
            auxiliary: BTreeMap::new(),
            host_ip: None,
            attachable: false,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        };
        let all: BTreeMap<_, _> = [(made.id.clone(), made)].into();
        book.write(&all).unwrap();
        assert_eq!(Book::new(Some(dir.path())).read().unwrap(), all);
        fs::write(dir.path().join("networks.json"), r#"{"format":2,"networks":[]}"#).unwrap();
        assert!(book.read().is_err());
    }
}
