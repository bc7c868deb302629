//! Follows a log while it is written, without polling.

use std::{os::fd::AsFd as _, path::Path};

use rustix::fs::inotify::WatchFlags;

use super::{
    Form, LogError, Query, Reader, Record,
    notify::{Notifier, Watch},
};

/// Reads a log and waits for more, across rotations.
///
/// It does not know whether the writer still lives: who follows until a process ends stops
/// calling [`Follower::next`] then, and reads the rest from [`Follower::reader`].
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    notifier: Notifier,
    /// The log's directory: files that come.
    directory: Watch,
    /// The file being read, by its number.
    watched: Option<(u64, Watch)>,
}

impl Follower {
    /// Opens a log. Its directory must exist; its files may come later.
    ///
    /// # Errors
    /// As [`Reader::open`]; [`LogError::Io`] too if the host is out of inotify(7) instances
    /// (`fs.inotify.max_user_instances`, of which all followers of a runtime need one) or watches.
    pub fn open(path: &Path, query: Query) -> Result<Follower, LogError> {
        Follower::open_as(path, Form::Local, query)
    }

    /// Opens a log of this form.
    ///
    /// # Errors
    /// As [`Follower::open`].
    pub fn open_as(path: &Path, form: Form, query: Query) -> Result<Follower, LogError> {
        let failed = |error| LogError::io("watch", path, error);
        let notifier = Notifier::shared().map_err(failed)?;
        let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = directory.unwrap_or(Path::new("."));
        let events = WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let directory = notifier.watch(directory, events).map_err(failed)?;
        let reader = Reader::open_as(path, form, query)?;
        Ok(Follower { reader, notifier, directory, watched: None })
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
                let changed = match &mut self.watched {
                    Some((_, file)) => tokio::select! {
                        changed = file.changed() => changed,
                        changed = self.directory.changed() => changed,
                    },
                    None => self.directory.changed().await,
                };
                changed.map_err(|error| LogError::io("watch", self.reader.path(), error))?;
            }
        }
    }

    /// The reader underneath, to read what is there without waiting.
    pub fn reader(&mut self) -> &mut Reader {
        &mut self.reader
    }

    /// Watches the file being read; whether that is news.
    fn watch(&mut self) -> Result<bool, LogError> {
        let Some((file, number)) = self.reader.current() else { return Ok(false) };
        if self.watched.as_ref().is_some_and(|(watched, _)| *watched == number) {
            return Ok(false);
        }
        // By descriptor, not by name: the name may mean another file by now.
        let watch = self.notifier.watch_file(file.as_fd(), WatchFlags::MODIFY);
        let watch = watch.map_err(|error| LogError::io("watch", self.reader.path(), error))?;
        self.watched = Some((number, watch));
        Ok(true)
    }
}
