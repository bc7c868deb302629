//! Making volumes ready for somebody who is about to run.

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, OFlags, ResolveFlags},
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
        open_tree, unmount,
    },
};
use tracing::warn;

use super::{DATA, Kept, Store};
use crate::{
    VolumeError, VolumeName, disk,
    options::{Kind, TmpfsOptions},
    populate,
    stack::Stack,
};

/// What somebody wants of one volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Which.
    pub volume: String,
    /// Only this part of it; it must be there.
    pub subpath: Option<PathBuf>,
    /// Fill it, if it is empty, with what is at this path of the layers.
    pub fill_from: Option<PathBuf>,
}

impl Store {
    /// Makes volumes ready and answers with a path to bind for each. `layers` are directories,
    /// top first, that make up what `fill_from` speaks of.
    ///
    /// The paths hold in the calling process's mount namespace until [`Store::unmount`].
    ///
    /// # Errors
    /// [`VolumeError`]; the user has none of them then.
    pub fn mount(
        &self,
        user: &str,
        uses: &[Use],
        layers: &[PathBuf],
    ) -> Result<Vec<PathBuf>, VolumeError> {
        let mut stack = None;
        let mut paths = Vec::with_capacity(uses.len());
        for (number, wanted) in uses.iter().enumerate() {
            match self.mount_one(user, number, wanted, layers, &mut stack) {
                Ok(path) => paths.push(path),
                Err(error) => {
                    self.unmount(user);
                    return Err(error);
                }
            }
        }
        Ok(paths)
    }

    fn mount_one(
        &self,
        user: &str,
        number: usize,
        wanted: &Use,
        layers: &[PathBuf],
        stack: &mut Option<Stack>,
    ) -> Result<PathBuf, VolumeError> {
        let kept = self.kept(&wanted.volume)?;
        let _shared = kept.shared();
        let _ready = kept.ready();
        self.activate(&kept.meta.name, user);
        let path = self.content(&kept);
        if let Kind::Tmpfs(options) = &kept.kind {
            attach_tmpfs(&path, options)?;
        }
        let data = disk::open(&path)?;
        if let Some(from) = &wanted.fill_from {
            self.fill(&kept, &data, from, layers, stack)?;
        }
        match &wanted.subpath {
            Some(part) if part.components().any(|c| c != Component::CurDir) => {
                self.bind_part(user, number, &wanted.volume, &data, part)
            }
            Some(_) | None => Ok(path),
        }
    }

    fn fill(
        &self,
        kept: &Kept,
        data: &OwnedFd,
        from: &Path,
        layers: &[PathBuf],
        stack: &mut Option<Stack>,
    ) -> Result<(), VolumeError> {
        let path = self.content(kept);
        // Looked at first: most volumes are not empty, and a stack is not for nothing.
        let names = disk::names(data).map_err(disk::failed("list", &path))?;
        let ours = [populate::INSIDE.0.as_bytes(), populate::INSIDE.1.as_bytes()];
        if layers.is_empty() || names.iter().any(|name| !ours.contains(&&**name)) {
            return Ok(());
        }
        let stack = match stack {
            Some(stack) => stack,
            None => {
                let made = Stack::new(layers, &self.run.join(".empty"));
                stack.insert(made.map_err(disk::failed("stack the layers under", from))?)
            }
        };
        let source = match stack.open(from) {
            // The image has nothing there.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            other => other.map_err(disk::failed("open the image's", from))?,
        };
        let stat = rustix::fs::fstat(&source).map_err(disk::failed("open the image's", from))?;
        let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
        if kind != rustix::fs::FileType::Directory {
            return Err(VolumeError::OverFile(from.to_owned()));
        }
        let directory = self.directory(&kept.meta.name);
        let home = disk::open(&directory)?;
        let home = match kept.kind {
            Kind::Kept => populate::beside(home.as_fd(), &directory),
            Kind::Tmpfs(_) | Kind::Bind(_) => populate::inside(data.as_fd(), &path),
        };
        populate::populate(&home, data.as_fd(), source.as_fd()).map(drop)
    }

    /// Binds a part of a volume where nobody who uses the volume can change what it means.
    ///
    /// Source: moby's `volume-subpath`, which does the same since CVE-2017-1002101.
    fn bind_part(
        &self,
        user: &str,
        number: usize,
        volume: &str,
        data: &OwnedFd,
        part: &Path,
    ) -> Result<PathBuf, VolumeError> {
        let failed = |error: Errno| VolumeError::Subpath {
            name: volume.to_owned(),
            path: part.to_owned(),
            source: error.into(),
        };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        let part = sys::beneath::open(data, part, OFlags::PATH, resolve).map_err(failed)?;
        let directory = rustix::fs::fstat(&part).map_err(failed)?.st_mode;
        let directory =
            rustix::fs::FileType::from_raw_mode(directory) == rustix::fs::FileType::Directory;
        let own = self.run.join(user);
        disk::make_private(&own)?;
        let target = own.join(number.to_string());
        detach(&target);
        disk::erase(&target)?;
        match directory {
            true => disk::make(&target, 0o700)?,
            false => fs::write(&target, "").map_err(disk::failed("make", &target))?,
        }
        let clone = OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH;
        let tree = open_tree(&part, c"", clone).map_err(failed)?;
        attach(&tree, &target).map_err(disk::failed("mount", &target))?;
        Ok(target)
    }

