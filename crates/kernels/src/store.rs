//! Where kernels are kept: a directory each, named by the digest of what is in it.
//!
//! ```text
//! kernels/
//!   lock                whoever changes something holds it
//!   default             the digest of the kernel that is used unless another is named
//!   tmp.1f2e3d4c/       being made; whoever makes it holds a lock on it
//!   0a1b…/              sha256 of the list of its files
//!     manifest.json     see `manifest.rs`
//!     vmlinuz           as it came
//!     vmlinux           the executable in it, where that could be unpacked
//!     config            what it was configured with, if known
//!     modules/erofs.ko  unpacked
//! ```
//!
//! A kernel appears by a rename when all of it is on the disk, and disappears by one. One that is
//! not as its manifest says is shown as damaged and never used.

mod add;
mod error;
mod hold;
mod manifest;
mod staging;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use base::Digest;

pub(crate) use add::is_module;
pub use add::{Added, Draft};
pub use error::{Damage, StoreError};
pub use hold::Held;
pub use manifest::{FileEntry, Manifest, ModuleEntry, Source};
pub use staging::Staging;

use manifest::MANIFEST;

/// Most kernels of a store.
pub(crate) const KERNELS_MAX: usize = 1024;

const LOCK: &str = "lock";
const DEFAULT: &str = "default";

/// A store of kernels.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    /// Kernels whose digests were found to be right, and what their files looked like then.
    verified: Mutex<BTreeMap<Digest, Vec<hold::Stamp>>>,
}

/// A kernel that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What it is known by.
    pub digest: Digest,
    /// Where it is.
    pub directory: PathBuf,
    /// What is known of it.
    pub manifest: Manifest,
}

/// What is in the store under one digest.
#[derive(Debug)]
pub enum Entry {
    /// A kernel.
    Whole(Kernel),
    /// Something that is not used.
    Damaged {
        /// Its directory's name.
        name: String,
        /// What is wrong with it.
        damage: Damage,
    },
}

impl Kernel {
    /// The kernel as it came: a bzImage, or an executable.
    pub fn vmlinuz(&self) -> PathBuf {
        self.directory.join(manifest::VMLINUZ)
    }

    /// What to start: the executable where there is one, so that a guest need not unpack it.
    pub fn boot_file(&self) -> PathBuf {
        let unpacked = self.manifest.has(manifest::VMLINUX);
        self.directory.join(if unpacked { manifest::VMLINUX } else { manifest::VMLINUZ })
    }

    /// What it was configured with, if that is known.
    pub fn config(&self) -> Option<PathBuf> {
        let known = self.manifest.has(manifest::CONFIG);
        known.then(|| self.directory.join(manifest::CONFIG))
    }

    /// The modules that these need, and they themselves, in the order in which they load. What
    /// the kernel has built in or does not have is not among them.
    pub fn modules(&self, wanted: &[&str]) -> Vec<&ModuleEntry> {
        let mut needed = std::collections::BTreeSet::new();
        for module in self.manifest.modules.iter().rev() {
            if wanted.contains(&module.name.as_str()) || needed.contains(module.name.as_str()) {
                needed.insert(module.name.as_str());
                needed.extend(module.needs.iter().map(String::as_str));
            }
        }
        let all = self.manifest.modules.iter();
        all.filter(|module| needed.contains(module.name.as_str())).collect()
    }

    /// The file of a module.
    pub fn module_file(&self, module: &ModuleEntry) -> PathBuf {
        self.directory.join(&module.file)
    }

    /// Bytes on the disk.
    pub fn bytes(&self) -> u64 {
        self.manifest.files.iter().map(|file| file.bytes).sum()
    }
}

impl Store {
    /// The store in this directory, which need not be there yet.
    pub fn new(root: impl Into<PathBuf>) -> Store {
        Store { root: root.into(), verified: Mutex::default() }
    }

