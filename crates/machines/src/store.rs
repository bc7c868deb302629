//! Where machines are kept.
//!
//! ```text
//! <data root>/machines/
//!     NAME/                what a machine is; appears and goes as a whole
//!         machine.json     what it is made of
//!         lock             held by whoever runs or changes it
//!         lifetime.json    when it began, and how it ended
//!         disk-0, seed, kernel, initrd-0 …
//!         process.log      what its process had to say
//!         snapshots/NAME/  see `snapshot`
//!     .new-…  .old-…       machines that are being made or removed
//! <run root>/machines/
//!     NAME.sock            where its process takes requests
//!     NAME.console         where terminals are connected with its serial port
//! ```

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};

use crate::{
    draft::{Draft, DraftError},
    lifetime::{self, Lock, State},
    name::Name,
    record::{self, RecordError},
    spec::{self, Spec, SpecError},
};

/// What begins the names of machines that are not there yet, or not any more.
const NEW: &str = ".new-";
const OLD: &str = ".old-";

/// The record of a machine, in its directory.
pub(crate) const MACHINE: &str = "machine.json";

/// All machines of an instance.
#[derive(Clone, Debug)]
pub struct Machines {
    data: PathBuf,
    run: PathBuf,
}

/// A machine that is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What it is called.
    pub name: Name,
    /// Where it is.
    pub directory: PathBuf,
    /// What it is.
    pub spec: Spec,
}

/// A machine in the list.
#[derive(Debug)]
pub enum Entry {
    /// One whose record can be read.
    Whole(Box<Kept>),
    /// One whose record cannot.
    Damaged {
        /// What it is called.
        name: Name,
        /// What is wrong with it.
        why: RecordError,
    },
}

/// Why machines were not found, made or removed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is none of this name.
    #[error("no such machine: {0}")]
    NotFound(Name),
    /// There is one of this name.
    #[error("there is a machine {0} already")]
    Exists(Name),
    /// It runs, or somebody else changes it.
    #[error("machine {0} runs: stop it first")]
    Runs(Name),
    /// Its record cannot be read.
    #[error("machine {name} is damaged")]
    Damaged {
        /// Which.
        name: Name,
        /// Why.
        #[source]
        why: RecordError,
    },
    /// It cannot be as it was wished.
    #[error(transparent)]
    Draft(#[from] DraftError),
    /// It cannot become what was wished.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The host refused.
    #[error("cannot {doing} {}", path.display())]
    Host {
        /// What was to be done.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Host { doing, path: path.to_owned(), source }
}

impl Machines {
    /// Those of an instance with these roots.
    pub fn new(data_root: &Path, run_root: &Path) -> Machines {
        Machines { data: data_root.join("machines"), run: run_root.join("machines") }
    }

    /// Where processes have their sockets.
    pub(crate) fn run(&self) -> &Path {
        &self.run
    }

    /// Makes a machine, or nothing.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn create(&self, name: &Name, draft: &Draft) -> Result<Kept, StoreError> {
        private(&self.data)?;
        self.sweep();
        let directory = self.data.join(name.as_str());
        if directory.symlink_metadata().is_ok() {
            return Err(StoreError::Exists(name.clone()));
        }
        let (staging, _lock) = self.staging()?;
        let made = self.fill(&staging, &directory, name, draft);
        if made.is_err() {
            // What is left of it is swept up next time.
            let _ = fs::remove_dir_all(&staging);
        }
        Ok(Kept { name: name.clone(), directory, spec: made? })
    }

    fn fill(
        &self,
        staging: &Path,
        directory: &Path,
        name: &Name,
        draft: &Draft,
    ) -> Result<Spec, StoreError> {
        let spec = draft.make(name, staging)?;
        let record = staging.join(MACHINE);
        record::write(&record, spec::VERSION, &spec).map_err(failed("write", &record))?;
        match renameat_with(CWD, staging, CWD, directory, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(StoreError::Exists(name.clone())),
            Err(error) => return Err(failed("make", directory)(error.into())),
        }
        sync(&self.data)?;
        Ok(spec)
    }

    /// A new empty directory, locked so that nobody sweeps it up.
    fn staging(&self) -> Result<(PathBuf, Lock), StoreError> {
        let random = spec::uuid().map_err(failed("name", &self.data))?;
        let staging = self.data.join(format!("{NEW}{random}"));
        private(&staging)?;
        let lock = lifetime::lock(&staging).map_err(failed("lock", &staging))?;
        let lock =
            lock.ok_or_else(|| failed("lock", &staging)(io::ErrorKind::WouldBlock.into()))?;
        Ok((staging, lock))
    }

    /// Removes what was left by those who were killed while they made or removed a machine.
    fn sweep(&self) {
        for entry in fs::read_dir(&self.data).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.starts_with(NEW) || name.starts_with(OLD) {
                // A new one without a lock is about to be locked; an old one has lost it.
                let there = name.starts_with(OLD) || entry.path().join("lock").exists();
                if there && let Ok(Some(_lock)) = lifetime::lock(&entry.path()) {
                    let _ = fs::remove_dir_all(entry.path());
                }
            }
        }
    }

    /// All machines, by name.
    ///
    /// # Errors
    /// [`StoreError::Host`].
    pub fn list(&self) -> Result<Vec<Entry>, StoreError> {
        let entries = match fs::read_dir(&self.data) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed("list", &self.data))?,
        };
        let name = |entry: fs::DirEntry| entry.file_name().to_str()?.parse::<Name>().ok();
        let mut names: Vec<Name> = entries.flatten().filter_map(name).collect();
        names.sort();
        let entry = |name: Name| match self.find(&name) {
            Ok(kept) => Some(Entry::Whole(Box::new(kept))),
            Err(StoreError::Damaged { name, why }) => Some(Entry::Damaged { name, why }),
            // It was removed meanwhile.
            Err(_) => None,
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }

    /// The machine of this name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] and [`StoreError::Damaged`].
    pub fn find(&self, name: &Name) -> Result<Kept, StoreError> {
        let directory = self.data.join(name.as_str());
        match record::find(&directory.join(MACHINE), spec::VERSION) {
            Ok(Some(spec)) => Ok(Kept { name: name.clone(), directory, spec }),
            Ok(None) if directory.is_dir() => Err(StoreError::Damaged {
                name: name.clone(),
                why: RecordError::Read(io::ErrorKind::NotFound.into()),
            }),
            Ok(None) => Err(StoreError::NotFound(name.clone())),
            Err(why) => Err(StoreError::Damaged { name: name.clone(), why }),
        }
    }

    /// Removes a machine that does not run, damaged or not, with all that is its own.
    ///
    /// # Errors
    /// [`StoreError`]; if it is not [`StoreError::Host`], the machine is as it was.
    pub fn remove(&self, name: &Name) -> Result<(), StoreError> {
        let directory = self.data.join(name.as_str());
        if !directory.is_dir() {
            return Err(StoreError::NotFound(name.clone()));
        }
        let lock = lifetime::lock(&directory).map_err(failed("lock", &directory))?;
        let _lock = lock.ok_or_else(|| StoreError::Runs(name.clone()))?;
        let random = spec::uuid().map_err(failed("name", &self.data))?;
        let old = self.data.join(format!("{OLD}{random}"));
        // From here on it is gone, whatever happens.
        fs::rename(&directory, &old).map_err(failed("remove", &directory))?;
        sync(&self.data)?;
        for end in ["sock", "console"] {
            let _ = fs::remove_file(self.run.join(format!("{name}.{end}")));
        }
        fs::remove_dir_all(&old).map_err(failed("remove", &old))
    }
}

