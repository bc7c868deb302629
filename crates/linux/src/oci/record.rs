//! What is kept of a container: one directory under the root of `--root`.
//!
//! ```text
//! <root>/<id>/             locked (flock) by whoever changes the container
//!   state.json             the record, replaced by rename
//!   config.json            the configuration, as it was when the container was made
//!   exec.fifo              there until the command is started; a byte in it starts it
//! ```
//!
//! A kill at any moment leaves a directory that `delete` understands: the record with the name
//! of the control group is written before anything is made, and the process id when it is known.

use std::{
    cell::OnceCell,
    collections::BTreeMap,
    fs,
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::DirBuilderExt as _,
    },
    path::{Path, PathBuf},
};

use base::{SandboxId, clock::Timestamp};
use oci_spec::runtime::Spec;
use rustix::{
    fs::{CWD, FlockOperation, Mode, OFlags, flock},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{
    error::OciError,
    status::{self, Identity, Observed, Status},
};

/// The format of `state.json`.
const VERSION: u32 = 1;

/// Largest configuration that is read, in bytes. Docker's are some 20,000.
pub(super) const CONFIG_BYTES_MAX: u64 = 16 << 20;

/// What is known of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    pub(super) id: SandboxId,
    pub(super) oci_version: String,
    pub(super) bundle: PathBuf,
    pub(super) rootfs: PathBuf,
    pub(super) created: Timestamp,
    /// User id of who made it.
    pub(super) owner: u32,
    pub(super) annotations: BTreeMap<String, String>,
    /// The name of its control group.
    pub(super) cgroup: String,
    /// Its process, once there is one.
    pub(super) process: Option<Identity>,
}

impl Record {
    /// The record of a container that is about to be made.
    pub(super) fn new(id: &SandboxId, spec: &Spec, bundle: &Path, cgroup: &str) -> Record {
        let root = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
        Record {
            version: VERSION,
            id: id.clone(),
            oci_version: spec.version().clone(),
            bundle: bundle.to_owned(),
            rootfs: bundle.join(root),
            created: Timestamp::now(),
            owner: rustix::process::getuid().as_raw(),
            annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
            cgroup: cgroup.to_owned(),
            process: None,
        }
    }

    /// The state that hooks are told (runtime-spec, runtime.md, "State").
    pub(super) fn state_json(&self, status: Status) -> Vec<u8> {
        let process = self.process.filter(|_| status != Status::Stopped);
        let Some(process) = process else { return self.state(status).to_string().into_bytes() };
        let (mut text, end) = self.state_around_pid(status);
        text.extend_from_slice(process.pid.to_string().as_bytes());
        text.extend_from_slice(&end);
        text
    }

    /// The same, up to the process id and after it, for a hook that runs where the process has
    /// another number.
    pub(super) fn state_around_pid(&self, status: Status) -> (Vec<u8>, Vec<u8>) {
        let mut text = self.state(status).to_string();
        text.truncate(text.len() - 1);
        text.push_str(",\"pid\":");
        (text.into_bytes(), b"}".to_vec())
    }

    fn state(&self, status: Status) -> serde_json::Value {
        let mut state = serde_json::json!({
            "ociVersion": self.oci_version,
            "id": self.id,
            "status": status.to_string(),
            "bundle": self.bundle,
        });
        if !self.annotations.is_empty() {
            state["annotations"] = serde_json::json!(self.annotations);
        }
        state
    }
}

