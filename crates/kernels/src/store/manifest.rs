//! What a kernel's directory says of itself: `manifest.json`, version 1.
//!
//! ```json
//! { "version": 1,
//!   "name": "debian-6.1.0-56-cloud-amd64",
//!   "release": "6.1.0-56-cloud-amd64",
//!   "created": 1795305600,
//!   "source": { "kind": "debian", "package": "…", "version": "6.1.192-2", "mirror": "http://…" },
//!   "files": [ { "path": "vmlinuz", "bytes": 7340032, "digest": "sha256:…" }, … ],
//!   "modules": [ { "name": "virtio", "file": "modules/virtio.ko", "needs": [] }, … ] }
//! ```
//!
//! The kernel's digest is that of the lines `DIGEST  PATH` of its files, sorted by path: what it is
//! called, where it came from and when is no part of it.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Component, Path},
};

use base::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Damage;

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const VMLINUZ: &str = "vmlinuz";
pub(crate) const VMLINUX: &str = "vmlinux";
pub(crate) const CONFIG: &str = "config";
pub(crate) const MODULES: &str = "modules";

/// The version that is written.
const VERSION: u32 = 1;

/// Longest manifest.
const MANIFEST_BYTES_MAX: u64 = 4 << 20;

/// Most files of a kernel.
pub(crate) const FILES_MAX: usize = 4096;

/// What is known of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    /// What it is called.
    pub name: String,
    /// What `uname -r` says in it.
    pub release: String,
    /// When it came into the store, in seconds since 1970.
    pub created: u64,
    /// Where it is from.
    pub source: Source,
    /// Its files, sorted by path.
    pub files: Vec<FileEntry>,
    /// Its modules, in an order in which each can be loaded.
    pub modules: Vec<ModuleEntry>,
}

/// Where a kernel is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Source {
    /// A package of Debian's.
    Debian {
        /// Its name.
        package: String,
        /// Its version.
        version: String,
        /// Where it was fetched.
        mirror: String,
    },
    /// Compiled here, with the configuration of the minimal kernel.
    Built {
        /// What from: a package and its version, or a directory.
        from: String,
    },
    /// A file of the user's.
    Imported {
        /// The file.
        file: String,
    },
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its path within the kernel's directory.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Of its content.
    pub digest: Digest,
}

/// One module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModuleEntry {
    /// Its name, with `_` for `-`.
    pub name: String,
    /// Its path within the kernel's directory.
    pub file: String,
    /// The modules that must be loaded before it; all of them stand before it in the list.
    pub needs: Vec<String>,
}

/// What tells a version before anything else is understood.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Manifest {
    /// A manifest of the current version.
    pub(crate) fn new(name: String, release: String, created: u64, source: Source) -> Manifest {
        let (files, modules) = (Vec::new(), Vec::new());
        Manifest { version: VERSION, name, release, created, source, files, modules }
    }

    /// Whether a kernel has this file.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    /// The kernel's digest.
    pub(crate) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update(format!("{}  {}\n", file.digest.hex(), file.path));
        }
        Digest::from_sha256(hash.finalize().into())
    }

    /// The text of a manifest.
    pub(crate) fn text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.expect("a manifest has text keys and nothing that JSON lacks") + "\n"
    }

    /// Reads a manifest's file.
    pub(crate) fn read(path: &Path) -> Result<Manifest, Damage> {
        let failed = |source| Damage::Read { file: MANIFEST.to_owned(), source };
        let mut text = String::new();
        let file = File::open(path).map_err(failed)?;
        file.take(MANIFEST_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
        Manifest::parse(&text)
    }

    /// Reads a manifest.
    pub(crate) fn parse(text: &str) -> Result<Manifest, Damage> {
        let strange = |why: String| Damage::Manifest(why);
        let wrong = |error: serde_json::Error| strange(error.to_string());
        if text.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(strange(format!("it is longer than {MANIFEST_BYTES_MAX} bytes")));
        }
        let Versioned { version } = serde_json::from_str(text).map_err(wrong)?;
        if version != VERSION {
            return Err(Damage::Version(version));
        }
        let manifest: Manifest = serde_json::from_str(text).map_err(wrong)?;
        if manifest.files.len() > FILES_MAX {
            return Err(strange(format!("it has more than {FILES_MAX} files")));
        }
        if !manifest.has(VMLINUZ) {
            return Err(strange(format!("it has no {VMLINUZ}")));
        }
        if !manifest.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(strange("its files are not sorted".to_owned()));
        }
        if let Some(file) = manifest.files.iter().find(|file| !is_inside(&file.path)) {
            return Err(strange(format!("{:?} is no path within it", file.path)));
        }
        if let Some(module) = manifest.modules.iter().find(|it| !manifest.has(&it.file)) {
            return Err(strange(format!("module {} has no file", module.name)));
        }
        Ok(manifest)
    }
}

/// Whether a path stays below where it begins.
fn is_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

impl FileEntry {
    /// Reads a file and says what it is.
    pub(crate) fn of(directory: &Path, path: &str) -> std::io::Result<FileEntry> {
        let mut file = File::open(directory.join(path))?;
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 128 << 10];
        let mut bytes = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(buffer.get(..count).unwrap_or_default());
            bytes += count as u64;
        }
        let digest = Digest::from_sha256(hash.finalize().into());
        Ok(FileEntry { path: path.to_owned(), bytes, digest })
    }

    /// Whether the file is there and as long as it was.
    pub(crate) fn check_length(&self, directory: &Path) -> Result<(), Damage> {
        let failed = |source| Damage::Read { file: self.path.clone(), source };
        let found = fs::symlink_metadata(directory.join(&self.path)).map_err(failed)?;
        if !found.is_file() {
            return Err(failed(std::io::Error::other("it is no file")));
        }
        if found.len() != self.bytes {
            let (file, wanted) = (self.path.clone(), self.bytes);
            return Err(Damage::Length { file, found: found.len(), wanted });
        }
        Ok(())
    }
}
