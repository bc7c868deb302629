//! The volumes there are, who uses them, and where their content is.
//!
//! ```text
//! <data>/volumes/            0700
//!   <name>/                  0701
//!     meta.json              its record, never changed
//!     _data/                 its content
//!     populating/ populated/ content on its way in, see populate.rs
//!     snapshots/<name>/      meta.json, data/
//!   .beside/                 what is not yet, or no longer, a volume; cleared at open
//! <run>/volumes/             0700
//!   <user>/<number>          parts of volumes, bound
//!   .empty/                  under every stack
//! ```

mod check;
mod mount;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        TryLockError,
        atomic::{AtomicU64, Ordering},
    },
};

use base::clock::Timestamp;
use rustix::io::Errno;
use tracing::warn;

pub use mount::Use;

use crate::{
    VolumeError, VolumeName, disk,
    meta::{self, Meta},
    options::{self, Kind},
    populate,
};

/// The label that Docker gives anonymous volumes.
pub const ANONYMOUS_LABEL: &str = "com.docker.volume.anonymous";
/// The only driver.
const DRIVER: &str = "local";
/// The directory with the content. Docker's name.
const DATA: &str = "_data";
/// Where things are made and unmade.
const BESIDE: &str = ".beside";

/// The volumes of one data root.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    run: PathBuf,
    next: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    volumes: BTreeMap<VolumeName, Arc<Kept>>,
    /// Who has each, whether or not he runs.
    users: BTreeMap<VolumeName, BTreeSet<Box<str>>>,
    /// Who has each and runs.
    active: BTreeMap<VolumeName, BTreeSet<Box<str>>>,
}

#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) meta: Meta,
    pub(crate) kind: Kind,
    /// Shared by those who copy or mount its content, held alone by whoever takes it away.
    content: RwLock<()>,
    /// Held by whoever makes it ready.
    ready: Mutex<()>,
}

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewVolume {
    /// Its name.
    pub name: String,
    /// Driver; `None` and empty are `local`, the only one.
    pub driver: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Its name was made up: it goes with the container it is made for.
    pub anonymous: bool,
}

/// A volume as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: VolumeName,
    /// When it was made.
    pub created: Timestamp,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Whether its name was made up.
    pub anonymous: bool,
    /// Where its content is, as its users' mounts have it.
    pub path: PathBuf,
    /// Where its content is.
    pub kind: Kind,
    /// Who has it.
    pub users: Vec<String>,
}

impl Store {
    /// Opens the store of a data root, and finishes or clears away what a kill left.
    ///
    /// The caller holds the data root for itself.
    ///
    /// # Errors
    /// [`VolumeError::Disk`]. A volume that cannot be read is named in the log and left alone.
    pub fn open(data: &Path, run: &Path) -> Result<Store, VolumeError> {
        let (root, run) = (data.join("volumes"), run.join("volumes"));
        disk::make_private(&root)?;
        disk::make_private(&run.join(".empty"))?;
        let root = root.canonicalize().map_err(disk::failed("find", &root))?;
        let beside = root.join(BESIDE);
        disk::erase(&beside)?;
        disk::make(&beside, 0o700)?;
        let inner = Mutex::new(Inner::default());
        let store = Store { root, run, next: AtomicU64::new(0), inner };
        let listed = fs::read_dir(&store.root).map_err(disk::failed("list", &store.root))?;
        for entry in listed {
            let entry = entry.map_err(disk::failed("list", &store.root))?;
            let Some(Ok(name)) = entry.file_name().to_str().map(str::parse) else { continue };
            if let Err(error) = store.read(&name) {
                warn!(volume = %name, error = %error, "a volume cannot be read and is left alone");
            }
        }
        Ok(store)
    }

    fn read(&self, name: &VolumeName) -> Result<(), VolumeError> {
        let damaged = |why| VolumeError::Damaged { name: name.to_string(), why };
        let directory = self.directory(name);
        let meta = match meta::read::<Meta>(&directory) {
            Ok(meta) if meta.name == *name => meta,
            Ok(meta) => return Err(damaged(format!("its record is that of {}", meta.name))),
            // Written without waiting for the disk, and all that it says is known.
            Err(_) if name.is_made_up() && directory.join(DATA).is_dir() => anonymous(name.clone()),
            Err(why) => return Err(damaged(why)),
        };
        let kind = options::parse(&meta.options).map_err(damaged)?;
        if kind == Kind::Kept {
            let home = disk::open(&directory)?;
            let data = disk::open(&directory.join(DATA))?;
            populate::finish(&populate::beside(home.as_fd(), &directory), data.as_fd())?;
        }
        self.inner().volumes.insert(name.clone(), Arc::new(Kept::new(meta, kind)));
        Ok(())
    }

