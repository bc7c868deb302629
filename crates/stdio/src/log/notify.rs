//! One inotify(7) instance for everybody in this process who waits for a file to change.
//!
//! A user has 128 instances by default (`fs.inotify.max_user_instances`): one for each follower
//! would be few. One thread reads the notifications, whatever runtimes there are, and ends with
//! the process.

use std::{
    collections::HashMap,
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::{
    fs::inotify::{self, ReadFlags, WatchFlags},
    io::Errno,
};
use tokio::sync::watch;

/// Bytes of notifications read at once.
const EVENT_BYTES: usize = 16 << 10;

/// Everybody's instance, made when it is first needed.
static SHARED: Mutex<Option<Notifier>> = Mutex::new(None);

/// A handle to the instance.
#[derive(Clone, Debug)]
pub(crate) struct Notifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    descriptor: OwnedFd,
    /// Watches by the kernel's number; those who watch the same file share one.
    watched: Mutex<HashMap<i32, Watched>>,
}

#[derive(Debug)]
struct Watched {
    holders: usize,
    changes: watch::Sender<u64>,
}

/// A file that is watched, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    inner: Arc<Inner>,
    number: i32,
    changes: watch::Receiver<u64>,
}

impl Notifier {
    /// The one of this process.
    pub(crate) fn shared() -> io::Result<Notifier> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notifier) = &*shared {
            return Ok(notifier.clone());
        }
        let descriptor = inotify::init(inotify::CreateFlags::CLOEXEC)?;
        let inner = Arc::new(Inner { descriptor, watched: Mutex::default() });
        let reading = Arc::clone(&inner);
        std::thread::Builder::new().name("log-notify".to_owned()).spawn(move || {
            reading.read_all();
            // Whoever waits is told, and whoever comes makes another.
            *SHARED.lock().unwrap_or_else(PoisonError::into_inner) = None;
            reading.watched().clear();
        })?;
        Ok(shared.insert(Notifier { inner }).clone())
    }

    /// Watches what is at a path.
    pub(crate) fn watch(&self, path: &Path, events: WatchFlags) -> io::Result<Watch> {
        // Under the lock: the same number may just be being given up.
        let mut watched = self.inner.watched();
        let number = inotify::add_watch(&self.inner.descriptor, path, events)?;
        let fresh = || Watched { holders: 0, changes: watch::Sender::new(0) };
        let entry = watched.entry(number).or_insert_with(fresh);
        entry.holders += 1;
        let changes = entry.changes.subscribe();
        Ok(Watch { inner: Arc::clone(&self.inner), number, changes })
    }

    /// Watches an open file.
    pub(crate) fn watch_file(&self, file: BorrowedFd<'_>, events: WatchFlags) -> io::Result<Watch> {
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        self.watch(Path::new(&name), events)
    }
}

impl Watch {
    /// Waits for a change since this was last asked for. Cancel-safe.
    pub(crate) async fn changed(&mut self) -> io::Result<()> {
        let gone = |_| io::Error::other("notifications have come to an end");
        self.changes.changed().await.map_err(gone)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut watched = self.inner.watched();
        let Some(entry) = watched.get_mut(&self.number) else { return };
        entry.holders -= 1;
        if entry.holders == 0 {
            watched.remove(&self.number);
            // It is gone already if the file is.
            let _ = inotify::remove_watch(&self.inner.descriptor, self.number);
        }
    }
}

impl Inner {
    fn watched(&self) -> MutexGuard<'_, HashMap<i32, Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes notifications on. Ends if they cannot be read.
    fn read_all(&self) {
        let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
        let mut reader = inotify::Reader::new(&self.descriptor, &mut buffer);
        loop {
            let (number, lost) = match reader.next() {
                Ok(event) => (event.wd(), event.events().contains(ReadFlags::QUEUE_OVERFLOW)),
                Err(Errno::INTR) => continue,
                Err(_) => return,
            };
            let watched = self.watched();
            let told = watched.iter().filter(|(other, _)| lost || **other == number);
            told.for_each(|(_, entry)| entry.changes.send_modify(|count| *count += 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn those_who_watch_one_file_share_a_watch_and_all_hear_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let notifier = Notifier::shared().unwrap();
        let watch = || notifier.watch(&path, WatchFlags::MODIFY).unwrap();
        let mut watches: Vec<_> = (0..200).map(|_| watch()).collect();
        assert_eq!(notifier.inner.watched().len(), 1);
        let quiet = tokio::time::timeout(Duration::from_millis(20), watches[0].changed()).await;
        assert!(quiet.is_err(), "nothing has changed");
        std::fs::write(&path, "x").unwrap();
        for watch in &mut watches {
            watch.changed().await.unwrap();
        }
        drop(watches);
        assert!(notifier.inner.watched().is_empty());
    }
}