/// The directory of all containers.
#[derive(Clone, Debug)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    pub(super) fn new(root: PathBuf) -> Store {
        Store { root }
    }

    /// Takes a name for a container that is about to be made, and holds it.
    pub(super) fn reserve(&self, record: Record) -> Result<Held, OciError> {
        let path = self.path(&record.id);
        let make = || fs::DirBuilder::new().mode(0o711).create(&path);
        let made = match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut builder = fs::DirBuilder::new();
                let root = builder.recursive(true).mode(0o700).create(&self.root);
                root.and_then(|()| make())
            }
            other => other,
        };
        let exists = || OciError::Exists { id: record.id.to_string() };
        match made {
            Ok(()) => {}
            // What a killed create left before it wrote its record is nobody's.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if path.join("state.json").exists() {
                    return Err(exists());
                }
            }
            Err(error) => return Err(io_error("make", &path)(error)),
        }
        let lock = Lock::now(&path)?.ok_or_else(exists)?;
        if path.join("state.json").exists() {
            return Err(exists());
        }
        let held = Held { container: Container::new(path, record), lock };
        held.write()?;
        Ok(held)
    }

    /// A container, to be looked at.
    pub(super) fn open(&self, id: &SandboxId) -> Result<Container, OciError> {
        let path = self.path(id);
        let record = read_record(&path, id)?;
        Ok(Container::new(path, record))
    }

    /// A container, to be changed by nobody else for now.
    pub(super) fn hold(&self, id: &SandboxId) -> Result<Held, OciError> {
        let path = self.path(id);
        let lock = Lock::wait(&path, id)?;
        // What it was before it was held may have changed.
        let record = read_record(&path, id)?;
        Ok(Held { container: Container::new(path, record), lock })
    }

    /// Removes what a killed create left of a container without a record.
    pub(super) fn sweep(&self, id: &SandboxId) -> Result<(), OciError> {
        let path = self.path(id);
        match Lock::now(&path) {
            Ok(Some(_lock)) => remove_directory(&path),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// The names of all containers, in order.
    pub(super) fn ids(&self) -> Result<Vec<SandboxId>, OciError> {
        let entries = match fs::read_dir(&self.root) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(io_error("read", &self.root))?,
        };
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        let mut ids: Vec<SandboxId> = entries.filter_map(name).collect();
        ids.sort();
        Ok(ids)
    }

    fn path(&self, id: &SandboxId) -> PathBuf {
        self.root.join(id.as_str())
    }
}

/// A container, as its record tells.
#[derive(Debug)]
pub(super) struct Container {
    path: PathBuf,
    pub(super) record: Record,
    /// The configuration, once it was needed.
    config: OnceCell<Spec>,
}

impl Container {
    /// What it is doing, but for being paused.
    pub(super) fn status(&self) -> Status {
        let made = self.record.process.is_some();
        let observe = |busy| Observed {
            made,
            busy,
            lives: self.record.process.is_some_and(Identity::lives),
            waits: self.fifo().exists(),
        };
        let busy = !made && matches!(Lock::now(&self.path), Ok(None));
        status::status(observe(busy))
    }

    fn new(path: PathBuf, record: Record) -> Container {
        Container { path, record, config: OnceCell::new() }
    }

    /// The configuration that it was made from.
    pub(super) fn config(&self) -> Result<&Spec, OciError> {
        if let Some(spec) = self.config.get() {
            return Ok(spec);
        }
        let spec = read_json(&self.path.join("config.json"))?;
        Ok(self.config.get_or_init(|| spec))
    }

    /// Holds it again after it was released, unless somebody has deleted it meanwhile.
    pub(super) fn hold_again(self) -> Result<Held, OciError> {
        let lock = Lock::wait(&self.path, &self.record.id)?;
        match read_record(&self.path, &self.record.id)? {
            record if record == self.record => Ok(Held { container: self, lock }),
            // Another one of the same name.
            Record { id, .. } => Err(OciError::Missing { id: id.to_string() }),
        }
    }

    /// Where the byte goes that starts its command.
    pub(super) fn fifo(&self) -> PathBuf {
        self.path.join("exec.fifo")
    }

    /// The complaint that it does not run.
    pub(super) fn not_running(&self) -> OciError {
        OciError::NotRunning { id: self.record.id.to_string() }
    }
}

/// A container that nobody else changes.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) container: Container,
    lock: Lock,
}

impl Held {
    /// Keeps the configuration, as text and as what it means.
    pub(super) fn write_config(&self, json: &[u8], spec: Spec) -> Result<(), OciError> {
        let path = self.container.path.join("config.json");
        self.container.config.get_or_init(|| spec);
        fs::write(&path, json).map_err(io_error("write", &path))
    }

