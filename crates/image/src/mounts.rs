//! Layers as directories: each mounted once, shared by all who use it.
//!
//! ```text
//! mount(owner) ──▶ in use ──last owner released──▶ idle ──too many idle, or collected──▶ gone
//!                    ▲                               │
//!                    └───────────mount(owner)────────┘
//! ```
//!
//! Which layers are mounted stands in the kernel's mount table, so a new daemon finds what the
//! old one had mounted; who owns them it is told by mounting them again for their owners.

mod attach;
mod error;
mod mountinfo;
mod probe;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs, io,
    os::{fd::OwnedFd, unix::fs::DirBuilderExt},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use base::Digest;

pub use error::MountError;
pub(crate) use mountinfo::{detach_all, sources};
pub(crate) use probe::probe;

/// Layers without an owner that stay mounted, so that the next container starts faster.
const IDLE_MAX: usize = 64;

/// How layers are kept and mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One EROFS file per layer.
    Erofs(Attach),
    /// One directory per layer, for hosts without EROFS. Nothing is mounted.
    Directory(Marks),
}

/// Who may read and write overlayfs's marks in a layer's directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marks {
    /// Root of the host: `trusted.overlay.*`.
    Trusted,
    /// Anybody: `user.overlay.*`, for overlays mounted with `userxattr` (Linux 5.11). So it is in
    /// a user namespace, where nobody makes device nodes and nothing belongs to ids that it does
    /// not know: an empty file stands for the first, and root owns what would be the others'.
    User,
}

/// How an EROFS file becomes a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attach {
    /// The file is mounted. Linux 6.12, `CONFIG_EROFS_FS_BACKED_BY_FILE`.
    File,
    /// A loop device of the file is mounted.
    Loop,
}

/// The mounted layers.
#[derive(Debug)]
pub(crate) struct Mounts {
    dir: PathBuf,
    form: Form,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Mounted layers with their owners.
    layers: BTreeMap<Digest, BTreeSet<Box<str>>>,
    /// Those without an owner, longest idle first.
    idle: VecDeque<Digest>,
}

