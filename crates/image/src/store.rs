//! The image store: blobs, layers and the table of images, in one directory that one process
//! has open at a time.
//!
//! Whatever changes the store first puts files in place, then replaces the table, then deletes
//! what the table does not need any more. So a kill leaves at worst files that nobody needs.

mod audit;
mod blobs;
mod collect;
mod content;
mod disk;
mod error;
mod expose;
mod fuse;
mod list;
mod remove;
mod resolve;
mod table;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io,
    ops::Deref,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use base::{Digest, clock::Timestamp};
use rustix::fs::{FlockOperation, flock};
use workload::Finding;

use crate::{
    mounts::{self, Form, MountError, Mounts},
    platform::Platform,
    reference::Reference,
};

pub use audit::{Audit, Extra};
pub use blobs::{Blobs, GrowingBlob};
pub use collect::Collected;
pub use error::{OpenError, StoreError, TagError};
pub use expose::{ExposeError, ImageMount, detach_image_mounts};
pub use list::{Summary, Variant};
pub use remove::{Conflict, ContainerUse, Pruned, RemoveError, Removed};
pub use resolve::{Image, ResolveError};
pub use table::TableError;
pub use usage::{ImageSize, Space, Usage};

pub(crate) use content::{LayerBlob, NewBlob, SealedBlob, digest_of};
pub(crate) use error::disk_kind;
pub(crate) use fuse::Fuse;
pub(crate) use list::names;
pub(crate) use resolve::{Found, lookup};
pub(crate) use table::{Layer, Manifest, Needs, Table, Target};

use disk::Disk;

/// Where a store is, and for whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of what lasts; the store takes `content` in it.
    pub data: PathBuf,
    /// Directory of what a reboot may take; the store takes `layers` in it.
    pub run: PathBuf,
    /// How layers are kept and mounted; `None` is the best that the host can do.
    pub form: Option<Form>,
    /// Whose images are meant where nobody says for what platform.
    pub platform: Platform,
}

/// The image store.
#[derive(Debug)]
pub struct Store {
    disk: Disk,
    mounts: Mounts,
    exposed: expose::Exposed,
    findings: Vec<Finding>,
    platform: Platform,
    state: Mutex<State>,
    /// Dropped last: nobody else opens the store before the rest is gone.
    _lock: File,
}

#[derive(Debug)]
struct State {
    table: Arc<Table>,
    /// Operations under way.
    leases: BTreeMap<u64, Leased>,
    next_lease: u64,
}

/// What an operation under way has to do with.
#[derive(Debug, Default)]
struct Leased {
    needs: Needs,
    /// What it has put in place itself.
    placed: Needs,
    /// Blobs that were unpacked, and what to: layer and bytes of content. An image that is not in
    /// the table yet vouches for them as the table does for others.
    unpacked: BTreeMap<Digest, (Digest, u64)>,
}

/// Keeps what an operation under way needs from being collected. When it is dropped, what the
/// operation has put in place goes again, unless it is needed by then: by the table, if the
/// operation succeeded, or by another operation.
#[derive(Debug)]
pub(crate) struct Lease<'s> {
    store: Held<'s>,
    id: u64,
}

/// The store of a lease, for as long as that takes.
#[derive(Debug)]
enum Held<'s> {
    Borrowed(&'s Store),
    Shared(Arc<Store>),
}

impl Deref for Held<'_> {
    type Target = Store;

    fn deref(&self) -> &Store {
        match self {
            Held::Borrowed(store) => store,
            Held::Shared(store) => store,
        }
    }
}

impl Store {
    /// Opens the store, makes it where there is none, and tidies up after a kill.
    ///
    /// What is mounted of an earlier run is found again. Files that nobody needs stay until
    /// [`Store::collect`], for only the caller knows which layers its containers need.
    ///
    /// # Errors
    /// When another process has it open, or it cannot be read.
    pub fn open(options: &Options) -> Result<Store, OpenError> {
        Store::open_with(options, Fuse::never())
    }

    pub(crate) fn open_with(options: &Options, fuse: Fuse) -> Result<Store, OpenError> {
        let root = options.data.join("content");
        let failed = |source| OpenError::Disk { path: root.clone(), source };
        DirBuilder::new().recursive(true).create(&options.data).map_err(failed)?;
        let lock = lock(&root)?;
        // What a registry of ours keeps beside.
        let neighbours = vec![options.data.join("registry")];
        let disk = Disk::open(root.clone(), neighbours, fuse).map_err(failed)?;
        let table = read_table(&disk)?;
        let (form, findings) = match options.form {
            Some(form) => (form, Vec::new()),
            None => mounts::probe(&disk.tmp()),
        };
        let mounts = Mounts::open(options.run.join("layers"), form)?;
        let records = options.run.join("image-mounts");
        let exposed = expose::Exposed::open(records.clone())
            .map_err(|source| OpenError::Disk { path: records, source })?;
        let state = State { table: Arc::new(table), leases: BTreeMap::new(), next_lease: 0 };
        let (platform, state) = (options.platform.clone(), Mutex::new(state));
        Ok(Store { disk, mounts, exposed, findings, platform, state, _lock: lock })
    }

    /// What the host can do for images, for `doctor`; empty if the form was prescribed.
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How layers are kept and mounted.
    pub fn form(&self) -> Form {
        self.mounts.form()
    }

