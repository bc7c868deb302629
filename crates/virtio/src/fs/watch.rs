//! What others than the guest change in an exported directory.
//!
//! A program in the guest that waits for files to change (inotify) is told by the guest's kernel of
//! what passes through it, and of nothing else: FUSE has no message that would carry more, and
//! Linux 6.1 has no queue to receive one. So the host watches for it the directories that the guest
//! has looked at, and what happens there comes out of [`Server::changes`](super::Server::changes).
//! Whoever runs the guest's agent has it *replay* an event: it sets the file's time of modification
//! to [`REPLAY`], and
//!
//! * nothing but it (`utimensat` with `UTIME_OMIT` for the access time): those who watch in the
//!   guest hear `IN_MODIFY`;
//! * the time of access to the same: they hear `IN_ATTRIB`.
//!
//! The server changes nothing on the host for it, so nobody else hears of it, and two guests do not
//! go on telling each other. It answers with the attributes as they are, which the guest's kernel
//! takes over, size and times included. What was deleted cannot be replayed on itself: its directory
//! can.
//!
//! What the guest itself does is not told. Watched are at most [`WATCHES_MAX`] directories of those
//! that the guest knows.
//!
//! Source: inotify(7); Linux, `fsnotify_change` in `include/linux/fsnotify.h`.

use std::{
    collections::{HashMap, VecDeque},
    ffi::{CStr, CString, OsStr},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{
        CWD,
        inotify::{self, CreateFlags, ReadFlags, WatchFlags},
        readlinkat,
    },
    io::Errno,
    time::Timespec,
};

use super::inodes::ROOT;

/// The time that a file's is set to where an event is replayed: long before there were files.
pub const REPLAY: Timespec = Timespec { tv_sec: -62_135_596_800, tv_nsec: 871_170_104 };

/// Most directories that are watched. A user has some ten thousands altogether
/// (`fs.inotify.max_user_watches`).
pub const WATCHES_MAX: usize = 8192;

/// Most events that wait to be taken.
const EVENTS_MAX: usize = 4096;

/// Bytes of events that are read at once.
const READ_BYTES: usize = 16 << 10;

/// What has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was made.
    Created,
    /// It was removed.
    Deleted,
    /// It has gone to another name or directory. Of the same move has the same number what says
    /// where it came to, if that is watched too.
    MovedFrom(u32),
    /// It has come from another name or directory.
    MovedTo(u32),
    /// Its contents are others.
    Modified,
    /// Its attributes are others.
    Attributes,
    /// More has happened than could be kept; what is not known. Its path is empty.
    Lost,
}

/// Something that others have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its path beneath the exported directory.
    pub path: PathBuf,
    /// Whether it is a directory.
    pub directory: bool,
    /// What has happened to it.
    pub change: Change,
}

impl Event {
    /// As bytes: what has happened, whether it is a directory, the number of a move, the path.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, cookie) = match self.change {
            Change::Created => (0, 0),
            Change::Deleted => (1, 0),
            Change::MovedFrom(cookie) => (2, cookie),
            Change::MovedTo(cookie) => (3, cookie),
            Change::Modified => (4, 0),
            Change::Attributes => (5, 0),
            Change::Lost => (6, 0u32),
        };
        let mut bytes = vec![kind, u8::from(self.directory)];
        bytes.extend(cookie.to_le_bytes());
        bytes.extend(self.path.as_os_str().as_bytes());
        bytes
    }

    /// What [`Event::encode`] made bytes of.
    pub fn decode(bytes: &[u8]) -> Option<Event> {
        let (head, path) = bytes.split_first_chunk::<6>()?;
        let [kind, directory, cookie @ ..] = *head;
        let cookie = u32::from_le_bytes(cookie);
        let change = match kind {
            0 => Change::Created,
            1 => Change::Deleted,
            2 => Change::MovedFrom(cookie),
            3 => Change::MovedTo(cookie),
            4 => Change::Modified,
            5 => Change::Attributes,
            6 => Change::Lost,
            _ => return None,
        };
        let path = PathBuf::from(OsStr::from_bytes(path));
        Some(Event { path, directory: directory != 0, change })
    }
}

/// What a request of the guest's has touched.
#[derive(Debug)]
pub(super) enum Touched {
    /// An entry of a directory that the guest knows.
    Name(u64, CString),
    /// What stands behind a descriptor.
    Descriptor(Arc<OwnedFd>),
    /// An open file.
    File(Arc<std::fs::File>),
}

/// The watched directories.
#[derive(Debug)]
pub(super) struct Watch {
    inotify: OwnedFd,
    nodes: HashMap<i32, u64>,
    watches: HashMap<u64, i32>,
    events: VecDeque<Event>,
}

/// Where a descriptor leads to, as the kernel says.
pub(super) fn path(descriptor: impl AsFd) -> Option<PathBuf> {
    let link = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    let path = readlinkat(CWD, link, Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes())))
}

