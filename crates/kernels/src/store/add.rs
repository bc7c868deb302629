//! A kernel file and modules become a kernel of the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
};

use super::{
    Kernel, Manifest, ModuleEntry, Source, Staging, Store, StoreError,
    manifest::{CONFIG, FILES_MAX, FileEntry, MANIFEST, MODULES, VMLINUX, VMLINUZ},
    staging, sync_directory,
};
use crate::{
    compressed,
    image::{Image, KERNEL_BYTES_MAX},
    modules::{self, MODULE_BYTES_MAX, ModuleInfo, WANTED},
    names,
};

/// Most modules that are looked at, and deepest directory of them.
const MODULES_MAX: usize = 20_000;
const DEPTH_MAX: usize = 16;

/// Longest configuration. Debian's has 200 KB.
const CONFIG_BYTES_MAX: u64 = 4 << 20;

/// What a kernel is to be made from.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The kernel's file.
    pub vmlinuz: PathBuf,
    /// What it was configured with.
    pub config: Option<PathBuf>,
    /// A directory with modules, at any depth, and with `modules.builtin` if there is one.
    pub modules: Option<PathBuf>,
    /// What it is to be called; else its source and its release.
    pub name: Option<String>,
    /// Where it is from.
    pub source: Source,
    /// Now, in seconds since 1970.
    pub created: u64,
}

/// What was added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    /// The kernel.
    pub kernel: Kernel,
    /// Whether it is new: the same kernel may have been there.
    pub new: bool,
    /// What a guest makes use of and this kernel may not have: no module of that name, and nobody
    /// says that it is built in.
    pub missing: Vec<String>,
}

impl Store {
    /// Adds a kernel. All of it is there, or nothing. Files of the draft may lie in the staging
    /// directory, and then are moved rather than copied.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn add(&self, staging: Staging, draft: &Draft) -> Result<Added, StoreError> {
        let parts = staging.path().join("kernel");
        let failed = |source| self.io("write to", source);
        fs::create_dir(&parts).map_err(failed)?;
        let place = Place { directory: &parts, staging: staging.path() };
        let image = place.kernel(&draft.vmlinuz)?;
        let name = match &draft.name {
            Some(name) => name.clone(),
            None => format!("{}-{}", draft.source.word(), image.release),
        };
        names::check(&name)?;
        if let Some(config) = &draft.config {
            place.copy(config, CONFIG, CONFIG_BYTES_MAX).map_err(|source| StoreError::Io {
                doing: "copy",
                path: config.clone(),
                source,
            })?;
        }
        let found = match &draft.modules {
            Some(directory) => place.modules(directory, &image.release)?,
            None => Modules::default(),
        };
        let mut manifest = Manifest::new(name, image.release, draft.created, draft.source.clone());
        manifest.files = files(&parts).map_err(failed)?;
        manifest.modules = found.entries;
        let (kernel, new) = self.publish(&parts, manifest)?;
        Ok(Added { kernel, new, missing: found.missing })
    }

    /// Gives what was put together its place.
    fn publish(&self, parts: &Path, manifest: Manifest) -> Result<(Kernel, bool), StoreError> {
        let failed = |source| self.io("write to", source);
        staging::write_whole(parts, MANIFEST, manifest.text().as_bytes()).map_err(failed)?;
        let _lock = self.lock()?;
        self.release_name(&manifest)?;
        let digest = manifest.digest();
        let directory = self.root.join(digest.hex());
        let known = Kernel::open(digest, directory.clone());
        let new = match known {
            // The same files: only what is said of them may differ.
            Ok(known) if self.verify(&known).is_ok() => {
                staging::write_whole(&directory, MANIFEST, manifest.text().as_bytes())
                    .map_err(failed)?;
                false
            }
            _ => {
                let damaged = self.root.join(staging::temporary_name());
                if directory.exists() {
                    fs::rename(&directory, &damaged).map_err(failed)?;
                }
                fs::rename(parts, &directory).map_err(failed)?;
                sync_directory(&self.root).map_err(failed)?;
                let _ = fs::remove_dir_all(&damaged);
                true
            }
        };
        Ok((Kernel { digest, directory, manifest }, new))
    }

    /// Gives a kernel another name.
    ///
    /// # Errors
    /// [`StoreError::Name`], [`StoreError::Io`].
    pub fn rename(&self, kernel: &Kernel, name: &str) -> Result<Kernel, StoreError> {
        names::check(name)?;
        let mut kernel = kernel.clone();
        name.clone_into(&mut kernel.manifest.name);
        let _lock = self.lock()?;
        self.release_name(&kernel.manifest)?;
        let text = kernel.manifest.text();
        staging::write_whole(&kernel.directory, MANIFEST, text.as_bytes())
            .map_err(|source| self.io("write to", source))?;
        Ok(kernel)
    }

    /// Whoever else has the new kernel's name is called by its digest from then on.
    fn release_name(&self, manifest: &Manifest) -> Result<(), StoreError> {
        let digest = manifest.digest();
        for mut other in self.kernels()? {
            if other.manifest.name == manifest.name && other.digest != digest {
                let hex = other.digest.hex();
                other.manifest.name = hex.get(..12).unwrap_or(&hex).to_owned();
                let text = other.manifest.text();
                staging::write_whole(&other.directory, MANIFEST, text.as_bytes())
                    .map_err(|source| self.io("write to", source))?;
            }
        }
        Ok(())
    }
}

