//! Saving images as `docker save` does: an OCI image layout with a `manifest.json` beside it, so
//! that readers of either kind understand it. The blobs are the bytes that were loaded.
//!
//! Source: OCI image-spec, image-layout.md; moby, `daemon/internal/image/tarexport/save.go`.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
};

use base::{Digest, ErrorKind};

use crate::{
    layer::{Attributes, Entry, EntryKind, tar_write::TarWriter},
    platform::{self, Platform},
    progress::{Progress, Tell},
    reference::Reference,
    store::{self, ResolveError, Store, StoreError, Table, lookup},
    wire::{self, ANNOTATION_NAME, ANNOTATION_REF, ArchiveImage, Descriptor},
};

/// Why images were not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// Nothing was asked for.
    #[error("name at least one image to save")]
    Nothing,
    /// One of them was not found.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// One of them cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A blob has another length than the table says.
    #[error("blob {0} of the image store has a wrong length")]
    Length(Digest),
    /// The output failed.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

impl SaveError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            SaveError::Nothing => ErrorKind::InvalidInput,
            SaveError::Resolve(error) => error.kind(),
            SaveError::Store(error) => error.kind(),
            SaveError::Length(_) => ErrorKind::Corrupt,
            SaveError::Write(_) => ErrorKind::Unavailable,
        }
    }
}

impl Store {
    /// Writes images as one archive. Those asked for by name keep that name; a name without a tag
    /// means all tags of that repository, as in Docker.
    ///
    /// With platforms, of an image for several only those that serve them best.
    ///
    /// # Errors
    /// When one is not there or cannot be read, or the output fails.
    pub fn save(
        &self,
        names: &[&str],
        platforms: &[Platform],
        out: impl Write,
        tell: Tell<'_>,
    ) -> Result<(), SaveError> {
        let lease = self.lease();
        let table = self.table();
        let mut wanted: BTreeMap<Digest, BTreeSet<Reference>> = BTreeMap::new();
        for name in names {
            for (target, reference) in select(&table, name)? {
                wanted.entry(target).or_default().extend(reference);
            }
        }
        if wanted.is_empty() {
            return Err(SaveError::Nothing);
        }
        let contents = contents(&table, &wanted, platforms, self.host())?;
        lease.pin(|needs| needs.blobs.extend(contents.blobs.keys()));
        self.write(&contents, out, tell)
    }

    fn write(&self, contents: &Contents, out: impl Write, tell: Tell<'_>) -> Result<(), SaveError> {
        let mut tar = TarWriter::new(out);
        for dir in ["blobs/", "blobs/sha256/"] {
            tar.entry(&entry(dir, EntryKind::Directory)).map_err(SaveError::Write)?;
        }
        let total = contents.blobs.values().map(|bytes| bytes.unwrap_or(0)).sum();
        let mut written = 0;
        for (digest, bytes) in &contents.blobs {
            self.write_blob(&mut tar, digest, *bytes)?;
            written += bytes.unwrap_or(0);
            tell(Progress::Writing { bytes: written, total });
        }
        let layout = wire::Layout { image_layout_version: "1.0.0".to_owned() };
        for (name, document) in [
            ("index.json", wire::to_json(&contents.index)),
            ("manifest.json", wire::to_json(&contents.images)),
            ("oci-layout", wire::to_json(&layout)),
        ] {
            let size = document.len() as u64;
            tar.entry(&entry(name, EntryKind::File { size, segments: None }))
                .and_then(|()| tar.data(&document))
                .map_err(SaveError::Write)?;
        }
        tar.finish().map(|_| ()).map_err(SaveError::Write)
    }

    fn write_blob<W: Write>(
        &self,
        tar: &mut TarWriter<W>,
        digest: &Digest,
        bytes: Option<u64>,
    ) -> Result<(), SaveError> {
        let name = format!("blobs/sha256/{}", digest.hex());
        let failed = |source| StoreError::Disk { doing: "read a blob", source };
        let file = self.open_blob(digest)?;
        let size = file.metadata().map_err(failed)?.len();
        if bytes.is_some_and(|bytes| bytes != size) {
            return Err(SaveError::Length(*digest));
        }
        tar.entry(&entry(&name, EntryKind::File { size, segments: None }))
            .map_err(SaveError::Write)?;
        let mut file = file.take(size);
        let mut buffer = vec![0; 256 << 10];
        let mut left = size;
        while left > 0 {
            let read = file.read(&mut buffer).map_err(failed)?;
            if read == 0 {
                return Err(SaveError::Length(*digest));
            }
            tar.data(buffer.get(..read).unwrap_or_default()).map_err(SaveError::Write)?;
            left -= read as u64;
        }
        Ok(())
    }
}

