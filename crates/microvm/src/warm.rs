//! Machines that were booted once and are taken up from where their agent was ready.
//!
//! ```text
//! boot ──▶ <key> ──taken up, layers mounted, rehearsed──▶ <key>-<layers> ──taken up──▶ a container's machine
//!
//! <directory>/<name>/        a snapshot, the disk that it has mounted, and what a processor in
//!                            software has decoded; an empty one could not be made a while ago
//! <directory>/<name>.lock    held by whoever makes it
//! <directory>/<name>.part    not yet one
//! ```
//!
//! A booted template has no layers, no cable and nothing of the host's: places for them, which are
//! filled when it is taken up. Kernel, agent and shape make its key. What every machine does anyway it
//! has done: names are answered, and an empty disk for changes is mounted, which each one gets a copy
//! of. From it the templates of images are made, which have mounted the image's layers, and started a
//! container once.

mod rehearsal;

use std::{
    fmt::Write as _,
    fs::{self, File, Permissions, TryLockError},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::fs::{MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base::Deadline;
pub(crate) use rehearsal::First;
use rustix::fs::{Mode, OFlags, open, openat};
use shim::protocol::Chore;
use vm::snapshot::Files;
use workload::DriverError;

use crate::{
    changes,
    control::{Boot, Order},
    driver::{Kernel, VmConfig},
    furniture::FIRST,
    initramfs,
    link::Link,
    sandbox::chores_done,
    translate,
};

/// Templates that are kept; those that nobody used for the longest time go.
const KEPT: usize = 12;

/// Between two looks whether somebody else has made it.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long no template is tried for an image of which one could not be made.
const TRY_AGAIN: Duration = Duration::from_mins(10);

/// The file by which a directory is a snapshot.
const MANIFEST: &str = "machine.json";

/// The disk that it has mounted, as it was then.
const DISK: &str = "disk";

/// What a processor in software had decoded of its memory.
pub(crate) const CODE: &str = "code";

/// A machine that was booted once.
#[derive(Debug)]
pub(crate) struct Template {
    path: PathBuf,
    pub(crate) directory: OwnedFd,
    /// It has the disks mounted whose numbers are below this.
    pub(crate) mounted: u64,
}

/// What templates are made with.
struct Maker<'a> {
    directory: &'a Path,
    config: &'a VmConfig,
    kernel: &'a Kernel,
    boot: &'a Boot,
    by: Deadline,
}

/// What a template is made of.
#[derive(Clone, Copy)]
enum Origin<'a> {
    /// The kernel, which boots.
    Kernel,
    /// A booted one, for the layers of this container.
    Booted(&'a Template, First<'a>),
}

impl Origin<'_> {
    /// See [`Template::mounted`].
    fn mounted(&self) -> u64 {
        match self {
            Origin::Kernel => 1,
            Origin::Booted(_, first) => first.mounted(),
        }
    }
}

impl Template {
    /// Makes a disk as the machine has it mounted, where there is none yet; whether it did.
    pub(crate) fn disk(&self, at: &Path) -> Result<bool, DriverError> {
        let missing = !at.exists();
        if missing {
            changes::copy(&self.path.join(DISK), at)?;
        }
        Ok(missing)
    }
}

/// The template for this machine and its first container; it is made where it is missing. Where none
/// can be made for the container's layers, it is the one that was booted.
pub(crate) async fn template(
    directory: &Path,
    config: &VmConfig,
    kernel: &Kernel,
    boot: &Boot,
    first: First<'_>,
    by: Deadline,
) -> Result<Template, DriverError> {
    let maker = Maker { directory, config, kernel, boot, by };
    let key = key(kernel, boot);
    let furnished = furnished_key(&key, first.layers)
        .map_err(|error| DriverError::step("look at an image's layers", &error))?;
    let at = directory.join(&furnished);
    if let Some(found) = opened(&at, first.mounted()) {
        // The one that it was made of is used with it: it is wanted for the next image.
        let _ = opened(&directory.join(&key), Origin::Kernel.mounted());
        return Ok(found);
    }
    let booted = maker.get(&key, Origin::Kernel).await?;
    if tried_lately(&at) {
        return Ok(booted);
    }
    match maker.get(&furnished, Origin::Booted(&booted, first)).await {
        Ok(found) => Ok(found),
        Err(error) => {
            // It is as good a machine, and slower. An empty directory says that it was tried.
            tracing::warn!(%error, "machines of an image begin without its layers");
            let _ = fs::create_dir(&at);
            let _ = File::open(&at).and_then(|at| at.set_modified(SystemTime::now()));
            Ok(booted)
        }
    }
}

/// Whether a template could not be made a moment ago.
fn tried_lately(at: &Path) -> bool {
    let tried = fs::metadata(at).and_then(|is| is.modified()).ok();
    let since = tried.and_then(|tried| tried.elapsed().ok());
    since.is_some_and(|since| since < TRY_AGAIN) && !at.join(MANIFEST).is_file()
}