    /// Makes a volume. One that exists already is left as it is, and answered with.
    ///
    /// # Errors
    /// [`VolumeError::Name`], [`VolumeError::Options`], [`VolumeError::NoSuchDriver`]; or the
    /// disk's.
    pub fn create(&self, new: NewVolume) -> Result<Volume, VolumeError> {
        let name: VolumeName = new.name.parse()?;
        if let Some(driver) = new.driver.filter(|driver| !["", DRIVER].contains(&driver.as_str())) {
            return Err(VolumeError::NoSuchDriver { name: name.into(), driver });
        }
        if let Ok(volume) = self.get(name.as_str()) {
            return Ok(volume);
        }
        let kind = options::parse(&new.options)
            .map_err(|why| VolumeError::Options { name: name.to_string(), why })?;
        // What all anonymous volumes have in common need not reach the disk before it is used.
        let durable = !new.anonymous || !new.labels.is_empty() || !new.options.is_empty();
        let mut meta =
            if new.anonymous { anonymous(name.clone()) } else { Meta::new(name.clone()) };
        meta.labels.extend(new.labels);
        meta.options = new.options;
        let staged = self.beside()?;
        staged.fill(&meta, durable)?;
        self.place(staged, Kept::new(meta, kind), durable)?;
        self.get(name.as_str())
    }

    /// Moves a directory that is ready to its place, unless there is such a volume by now.
    pub(crate) fn place(
        &self,
        staged: Beside,
        kept: Kept,
        durable: bool,
    ) -> Result<bool, VolumeError> {
        let name = kept.meta.name.clone();
        let directory = self.directory(&name);
        let mut inner = self.inner();
        if inner.volumes.contains_key(&name) {
            return Ok(false);
        }
        match disk::rename_new(&staged.path, &directory) {
            Err(Errno::EXIST | Errno::NOTEMPTY) => {
                let why = format!("{} is in the way", directory.display());
                return Err(VolumeError::Damaged { name: name.into(), why });
            }
            other => other.map_err(disk::failed("make", &directory))?,
        }
        inner.volumes.insert(name, Arc::new(kept));
        drop(inner);
        if durable { disk::sync(&self.root).map(|()| true) } else { Ok(true) }
    }

    /// One volume.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`].
    pub fn get(&self, name: &str) -> Result<Volume, VolumeError> {
        let inner = self.inner();
        let kept = inner.volumes.get(name);
        let kept = kept.ok_or_else(|| VolumeError::NoSuchVolume(name.to_owned()))?;
        Ok(self.show(kept, &inner))
    }

    /// Every volume, by name.
    pub fn list(&self) -> Vec<Volume> {
        let inner = self.inner();
        inner.volumes.values().map(|kept| self.show(kept, &inner)).collect()
    }

    fn show(&self, kept: &Kept, inner: &Inner) -> Volume {
        let meta = kept.meta.clone();
        Volume {
            path: self.content(kept),
            users: names(inner.users.get(&meta.name)),
            name: meta.name,
            created: meta.created,
            labels: meta.labels,
            options: meta.options,
            anonymous: meta.anonymous,
            kind: kept.kind.clone(),
        }
    }

    /// Removes a volume with its snapshots.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`], [`VolumeError::InUse`].
    pub fn remove(&self, name: &str) -> Result<(), VolumeError> {
        let kept = self.kept(name)?;
        let _alone = kept.alone()?;
        let grave = self.grave();
        {
            let mut inner = self.inner();
            let users = names(inner.users.get(name));
            if !users.is_empty() {
                return Err(VolumeError::InUse { name: name.to_owned(), users });
            }
            let directory = self.directory(&kept.meta.name);
            match fs::rename(&directory, &grave.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(disk::failed("remove", &directory))?,
            }
            inner.volumes.remove(name);
        }
        // Whatever a power cut brings back of it, nobody knows its name.
        if !kept.meta.anonymous {
            disk::sync(&self.root)?;
        }
        // Deleted when it is dropped; what cannot be deleted now is when the store is next opened.
        drop(grave);
        Ok(())
    }

