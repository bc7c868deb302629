//! An image of another image and one layer more.

use std::{collections::BTreeMap, io::Read};

use base::{Digest, ErrorKind, clock::Timestamp};

use crate::{
    change::{self, ChangeError},
    import::{Tee, rfc3339},
    layer::{Layer, LayerError},
    platform::Platform,
    reference::Reference,
    store::{self, Lease, Store, StoreError, Target},
    wire::{self, ContainerConfig, Descriptor, History, ImageConfig, media_type},
};

/// What kind of image to make.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Id of the image it is made of.
    pub parent: Digest,
    /// Its name, if it gets one.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// What its history says of it.
    pub message: Option<String>,
    /// The command that made the layer.
    pub created_by: String,
    /// Instructions as in a Dockerfile: `CMD ["bash"]`, `ENV A=b`.
    pub changes: Vec<String>,
    /// The time at which it is made.
    pub now: Timestamp,
}

/// Why an image was not made.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The image below is gone.
    #[error("No such image: {0}")]
    NoParent(Digest),
    /// The image below has all the layers that an image can have.
    #[error("the image has {} layers already, and no image has more", wire::LAYERS_MAX)]
    Layers,
    /// An instruction is wrong.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The layer cannot be read.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The store cannot take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CommitError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            CommitError::NoParent(_) => ErrorKind::NotFound,
            CommitError::Layers => ErrorKind::Exhausted,
            CommitError::Change(error) => error.kind(),
            CommitError::Layer(error) => error.kind(),
            CommitError::Store(error) => error.kind(),
        }
    }
}

impl Store {
    /// Makes an image of another one and the archive of a further layer, plain tar; answers with
    /// its id. `configure` turns the configuration of the image below into that of the
    /// container, on which the instructions then work.
    ///
    /// # Errors
    /// When the archive cannot be read or an instruction is wrong; then nothing stays.
    pub fn commit(
        &self,
        input: impl Read + Send,
        commit: &Commit,
        configure: impl FnOnce(&mut ContainerConfig),
    ) -> Result<Digest, CommitError> {
        let lease = self.lease();
        let parent = self.parent(&lease, &commit.parent)?;
        if parent.layers.len() >= wire::LAYERS_MAX {
            return Err(CommitError::Layers);
        }
        let mut config = self.read_config(&commit.parent)?;
        let mut inner = config.config.take().unwrap_or_default();
        configure(&mut inner);
        change::apply_to(&mut inner, commit.changes.iter().map(String::as_str))?;
        config.config = Some(inner);

        let mut tee = Tee::new(input, self.new_blob()?);
        let unpacked = self.unpack(&mut tee, &mut |_| ());
        let blob = tee.end()?;
        let (unpacked, blob) = (unpacked?, blob.seal());
        assert_eq!(unpacked.layer.blob, blob.digest, "both saw the same bytes");
        lease.pin(|needs| {
            needs.blobs.insert(blob.digest);
            needs.layers.insert(unpacked.layer.diff_id);
        });
        blob.place(&lease)?;
        let layer = self.place_layer(&lease, unpacked)?;
        let mut layers = parent.layers;
        layers.push(stored(&layer));
        for layer in &mut layers {
            layer.media_type = oci(&layer.media_type);
        }
        let config = grown(config, commit, &layer);
        self.keep(&lease, commit, parent.platform, &config, layers)
    }

    /// The image below, kept from being collected until the lease ends.
    fn parent(&self, lease: &Lease<'_>, id: &Digest) -> Result<store::Manifest, CommitError> {
        let table = self.table();
        let found = table.targets_with(id).next().and_then(|(_, target)| {
            target.manifests.iter().find(|manifest| manifest.config == *id).cloned()
        });
        let parent = found.ok_or(CommitError::NoParent(*id))?;
        lease.pin(|needs| {
            needs.blobs.insert(parent.config);
            needs.blobs.extend(parent.layers.iter().map(|layer| layer.blob));
            needs.layers.extend(parent.layers.iter().map(|layer| layer.diff_id));
        });
        // Whoever removed it before it was pinned has taken it out of the table.
        match self.table().targets_with(id).next() {
            Some(_) => Ok(parent),
            None => Err(CommitError::NoParent(*id)),
        }
    }

    /// Stores configuration and manifest, and enters the image.
    fn keep(
        &self,
        lease: &Lease<'_>,
        commit: &Commit,
        platform: Platform,
        config: &ImageConfig,
        layers: Vec<store::Layer>,
    ) -> Result<Digest, CommitError> {
        let config = wire::to_json(config);
        let id = self.put(lease, &config)?;
        let manifest = wire::Manifest {
            schema_version: 2,
            media_type: Some(media_type::MANIFEST.to_owned()),
            config: Descriptor::new(media_type::CONFIG, id, config.len() as u64),
            layers: layers
                .iter()
                .map(|layer| Descriptor::new(&layer.media_type, layer.blob, layer.blob_bytes))
                .collect(),
            annotations: BTreeMap::new(),
        };
        let manifest = wire::to_json(&manifest);
        let digest = self.put(lease, &manifest)?;
        let bytes = manifest.len() as u64;
        let media_type = media_type::MANIFEST.to_owned();
        let manifest = store::Manifest {
            digest,
            media_type: media_type.clone(),
            bytes,
            platform,
            config: id,
            layers,
        };
        let (indexes, manifests) = (Vec::new(), vec![manifest]);
        let target = Target { media_type, bytes, added: commit.now, indexes, manifests };
        self.change(|table| {
            table.add(digest, target);
            if let Some(name) = &commit.name {
                table.name(name.clone().or_latest(), digest, commit.now);
            }
        })?;
        Ok(id)
    }
}

fn stored(layer: &Layer) -> store::Layer {
    store::Layer {
        blob: layer.blob,
        blob_bytes: layer.blob_bytes,
        media_type: media_type::LAYER.to_owned(),
        diff_id: layer.diff_id,
        content_bytes: layer.content_bytes,
    }
}

/// The OCI name of a layer's type: a manifest has those of one specification.
fn oci(media_type: &str) -> String {
    let compression = media_type.strip_prefix(media_type::DOCKER_LAYER);
    match compression {
        Some("") => media_type::LAYER.to_owned(),
        Some(compression) => {
            format!("{}+{}", media_type::LAYER, compression.trim_start_matches('.'))
        }
        None => media_type.to_owned(),
    }
}

/// The configuration with one layer more and a line of history for it.
fn grown(mut config: ImageConfig, commit: &Commit, layer: &Layer) -> ImageConfig {
    let created = rfc3339(commit.now);
    config.history.push(History {
        created: Some(created.clone()),
        author: commit.author.clone(),
        created_by: Some(commit.created_by.clone()),
        comment: commit.message.clone(),
        ..History::default()
    });
    config.rootfs.diff_ids.push(layer.diff_id);
    config.created = Some(created);
    config.author.clone_from(&commit.author);
    config.comment.clone_from(&commit.message);
    config
}
