//! The records on disk: an embedded store (redb) behind a journal.
//!
//! [`Records::put`] returns when a killed daemon would find the change again: it is in the
//! journal, which is one `write(2)` away. A writer thread carries changes over into the store in
//! groups, with one synchronisation for all, soon after the first ([`FLUSH_AFTER`]) or as soon
//! as somebody waits ([`Records::durable`]). A container that came and went within that time
//! never reaches the store and costs no synchronisation. Nothing is written while nothing changes.
//!
//! See `docs/adr/2026-11-21-records.md`.

mod sound;
mod store;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use base::{ContainerId, ErrorKind, clock};
use tokio::sync::watch;
use tracing::{error, info, warn};
use workload::Finding;

use crate::{
    error::chain,
    journal::{Change, Journal},
    record::{FORMAT, Record},
};
use sound::Sound;
use store::Store;

/// Longest time between a change and its way into the store.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// Time between attempts while the store cannot be written.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Journal size at which the store is written without waiting.
const JOURNAL_BYTES_MAX: u64 = 4 << 20;
/// Why the records cannot be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RecordsError {
    /// They were written by a newer build.
    #[error(
        "the records in {} have format {found} and this build reads up to {FORMAT}: use the \
         build that wrote them, or a newer one",
        path.display()
    )]
    Newer {
        /// The store.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The store is damaged or cannot be read or written.
    #[error("cannot {step} {}", path.display())]
    Store {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the store said.
        source: Arc<redb::Error>,
    },
    /// The store is not what was written to it.
    #[error(
        "the records in {} are damaged ({why}). Nothing has been changed, and what runs goes on. \
         Put an older copy of the file in its place if there is one; or move it away: no container \
         is known then, and `wythe doctor --repair` clears away what is left of them",
        path.display()
    )]
    Damaged {
        /// The store.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file cannot be made, read or written.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was being done.
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        source: Arc<std::io::Error>,
    },
    /// A record is not what this build reads.
    #[error("record {key} cannot be read")]
    Record {
        /// Which.
        key: String,
        /// Where it is wrong.
        source: Arc<serde_json::Error>,
    },
    /// The disk does not take it.
    #[error("the change is kept but not yet safe from a power cut: {0}")]
    NotDurable(String),
}

impl RecordsError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            RecordsError::Newer { .. } => ErrorKind::Unsupported,
            RecordsError::Record { .. } | RecordsError::Damaged { .. } => ErrorKind::Corrupt,
            RecordsError::Store { .. } | RecordsError::File { .. } => ErrorKind::Internal,
            RecordsError::NotDurable(_) => ErrorKind::Unavailable,
        }
    }
}

/// A change's place in the order of changes, to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark(u64);

/// The records. One per data root.
#[derive(Debug)]
pub(crate) struct Records {
    shared: Arc<Shared>,
    written: watch::Receiver<Written>,
    /// How the store was found.
    sound: Sound,
    writer: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
}

/// How far the store has come.
#[derive(Clone, Debug, Default)]
struct Written {
    sequence: u64,
    /// Attempts that failed since the last success, and why the last did.
    failed: Option<(u64, String)>,
}

#[derive(Debug)]
struct Queue {
    /// Takes the changes.
    active: Journal,
    /// Empty, or being carried over.
    spare: Journal,
    pending: BTreeMap<String, Option<Vec<u8>>>,
    sequence: u64,
    epoch: u64,
    /// Why the journal did not take the last change, if it did not.
    refused: Option<String>,
    /// When the writer shall write, if anything is pending.
    due: Option<Instant>,
    ending: Option<Ending>,
}

/// How the writer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    /// When everything is in the store.
    Written,
    /// At once.
    AsItIs,
}

