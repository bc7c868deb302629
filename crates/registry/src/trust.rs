//! Whom a host's TLS may be vouched for by, and what proves to it who we are.
//!
//! ```text
//! registries.toml            ca = "…", cert = "…", key = "…"
//! certs.d/HOST[:PORT]/       *.crt: roots; NAME.cert with NAME.key: who we are
//! ```
//!
//! Files are read when a host is first spoken to; one that has changed since is another.
//!
//! Source: docs.docker.com, "Verify repository client with certificates".

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use reqwest::{Certificate, Identity};

use crate::RegistryError;

/// Longest file that is read.
const PEM_BYTES_MAX: u64 = 1 << 20;
/// Most files of one directory that are looked at.
const FILES_MAX: usize = 256;

/// What is known of one host, beyond the system's roots.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Trust {
    /// Roots besides the system's.
    pub roots: Vec<Pem>,
    /// Our certificate and its key.
    pub identity: Option<(Pem, Pem)>,
}

/// A file of certificates or keys, as it was at some time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pem {
    /// The file.
    pub path: PathBuf,
    /// When it was written; none if it is not there.
    pub written: Option<SystemTime>,
}

impl Pem {
    /// The file as it is now.
    pub fn of(path: PathBuf) -> Pem {
        let written = fs::metadata(&path).and_then(|found| found.modified()).ok();
        Pem { path, written }
    }

    fn read(&self) -> Result<Vec<u8>, RegistryError> {
        let bytes = fs::metadata(&self.path).and_then(|found| match found.len() {
            0..=PEM_BYTES_MAX => fs::read(&self.path),
            _ => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too long")),
        });
        bytes.map_err(|source| RegistryError::Roots { path: self.path.clone(), source })
    }

    fn wrong(&self, error: &reqwest::Error) -> RegistryError {
        RegistryError::Tls { why: format!("{}: {}", self.path.display(), base::chain(error)) }
    }
}

impl Trust {
    /// What one directory of a host says; nothing, if there is none.
    ///
    /// # Errors
    /// If there is one that cannot be read.
    pub(crate) fn of_directory(directory: &Path) -> io::Result<Trust> {
        let entries = match fs::read_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Trust::default()),
            entries => entries?,
        };
        let files = entries.take(FILES_MAX).map(|entry| Ok(entry?.path()));
        let mut files = files.collect::<io::Result<Vec<_>>>()?;
        files.sort();
        let ends = |end: &'static str| {
            files.iter().filter(move |file| file.extension().is_some_and(|it| it == end))
        };
        let own = ends("cert").next().cloned();
        Ok(Trust {
            roots: ends("crt").cloned().map(Pem::of).collect(),
            identity: own.map(|cert| (Pem::of(cert.clone()), Pem::of(cert.with_extension("key")))),
        })
    }

    /// This, and where it says nothing, the other.
    pub(crate) fn or(mut self, other: Trust) -> Trust {
        self.roots.extend(other.roots);
        self.identity = self.identity.or(other.identity);
        self
    }

    /// The roots.
    ///
    /// # Errors
    /// [`RegistryError::Roots`], [`RegistryError::Tls`].
    pub(crate) fn certificates(&self) -> Result<Vec<Certificate>, RegistryError> {
        let mut all = Vec::new();
        for pem in &self.roots {
            let read = Certificate::from_pem_bundle(&pem.read()?);
            all.extend(read.map_err(|error| pem.wrong(&error))?);
        }
        Ok(all)
    }

    /// What proves who we are.
    ///
    /// # Errors
    /// [`RegistryError::Roots`], [`RegistryError::Tls`].
    pub(crate) fn proof(&self) -> Result<Option<Identity>, RegistryError> {
        let Some((cert, key)) = &self.identity else { return Ok(None) };
        let both = [key.read()?, b"\n".to_vec(), cert.read()?].concat();
        Identity::from_pem(&both).map(Some).map_err(|error| cert.wrong(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_read_as_docker_reads_it() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = temporary.path();
        for name in ["b.crt", "a.crt", "client.cert", "client.key", "README"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        let found = Trust::of_directory(dir).unwrap();
        let roots: Vec<_> = found.roots.iter().map(|pem| pem.path.clone()).collect();
        assert_eq!(roots, [dir.join("a.crt"), dir.join("b.crt")]);
        let (cert, key) = found.identity.clone().unwrap();
        assert_eq!((cert.path, key.path), (dir.join("client.cert"), dir.join("client.key")));
        fs::remove_file(dir.join("client.key")).unwrap();
        let lame = Trust::of_directory(dir).unwrap();
        assert_ne!(lame, found);
        let refused = lame.proof().unwrap_err().to_string();
        assert!(refused.contains("client.key"), "{refused}");
        assert_eq!(Trust::of_directory(&dir.join("none")).unwrap(), Trust::default());
    }
}