    /// Writes the record, all or nothing.
    pub(super) fn write(&self) -> Result<(), OciError> {
        let path = self.container.path.join("state.json");
        let json = serde_json::to_vec(&self.container.record)
            .map_err(|source| OciError::Json { path: path.clone(), source })?;
        replace(&path, &json)
    }

    /// Makes the FIFO that the command waits at, open for both ends, so that reading it waits
    /// for a byte and not for a writer.
    pub(super) fn make_fifo(&self) -> Result<OwnedFd, OciError> {
        let path = self.container.fifo();
        let made = rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR);
        made.map_err(io_error("make", &path))?;
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        rustix::fs::open(&path, flags, Mode::empty()).map_err(io_error("open", &path))
    }

    /// Lets others change it.
    pub(super) fn release(self) -> Container {
        drop(self.lock);
        self.container
    }

    /// Removes the directory: the container is no more.
    pub(super) fn remove(self) -> Result<Record, OciError> {
        remove_directory(&self.container.path)?;
        Ok(self.container.record)
    }
}

/// An exclusive lock of a directory.
#[derive(Debug)]
struct Lock(OwnedFd);

impl Lock {
    /// The lock, or `None` if another has it.
    fn now(path: &Path) -> Result<Option<Lock>, OciError> {
        let directory = open_directory(path).map_err(io_error("open", path))?;
        match flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(directory))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(io_error("lock", path)(error)),
        }
    }

    /// The lock, when it can be had.
    fn wait(path: &Path, id: &SandboxId) -> Result<Lock, OciError> {
        let missing = || OciError::Missing { id: id.to_string() };
        let directory = match open_directory(path) {
            Err(Errno::NOENT) => return Err(missing()),
            other => other.map_err(io_error("open", path))?,
        };
        flock(&directory, FlockOperation::LockExclusive).map_err(io_error("lock", path))?;
        // Whoever had it before may have removed the directory.
        let stat = rustix::fs::fstat(&directory).map_err(io_error("look at", path))?;
        if stat.st_nlink == 0 { Err(missing()) } else { Ok(Lock(directory)) }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a container's process that waits for start has a copy of the
        // descriptor until it executes its command.
        let _ = flock(self.0.as_fd(), FlockOperation::Unlock);
    }
}

fn open_directory(path: &Path) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
}

fn read_record(path: &Path, id: &SandboxId) -> Result<Record, OciError> {
    /// The version, before the rest is believed.
    #[derive(Deserialize)]
    struct Versioned {
        version: u32,
    }
    let path = path.join("state.json");
    let json = match read_limited(&path) {
        Err(OciError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Err(OciError::Missing { id: id.to_string() });
        }
        other => other?,
    };
    let wrong = |source| OciError::Json { path: path.clone(), source };
    match serde_json::from_slice(&json) {
        Ok(Versioned { version: VERSION }) => serde_json::from_slice(&json).map_err(wrong),
        Ok(Versioned { version }) => Err(OciError::Version { id: id.to_string(), version }),
        Err(source) => Err(wrong(source)),
    }
}

/// A file, if it is no larger than a configuration may be.
pub(super) fn read_limited(path: &Path) -> Result<Vec<u8>, OciError> {
    let file = fs::File::open(path).map_err(io_error("open", path))?;
    let size = file.metadata().map_or(0, |metadata| metadata.len().min(CONFIG_BYTES_MAX));
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    let read = file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes);
    let read = read.map_err(io_error("read", path))?;
    if u64::try_from(read).is_ok_and(|read| read <= CONFIG_BYTES_MAX) {
        Ok(bytes)
    } else {
        Err(OciError::FileTooLarge { path: path.to_owned(), limit: CONFIG_BYTES_MAX })
    }
}

/// The value in a JSON file.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, OciError> {
    let bytes = read_limited(path)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| OciError::Json { path: path.to_owned(), source })
}