impl Records {
    /// Opens the store in this directory, or makes one, and reads every record.
    pub(crate) fn open(dir: &Path) -> Result<(Records, Vec<Record>), RecordsError> {
        let (mut store, applied, found) = Store::open(dir)?;
        let (a, mut changes) = open_journal(&dir.join("records.journal.a"))?;
        let (b, more) = open_journal(&dir.join("records.journal.b"))?;
        changes.extend(more);
        changes.retain(|change| change.sequence > applied);
        changes.sort_by_key(|change| change.sequence);
        let sequence = changes.last().map_or(applied, |last| last.sequence);
        // Whoever is killed while the store is written has all of it in the journal still.
        let sound = if changes.is_empty() { found } else { Sound::Whole };
        if sound == Sound::Torn {
            warn!("the last change of the records was not written to its end before a power cut");
        }
        if !changes.is_empty() {
            info!(changes = changes.len(), "records of a killed daemon are taken over");
        }
        let pending = changes.into_iter().map(|change| (change.key, change.value)).collect();
        store.write(&pending, sequence)?;
        let records = store.read()?;

        let epoch = clock::Timestamp::now().0;
        let mut queue = Queue {
            active: a,
            spare: b,
            pending: BTreeMap::new(),
            sequence,
            epoch,
            refused: None,
            due: None,
            ending: None,
        };
        queue.clear_both()?;
        let shared = Arc::new(Shared { queue: Mutex::new(queue), wake: Condvar::new() });
        let (tell, written) = watch::channel(Written { sequence, failed: None });
        let for_writer = Arc::clone(&shared);
        let writer = std::thread::Builder::new()
            .name("records".to_owned())
            .spawn(move || write_loop(&for_writer, &mut store, &tell))
            .map_err(|source| RecordsError::File {
                step: "start a thread for",
                path: dir.to_owned(),
                source: Arc::new(source),
            })?;
        let records_of = Records { shared, written, sound, writer: Mutex::new(Some(writer)) };
        Ok((records_of, records))
    }

    /// Records an intent. When this returns, a killed daemon would find it again; if it fails
    /// nothing is recorded, and what was intended is not to be done.
    pub(crate) fn put(&self, record: &Record) -> Result<Mark, RecordsError> {
        let (mark, written) = self.change(record.id.as_str(), Some(encode(record)?));
        written.map(|()| mark)
    }

    /// Records what has happened already. If the journal does not take it, it is kept in memory
    /// and written as soon as the disk lets it.
    pub(crate) fn note(&self, record: &Record) -> Result<Mark, RecordsError> {
        Ok(self.change_anyway(record.id.as_str(), Some(encode(record)?)))
    }

    /// Forgets a container that is gone.
    pub(crate) fn delete(&self, id: &ContainerId) -> Mark {
        self.change_anyway(id.as_str(), None)
    }

    /// The last change so far.
    pub(crate) fn latest(&self) -> Mark {
        Mark(self.shared.lock().sequence)
    }

    /// How the records are.
    pub(crate) fn finding(&self) -> Finding {
        let failed = self.written.borrow().failed.clone().map(|(_, why)| why);
        let refused = self.shared.lock().refused.clone();
        let failed = refused
            .map(|why| format!("the last change could not be recorded: {why}"))
            .or(failed.map(|why| format!("changes are not safe from a power cut: {why}")));
        let (works, detail, mend) = match (failed, self.sound) {
            (Some(detail), _) => (
                false,
                detail,
                Some("make room on the disk, or see to it; they are written again by then"),
            ),
            (None, Sound::Torn) => (
                false,
                "the last change before this daemon began was not written to its end".to_owned(),
                Some(
                    "wythe doctor --repair clears away what is left of it; then restart the daemon",
                ),
            ),
            (None, Sound::Whole) => (true, "they are whole".to_owned(), None),
        };
        Finding { subject: "records".to_owned(), works, detail, mend: mend.map(str::to_owned) }
    }

    /// Waits until this change would survive a power cut.
    pub(crate) async fn durable(&self, mark: Mark) -> Result<(), RecordsError> {
        let mut written = self.written.clone();
        let attempts = written.borrow_and_update().failed.as_ref().map_or(0, |(n, _)| *n);
        {
            let mut queue = self.shared.lock();
            if queue.due.is_some() {
                queue.due = Some(clock::monotonic());
                self.shared.wake.notify_one();
            }
        }
        let done = |written: &Written| {
            written.sequence >= mark.0
                || written.failed.as_ref().is_some_and(|(n, _)| *n > attempts)
        };
        let reached = match written.wait_for(done).await {
            Ok(written) => (written.sequence >= mark.0, written.failed.clone()),
            Err(_) => (false, None),
        };
        match reached {
            (true, _) => Ok(()),
            (false, failed) => Err(RecordsError::NotDurable(
                failed.map_or_else(|| "the store is closed".to_owned(), |(_, why)| why),
            )),
        }
    }

    /// Writes what is pending and ends the writer. Blocks until that is done.
    pub(crate) fn close(&self) {
        self.end(Ending::Written);
    }

    fn end(&self, how: Ending) {
        self.shared.lock().ending.get_or_insert(how);
        self.shared.wake.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.join().is_err()
        {
            error!("the records' writer panicked");
        }
    }

    fn change(&self, key: &str, value: Option<Vec<u8>>) -> (Mark, Result<(), RecordsError>) {
        let mut queue = self.shared.lock();
        let change = Change { sequence: queue.sequence + 1, key: key.to_owned(), value };
        let appended = queue.append(&change);
        if appended.is_ok() {
            queue.accept(change, &self.shared.wake);
        }
        (Mark(queue.sequence), appended)
    }

