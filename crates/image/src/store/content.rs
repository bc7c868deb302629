//! Blobs and layers: how they get in, and how they are read.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    thread,
};

use base::Digest;
use sha2::{Digest as _, Sha256};

use super::{
    Lease, Store, StoreError,
    disk::{Disk, Placed, Temporary},
};
use crate::{
    layer::{self, Layer, LayerError, Limits},
    mounts::{Form, MountError},
    progress::{Progress, Tell},
    wire::{self, DOCUMENT_BYTES_MAX, DocumentError},
    writeback::Writeback,
};

/// A blob on its way in, hashed as it is written.
#[derive(Debug)]
pub(crate) struct NewBlob<'s> {
    temporary: Temporary<'s>,
    file: File,
    hash: Sha256,
    bytes: u64,
}

/// A blob that is whole, and has no name yet.
#[derive(Debug)]
pub(crate) struct SealedBlob<'s> {
    temporary: Temporary<'s>,
    pub(crate) digest: Digest,
    pub(crate) bytes: u64,
}

/// A layer on its way in.
#[derive(Debug)]
pub(crate) struct Unpacked<'s> {
    temporary: Temporary<'s>,
    /// The file; a directory has none.
    file: Option<File>,
    pub(crate) layer: Layer,
}

/// A layer's blob and what is known of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerBlob {
    pub(crate) blob: Digest,
    pub(crate) bytes: u64,
    pub(crate) diff_id: Digest,
}

impl Write for NewBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is read goes to a file as well.
#[derive(Debug)]
struct Tee<'f, R> {
    input: R,
    copy: &'f File,
    bytes: u64,
    writeback: Writeback,
}

impl<R: Read> Read for Tee<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(into)?;
        let mut copy = self.copy;
        copy.write_all(into.get(..read).unwrap_or_default())?;
        self.bytes += read as u64;
        self.writeback.reached(self.copy, self.bytes);
        Ok(read)
    }
}

impl<'s> NewBlob<'s> {
    /// What is written to a new file.
    pub(super) fn new(temporary: Temporary<'s>, file: File) -> NewBlob<'s> {
        NewBlob { temporary, file, hash: Sha256::new(), bytes: 0 }
    }

    /// Another descriptor of the file, which is still growing.
    pub(super) fn watch(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the writing. The file is closed: an archive may hold more blobs than a process may
    /// have descriptors.
    pub(crate) fn seal(self) -> SealedBlob<'s> {
        let digest = Digest::from_sha256(self.hash.finalize().into());
        SealedBlob { temporary: self.temporary, digest, bytes: self.bytes }
    }
}

impl SealedBlob<'_> {
    /// Its bytes.
    pub(crate) fn open(&self) -> io::Result<File> {
        File::open(self.temporary.path())
    }

    /// Gives it its name on this disk, or to a neighbour's that is the same.
    pub(super) fn place_on(self, disk: &Disk) -> io::Result<Placed> {
        if let Some(placed) = disk.share_blob(&self.digest, self.bytes)? {
            return Ok(placed);
        }
        let name = disk.blob(&self.digest);
        self.open().and_then(|file| self.temporary.place_file(&file, &name))
    }

    /// Gives it its name. The caller has pinned it.
    pub(crate) fn place(self, lease: &Lease<'_>) -> Result<Digest, StoreError> {
        let digest = self.digest;
        let placed = self.place_on(&lease.store.disk);
        match placed.map_err(|source| StoreError::Disk { doing: "store a blob", source })? {
            Placed::New => lease.placed_blob(digest),
            Placed::Existed => {}
        }
        Ok(digest)
    }
}

