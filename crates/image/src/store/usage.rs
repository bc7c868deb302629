//! What images take on the disk, and what would be free without those that nobody uses.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use base::Digest;

use super::{ContainerUse, Manifest, Needs, Store, StoreError, Table, collect, disk};

/// What the store takes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Every image of the table.
    pub images: Vec<ImageSize>,
    /// Layers as they are mounted.
    pub layers: Space,
    /// What images came as: manifests, configurations, and layers as archives.
    pub blobs: Space,
}

/// Files of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// How many files.
    pub files: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Bytes that would be free without the images that nobody uses.
    pub reclaimable: u64,
}

/// One image's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize {
    /// Its id.
    pub id: Digest,
    /// Bytes of content in layers that other images have too.
    pub shared: u64,
    /// Bytes of content in layers that it alone has.
    pub unique: u64,
}

impl Store {
    /// What images take; reads the lengths of all files.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn usage(&self, containers: &[ContainerUse]) -> Result<Usage, StoreError> {
        let mounts = self.image_mounts();
        let table = self.table();
        let used: BTreeSet<_> = containers.iter().map(|container| container.image).collect();
        let used: BTreeSet<_> = used.into_iter().chain(mounts.iter().map(|m| m.image)).collect();
        let mut stays = without_unused(&table, &used).needs();
        stays.layers.extend(containers.iter().flat_map(|container| &container.layers));
        stays.layers.extend(mounts.iter().flat_map(|mount| &mount.layers));
        let measured = self.measure(&stays);
        let (layers, blobs) = measured
            .map_err(|source| StoreError::Disk { doing: "measure the image store", source })?;
        Ok(Usage { images: sizes(&table), layers, blobs })
    }

    fn measure(&self, stays: &Needs) -> io::Result<(Space, Space)> {
        let layers = space(&self.disk.layers(), |digest| stays.layers.contains(digest))?;
        let blobs = space(&self.disk.blobs(), |digest| stays.blobs.contains(digest))?;
        Ok((layers, blobs))
    }
}

fn space(dir: &std::path::Path, stays: impl Fn(&Digest) -> bool) -> io::Result<Space> {
    let mut space = Space::default();
    for path in collect::files(dir)? {
        let bytes = match disk::bytes_of(&path) {
            // Collected meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        space.files += 1;
        space.bytes += bytes;
        if !collect::digest_in(&path).is_some_and(|digest| stays(&digest)) {
            space.reclaimable += bytes;
        }
    }
    Ok(space)
}

/// The table that pruning all unused images would leave. Targets that share an image go together.
fn without_unused(table: &Table, used: &BTreeSet<Digest>) -> Table {
    let mut table = table.clone();
    let holds = |m: &Manifest| used.contains(&m.config);
    table.targets.retain(|_, target| target.manifests.iter().any(holds));
    table
}

fn sizes(table: &Table) -> Vec<ImageSize> {
    let manifests = table.targets.values().flat_map(|target| &target.manifests);
    let images: BTreeMap<_, _> = manifests.map(|m| (m.config, &m.layers)).collect();
    let mut users: BTreeMap<Digest, u32> = BTreeMap::new();
    for layers in images.values() {
        let distinct: BTreeSet<_> = layers.iter().map(|layer| layer.diff_id).collect();
        for layer in distinct {
            *users.entry(layer).or_default() += 1;
        }
    }
    let size = |(id, layers): (&Digest, &&Vec<super::Layer>)| {
        let (mut shared, mut unique) = (0, 0);
        for layer in *layers {
            let alone = users.get(&layer.diff_id).is_none_or(|users| *users == 1);
            *(if alone { &mut unique } else { &mut shared }) += layer.content_bytes;
        }
        ImageSize { id: *id, shared, unique }
    };
    images.iter().map(size).collect()
}