/// Replaces a file: whoever reads it sees all of the old one or all of the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), OciError> {
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    let new = path.with_file_name(name);
    let written = fs::File::create(&new).and_then(|mut file| file.write_all(bytes));
    written.and_then(|()| fs::rename(&new, path)).map_err(io_error("write", path))
}

/// Removes a container's directory, the record last: what is left by a kill can be deleted again.
fn remove_directory(path: &Path) -> Result<(), OciError> {
    for name in ["exec.fifo", "config.json", "state.json"] {
        // What cannot be removed keeps the directory from being removed.
        let _ = fs::remove_file(path.join(name));
    }
    let removed = match fs::remove_dir(path) {
        // What a killed write left.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => fs::remove_dir_all(path),
        other => other,
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("remove", path)(error))
        }
        _ => Ok(()),
    }
}

fn io_error<E: Into<io::Error>>(verb: &str, path: &Path) -> impl FnOnce(E) -> OciError {
    OciError::io(format!("{verb} {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Record {
        let spec: Spec =
            serde_json::from_str(r#"{"ociVersion": "1.0.2", "root": {"path": "rootfs"}}"#).unwrap();
        Record::new(&id.parse().unwrap(), &spec, Path::new("/bundle"), "/box")
    }

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::new(directory.path().join("deep/root"));
        (directory, store)
    }

    #[test]
    fn a_name_is_taken_once_until_it_is_removed() {
        let (_directory, store) = store();
        let id = "box".parse().unwrap();
        let held = store.reserve(record("box")).unwrap();
        assert_eq!(store.open(&id).unwrap().status(), Status::Creating);
        assert!(matches!(store.reserve(record("box")), Err(OciError::Exists { .. })));
        assert_eq!(held.release().status(), Status::Stopped);
        store.hold(&id).unwrap().remove().unwrap();
        assert!(matches!(store.hold(&id), Err(OciError::Missing { .. })));
        store.reserve(record("box")).unwrap();
    }

    #[test]
    fn what_a_killed_create_left_without_a_record_is_in_nobodys_way() {
        let (_directory, store) = store();
        store.reserve(record("other")).unwrap();
        let id = "box".parse().unwrap();
        fs::create_dir(store.path(&id)).unwrap();
        assert!(matches!(store.open(&id), Err(OciError::Missing { .. })));
        store.reserve(record("box")).unwrap();
    }

    #[test]
    fn records_are_read_as_written_and_later_versions_refused() {
        let (_directory, store) = store();
        let mut held = store.reserve(record("box")).unwrap();
        held.container.record.process = Some(Identity { pid: 7, start_ticks: 9 });
        held.write().unwrap();
        let id = "box".parse().unwrap();
        assert_eq!(store.open(&id).unwrap().record, held.container.record);
        held.container.record.version = 2;
        held.write().unwrap();
        let error = store.open(&id).unwrap_err().to_string();
        assert_eq!(error, "the state of container box has version 2, and this program knows 1");
    }

    #[test]
    fn the_format_of_version_1_stays_readable() {
        let json = r#"{"version":1,"id":"box","oci_version":"1.0.2","bundle":"/b",
            "rootfs":"/b/rootfs","created":1700000000000000000,"owner":0,
            "annotations":{"a":"b"},"cgroup":"/box","process":{"pid":7,"start_ticks":9}}"#;
        let record: Record = serde_json::from_str(json).unwrap();
        assert_eq!(record.process, Some(Identity { pid: 7, start_ticks: 9 }));
        assert_eq!(serde_json::to_string(&record).unwrap(), json.replace("\n            ", ""));
    }

    #[test]
    fn hooks_are_told_the_process_until_it_has_stopped() {
        let record = Record { process: Some(Identity { pid: 7, start_ticks: 9 }), ..record("box") };
        let told = |status| String::from_utf8(record.state_json(status)).unwrap();
        assert_eq!(
            told(Status::Creating),
            r#"{"bundle":"/bundle","id":"box","ociVersion":"1.0.2","status":"creating","pid":7}"#
        );
        assert!(!told(Status::Stopped).contains("pid"));
    }
}