    /// Somebody has these volumes from now on, whether he runs or not.
    ///
    /// # Errors
    /// [`VolumeError::NoSuchVolume`]; then he has none of them.
    pub fn hold<'n>(
        &self,
        user: &str,
        volumes: impl IntoIterator<Item = &'n str>,
    ) -> Result<(), VolumeError> {
        let mut inner = self.inner();
        let mut held = Vec::new();
        for name in volumes {
            match inner.volumes.get(name) {
                Some(kept) => held.push(kept.meta.name.clone()),
                None => return Err(VolumeError::NoSuchVolume(name.to_owned())),
            }
        }
        for name in held {
            inner.users.entry(name).or_default().insert(user.into());
        }
        Ok(())
    }

    /// Somebody is gone. Answers with the anonymous volumes that he had and nobody has now.
    pub fn release(&self, user: &str) -> Vec<VolumeName> {
        let mut inner = self.inner();
        let mut free = Vec::new();
        for (name, users) in &mut inner.users {
            if users.remove(user) && users.is_empty() {
                free.push(name.clone());
            }
        }
        inner.users.retain(|_, users| !users.is_empty());
        free.retain(|name| inner.volumes.get(name).is_some_and(|kept| kept.meta.anonymous));
        free
    }

    /// Removes anonymous volumes that nobody has and that hold nothing: a kill between making one
    /// and recording its user leaves such. Called once all users are known.
    pub fn tidy(&self) {
        for volume in self.list() {
            let unused = volume.anonymous && volume.users.is_empty() && volume.kind == Kind::Kept;
            let empty = || fs::read_dir(&volume.path).is_ok_and(|mut list| list.next().is_none());
            let plain = volume.options.is_empty() && volume.labels.len() <= 1;
            if unused
                && plain
                && empty()
                && self.snapshots(volume.name.as_str()).is_ok_and(|s| s.is_empty())
                && let Err(error) = self.remove(volume.name.as_str())
            {
                warn!(volume = %volume.name, %error, "an empty volume is left");
            }
        }
    }

    pub(crate) fn kept(&self, name: &str) -> Result<Arc<Kept>, VolumeError> {
        let inner = self.inner();
        let kept = inner.volumes.get(name);
        kept.cloned().ok_or_else(|| VolumeError::NoSuchVolume(name.to_owned()))
    }

    /// Fails if somebody who runs has it.
    pub(crate) fn idle(&self, kept: &Kept, doing: &'static str) -> Result<(), VolumeError> {
        let users = names(self.inner().active.get(&kept.meta.name));
        match users.is_empty() {
            true => Ok(()),
            false => Err(VolumeError::Running { doing, name: kept.meta.name.to_string(), users }),
        }
    }

    pub(crate) fn directory(&self, name: &VolumeName) -> PathBuf {
        self.root.join(name.as_str())
    }

    /// The directory with a volume's content.
    pub(crate) fn content(&self, kept: &Kept) -> PathBuf {
        match &kept.kind {
            Kind::Kept | Kind::Tmpfs(_) => self.directory(&kept.meta.name).join(DATA),
            Kind::Bind(device) => device.clone(),
        }
    }

    /// A place for something that is to become, or was, a part of the store.
    fn grave(&self) -> Beside {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Beside { path: self.root.join(BESIDE).join(number.to_string()) }
    }

    /// An empty directory beside the volumes.
    pub(crate) fn beside(&self) -> Result<Beside, VolumeError> {
        let beside = self.grave();
        disk::make(&beside.path, 0o701)?;
        Ok(beside)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is one assignment: a panic leaves none half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    pub(crate) fn new(meta: Meta, kind: Kind) -> Kept {
        Kept { meta, kind, content: RwLock::new(()), ready: Mutex::new(()) }
    }

    /// Waits until nobody takes its content away.
    pub(crate) fn shared(&self) -> RwLockReadGuard<'_, ()> {
        self.content.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has its content alone. It does not wait: an export lasts as long as its reader likes.
    pub(crate) fn alone(&self) -> Result<RwLockWriteGuard<'_, ()>, VolumeError> {
        match self.content.try_write() {
            Ok(guard) => Ok(guard),
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(VolumeError::Busy(self.meta.name.to_string())),
        }
    }

    /// Waits until nobody else makes it ready.
    fn ready(&self) -> MutexGuard<'_, ()> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails unless the store keeps its content.
    pub(crate) fn ours(&self, doing: &'static str) -> Result<(), VolumeError> {
        let kind = match &self.kind {
            Kind::Kept => return Ok(()),
            Kind::Tmpfs(_) => "tmpfs",
            Kind::Bind(_) => "bind",
        };
        Err(VolumeError::NotOurs { doing, name: self.meta.name.to_string(), kind })
    }
}

/// A directory that is no volume, yet or any longer; deleted when it is dropped, unless it has
/// been renamed away.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) path: PathBuf,
}

impl Beside {
    /// Makes an empty volume of it.
    pub(crate) fn fill(&self, meta: &Meta, durable: bool) -> Result<(), VolumeError> {
        disk::make(&self.path.join(DATA), 0o755)?;
        meta::write(&self.path, meta, durable).map_err(disk::failed("write", &self.path))?;
        if durable { disk::sync(&self.path) } else { Ok(()) }
    }

    /// The directory for its content.
    pub(crate) fn data(&self) -> PathBuf {
        self.path.join(DATA)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if let Err(error) = disk::erase(&self.path) {
            warn!(%error, path = %self.path.display(), "something is left beside the volumes");
        }
    }
}

fn anonymous(name: VolumeName) -> Meta {
    let mut meta = Meta { anonymous: true, ..Meta::new(name) };
    meta.labels.insert(ANONYMOUS_LABEL.to_owned(), String::new());
    meta
}

fn names(users: Option<&BTreeSet<Box<str>>>) -> Vec<String> {
    users.into_iter().flatten().map(|user| user.to_string()).collect()
}