impl Kept {
    /// How it stands.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn state(&self) -> Result<State, StoreError> {
        let damaged = |why| StoreError::Damaged { name: self.name.clone(), why };
        lifetime::state(&self.directory).map_err(damaged)
    }

    /// Keeps everybody else from running or changing it.
    ///
    /// # Errors
    /// [`StoreError::Runs`] if somebody does; [`StoreError::NotFound`] if it was removed meanwhile.
    pub fn lock(&self) -> Result<Lock, StoreError> {
        if !self.directory.is_dir() {
            return Err(StoreError::NotFound(self.name.clone()));
        }
        let lock = lifetime::lock(&self.directory).map_err(failed("lock", &self.directory))?;
        lock.ok_or_else(|| StoreError::Runs(self.name.clone()))
    }

    /// Makes it another, while it does not run.
    ///
    /// # Errors
    /// [`StoreError`]; it is as it was.
    pub fn change(&mut self, _lock: &Lock, spec: Spec) -> Result<(), StoreError> {
        spec.check()?;
        let record = self.directory.join(MACHINE);
        record::write(&record, spec::VERSION, &spec).map_err(failed("write", &record))?;
        self.spec = spec;
        Ok(())
    }
}

/// Makes a directory, and those above it, for this user alone.
pub(crate) fn private(directory: &Path) -> Result<(), StoreError> {
    let mut builder = DirBuilder::new();
    let made = builder.recursive(true).mode(0o700).create(directory);
    made.map_err(failed("make", directory))
}

/// What was renamed in a directory is on the disk.
pub(crate) fn sync(directory: &Path) -> Result<(), StoreError> {
    let synced = fs::File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(failed("write", directory))
}
#[cfg(test)]
mod tests;