impl Mounts {
    /// Takes over what is mounted below `dir`.
    pub(crate) fn open(dir: PathBuf, form: Form) -> Result<Mounts, MountError> {
        let given = dir.clone();
        let failed = |source| MountError::Disk { path: given.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        let mut inner = Inner::default();
        for target in mountinfo::below(&dir).map_err(failed)? {
            let name = target.file_name().and_then(|name| name.to_str());
            match name.map(Digest::from_hex) {
                Some(Ok(layer)) if matches!(form, Form::Erofs(_)) => {
                    if inner.layers.insert(layer, BTreeSet::new()).is_none() {
                        inner.idle.push_back(layer);
                    }
                }
                // Not ours, or of a form that is not used any more.
                _ => detach(&target),
            }
        }
        tidy(&dir, &inner).map_err(failed)?;
        Ok(Mounts { dir, form, inner: Mutex::new(inner) })
    }

    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Directories of the layers, top first. `file` says where a layer is kept.
    pub(crate) fn mount(
        &self,
        owner: &str,
        layers: &[Digest],
        file: &dyn Fn(&Digest) -> PathBuf,
    ) -> Result<Vec<PathBuf>, MountError> {
        let stack = stack(layers);
        if stack.is_empty() {
            // The only layer of an image that has none.
            return self.empty("nothing").map(|dir| vec![dir]);
        }
        let mut inner = self.inner();
        let mut added = Vec::new();
        for layer in &stack {
            if let Err(error) = self.mount_one(&mut inner, owner, layer, file, &mut added) {
                for layer in added {
                    inner.disown(&layer, owner);
                }
                self.trim_inner(&mut inner, IDLE_MAX);
                return Err(error);
            }
        }
        Ok(stack.iter().map(|layer| self.directory(layer, file)).collect())
    }

    fn mount_one(
        &self,
        inner: &mut Inner,
        owner: &str,
        layer: &Digest,
        file: &dyn Fn(&Digest) -> PathBuf,
        added: &mut Vec<Digest>,
    ) -> Result<(), MountError> {
        if !inner.layers.contains_key(layer) {
            if let Form::Erofs(how) = self.form {
                let (source, target) = (file(layer), self.target(layer));
                attach::attach(how, &source, &target).map_err(|source| MountError::Mount {
                    layer: *layer,
                    how,
                    source,
                })?;
            }
            inner.layers.insert(*layer, BTreeSet::new());
        }
        inner.idle.retain(|idle| idle != layer);
        let owners = inner.layers.entry(*layer).or_default();
        if owners.insert(owner.into()) {
            added.push(*layer);
        }
        Ok(())
    }

    /// An overlay of these directories, top first, that is mounted nowhere. Mount tables name it
    /// `source`.
    pub(crate) fn overlay(
        &self,
        directories: &[PathBuf],
        source: &str,
    ) -> Result<OwnedFd, MountError> {
        let mut lower = directories.to_vec();
        if lower.len() == 1 {
            // overlayfs takes no less than two where nothing can be written.
            lower.push(self.empty("nothing-below")?);
        }
        let layers = lower.len();
        attach::overlay(&lower, source).map_err(|source| MountError::Overlay { layers, source })
    }

    /// Lets go of all that an owner has.
    pub(crate) fn release(&self, owner: &str) {
        let mut inner = self.inner();
        let of_owner = inner.layers.iter().filter(|(_, owners)| owners.contains(owner));
        let layers: Vec<_> = of_owner.map(|(layer, _)| *layer).collect();
        for layer in layers {
            inner.disown(&layer, owner);
        }
        self.trim_inner(&mut inner, IDLE_MAX);
    }

    /// Unmounts layers without an owner, but for so many.
    pub(crate) fn trim(&self, idle_max: usize) {
        self.trim_inner(&mut self.inner(), idle_max);
    }

    /// Unmounts a layer that has no owner and is about to be deleted.
    pub(crate) fn forget(&self, layer: &Digest) {
        let mut inner = self.inner();
        if inner.idle.contains(layer) {
            inner.idle.retain(|idle| idle != layer);
            self.unmount(&mut inner, layer);
        }
    }

    /// Layers that have an owner.
    pub(crate) fn owned(&self) -> Vec<Digest> {
        let inner = self.inner();
        let owned = inner.layers.iter().filter(|(_, owners)| !owners.is_empty());
        owned.map(|(layer, _)| *layer).collect()
    }

    /// Layers that are mounted.
    pub(crate) fn mounted(&self) -> Vec<Digest> {
        match self.form {
            Form::Erofs(_) => self.inner().layers.keys().copied().collect(),
            Form::Directory(_) => Vec::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // What is mounted is noted after it was mounted, and before it is unmounted.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trim_inner(&self, inner: &mut Inner, idle_max: usize) {
        while inner.idle.len() > idle_max {
            let Some(layer) = inner.idle.pop_front() else { return };
            self.unmount(inner, &layer);
        }
    }

    fn unmount(&self, inner: &mut Inner, layer: &Digest) {
        inner.layers.remove(layer);
        if let Form::Erofs(_) = self.form {
            detach(&self.target(layer));
        }
    }

    fn target(&self, layer: &Digest) -> PathBuf {
        self.dir.join(layer.hex())
    }

    fn directory(&self, layer: &Digest, file: &dyn Fn(&Digest) -> PathBuf) -> PathBuf {
        match self.form {
            Form::Erofs(_) => self.target(layer),
            Form::Directory(_) => file(layer),
        }
    }

    /// An empty directory.
    fn empty(&self, name: &str) -> Result<PathBuf, MountError> {
        let dir = self.dir.join(name);
        match fs::create_dir(&dir) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(MountError::Disk { path: dir, source })
            }
            _ => Ok(dir),
        }
    }
}

impl Inner {
    fn disown(&mut self, layer: &Digest, owner: &str) {
        let Some(owners) = self.layers.get_mut(layer) else { return };
        if owners.remove(owner) && owners.is_empty() {
            self.idle.push_back(*layer);
        }
    }
}

/// Layers from top to bottom, each once. overlayfs refuses the same directory twice, and what a
/// layer does a second time hides all it did the first time.
fn stack(layers: &[Digest]) -> Vec<Digest> {
    let mut seen = BTreeSet::new();
    layers.iter().rev().filter(|layer| seen.insert(**layer)).copied().collect()
}

/// Removes mount points that a kill left without their mount. One that is not empty is not ours.
fn tidy(dir: &Path, inner: &Inner) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let layer = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
        if layer.is_some_and(|layer| !inner.layers.contains_key(&layer)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
    Ok(())
}

fn detach(target: &Path) {
    if let Err(error) = attach::detach(target) {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(target = %target.display(), error, "a layer could not be unmounted");
    }
}