    fn change_anyway(&self, key: &str, value: Option<Vec<u8>>) -> Mark {
        let mut queue = self.shared.lock();
        let change = Change { sequence: queue.sequence + 1, key: key.to_owned(), value };
        if let Err(failure) = queue.append(&change) {
            error!(record = key, error = chain(&failure), "a change is only in memory so far");
        }
        queue.accept(change, &self.shared.wake);
        Mark(queue.sequence)
    }
}

fn encode(record: &Record) -> Result<Vec<u8>, RecordsError> {
    serde_json::to_vec(record).map_err(|source| RecordsError::Record {
        key: record.id.to_string(),
        source: source.into(),
    })
}

impl Drop for Records {
    /// Records that are dropped without being closed are as good as killed: the journal has all.
    fn drop(&mut self) {
        self.end(Ending::AsItIs);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Every change to the queue is whole before anything can panic.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn append(&mut self, change: &Change) -> Result<(), RecordsError> {
        let appended = self.active.append(change).map_err(|source| RecordsError::File {
            step: "write",
            path: self.active.path().to_owned(),
            source: Arc::new(source),
        });
        self.refused = appended.as_ref().err().map(|failure| chain(failure));
        appended
    }

    /// Takes a change into the next group.
    fn accept(&mut self, change: Change, wake: &Condvar) {
        self.sequence = change.sequence;
        self.pending.insert(change.key, change.value);
        let now = clock::monotonic();
        if self.active.len() > JOURNAL_BYTES_MAX {
            self.due = Some(now);
            wake.notify_one();
        } else if self.due.is_none() {
            self.due = Some(now + FLUSH_AFTER);
            wake.notify_one();
        }
    }

    fn clear_both(&mut self) -> Result<(), RecordsError> {
        let epoch = self.next_epoch();
        clear(&mut self.active, epoch)?;
        let epoch = self.next_epoch();
        clear(&mut self.spare, epoch)
    }

    fn next_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }
}

/// The writer thread: groups of changes into the store, until the records are closed.
fn write_loop(shared: &Shared, store: &mut Store, tell: &watch::Sender<Written>) {
    let mut queue = shared.lock();
    loop {
        queue = match (queue.due, queue.ending) {
            (_, Some(Ending::AsItIs)) | (None, Some(Ending::Written)) => return,
            (None, None) => shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            (Some(_), Some(Ending::Written)) => flush(shared, queue, store, tell),
            (Some(due), None) => {
                let left = due.saturating_duration_since(clock::monotonic());
                if left.is_zero() {
                    flush(shared, queue, store, tell)
                } else {
                    let waited = shared.wake.wait_timeout(queue, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            }
        };
    }
}

/// Carries over what is pending, without holding the lock while the disk works.
fn flush<'a>(
    shared: &'a Shared,
    mut queue: MutexGuard<'a, Queue>,
    store: &mut Store,
    tell: &watch::Sender<Written>,
) -> MutexGuard<'a, Queue> {
    let pending = std::mem::take(&mut queue.pending);
    let sequence = queue.sequence;
    queue.due = None;
    // After a failure the spare journal still holds changes; then the active one stays.
    if queue.spare.len() == 0 {
        let Queue { active, spare, .. } = &mut *queue;
        std::mem::swap(active, spare);
    }
    drop(queue);

    let result = store.write(&pending, sequence);

    let mut queue = shared.lock();
    let epoch = queue.next_epoch();
    match result.and_then(|()| clear(&mut queue.spare, epoch)) {
        Ok(()) => {
            tell.send_replace(Written { sequence, failed: None });
        }
        Err(failure) => {
            let attempts = tell.borrow().failed.as_ref().map_or(0, |(n, _)| *n);
            if attempts == 0 {
                error!(error = chain(&failure), "the records cannot be written; trying on");
            }
            let why = chain(&failure);
            tell.send_modify(|written| written.failed = Some((attempts + 1, why)));
            for (key, value) in pending {
                queue.pending.entry(key).or_insert(value);
            }
            queue.due = queue.ending.is_none().then(|| clock::monotonic() + RETRY_AFTER);
        }
    }
    queue
}

fn clear(journal: &mut Journal, epoch: u64) -> Result<(), RecordsError> {
    journal.clear(epoch).map_err(|source| RecordsError::File {
        step: "empty",
        path: journal.path().to_owned(),
        source: Arc::new(source),
    })
}

fn open_journal(path: &Path) -> Result<(Journal, Vec<Change>), RecordsError> {
    Journal::open(path).map_err(|source| RecordsError::File {
        step: "open",
        path: path.to_owned(),
        source: Arc::new(source),
    })
}
