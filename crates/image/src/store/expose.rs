//! Images whose files are shown at directories of the host.
//!
//! ```text
//! expose ──▶ record ──▶ overlay, mounted nowhere ──descriptor──▶ whoever asked moves it to a place
//!              └─ stands until the overlay is in no mount table any more ─▶ swept
//! ```
//!
//! The store's own mounts may be in a namespace that nobody else sees, so it never mounts at the
//! directory itself: it hands out a mount that is nowhere yet, and its taker puts it where it can
//! see it. From the record on the layers are needed. Whether an overlay is still mounted is told by
//! the mount table of that namespace, where its source names the record: so it does not matter who
//! unmounts it and how, or whether the store is open then.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use base::{Digest, ErrorKind, clock::Timestamp};
use serde::{Deserialize, Serialize};

use super::{ResolveError, Store, disk_kind};
use crate::{
    mounts::{self, MountError},
    platform::Platform,
};

/// What the source of such an overlay begins with, in mount tables.
const SOURCE: &str = "wythe-image-";
/// How long an overlay may be in no mount table before it is taken for unmounted: its taker has to
/// put it in its place first.
const GRACE: Duration = Duration::from_secs(30);
/// The format of records that we write, and the only one that we read.
const VERSION: u32 = 1;
/// Images mounted at a time.
const MOUNTS_MAX: usize = 1024;

/// An image that is mounted at a directory of the host, or about to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageMount {
    /// Its own id; its source in mount tables ends with it.
    pub id: String,
    /// The image's id.
    pub image: Digest,
    /// What was asked for.
    pub name: String,
    /// Diff ids of its layers.
    pub layers: Vec<Digest>,
    /// The directory.
    pub target: PathBuf,
    /// In which mount namespace, as `/proc/PID/ns/mnt` names it.
    pub namespace: PathBuf,
    /// When it was made.
    pub made: Timestamp,
    /// Whether its taker has put it in its place.
    pub placed: bool,
}

impl ImageMount {
    /// How mount tables name it.
    pub fn source(&self) -> String {
        format!("{SOURCE}{}", self.id)
    }
}

/// Why an image was not handed out as a mount.
#[derive(Debug, thiserror::Error)]
pub enum ExposeError {
    /// There is no such image.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Its layers cannot be mounted.
    #[error(transparent)]
    Mount(#[from] MountError),
    /// There are enough.
    #[error("{MOUNTS_MAX} images are mounted already: unmount some")]
    Many,
    /// It cannot be noted.
    #[error("cannot note the mount in {path}")]
    Record {
        /// Where.
        path: PathBuf,
        /// What the host said.
        #[source]
        source: io::Error,
    },
}

impl ExposeError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ExposeError::Resolve(error) => error.kind(),
            ExposeError::Mount(error) => error.kind(),
            ExposeError::Many => ErrorKind::Exhausted,
            ExposeError::Record { source, .. } => disk_kind(source),
        }
    }
}

/// The records, one file each, in a directory that a reboot may take.
#[derive(Debug)]
pub(super) struct Exposed {
    dir: PathBuf,
    mounts: Mutex<BTreeMap<String, ImageMount>>,
}

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    mount: ImageMount,
}