    /// Somebody who runs has these volumes, as an earlier process made them ready.
    pub fn adopt<'n>(&self, user: &str, volumes: impl IntoIterator<Item = &'n str>) {
        for name in volumes {
            if let Ok(kept) = self.kept(name) {
                self.activate(&kept.meta.name, user);
            }
        }
    }

    /// Somebody does not run any more. Answers with the volumes that he had.
    pub fn unmount(&self, user: &str) -> Vec<VolumeName> {
        self.unbind_parts(user);
        let kept: Vec<Arc<Kept>> = {
            let inner = self.inner();
            let of_user = inner.active.iter().filter(|(_, users)| users.contains(user));
            of_user.filter_map(|(name, _)| inner.volumes.get(name).cloned()).collect()
        };
        for kept in &kept {
            let _ready = kept.ready();
            let mut inner = self.inner();
            let Some(users) = inner.active.get_mut(&kept.meta.name) else { continue };
            users.remove(user);
            let last = users.is_empty();
            inner.active.retain(|_, users| !users.is_empty());
            drop(inner);
            if last && matches!(kept.kind, Kind::Tmpfs(_)) {
                detach(&self.content(kept));
            }
        }
        kept.iter().map(|kept| kept.meta.name.clone()).collect()
    }

    /// Gives back what nobody who runs has: mounts that a killed process left. Called once all
    /// users are known.
    pub fn unmount_idle(&self) {
        let inner = self.inner();
        let active: Vec<&str> = inner.active.values().flatten().map(|user| &**user).collect();
        let listed = fs::read_dir(&self.run).into_iter().flatten().flatten();
        let idle: Vec<String> = listed
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| !name.starts_with('.') && !active.contains(&name.as_str()))
            .collect();
        let kept: Vec<_> = inner
            .volumes
            .values()
            .filter(|kept| matches!(kept.kind, Kind::Tmpfs(_)))
            .filter(|kept| !inner.active.contains_key(&kept.meta.name))
            .cloned()
            .collect();
        drop(inner);
        idle.iter().for_each(|user| self.unbind_parts(user));
        kept.iter().for_each(|kept| detach(&self.content(kept)));
    }

    fn unbind_parts(&self, user: &str) {
        let own = self.run.join(user);
        let listed = match fs::read_dir(&own) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            other => other.into_iter().flatten().flatten(),
        };
        for entry in listed {
            detach(&entry.path());
        }
        if let Err(error) = remove_empty(&own) {
            warn!(%error, path = %own.display(), "mount points of volumes are left");
        }
    }

    fn activate(&self, name: &VolumeName, user: &str) {
        self.inner().active.entry(name.clone()).or_default().insert(user.into());
    }
}

/// Removes a directory of empty files and directories: never what is in something mounted there.
fn remove_empty(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => fs::remove_dir(entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    fs::remove_dir(directory)
}

fn attach(mount: &OwnedFd, target: &Path) -> rustix::io::Result<()> {
    move_mount(mount, c"", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// Unmounts whatever is mounted at a path; nothing is not an error.
fn detach(path: &Path) {
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    match unmount(path, flags) {
        Ok(()) | Err(Errno::INVAL | Errno::NOENT) => {}
        Err(error) => warn!(%error, path = %path.display(), "a volume is still mounted"),
    }
}

/// Mounts a tmpfs for a volume, unless it has one.
fn attach_tmpfs(path: &Path, options: &TmpfsOptions) -> Result<(), VolumeError> {
    let failed = |error: Errno| disk::failed("mount a tmpfs on", path)(error);
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev).map_err(failed);
    debug_assert!(path.ends_with(DATA), "a tmpfs hides an empty directory");
    if device(path)? != device(path.parent().unwrap_or(path))? {
        return Ok(());
    }
    let make = || {
        let context = fsopen(c"tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, c"source", c"tmpfs")?;
        for (key, value) in &options.parameters {
            match value {
                Some(value) => fsconfig_set_string(&context, key.as_str(), value.as_str())?,
                None => fsconfig_set_flag(&context, key.as_str())?,
            }
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::from_bits_retain(options.attributes);
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
        attach(&mount, path)
    };
    make().map_err(failed)
}