impl Maker<'_> {
    /// The template of a name, which is made where it is missing.
    async fn get(&self, name: &str, origin: Origin<'_>) -> Result<Template, DriverError> {
        let at = self.directory.join(name);
        let failed = |error: io::Error| DriverError::step("keep a booted machine", &error);
        if let Some(found) = opened(&at, origin.mounted()) {
            return Ok(found);
        }
        fs::create_dir_all(self.directory).map_err(failed)?;
        let lock = File::create(self.directory.join(format!("{name}.lock"))).map_err(failed)?;
        while let Err(error) = lock.try_lock() {
            match error {
                TryLockError::WouldBlock if !self.by.passed() => {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                TryLockError::WouldBlock => {
                    let doing = "waiting for another machine to boot".to_owned();
                    return Err(DriverError::DeadlinePassed { doing });
                }
                TryLockError::Error(error) => return Err(failed(error)),
            }
        }
        if let Some(found) = opened(&at, origin.mounted()) {
            return Ok(found);
        }
        let part = self.directory.join(format!("{name}.part"));
        let made = self.make(&part, origin).await;
        let made = made.and_then(|()| fs::rename(&part, &at).map_err(failed));
        if made.is_err() {
            // Nobody else has a use for it.
            let _ = fs::remove_dir_all(&part);
        }
        made?;
        clear(self.directory, name);
        opened(&at, origin.mounted()).ok_or_else(|| failed(io::ErrorKind::NotFound.into()))
    }

    async fn make(&self, part: &Path, origin: Origin<'_>) -> Result<(), DriverError> {
        let failed = |error: io::Error| DriverError::step("keep a booted machine", &error);
        match fs::remove_dir_all(part) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            Ok(()) | Err(_) => {}
        }
        fs::create_dir(part).map_err(failed)?;
        // Its memory has what the host's random numbers made of it.
        fs::set_permissions(part, Permissions::from_mode(0o700)).map_err(failed)?;
        // In no group of its own: what it is to run is ours, and it is not to wait for a limit that
        // somebody else was given.
        let link = Link::start(self.config, None, None)?;
        match origin {
            Origin::Kernel => self.boot(&link, part).await?,
            Origin::Booted(booted, first) => {
                let by = Deadline::after(rehearsal::WITHIN).min(self.by);
                rehearsal::rehearse(&link, part, booted, self.boot, first, by).await?;
            }
        }
        link.kill().await?;
        settle(part).map_err(failed)
    }

    /// Boots a machine, and saves it when its agent is ready.
    async fn boot(&self, link: &Link, part: &Path) -> Result<(), DriverError> {
        let failed = |error: io::Error| DriverError::step("keep a booted machine", &error);
        let disk = part.join(DISK);
        changes::make(&disk)?;
        let disk = File::options().read(true).write(true).open(&disk).map_err(failed)?;
        let bytes = disk.metadata().map_err(failed)?.len();
        let order = Order::Disk { place: 0, serial: FIRST.serial(), read_only: false };
        link.order(&order, &[disk.as_fd()]).await?;
        switch_on(link, self.kernel, self.boot).await?;
        link.ready(self.by).await?;
        let agent = link.agent(self.by).await?;
        let chores = translate::mount_disk(&FIRST, bytes).into_iter().chain([Chore::Names]);
        chores_done(&agent, chores.collect(), self.by).await?;
        drop(agent);
        link.save(part, None).await
    }
}

/// A template that is there. That it was used is noted on it.
fn opened(at: &Path, mounted: u64) -> Option<Template> {
    if !at.join(MANIFEST).is_file() {
        return None;
    }
    let directory = open(at, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // Only for the order in which they go.
    let _ = File::from(directory.try_clone().ok()?).set_modified(SystemTime::now());
    Some(Template { path: at.to_owned(), directory, mounted })
}

/// Has everything on the disk before it gets its name: one that a power cut tore would be taken up
/// by every machine from then on.
fn settle(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(directory)?.sync_all()
}

/// Boots a machine with what was handed over to it.
pub(crate) async fn switch_on(
    link: &Link,
    kernel: &Kernel,
    boot: &Boot,
) -> Result<(), DriverError> {
    let initramfs = initramfs::file(&kernel.modules)
        .map_err(|error| DriverError::step("make the first file system", &error))?;
    let console = link.console.listen();
    let console = console.map_err(|error| DriverError::step("listen to a console", &error))?;
    let fds = [link.ground(), kernel.image.as_fd(), initramfs.as_fd(), console.as_fd()];
    link.order(&Order::Boot(Box::new(boot.clone())), &fds).await
}

/// Takes up a machine that was saved in this directory, with what was handed over to it.
pub(crate) async fn take_up(
    link: &Link,
    directory: &OwnedFd,
    boot: &Boot,
) -> Result<(), DriverError> {
    let console = link.console.listen();
    let console = console.map_err(|error| DriverError::step("listen to a console", &error))?;
    let files = Files::open(directory);
    let files = files
        .map_err(|error| DriverError::step("read a saved machine", &io::Error::other(error)))?;
    // Of a processor of the host's there is nothing.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if let Ok(code) = openat(directory, CODE, flags, Mode::empty()) {
        link.order(&Order::Code, &[code.as_fd()]).await?;
    }
    let fds = [link.ground(), files.memory.as_fd(), files.description.as_fd(), console.as_fd()];
    link.order(&Order::Restore(Box::new(boot.clone())), &fds).await
}