    /// Everything in it, the youngest first. Lengths are looked at, contents are not: see
    /// [`Store::verify`].
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let mut entries = Vec::new();
        let directory = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(entries),
            directory => directory.map_err(|source| self.io("read", source))?,
        };
        for found in directory {
            let found = found.map_err(|source| self.io("read", source))?;
            let Ok(name) = found.file_name().into_string() else { continue };
            let Ok(digest) = Digest::from_hex(&name) else { continue };
            if entries.len() == KERNELS_MAX {
                return Err(StoreError::TooMany);
            }
            entries.push(match Kernel::open(digest, found.path()) {
                Ok(kernel) => Entry::Whole(kernel),
                Err(damage) => Entry::Damaged { name, damage },
            });
        }
        entries.sort_by(|a, b| b.order().cmp(&a.order()));
        Ok(entries)
    }

    /// The kernels that can be used, the youngest first.
    ///
    /// # Errors
    /// As [`Store::list`].
    pub fn kernels(&self) -> Result<Vec<Kernel>, StoreError> {
        let whole = |entry| match entry {
            Entry::Whole(kernel) => Some(kernel),
            Entry::Damaged { .. } => None,
        };
        Ok(self.list()?.into_iter().filter_map(whole).collect())
    }

    /// The kernel of this name, release or beginning of a digest.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::Ambiguous`], [`StoreError::Damaged`].
    pub fn find(&self, name: &str) -> Result<Kernel, StoreError> {
        let entries = self.list()?;
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let by_digest = |text: &str| hex.len() >= DIGITS_MIN && text.starts_with(hex);
        let whole = entries.iter().filter_map(|entry| match entry {
            Entry::Whole(kernel) => Some(kernel),
            Entry::Damaged { .. } => None,
        });
        let whole: Vec<&Kernel> = whole.collect();
        let named = |it: &&&Kernel| it.manifest.name == name;
        let released = |it: &&&Kernel| it.manifest.release == name;
        let digested = |it: &&&Kernel| by_digest(&it.digest.hex());
        let tried: [&dyn Fn(&&&Kernel) -> bool; 3] = [&named, &released, &digested];
        for by in tried {
            let found: Vec<&&Kernel> = whole.iter().filter(|kernel| by(kernel)).collect();
            match found.as_slice() {
                [] => {}
                [kernel] => return Ok((**kernel).clone()),
                _ => return Err(StoreError::Ambiguous(name.to_owned())),
            }
        }
        for entry in entries {
            if let Entry::Damaged { name: digest, damage } = entry
                && by_digest(&digest)
            {
                return Err(StoreError::Damaged { name: digest, damage });
            }
        }
        Err(StoreError::NotFound(name.to_owned()))
    }

    /// The kernel that is used unless another is named, if there is any: the one that was chosen,
    /// else a minimal one, else Debian's, else the youngest.
    ///
    /// # Errors
    /// As [`Store::list`]; a chosen kernel that is damaged is an error and not passed over.
    pub fn default(&self) -> Result<Option<Kernel>, StoreError> {
        if let Some(chosen) = self.chosen()? {
            match self.find(&chosen.hex()) {
                Err(StoreError::NotFound(_)) => {}
                found => return found.map(Some),
            }
        }
        Ok(preferred(self.kernels()?))
    }

    /// The digest that was chosen.
    fn chosen(&self) -> Result<Option<Digest>, StoreError> {
        match fs::read_to_string(self.root.join(DEFAULT)) {
            Ok(text) => Ok(Digest::from_hex(text.trim()).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(self.io("read", source)),
        }
    }

    /// Uses this kernel unless another is named.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub fn set_default(&self, kernel: &Kernel) -> Result<(), StoreError> {
        let _lock = self.lock()?;
        let text = format!("{}\n", kernel.digest.hex());
        staging::write_whole(&self.root, DEFAULT, text.as_bytes())
            .map_err(|source| self.io("write to", source))
    }

    /// Reads all of a kernel and compares it with its manifest. Once it was right, that is not
    /// done again until a file changes.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn verify(&self, kernel: &Kernel) -> Result<(), StoreError> {
        let broken = |damage| StoreError::Damaged { name: kernel.digest.hex(), damage };
        let stamps = hold::stamps(kernel).map_err(broken)?;
        let known = |store: &Store| {
            let verified = store.verified.lock().unwrap_or_else(PoisonError::into_inner);
            verified.get(&kernel.digest) == Some(&stamps)
        };
        if known(self) {
            return Ok(());
        }
        hold::verify(kernel).map_err(broken)?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.insert(kernel.digest, stamps);
        Ok(())
    }

    /// Removes a kernel, whole or damaged, by its name, release or digest.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if somebody [holds](Kernel::hold) it, or as [`Store::find`].
    pub fn remove(&self, name: &str) -> Result<Digest, StoreError> {
        let _lock = self.lock()?;
        let (digest, directory) = match self.find(name) {
            Ok(kernel) => (kernel.digest, kernel.directory),
            Err(StoreError::Damaged { name: digest, damage }) => {
                let directory = self.root.join(&digest);
                match Digest::from_hex(&digest) {
                    Ok(digest) => (digest, directory),
                    Err(_) => return Err(StoreError::Damaged { name: digest, damage }),
                }
            }
            Err(error) => return Err(error),
        };
        let _held = hold::alone(&directory, name)?;
        let away = self.root.join(staging::temporary_name());
        fs::rename(&directory, &away).map_err(|source| self.io("remove a kernel from", source))?;
        if self.chosen()? == Some(digest) {
            fs::remove_file(self.root.join(DEFAULT))
                .map_err(|source| self.io("write to", source))?;
        }
        // What is left of it is taken away the next time.
        let _ = fs::remove_dir_all(&away);
        Ok(digest)
    }

    /// Held by whoever changes something.
    fn lock(&self) -> Result<File, StoreError> {
        let failed = |source| self.io("write to", source);
        fs::create_dir_all(&self.root).map_err(failed)?;
        let path = self.root.join(LOCK);
        let file = File::options().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(failed)?;
        file.lock().map_err(failed)?;
        Ok(file)
    }

    fn io(&self, doing: &'static str, source: io::Error) -> StoreError {
        StoreError::Io { doing, path: self.root.clone(), source }
    }
}

/// Fewest digits by which a kernel is found.
const DIGITS_MIN: usize = 4;

impl Entry {
    /// The younger is greater; damaged ones come last in a list.
    fn order(&self) -> (u64, &str) {
        match self {
            Entry::Whole(kernel) => (kernel.manifest.created.max(1), &kernel.manifest.name),
            Entry::Damaged { name, .. } => (0, name),
        }
    }
}

/// Of several, the one that suits most.
fn preferred(kernels: Vec<Kernel>) -> Option<Kernel> {
    let rank = |kernel: &Kernel| match kernel.manifest.source {
        Source::Built { .. } => 2,
        Source::Debian { .. } => 1,
        Source::Imported { .. } => 0,
    };
    // The first of the best: they come youngest first.
    kernels.into_iter().rev().max_by_key(rank)
}

impl Kernel {
    /// Reads what a directory says it is.
    fn open(digest: Digest, directory: PathBuf) -> Result<Kernel, Damage> {
        let manifest = Manifest::read(&directory.join(MANIFEST))?;
        let kernel = Kernel { digest, directory, manifest };
        if kernel.manifest.digest() != digest {
            return Err(Damage::Name);
        }
        for file in &kernel.manifest.files {
            file.check_length(&kernel.directory)?;
        }
        Ok(kernel)
    }
}

/// A file's parent on the disk, after something in it got another name.
fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
