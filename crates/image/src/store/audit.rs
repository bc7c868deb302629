//! Whether the disk holds what the table needs, and nothing else.

use std::{io, path::PathBuf};

use base::Digest;

use super::{ContainerUse, Store, StoreError, collect, content, disk};

/// What was found. A store at rest, after [`Store::collect`], has nothing extra or missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// Bytes of files that images or containers need.
    pub bytes_needed: u64,
    /// Files that nobody needs.
    pub extra: Vec<Extra>,
    /// Blobs that images need and that are not there.
    pub blobs_missing: Vec<Digest>,
    /// Layers that images need and that are not there; they are made again from their blobs.
    pub layers_missing: Vec<Digest>,
    /// Blobs that are not what their name says; only looked for if asked to read everything.
    pub damaged: Vec<Digest>,
    /// Layers that are mounted.
    pub mounted: Vec<Digest>,
}

/// A file that nobody needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extra {
    /// Which.
    pub path: PathBuf,
    /// How large.
    pub bytes: u64,
}

impl Audit {
    /// Whether nothing is missing or damaged. What is extra only takes room.
    pub fn is_sound(&self) -> bool {
        self.blobs_missing.is_empty() && self.layers_missing.is_empty() && self.damaged.is_empty()
    }
}

impl Store {
    /// Compares disk and table; with `read_all` every blob is read and its digest checked.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn audit(&self, containers: &[ContainerUse], read_all: bool) -> Result<Audit, StoreError> {
        let audit = self.look(containers, read_all);
        audit.map_err(|source| StoreError::Disk { doing: "read the image store", source })
    }

    fn look(&self, containers: &[ContainerUse], read_all: bool) -> io::Result<Audit> {
        let mut needs = self.table().needs();
        let kept = containers.iter().flat_map(|c| &c.layers).copied();
        let mut audit = Audit { mounted: self.mounts.mounted(), ..Audit::default() };
        for path in collect::files(&self.disk.blobs())? {
            let digest = collect::digest_in(&path).filter(|digest| needs.blobs.remove(digest));
            audit.count(&path, digest.is_some())?;
            if let Some(digest) = digest.filter(|_| read_all)
                && content::digest_of_file(&path)? != digest
            {
                audit.damaged.push(digest);
            }
        }
        let kept: std::collections::BTreeSet<_> =
            kept.chain(self.mounts.owned()).chain(self.exposed.layers()).collect();
        for path in collect::files(&self.disk.layers())? {
            let digest = collect::digest_in(&path).filter(|d| self.is_layer(d, &path));
            let needed = digest.is_some_and(|d| needs.layers.remove(&d) || kept.contains(&d));
            audit.count(&path, needed)?;
        }
        for path in collect::files(&self.disk.tmp())? {
            audit.count(&path, false)?;
        }
        audit.blobs_missing = needs.blobs.into_iter().collect();
        audit.layers_missing = needs.layers.into_iter().collect();
        Ok(audit)
    }
}

impl Audit {
    fn count(&mut self, path: &std::path::Path, needed: bool) -> io::Result<()> {
        let bytes = disk::bytes_of(path)?;
        match needed {
            true => self.bytes_needed += bytes,
            false => self.extra.push(Extra { path: path.to_owned(), bytes }),
        }
        Ok(())
    }
}
