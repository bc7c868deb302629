//! Follows a log while it is written, without polling.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    path::Path,
};

use rustix::fs::inotify;
use tokio::io::{Interest, unix::AsyncFd};

use super::{LogError, Query, Reader, Record};
use crate::descriptor::watch;

/// Bytes of notifications read at once.
const EVENT_BYTES: usize = 4096;

/// Reads a log and waits for more, across rotations.
///
/// It does not know whether the writer still lives: who follows until a process ends stops
/// calling [`Follower::next`] then, and reads the rest from [`Follower::reader`].
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    notifications: AsyncFd<OwnedFd>,
    /// The file that is watched, by sequence, and its watch.
    watched: Option<(u64, i32)>,
}

impl Follower {
    /// Opens a log. Its directory must exist; its files may come later.
    ///
    /// # Errors
    /// As [`Reader::open`]; [`LogError::Io`] too if the host is out of inotify(7) instances
    /// (`fs.inotify.max_user_instances`).
    pub fn open(path: &Path, query: Query) -> Result<Follower, LogError> {
        let failed = |error| LogError::io("watch", path, error);
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let descriptor = inotify::init(flags).map_err(|error| failed(error.into()))?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let events = inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&descriptor, directory, events).map_err(|error| failed(error.into()))?;
        let notifications = watch(descriptor, Interest::READABLE).map_err(failed)?;
        let reader = Reader::open(path, query)?;
        Ok(Follower { reader, notifications, watched: None })
    }

    /// The next record, as soon as there is one; `None` if nothing more can come because a record
    /// after [`Query::until`] has been seen. Cancel-safe.
    ///
    /// # Errors
    /// As [`Reader::next`].
    pub async fn next(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if let Some(record) = self.reader.next()? {
                return Ok(Some(record));
            }
            if self.reader.ended() {
                return Ok(None);
            }
            // What was written before the watch was set makes no notification.
            if !self.watch()? {
                self.wait().await.map_err(|e| LogError::io("watch", self.reader.path(), e))?;
            }
        }
    }

    /// The reader underneath, to read what is there without waiting.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Watches the file being read; whether that is news.
    fn watch(&mut self) -> Result<bool, LogError> {
        let Some((file, sequence)) = self.reader.current() else { return Ok(false) };
        if self.watched.is_some_and(|(watched, _)| watched == sequence) {
            return Ok(false);
        }
        let failed = |error| LogError::io("watch", self.reader.path(), error);
        // By descriptor, not by name: the name may mean another file by now.
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let watch = inotify::add_watch(&self.notifications, name, inotify::WatchFlags::MODIFY)
            .map_err(failed)?;
        if let Some((_, old)) = self.watched.replace((sequence, watch)) {
            // The old file's watch may be gone with the file.
            let _ = inotify::remove_watch(&self.notifications, old);
        }
        Ok(true)
    }

    /// Waits for a notification and takes all there are: each means no more than "look again".
    async fn wait(&self) -> io::Result<()> {
        let drain = |descriptor: &OwnedFd| -> io::Result<()> {
            let mut buffer = [MaybeUninit::uninit(); EVENT_BYTES];
            rustix::io::read(descriptor.as_fd(), &mut buffer[..])?;
            Ok(())
        };
        self.notifications.async_io(Interest::READABLE, drain).await
    }
}