impl Watch {
    pub(super) fn new() -> Result<Watch, Errno> {
        Ok(Watch {
            inotify: inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?,
            nodes: HashMap::new(),
            watches: HashMap::new(),
            events: VecDeque::new(),
        })
    }

    /// Watches a directory. Where the host has no watches left the guest goes without.
    pub(super) fn add(&mut self, node: u64, directory: &OwnedFd) {
        if self.nodes.len() >= WATCHES_MAX {
            return;
        }
        let wanted = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
        if let Ok(watch) = inotify::add_watch(&self.inotify, path, wanted) {
            self.nodes.insert(watch, node);
            self.watches.insert(node, watch);
        }
    }

    pub(super) fn remove(&mut self, node: u64) {
        if let Some(watch) = self.watches.remove(&node) {
            self.nodes.remove(&watch);
            // It is gone by itself if the directory is.
            let _ = inotify::remove_watch(&self.inotify, watch);
        }
    }

    pub(super) fn clear(&mut self) {
        let nodes: Vec<_> = self.watches.keys().copied().collect();
        nodes.into_iter().for_each(|node| self.remove(node));
        self.events.clear();
    }

    /// Reads what has happened. `paths` gives the absolute path of a
    /// directory.
    pub(super) fn collect(
        &mut self,
        touched: &[Touched],
        mut paths: impl FnMut(u64) -> Option<PathBuf>,
    ) {
        // At most as many as can be kept: whoever floods the host's files does not hold the guest.
        for _ in 0..EVENTS_MAX {
            let Some(raw) = self.read() else { return };
            for raw in raw {
                self.event(raw, touched, &mut paths);
            }
        }
    }

    fn read(&self) -> Option<Vec<Raw>> {
        let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
        let mut reader = inotify::Reader::new(&self.inotify, &mut buffer);
        let mut all = Vec::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map(CStr::to_owned);
            all.push(Raw {
                watch: event.wd(),
                flags: event.events(),
                cookie: event.cookie(),
                name,
            });
            if reader.is_buffer_empty() {
                return Some(all);
            }
        }
        None
    }

    fn event(
        &mut self,
        raw: Raw,
        touched: &[Touched],
        paths: &mut impl FnMut(u64) -> Option<PathBuf>,
    ) {
        if raw.flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            return self.lose();
        }
        let Some(&node) = self.nodes.get(&raw.watch) else { return };
        if raw.flags.contains(ReadFlags::IGNORED) {
            self.nodes.remove(&raw.watch);
            self.watches.remove(&node);
            return;
        }
        let Some(change) = raw.change() else { return };
        let (Some(root), Some(mut path)) = (paths(ROOT), paths(node)) else { return };
        if let Some(name) = &raw.name {
            path.push(OsStr::from_bytes(name.to_bytes()));
        }
        if touched.iter().any(|touched| touched.path(paths).as_ref() == Some(&path)) {
            return;
        }
        // What was moved out of the root is nobody's business.
        let Ok(path) = path.strip_prefix(root).map(Path::to_owned) else { return };
        let event = Event { path, directory: raw.flags.contains(ReadFlags::ISDIR), change };
        if self.events.back() == Some(&event) {
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            return self.lose();
        }
        self.events.push_back(event);
    }

    fn lose(&mut self) {
        self.events.clear();
        let lost = Event { path: PathBuf::new(), directory: true, change: Change::Lost };
        self.events.push_back(lost);
    }

    /// What has happened and was not taken.
    pub(super) fn take(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl Touched {
    fn path(&self, paths: &mut impl FnMut(u64) -> Option<PathBuf>) -> Option<PathBuf> {
        match self {
            Touched::Name(parent, name) => {
                Some(paths(*parent)?.join(OsStr::from_bytes(name.to_bytes())))
            }
            Touched::Descriptor(descriptor) => self::path(&**descriptor),
            Touched::File(file) => self::path(&**file),
        }
    }
}

/// An event as the kernel has it.
#[derive(Debug)]
struct Raw {
    watch: i32,
    flags: ReadFlags,
    cookie: u32,
    name: Option<CString>,
}

impl Raw {
    fn change(&self) -> Option<Change> {
        let flags = self.flags;
        Some(if flags.contains(ReadFlags::CREATE) {
            Change::Created
        } else if flags.contains(ReadFlags::DELETE) {
            Change::Deleted
        } else if flags.contains(ReadFlags::MOVED_FROM) {
            Change::MovedFrom(self.cookie)
        } else if flags.contains(ReadFlags::MOVED_TO) {
            Change::MovedTo(self.cookie)
        } else if flags.contains(ReadFlags::MODIFY) {
            Change::Modified
        } else if flags.contains(ReadFlags::ATTRIB) {
            Change::Attributes
        } else {
            return None;
        })
    }
}
