//! Deleting what nobody needs.

use std::{fs, io, path::Path};

use base::Digest;

use super::{
    ContainerUse, Leased, Needs, State, Store, StoreError,
    disk::{self, Temporary},
};

/// What was deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs.
    pub blobs: Vec<Digest>,
    /// Layers, by diff id.
    pub layers: Vec<Digest>,
    /// Bytes of disk that are free again.
    pub bytes: u64,
}

impl Store {
    /// Deletes every file that no image, container or operation under way needs.
    ///
    /// Safe at any time: what is needed is decided, and taken its name, in one step that nothing
    /// else can come between; deleting follows.
    ///
    /// # Errors
    /// When the disk does not let us; the rest is collected the next time.
    pub fn collect(&self, containers: &[ContainerUse]) -> Result<Collected, StoreError> {
        let mut collected = Collected::default();
        self.exposed.sweep();
        let unnamed = self.unname(containers, &mut collected);
        let unnamed =
            unnamed.map_err(|source| StoreError::Disk { doing: "collect unused files", source })?;
        drop(unnamed);
        Ok(collected)
    }

    /// Ends a lease: what it put in place and nobody needs goes.
    pub(super) fn end(&self, lease: u64) {
        let mut state = self.state();
        let Some(Leased { placed, .. }) = state.leases.remove(&lease) else { return };
        if placed == Needs::default() {
            return;
        }
        let needs = self.needs(&state);
        let blobs = placed.blobs.difference(&needs.blobs).map(|blob| self.disk.blob(blob));
        let layers = placed.layers.difference(&needs.layers).map(|layer| self.layer_path(layer));
        let unnamed: Vec<_> = blobs.chain(layers).map(|path| self.disk.unname(&path)).collect();
        drop(state);
        // What could not be taken away is for the next collection.
        drop(unnamed);
    }

    /// What must stay, as far as the store knows.
    fn needs(&self, state: &State) -> Needs {
        let mut needs = state.table.needs();
        for lease in state.leases.values() {
            needs.blobs.extend(&lease.needs.blobs);
            needs.layers.extend(&lease.needs.layers);
        }
        needs.layers.extend(self.mounts.owned());
        needs.layers.extend(self.exposed.layers());
        needs
    }

    fn unname(
        &self,
        containers: &[ContainerUse],
        collected: &mut Collected,
    ) -> io::Result<Vec<Temporary<'_>>> {
        let state = self.state();
        let mut needs = self.needs(&state);
        needs.layers.extend(containers.iter().flat_map(|container| &container.layers));
        let mut unnamed = Vec::new();
        for path in files(&self.disk.blobs())? {
            let digest = digest_in(&path);
            if digest.is_some_and(|digest| needs.blobs.contains(&digest)) {
                continue;
            }
            collected.bytes += disk::bytes_of(&path)?;
            unnamed.push(self.disk.unname(&path)?);
            collected.blobs.extend(digest);
        }
        for path in files(&self.disk.layers())? {
            let digest = digest_in(&path);
            let right = digest.filter(|digest| self.is_layer(digest, &path));
            if right.is_some_and(|digest| needs.layers.contains(&digest)) {
                continue;
            }
            if let Some(digest) = right.filter(|digest| self.layer_path(digest) == path) {
                self.mounts.forget(&digest);
            }
            collected.bytes += disk::bytes_of(&path)?;
            unnamed.push(self.disk.unname(&path)?);
            collected.layers.extend(digest);
        }
        // The state stays locked until here.
        drop(state);
        Ok(unnamed)
    }

    /// Whether this file is what there is of a layer: in this store's form, or, as long as it was
    /// not made in that, in another.
    pub(super) fn is_layer(&self, digest: &Digest, path: &Path) -> bool {
        let right = self.layer_path(digest);
        right == path || !right.exists()
    }
}

/// What is in a directory, in order.
pub(super) fn files(dir: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let entries = fs::read_dir(dir)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// The digest that a file is named by, if it is.
pub(super) fn digest_in(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_stem()?.to_str()?).ok()
}