/// What goes into an archive.
#[derive(Debug)]
struct Contents {
    /// With the lengths that the table knows.
    blobs: BTreeMap<Digest, Option<u64>>,
    index: wire::Index,
    images: Vec<ArchiveImage>,
}

/// The targets that a name means, each with the names to be saved.
fn select(table: &Table, name: &str) -> Result<Vec<(Digest, Option<Reference>)>, ResolveError> {
    let parsed = name.parse::<Reference>().ok();
    if let Some(bare) = parsed.filter(|r| r.tag().is_none() && r.digest().is_none()) {
        let of_repository = |name: &&Reference| name.same_repository(&bare) && name.tag().is_some();
        let names = table.references.keys().filter(of_repository);
        let found = names.map(|name| {
            let named = table.references.get(name).expect("taken from this very map");
            (named.target, Some(name.clone()))
        });
        let found: Vec<_> = found.collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let found = lookup(table, name)?;
    let reference = match &found {
        store::Found::Name(reference, _) if reference.tag().is_some() => Some(reference.clone()),
        store::Found::Name(..) | store::Found::Id(_) | store::Found::Target(_) => None,
    };
    Ok(vec![(found.target(table), reference)])
}

fn contents(
    table: &Table,
    wanted: &BTreeMap<Digest, BTreeSet<Reference>>,
    platforms: &[Platform],
    host: &Platform,
) -> Result<Contents, ResolveError> {
    let mut blobs = BTreeMap::new();
    let (mut manifests, mut images) = (Vec::new(), Vec::new());
    for (digest, names) in wanted {
        let target = table.targets.get(digest).expect("found in this table");
        let saved = target.best_of_each(platforms).map_err(|wanted| {
            let name = names.first().map_or_else(|| digest.to_string(), Reference::familiar);
            ResolveError::lacks(name, target, wanted)
        })?;
        // One image stands for itself: the index would name others that are not in the archive.
        let entry = match saved.as_slice() {
            [one] if !platforms.is_empty() => {
                Descriptor::new(&one.media_type, one.digest, one.bytes)
            }
            _ => {
                blobs.extend(target.indexes.iter().map(|index| (*index, None)));
                Descriptor::new(&target.media_type, *digest, target.bytes)
            }
        };
        for manifest in &saved {
            blobs.insert(manifest.digest, Some(manifest.bytes));
            blobs.insert(manifest.config, None);
            blobs.extend(manifest.layers.iter().map(|l| (l.blob, Some(l.blob_bytes))));
        }
        let annotations = names.iter().map(annotations).collect::<Vec<_>>();
        // An image without a name is in the index once, all the same.
        let annotations = if names.is_empty() { vec![BTreeMap::new()] } else { annotations };
        manifests.extend(
            annotations.into_iter().map(|annotations| Descriptor { annotations, ..entry.clone() }),
        );
        let primary = platform::best(&saved, host, |m| &m.platform).or(saved.first());
        images.extend(primary.map(|manifest| archive_image(manifest, names)));
    }
    let media_type = Some(wire::media_type::INDEX.to_owned());
    let index =
        wire::Index { schema_version: 2, media_type, manifests, annotations: BTreeMap::new() };
    Ok(Contents { blobs, index, images })
}

fn annotations(name: &Reference) -> BTreeMap<String, String> {
    let tag = name.tag().unwrap_or_default().to_owned();
    [(ANNOTATION_NAME.to_owned(), name.to_string()), (ANNOTATION_REF.to_owned(), tag)].into()
}

fn archive_image(manifest: &store::Manifest, names: &BTreeSet<Reference>) -> ArchiveImage {
    let blob = |digest: &Digest| format!("blobs/sha256/{}", digest.hex());
    ArchiveImage {
        config: blob(&manifest.config),
        repo_tags: Some(names.iter().map(Reference::familiar).collect()),
        layers: Some(manifest.layers.iter().map(|layer| blob(&layer.blob)).collect()),
    }
}

fn entry(path: &str, kind: EntryKind) -> Entry {
    let mode = if kind == EntryKind::Directory { 0o755 } else { 0o644 };
    Entry {
        path: path.as_bytes().to_vec(),
        attributes: Attributes { mode, ..Attributes::default() },
        kind,
    }
}