    /// Gives an image another name. Docker's rule: a name that is taken moves.
    ///
    /// # Errors
    /// When there is no such image, or the name has a digest.
    pub fn tag(&self, source: &str, name: &str, now: Timestamp) -> Result<Reference, TagError> {
        let reference = name.parse::<Reference>()?.or_latest();
        if reference.digest().is_some() {
            return Err(TagError::Digest(reference.familiar()));
        }
        let named = reference.clone();
        self.change(|table| {
            let target = resolve::lookup(table, source)?.target(table);
            table.name(named, target, now);
            Ok(reference)
        })?
    }

    /// Makes an image's layers available, each mounted once however many use it.
    ///
    /// `layers` are diff ids, bottom first; the answer is directories, **top first**, as
    /// overlayfs takes them, without repetitions and never empty. They stay until the owner
    /// is [`Store::unmount`]ed; doing it again for the same owner changes nothing.
    ///
    /// # Errors
    /// When a layer is not in the store, or cannot be mounted.
    pub fn mount(&self, owner: &str, layers: &[Digest]) -> Result<Vec<PathBuf>, MountError> {
        let lease = self.lease();
        lease.pin(|needs| needs.layers.extend(layers));
        for layer in layers {
            self.ensure_layer(&lease, layer)?;
        }
        self.mounts.mount(owner, layers, &|layer| self.layer_path(layer))
    }

    /// Where the same layers are as EROFS files, for who mounts them himself: top first, without
    /// repetitions. Nothing where this host keeps layers as directories. They stay as long as the
    /// owner has them by [`Store::mount`].
    pub fn layer_files(&self, layers: &[Digest]) -> Option<Vec<PathBuf>> {
        if matches!(self.form(), crate::mounts::Form::Directory(_)) {
            return None;
        }
        let mut files: Vec<PathBuf> = Vec::new();
        for layer in layers.iter().rev() {
            let file = self.layer_path(layer);
            if !files.contains(&file) {
                files.push(file);
            }
        }
        Some(files)
    }

    /// Lets go of what [`Store::mount`] made available to an owner. Containers that still use it
    /// are not disturbed: overlayfs holds the layers itself.
    pub fn unmount(&self, owner: &str) {
        self.mounts.release(owner);
    }

    /// Unmounts every layer that has no owner. Called when the daemon ends for good.
    pub fn unmount_idle(&self) {
        self.mounts.trim(0);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is replaced as a whole, so a panic elsewhere cannot have left half of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn table(&self) -> Arc<Table> {
        self.state().table.clone()
    }

    pub(crate) fn host(&self) -> &Platform {
        &self.platform
    }

    /// Changes the table, durably; nothing is written if nothing changes.
    pub(crate) fn change<T>(&self, edit: impl FnOnce(&mut Table) -> T) -> Result<T, StoreError> {
        let mut state = self.state();
        let mut next = Table::clone(&state.table);
        let answer = edit(&mut next);
        if next == *state.table {
            return Ok(answer);
        }
        let written =
            self.disk.sync_names().and_then(|()| self.disk.replace_table(&next.to_bytes()));
        match written {
            Ok(()) => state.table = Arc::new(next),
            Err(source) => {
                // Whether the new table is there is for the disk to say.
                if let Ok(table) = read_table(&self.disk) {
                    state.table = Arc::new(table);
                }
                return Err(StoreError::Disk { doing: "write the image table", source });
            }
        }
        Ok(answer)
    }

    pub(crate) fn lease(&self) -> Lease<'_> {
        Lease { store: Held::Borrowed(self), id: self.new_lease() }
    }

    /// A lease that can be handed from thread to thread.
    pub(crate) fn shared_lease(self: &Arc<Store>) -> Lease<'static> {
        Lease { store: Held::Shared(Arc::clone(self)), id: self.new_lease() }
    }

    fn new_lease(&self) -> u64 {
        let mut state = self.state();
        let id = state.next_lease;
        state.next_lease += 1;
        state.leases.insert(id, Leased::default());
        id
    }
}

impl Lease<'_> {
    /// Keeps more. What is there when this returns stays until the lease is dropped.
    pub(crate) fn pin(&self, more: impl FnOnce(&mut Needs)) {
        more(&mut self.store.state().leases.entry(self.id).or_default().needs);
    }

    /// Notes a blob that was put in place.
    fn placed_blob(&self, digest: Digest) {
        let mut state = self.store.state();
        state.leases.entry(self.id).or_default().placed.blobs.insert(digest);
    }

    /// Notes what a blob unpacks to.
    fn unpacked(&self, blob: Digest, diff_id: Digest, content_bytes: u64) {
        let mut state = self.store.state();
        let leased = state.leases.entry(self.id).or_default();
        leased.unpacked.insert(blob, (diff_id, content_bytes));
    }

    /// Notes a layer that was put in place.
    fn placed_layer(&self, diff_id: Digest) {
        let mut state = self.store.state();
        state.leases.entry(self.id).or_default().placed.layers.insert(diff_id);
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.store.end(self.id);
    }
}

/// Makes the directory and holds it for this process.
fn lock(root: &Path) -> Result<File, OpenError> {
    let failed = |source| OpenError::Disk { path: root.to_owned(), source };
    match DirBuilder::new().mode(0o700).create(root) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => return Err(failed(source)),
        _ => {}
    }
    let mut how = OpenOptions::new();
    let file = how.write(true).create(true).truncate(false).mode(0o600);
    let file = file.open(root.join("lock")).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::InUse { path: root.to_owned() }),
        Err(error) => Err(failed(error.into())),
    }
}

fn read_table(disk: &Disk) -> Result<Table, OpenError> {
    let path = disk.table();
    match std::fs::read(&path) {
        Ok(bytes) => Table::parse(&bytes).map_err(|source| OpenError::Table { path, source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Table::default()),
        Err(source) => Err(OpenError::Disk { path, source }),
    }
}