impl Store {
    /// Begins a blob.
    pub(crate) fn new_blob(&self) -> Result<NewBlob<'_>, StoreError> {
        let failed = |source| StoreError::Disk { doing: "store a blob", source };
        let (temporary, file) = self.disk.temporary_file().map_err(failed)?;
        Ok(NewBlob::new(temporary, file))
    }

    /// Stores a small blob whole.
    pub(crate) fn put(&self, lease: &Lease<'_>, bytes: &[u8]) -> Result<Digest, StoreError> {
        let digest = digest_of(bytes);
        lease.pin(|needs| {
            needs.blobs.insert(digest);
        });
        if self.has_blob(&digest) {
            return Ok(digest);
        }
        let mut blob = self.new_blob()?;
        let written = blob.write_all(bytes);
        written.map_err(|source| StoreError::Disk { doing: "store a blob", source })?;
        blob.seal().place(lease)
    }

    pub(crate) fn has_blob(&self, digest: &Digest) -> bool {
        self.disk.blob(digest).is_file()
    }

    /// A blob's bytes as they are on the disk, not verified.
    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, StoreError> {
        File::open(self.disk.blob(digest)).map_err(|source| {
            if source.kind() == io::ErrorKind::NotFound {
                return StoreError::Missing(*digest);
            }
            StoreError::Disk { doing: "open a blob", source }
        })
    }

    /// A small blob, verified.
    pub(crate) fn read_document(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(DOCUMENT_BYTES_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|source| StoreError::Disk { doing: "read a blob", source })?;
        if bytes.len() as u64 > DOCUMENT_BYTES_MAX {
            return Err(StoreError::Document { blob: *digest, source: DocumentError::Long });
        }
        match digest_of(&bytes) {
            found if found == *digest => Ok(bytes),
            found => Err(StoreError::Damaged { blob: *digest, found }),
        }
    }

    /// The configuration of an image.
    pub(crate) fn read_config(&self, id: &Digest) -> Result<wire::ImageConfig, StoreError> {
        let bytes = self.read_document(id)?;
        wire::image_config(&bytes).map_err(|source| StoreError::Document { blob: *id, source })
    }

    /// Where a layer is, or would be.
    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.disk.layers().join(match self.form() {
            Form::Erofs(_) => format!("{}.erofs", diff_id.hex()),
            Form::Directory(_) => diff_id.hex(),
        })
    }

    /// Unpacks a layer; it has no name yet.
    ///
    /// # Errors
    /// As the layer's own, or when nothing can be written.
    pub(crate) fn unpack(
        &self,
        input: impl Read + Send,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Unpacked<'_>, LayerError> {
        let limits = Limits::default();
        match self.form() {
            Form::Erofs(_) => {
                let (temporary, file) = self.disk.temporary_file().map_err(LayerError::Write)?;
                let layer = layer::write_erofs(input, &file, &limits, progress)?;
                Ok(Unpacked { temporary, file: Some(file), layer })
            }
            Form::Directory(marks) => {
                let temporary = self.disk.temporary_directory().map_err(LayerError::Write)?;
                let root = File::open(temporary.path()).map_err(LayerError::Write)?;
                let layer = layer::write_directory(input, root.as_fd(), marks, &limits, progress)?;
                Ok(Unpacked { temporary, file: None, layer })
            }
        }
    }

    /// Gives an unpacked layer its name. The caller has pinned it.
    pub(crate) fn place_layer(
        &self,
        lease: &Lease<'_>,
        unpacked: Unpacked<'_>,
    ) -> Result<Layer, StoreError> {
        let name = self.layer_path(&unpacked.layer.diff_id);
        let placed = match &unpacked.file {
            Some(file) => unpacked.temporary.place_file(file, &name),
            None => unpacked.temporary.place_directory(&name),
        };
        match placed.map_err(|source| StoreError::Disk { doing: "store a layer", source })? {
            Placed::New => lease.placed_layer(unpacked.layer.diff_id),
            Placed::Existed => {}
        }
        Ok(unpacked.layer)
    }

    /// Makes a layer of a blob that is in the store and checks that it is the layer it should be.
    /// Answers how many bytes of content it has.
    pub(crate) fn layer_from_blob(
        &self,
        lease: &Lease<'_>,
        wanted: LayerBlob,
        tell: Tell<'_>,
    ) -> Result<u64, StoreError> {
        let LayerBlob { blob, bytes: total, diff_id } = wanted;
        lease.pin(|needs| {
            needs.layers.insert(diff_id);
        });
        if let Some(content_bytes) = self.known_layer(&blob, &diff_id) {
            tell(Progress::LayerReady { blob, reused: true });
            return Ok(content_bytes);
        }
        let mut progress = |bytes| tell(Progress::Layer { blob, bytes, total });
        let unpacked = self
            .unpack(self.open_blob(&blob)?, &mut progress)
            .map_err(|source| StoreError::Layer { blob, source })?;
        let found = &unpacked.layer;
        if found.blob != blob {
            return Err(StoreError::Damaged { blob, found: found.blob });
        }
        if found.diff_id != diff_id {
            return Err(StoreError::DiffId { blob, wanted: diff_id, found: found.diff_id });
        }
        let layer = self.place_layer(lease, unpacked)?;
        lease.unpacked(blob, diff_id, layer.content_bytes);
        tell(Progress::LayerReady { blob, reused: false });
        Ok(layer.content_bytes)
    }

    /// Takes a layer's blob as it comes: in one pass it is kept, hashed and unpacked. Nothing of
    /// it gets a name before blob, length and layer are what they should be.
    ///
    /// Answers how many bytes of content the layer has.
    pub(crate) fn layer_from_stream(
        &self,
        lease: &Lease<'_>,
        wanted: LayerBlob,
        input: impl Read + Send,
        progress: &mut dyn FnMut(u64),
    ) -> Result<u64, StoreError> {
        let LayerBlob { blob, bytes, diff_id } = wanted;
        let failed = |source| StoreError::Disk { doing: "store a blob", source };
        let (temporary, file) = self.disk.temporary_file().map_err(failed)?;
        let tee = Tee { input, copy: &file, bytes: 0, writeback: Writeback::default() };
        let unpacked = self.unpack(tee, progress);
        let unpacked = unpacked.map_err(|source| StoreError::Layer { blob, source })?;
        let found = &unpacked.layer;
        if found.blob != blob || found.blob_bytes != bytes {
            return Err(StoreError::Damaged { blob, found: found.blob });
        }
        if found.diff_id != diff_id {
            return Err(StoreError::DiffId { blob, wanted: diff_id, found: found.diff_id });
        }
        sync(&file, unpacked.file.as_ref()).map_err(failed)?;
        SealedBlob { temporary, digest: blob, bytes }.place(lease)?;
        let layer = self.place_layer(lease, unpacked)?;
        lease.unpacked(blob, diff_id, layer.content_bytes);
        Ok(layer.content_bytes)
    }

    /// What is here of a layer: its bytes of content, if blob and layer are, and known to be one.
    pub(crate) fn layer_here(&self, layer: &LayerBlob) -> Option<u64> {
        self.known_layer(&layer.blob, &layer.diff_id).filter(|_| self.has_blob(&layer.blob))
    }

    /// Content of a layer that an image of the store has from the same blob, if it is there. Then
    /// it was checked already that the one unpacks to the other.
    fn known_layer(&self, blob: &Digest, diff_id: &Digest) -> Option<u64> {
        let table = self.table();
        let known = table.layers().find(|l| l.blob == *blob && l.diff_id == *diff_id);
        let known = known.map(|layer| layer.content_bytes);
        let content_bytes = known.or_else(|| {
            let state = self.state();
            let noted = state.leases.values().find_map(|leased| leased.unpacked.get(blob).copied());
            noted
                .filter(|(unpacked, _)| unpacked == diff_id)
                .map(|(_, content_bytes)| content_bytes)
        })?;
        self.layer_path(diff_id).exists().then_some(content_bytes)
    }

    /// Makes a layer again whose blob is there: the host's form has changed, or it was lost.
    pub(super) fn ensure_layer(
        &self,
        lease: &Lease<'_>,
        diff_id: &Digest,
    ) -> Result<(), MountError> {
        if self.layer_path(diff_id).exists() {
            return Ok(());
        }
        let table = self.table();
        let known = table.layers().find(|layer| layer.diff_id == *diff_id);
        let known = known.ok_or(MountError::Missing(*diff_id))?;
        lease.pin(|needs| {
            needs.blobs.insert(known.blob);
        });
        let wanted = LayerBlob { blob: known.blob, bytes: known.blob_bytes, diff_id: *diff_id };
        let made = self.layer_from_blob(lease, wanted, &mut |_| {});
        made.map(|_| ()).map_err(|source| MountError::Unpack(Box::new(source)))
    }
}

/// Waits until both files are on the disk, for both at the same time.
fn sync(blob: &File, layer: Option<&File>) -> io::Result<()> {
    let Some(layer) = layer else { return blob.sync_data() };
    thread::scope(|scope| {
        let other = thread::Builder::new().name("layer-sync".to_owned());
        let other = other.spawn_scoped(scope, || blob.sync_data());
        let (here, there) = (layer.sync_data(), other?.join());
        here.and(there.unwrap_or_else(|_| Err(io::Error::other("a sync panicked"))))
    })
}

/// The digest of bytes in memory.
pub(crate) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_sha256(Sha256::digest(bytes).into())
}

/// The digest of a file.
pub(super) fn digest_of_file(path: &Path) -> io::Result<Digest> {
    let mut file = fs::File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(Digest::from_sha256(hash.finalize().into())),
            read => hash.update(buffer.get(..read).unwrap_or_default()),
        }
    }
}
