//! How a machine stands: what its last process wrote down, and whether it lives. Pure, but for the
//! lock.
//!
//! ```text
//! lock taken ──────────────────────────────▶ runs
//! lock free ── no record ──────────────────▶ was never started
//!          ├── record without an end ──────▶ its process was killed
//!          └── record with an end ─────────▶ ended, and how
//! ```

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::record::{self, RecordError};

/// The version of the record.
const VERSION: u32 = 1;

/// Names in a machine's directory.
const LOCK: &str = "lock";
const RECORD: &str = "lifetime.json";

/// What a process wrote down of the machine that it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifetime {
    /// When it began, in seconds since 1970.
    pub began: u64,
    /// How it ended, if it could still say.
    pub end: Option<Ended>,
}

/// The end of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// When, in seconds since 1970.
    pub at: u64,
    /// How.
    pub how: How,
}

/// How a machine ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how", content = "why")]
pub enum How {
    /// The guest switched it off.
    PoweredOff,
    /// It was stopped from outside.
    Stopped,
    /// The guest's kernel panicked.
    Panicked,
    /// A processor could not even deliver a double fault.
    TripleFault,
    /// All processors wait with interrupts off.
    Stuck,
    /// The host could not go on with it.
    Failed(String),
}

/// How a machine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It was never started.
    Created,
    /// It runs since this time.
    Running {
        /// In seconds since 1970; nothing while it begins.
        since: Option<u64>,
    },
    /// It has ended.
    Ended(Ended),
    /// Its process was killed, or the host went down.
    Killed {
        /// When it had begun, in seconds since 1970.
        began: u64,
    },
}

impl State {
    /// What a lock and a record mean.
    pub fn of(locked: bool, record: Option<Lifetime>) -> State {
        match (locked, record) {
            (true, None | Some(Lifetime { end: Some(_), .. })) => State::Running { since: None },
            (true, Some(Lifetime { began, end: None })) => State::Running { since: Some(began) },
            (false, None) => State::Created,
            (false, Some(Lifetime { end: Some(end), .. })) => State::Ended(end),
            (false, Some(Lifetime { began, end: None })) => State::Killed { began },
        }
    }

    /// The state in a word.
    pub fn word(&self) -> &'static str {
        match self {
            State::Created => "created",
            State::Running { .. } => "running",
            State::Ended(Ended { how: How::PoweredOff | How::Stopped, .. }) => "stopped",
            State::Ended(Ended { how: How::Panicked, .. }) => "panicked",
            State::Ended(Ended { how: How::TripleFault, .. }) => "faulted",
            State::Ended(Ended { how: How::Stuck, .. }) => "stuck",
            State::Ended(Ended { how: How::Failed(_), .. }) => "failed",
            State::Killed { .. } => "killed",
        }
    }
}

impl How {
    /// The end in a sentence.
    pub fn sentence(&self) -> String {
        match self {
            How::PoweredOff => "the guest switched it off".to_owned(),
            How::Stopped => "it was stopped".to_owned(),
            How::Panicked => "its kernel panicked".to_owned(),
            How::TripleFault => "it faulted while a fault was handled (triple fault)".to_owned(),
            How::Stuck => "all its processors wait with interrupts off".to_owned(),
            How::Failed(why) => format!("it failed: {why}"),
        }
    }

    /// Whether it ended as somebody wanted it to.
    pub fn is_wanted(&self) -> bool {
        matches!(self, How::PoweredOff | How::Stopped)
    }
}

/// Held by whoever runs or changes a machine. It is the file's, so whoever is handed it holds it.
#[derive(Debug)]
pub struct Lock(pub(crate) File);

/// Takes a machine's lock, nothing if another has it.
pub(crate) fn lock(directory: &Path) -> io::Result<Option<Lock>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(Lock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether somebody holds it. Asked with a shared lock, so that two who ask do not see each other.
pub(crate) fn is_locked(directory: &Path) -> io::Result<bool> {
    let file = match File::open(directory.join(LOCK)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// How a machine stands.
pub(crate) fn state(directory: &Path) -> Result<State, RecordError> {
    // The lock first: a machine that ends meanwhile has written its record before it lets go.
    let locked = is_locked(directory).map_err(RecordError::Read)?;
    let record = record::find(&directory.join(RECORD), VERSION)?;
    Ok(State::of(locked, record))
}

/// Writes down that it begins, or how it ended. For whoever holds the lock.
pub(crate) fn write(directory: &Path, lifetime: &Lifetime) -> io::Result<()> {
    record::write(&directory.join(RECORD), VERSION, lifetime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_a_last_word_was_killed() {
        let ended = Ended { at: 9, how: How::Panicked };
        let record = |end| Some(Lifetime { began: 7, end });
        assert_eq!(State::of(false, None), State::Created);
        assert_eq!(State::of(true, None), State::Running { since: None });
        assert_eq!(State::of(true, record(None)), State::Running { since: Some(7) });
        assert_eq!(State::of(true, record(Some(ended.clone()))), State::Running { since: None });
        assert_eq!(State::of(false, record(None)), State::Killed { began: 7 });
        assert_eq!(State::of(false, record(Some(ended.clone()))), State::Ended(ended));
    }

    #[test]
    fn a_lock_ends_with_its_last_holder_and_is_seen_by_all() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_locked(dir.path()).unwrap());
        let held = lock(dir.path()).unwrap().unwrap();
        assert!(is_locked(dir.path()).unwrap() && lock(dir.path()).unwrap().is_none());
        let other = Lock(held.0.try_clone().unwrap());
        drop(held);
        assert!(is_locked(dir.path()).unwrap());
        drop(other);
        assert!(!is_locked(dir.path()).unwrap());
    }

    #[test]
    fn ends_are_written_in_words_that_stay() {
        let failed = Ended { at: 1, how: How::Failed("no".to_owned()) };
        let text = serde_json::to_string(&failed).unwrap();
        assert_eq!(text, r#"{"at":1,"how":{"how":"failed","why":"no"}}"#);
        let text = serde_json::to_string(&How::TripleFault).unwrap();
        assert_eq!(text, r#"{"how":"triple-fault"}"#);
    }
}