/// Names everything on which it depends what a booted machine is like.
fn key(kernel: &Kernel, boot: &Boot) -> String {
    let mut hasher = DefaultHasher::new();
    (&kernel.identity, boot, env!("AGENT_ID"), vm::snapshot::VERSION).hash(&mut hasher);
    let mut key = String::new();
    // Writing to a string does not fail.
    let _ = write!(key, "{:016x}", hasher.finish());
    key
}

/// The same for one that has these layers, which are those files and as they are now.
fn furnished_key(booted: &str, layers: &[PathBuf]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    for layer in layers {
        let is = fs::metadata(layer)?;
        (layer, is.dev(), is.ino(), is.len(), is.mtime(), is.mtime_nsec()).hash(&mut hasher);
    }
    Ok(format!("{booted}-{:016x}", hasher.finish()))
}

/// Removes those that were not used for the longest time, and what was left half made.
fn clear(directory: &Path, but: &str) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    let is_part = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "part");
    for part in paths.iter().filter(is_part) {
        // Whoever makes it holds its lock.
        let lock = File::open(part.with_extension("lock"));
        if lock.is_ok_and(|lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(part);
        }
    }
    let mut templates: Vec<(SystemTime, PathBuf)> = paths
        .into_iter()
        .filter(|path| path.is_dir() && path.extension().is_none() && !path.ends_with(but))
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    templates.sort();
    for (_, path) in templates.iter().rev().skip(KEPT - 1) {
        // Whoever runs from it has its memory mapped.
        if let Err(error) = fs::remove_dir_all(path) {
            tracing::warn!(path = %path.display(), %error, "a booted machine stays");
        }
        let _ = fs::remove_file(path.with_extension("lock"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_made_is_not_tried_at_once_again() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("image");
        assert!(!tried_lately(&at), "nobody has tried");
        fs::create_dir(&at).unwrap();
        assert!(tried_lately(&at));
        let long_ago = SystemTime::now() - TRY_AGAIN;
        File::open(&at).unwrap().set_modified(long_ago).unwrap();
        assert!(!tried_lately(&at));
        fs::write(at.join(MANIFEST), "").unwrap();
        assert!(!tried_lately(&at), "it could be made");
    }

    #[test]
    fn a_template_is_of_these_layers_as_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let layers = ["one", "two"].map(|name| dir.path().join(name));
        layers.iter().for_each(|layer| fs::write(layer, "layer").unwrap());
        let key = |layers: &[PathBuf]| furnished_key("key", layers).unwrap();
        let both = key(&layers);
        assert_eq!(key(&layers), both);
        assert_ne!(key(&layers[..1]), both);
        // The same path is another layer.
        fs::remove_file(&layers[1]).unwrap();
        fs::write(&layers[1], "other").unwrap();
        File::options()
            .write(true)
            .open(&layers[1])
            .unwrap()
            .set_modified(SystemTime::UNIX_EPOCH)
            .unwrap();
        assert_ne!(key(&layers), both);
        assert!(furnished_key("key", &[dir.path().join("none")]).is_err());
    }

    #[test]
    fn only_the_last_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let make = |n: usize| {
            let path = dir.path().join(n.to_string());
            fs::create_dir(&path).unwrap();
            fs::write(path.join(MANIFEST), "").unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(n as u64);
            File::open(&path).unwrap().set_modified(at).unwrap();
        };
        (0..KEPT + 3).for_each(make);
        // One that somebody makes, and one that nobody makes any more.
        let half = |name: &str| {
            fs::create_dir(dir.path().join(name).with_extension("part")).unwrap();
            File::create(dir.path().join(name).with_extension("lock")).unwrap()
        };
        let made = half("made");
        made.try_lock().unwrap();
        drop(half("left"));
        // One that is used becomes the newest.
        assert!(opened(&dir.path().join("0"), 1).is_some());
        clear(dir.path(), "1");
        let names = fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name());
        let mut left: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        left.retain(|name| !name.ends_with(".lock"));
        left.sort();
        let mut want: Vec<String> = vec!["0".into(), "1".into(), "made.part".into()];
        want.extend((5..KEPT + 3).map(|n| n.to_string()));
        want.sort();
        assert_eq!(left, want);
    }
}