impl Exposed {
    /// Reads the records and drops those of what is mounted no more.
    pub(super) fn open(dir: PathBuf) -> io::Result<Exposed> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let mut mounts = BTreeMap::new();
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            match read(&path)? {
                Some(mount) => drop(mounts.insert(mount.id.clone(), mount)),
                // A kill left it half-written: its overlay was never handed out.
                None => fs::remove_file(&path)?,
            }
        }
        let exposed = Exposed { dir, mounts: Mutex::new(mounts) };
        exposed.sweep();
        Ok(exposed)
    }

    /// Layers that are needed.
    pub(super) fn layers(&self) -> Vec<Digest> {
        self.lock().values().flat_map(|mount| &mount.layers).copied().collect()
    }

    /// Drops the records of what is mounted no more.
    pub(super) fn sweep(&self) {
        if self.lock().is_empty() {
            return;
        }
        // Looked at without the lock: it reads the mount tables of all processes.
        let namespaces = self.lock().values().map(|mount| mount.namespace.clone()).collect();
        let mounted = mounts::sources(SOURCE, &namespaces);
        let now = Timestamp::now();
        self.lock().retain(|_, mount| {
            let age = Duration::from_nanos(now.0.saturating_sub(mount.made.0));
            let place = (mount.namespace.clone(), mount.source());
            let stays = mounted.contains(&place) || (!mount.placed && age < GRACE);
            // One that cannot be removed is looked at again by the next daemon.
            stays || fs::remove_file(self.path(&mount.id)).is_err_and(|error| is_there(&error))
        });
    }

    fn add(&self, mount: &ImageMount) -> Result<(), ExposeError> {
        let mut mounts = self.lock();
        if mounts.len() >= MOUNTS_MAX {
            return Err(ExposeError::Many);
        }
        self.write(mount)?;
        mounts.insert(mount.id.clone(), mount.clone());
        Ok(())
    }

    /// Whether there is one, which is in its place from now on.
    fn place(&self, id: &str) -> Result<bool, ExposeError> {
        let mut mounts = self.lock();
        let Some(mount) = mounts.get_mut(id) else { return Ok(false) };
        let placed = ImageMount { placed: true, ..mount.clone() };
        self.write(&placed)?;
        *mount = placed;
        Ok(true)
    }

    fn write(&self, mount: &ImageMount) -> Result<(), ExposeError> {
        let path = self.path(&mount.id);
        let written = write(&path, &Record { version: VERSION, mount: mount.clone() });
        written.map_err(|source| ExposeError::Record { path, source })
    }

    /// Whether there was one.
    fn remove(&self, id: &str) -> bool {
        let removed = self.lock().remove(id);
        if let Some(mount) = &removed {
            // A record that stays is swept by the next daemon.
            let _ = fs::remove_file(self.path(&mount.id));
        }
        removed.is_some()
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, ImageMount>> {
        // Every change of the map is one call.
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// An image's files as a mount that is nowhere yet, read-only. Whoever moves it to `target` in
    /// its mount namespace tells so by [`Store::keep_image_mount`]; what is not in any mount table half a minute later
    /// is forgotten.
    ///
    /// # Errors
    /// When there is no such image for that platform, or it cannot be mounted.
    pub fn expose(
        &self,
        name: &str,
        platform: Option<&Platform>,
        target: &Path,
        namespace: &Path,
    ) -> Result<(ImageMount, OwnedFd), ExposeError> {
        let image = self.image(name, platform)?;
        let mount = ImageMount {
            id: random_id()
                .map_err(|source| ExposeError::Record { path: self.exposed.dir.clone(), source })?,
            image: image.id,
            name: name.to_owned(),
            layers: image.layers,
            target: target.to_owned(),
            namespace: namespace.to_owned(),
            made: Timestamp::now(),
            placed: false,
        };
        // Owned by the mount until the overlay holds its layers itself.
        let owner = mount.source();
        let directories = self.mount(&owner, &mount.layers)?;
        let overlay = self.exposed.add(&mount).and_then(|()| {
            let overlay = self.mounts.overlay(&directories, &owner);
            overlay.map_err(|error| {
                self.exposed.remove(&mount.id);
                error.into()
            })
        });
        self.unmount(&owner);
        Ok((mount, overlay?))
    }

    /// Notes that a mount is in its place. If it is not known, its taker must unmount it: nothing
    /// keeps its layers.
    ///
    /// # Errors
    /// When it cannot be noted.
    pub fn keep_image_mount(&self, id: &str) -> Result<bool, ExposeError> {
        self.exposed.place(id)
    }

    /// Forgets a mount that was given back, or never put anywhere. Answers whether it was: one
    /// that is still in its place stays.
    pub fn forget_image_mount(&self, id: &str) -> bool {
        let Some(mount) = self.exposed.lock().get(id).cloned() else { return false };
        let place = (mount.namespace.clone(), mount.source());
        let mounted = mounts::sources(&place.1, &[mount.namespace].into());
        !mounted.contains(&place) && self.exposed.remove(id)
    }

    /// Images that are mounted at directories of the host.
    pub fn image_mounts(&self) -> Vec<ImageMount> {
        self.exposed.sweep();
        self.exposed.lock().values().cloned().collect()
    }
}

/// Unmounts the copies of such overlays that a new mount namespace begins with: nobody who unmounts
/// one elsewhere would reach them. To be called in the namespace.
///
/// # Errors
/// What the kernel said.
pub fn detach_image_mounts() -> io::Result<()> {
    mounts::detach_all(SOURCE)
}

fn read(path: &Path) -> io::Result<Option<ImageMount>> {
    /// Longest record, with as many layers as overlayfs stacks.
    const RECORD_BYTES_MAX: u64 = 1 << 20;
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(RECORD_BYTES_MAX).read_to_end(&mut bytes)?;
    let Ok(record) = serde_json::from_slice::<Record>(&bytes) else { return Ok(None) };
    if record.version != VERSION {
        let why = format!("{} was written by another build", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, why));
    }
    Ok(Some(record.mount))
}

/// Not synced: it is about mounts, which a power cut takes too.
fn write(path: &Path, record: &Record) -> io::Result<()> {
    let bytes = serde_json::to_vec(record).map_err(io::Error::other)?;
    let part = path.with_extension("part");
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&part)?;
    io::Write::write_all(&mut file, &bytes)?;
    fs::rename(&part, path)
}

fn is_there(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::NotFound
}

/// Sixteen hexadecimal digits.
fn random_id() -> io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