impl Source {
    /// What kernels of this source are called after.
    fn word(&self) -> &'static str {
        match self {
            Source::Debian { .. } => "debian",
            Source::Built { .. } => "minimal",
            Source::Imported { .. } => "imported",
        }
    }
}

/// Modules that were taken.
#[derive(Debug, Default)]
struct Modules {
    entries: Vec<ModuleEntry>,
    missing: Vec<String>,
}

/// A kernel being put together.
struct Place<'a> {
    directory: &'a Path,
    staging: &'a Path,
}

impl Place<'_> {
    /// Takes a kernel's file and unpacks it.
    fn kernel(&self, file: &Path) -> Result<Image, StoreError> {
        let failed = |source| StoreError::Io { doing: "copy", path: file.to_owned(), source };
        self.copy(file, VMLINUZ, KERNEL_BYTES_MAX).map_err(failed)?;
        let bytes = fs::read(self.directory.join(VMLINUZ)).map_err(failed)?;
        let image = Image::parse(&bytes).map_err(|source| {
            let file = file.file_name().unwrap_or(file.as_os_str());
            StoreError::Image { file: file.to_string_lossy().into_owned(), source }
        })?;
        if let Some(vmlinux) = &image.vmlinux {
            write(&self.directory.join(VMLINUX), vmlinux).map_err(failed)?;
        }
        Ok(image)
    }

    /// Copies a file, or moves it if it is ours.
    fn copy(&self, from: &Path, name: &str, most: u64) -> io::Result<()> {
        let to = self.directory.join(name);
        let source = File::open(from)?;
        if source.metadata()?.len() > most {
            return Err(too_long(most));
        }
        if from.starts_with(self.staging) {
            source.sync_all()?;
            return fs::rename(from, to);
        }
        let mut file = File::create_new(to)?;
        if io::copy(&mut source.take(most + 1), &mut file)? > most {
            return Err(too_long(most));
        }
        file.sync_all()
    }

    /// Takes those modules that a guest needs.
    fn modules(&self, directory: &Path, release: &str) -> Result<Modules, StoreError> {
        let failed = |source| StoreError::Io { doing: "read", path: directory.to_owned(), source };
        let tree = find(directory)?;
        let mut all = BTreeMap::new();
        let mut paths = BTreeMap::new();
        for path in tree.modules {
            let module = read_module(&path).map_err(failed)?;
            let Some(info) = ModuleInfo::parse(&module) else { continue };
            if info.release != release {
                let (module, found) = (info.name, info.release);
                return Err(StoreError::OtherRelease { module, found, wanted: release.to_owned() });
            }
            paths.insert(info.name.clone(), path);
            all.insert(info.name.clone(), info);
        }
        let (order, absent) = modules::select(&all, &tree.built_in, WANTED);
        if let Some(absent) = absent.first() {
            let why = format!("module {absent} is missing, which others need");
            return Err(StoreError::Modules(why));
        }
        fs::create_dir(self.directory.join(MODULES)).map_err(failed)?;
        let mut entries = Vec::new();
        for name in order {
            let (Some(info), Some(path)) = (all.get(&name), paths.get(&name)) else { continue };
            let file = format!("{MODULES}/{name}.ko");
            let module = read_module(path).map_err(failed)?;
            write(&self.directory.join(&file), &module).map_err(failed)?;
            let needs = info.needs.iter().filter(|need| all.contains_key(*need)).cloned();
            entries.push(ModuleEntry { file, needs: needs.collect(), name });
        }
        let lacks = |it: &&&str| !all.contains_key(**it) && !tree.built_in.contains(**it);
        let missing = WANTED.iter().filter(lacks).map(|name| (*name).to_owned()).collect();
        Ok(Modules { entries, missing })
    }
}

fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn too_long(most: u64) -> io::Error {
    let why = format!("it is longer than {most} bytes");
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

fn read_module(path: &Path) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    let reader = compressed::reader(BufReader::new(File::open(path)?))?;
    reader.take(MODULE_BYTES_MAX + 1).read_to_end(&mut all)?;
    if all.len() as u64 > MODULE_BYTES_MAX { Err(too_long(MODULE_BYTES_MAX)) } else { Ok(all) }
}

/// What is in a directory of modules.
#[derive(Debug, Default)]
struct Tree {
    modules: Vec<PathBuf>,
    /// Names of what the kernel has built in.
    built_in: BTreeSet<String>,
}

/// Looks for modules; links are not followed.
fn find(directory: &Path) -> Result<Tree, StoreError> {
    let mut tree = Tree::default();
    let mut waiting = vec![(directory.to_owned(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let failed = |source| StoreError::Io { doing: "read", path: directory.clone(), source };
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if kind.is_dir() && depth < DEPTH_MAX {
                waiting.push((entry.path(), depth + 1));
            } else if kind.is_file() && name == "modules.builtin" {
                tree.built_in.extend(built_in(&entry.path()).map_err(failed)?);
            } else if kind.is_file() && is_module(&name) {
                tree.modules.push(entry.path());
            }
            if tree.modules.len() > MODULES_MAX {
                let why = format!("there are more than {MODULES_MAX} modules");
                return Err(StoreError::Modules(why));
            }
        }
    }
    tree.modules.sort();
    Ok(tree)
}

pub(crate) fn is_module(name: &str) -> bool {
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|end| name.ends_with(end))
}

/// The names in `modules.builtin`: `kernel/fs/ext4/ext4.ko`.
fn built_in(path: &Path) -> io::Result<Vec<String>> {
    let mut text = String::new();
    File::open(path)?.take(CONFIG_BYTES_MAX).read_to_string(&mut text)?;
    let name = |line: &str| {
        let file = line.rsplit('/').next().unwrap_or(line);
        modules::plain(file.trim_end_matches(".ko"))
    };
    Ok(text.lines().map(name).collect())
}

/// What is in the directory of a kernel, sorted by path.
fn files(directory: &Path) -> io::Result<Vec<FileEntry>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type()?.is_dir() {
            for file in fs::read_dir(entry.path())? {
                paths.push(format!("{name}/{}", file?.file_name().to_string_lossy()));
            }
        } else {
            paths.push(name);
        }
    }
    paths.sort();
    if paths.len() > FILES_MAX {
        return Err(io::Error::other(format!("there are more than {FILES_MAX} files")));
    }
    paths.iter().map(|path| FileEntry::of(directory, path)).collect()
}
