//! The server of one exported directory: requests in, answers out, nothing in between.
//!
//! It is plain code that may run anywhere: in the thread of the device, or in a process of its own
//! that has nothing but the directory. What that process needs:
//!
//! * `/proc` of its own mounted at `/proc`, for an `O_PATH` descriptor is opened through it;
//! * to be root over the files' user namespace with `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`
//!   and, for files' capabilities, `SETFCAP`: who may do what is decided by the guest's kernel,
//!   which knows the guest's users, and what is made belongs to whom the guest says;
//! * a soft `RLIMIT_NOFILE` above its [`Limits`] together.
//!
//! Nothing is ever opened by a path of the guest's: it names entries of directories that it was
//! told of, one at a time, and a name that leads elsewhere is none.

mod attributes;
mod files;
mod names;
mod read_directory;
mod saved;
mod xattrs;

use std::{
    ffi::{CStr, CString},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use super::{
    handles::Handles,
    inodes::{Inodes, Limits, ROOT, look},
    watch::{Event, Touched, Watch},
    wire::{Args, IN_HEADER, MAJOR, MINOR, MINOR_MIN, Op, Reply, Request},
};

/// Most bytes that are read or written by one request. A page short of the most that Linux asks
/// for, it asks for: 256 pages. Source: fuse.h, `FUSE_MAX_MAX_PAGES`.
pub const IO_BYTES_MAX: usize = 1 << 20;

/// Longest request: the most that can be written, and what stands before it.
pub const REQUEST_BYTES_MAX: usize = IO_BYTES_MAX + IN_HEADER + 40;

/// How long a guest believes what it was told of names and attributes, unless it is said
/// otherwise.
pub const VALID: Duration = Duration::from_secs(1);

/// Flags of `INIT`.
const ASYNC_READ: u32 = 1;
const ATOMIC_O_TRUNC: u32 = 1 << 3;
const BIG_WRITES: u32 = 1 << 5;
const AUTO_INVAL_DATA: u32 = 1 << 12;
const DO_READDIRPLUS: u32 = 1 << 13;
const READDIRPLUS_AUTO: u32 = 1 << 14;
const ASYNC_DIO: u32 = 1 << 15;
const PARALLEL_DIROPS: u32 = 1 << 18;
const MAX_PAGES: u32 = 1 << 22;
const HANDLE_KILLPRIV_V2: u32 = 1 << 28;

/// What is asked for, if the guest offers it. Not asked for: POSIX and BSD locks, so that the
/// guest keeps them by itself; the write-back cache, so that the host sees at once what the guest
/// has written.
const WANTED: u32 = ASYNC_READ
    | ATOMIC_O_TRUNC
    | BIG_WRITES
    | AUTO_INVAL_DATA
    | DO_READDIRPLUS
    | READDIRPLUS_AUTO
    | ASYNC_DIO
    | PARALLEL_DIROPS
    | MAX_PAGES
    | HANDLE_KILLPRIV_V2;

/// Requests that Linux may have on their way in the background.
const BACKGROUND: u16 = 64;

/// What is exported, and how.
#[derive(Debug)]
pub struct Export {
    /// The directory.
    pub root: OwnedFd,
    /// The only entry of it that there is, for a mount of one file. In the directory itself nothing
    /// can be made or removed then.
    pub only: Option<CString>,
    /// Whether everything that changes it is refused (`EROFS`).
    pub read_only: bool,
    /// How long the guest may believe what it was told.
    pub valid: Duration,
    /// How much it may know of and have open.
    pub limits: Limits,
    /// Whether what others change is told: see [`Server::changes`].
    pub watch: bool,
}

pub use saved::State;

/// Why a directory cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It is none, or cannot be opened.
    #[error("the exported directory cannot be opened")]
    Root(#[source] std::io::Error),
    /// There is no inotify instance for it.
    #[error("the exported directory cannot be watched")]
    Watch(#[source] std::io::Error),
}

/// The server.
#[derive(Debug)]
pub struct Server {
    pub(super) inodes: Inodes,
    handles: Handles,
    only: Option<CString>,
    read_only: bool,
    valid: Duration,
    watch: Option<Watch>,
    /// What the request at hand has touched.
    touched: Vec<Touched>,
    reply: Reply,
    /// `INIT` was answered.
    begun: bool,
}

impl Server {
    /// One that was asked nothing yet.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn new(export: Export) -> Result<Server, ExportError> {
        let refused = |error: Errno| ExportError::Root(error.into());
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(&export.root, c".", flags, Mode::empty()).map_err(refused)?;
        let root = Arc::new(root);
        let inodes = Inodes::new(Arc::clone(&root), export.limits).map_err(refused)?;
        let watch = if export.watch {
            let mut watch = Watch::new().map_err(|error| ExportError::Watch(error.into()))?;
            watch.add(ROOT, &root);
            Some(watch)
        } else {
            None
        };
        Ok(Server {
            inodes,
            handles: Handles::new(export.limits.handles),
            only: export.only,
            read_only: export.read_only,
            valid: export.valid,
            watch,
            touched: Vec::new(),
            reply: Reply::default(),
            begun: false,
        })
    }

    /// Answers a request, in at most `room` bytes. To some there is no answer, and to those that
    /// are none there cannot be one.
    pub fn handle(&mut self, request: &[u8], room: usize) -> Option<&[u8]> {
        let (request, args) = Request::parse(request)?;
        self.reply.begin(room);
        let answer = match Op::from_number(request.number) {
            None => Err(Errno::NOSYS),
            Some(Op::Forget) => {
                self.forget(request.node, args);
                return None;
            }
            Some(Op::BatchForget) => {
                self.forget_many(args);
                return None;
            }
            Some(Op::Interrupt) => return None,
            Some(Op::Init) => self.init(args),
            // Source: fuse.h: INIT is the first request, and of what comes before nothing is known.
            Some(_) if !self.begun => Err(Errno::IO),
            Some(op) if self.read_only && op.changes() => Err(Errno::ROFS),
            Some(op) => self.watched(op, &request, args),
        };
        self.reply.finish(request.unique, answer)
    }

    /// Gives the exported directory one more entry: a directory or a file that is mounted nowhere,
    /// by its descriptor (open_tree(2)). The guest finds it under its name, but not by reading the
    /// directory.
    ///
    /// # Errors
    /// `EEXIST` if there is one of that name; `EINVAL` if it is no name; `EPERM` if it is no such
    /// descriptor.
    pub fn graft(&mut self, name: CString, what: OwnedFd) -> Result<(), Errno> {
        self.inodes.graft(name, what)
    }

    /// Takes such an entry away, and everything beneath it that the guest knows or has open.
    ///
    /// # Errors
    /// `ENOENT` if there is none of that name.
    pub fn prune(&mut self, name: &CStr) -> Result<(), Errno> {
        let pruned = self.inodes.prune(name)?;
        let inodes = &self.inodes;
        // A guest does not forget what it has open, unless it means to keep it.
        self.handles.retain(|node| inodes.knows(node) && !pruned.contains(&node));
        Ok(())
    }

    /// There are no requests at the moment: what the last ones took can go.
    pub fn rest(&mut self) {
        self.reply.rest();
    }

    /// Everything that the guest knew and had open is gone: its driver has begun anew.
    pub fn reset(&mut self) {
        self.inodes.clear();
        self.handles.clear();
        self.begun = false;
        if let Some(watch) = &mut self.watch {
            watch.clear();
            if let Ok(root) = self.inodes.get(ROOT) {
                watch.add(ROOT, &root);
            }
        }
    }

    /// Readable when others have changed something: see [`Server::changes`].
    pub fn watch_fd(&self) -> Option<BorrowedFd<'_>> {
        self.watch.as_ref().map(|watch| watch.as_fd())
    }

    /// What others than the guest have changed in directories that it has looked at, since this
    /// was last asked; see [`Event`].
    pub fn changes(&mut self) -> Vec<Event> {
        self.collect();
        self.watch.as_mut().map(Watch::take).unwrap_or_default()
    }

    /// Answers what may change something, so that what it changes is not taken for the doing of
    /// others.
    fn watched(&mut self, op: Op, request: &Request, args: Args<'_>) -> Result<(), Errno> {
        if self.watch.is_none() || !(op.changes() || op == Op::Open) {
            return self.dispatch(op, request, args);
        }
        self.touched.clear();
        self.collect();
        let answer = self.dispatch(op, request, args);
        self.collect();
        self.touched.clear();
        answer
    }

    /// Takes what the kernel says has changed, less what the request at hand has touched.
    fn collect(&mut self) {
        let Some(mut watch) = self.watch.take() else { return };
        let touched = std::mem::take(&mut self.touched);
        watch.collect(&touched, |node| self.path(node));
        self.touched = touched;
        self.watch = Some(watch);
    }

    /// The path of a directory, as the host has it now.
    fn path(&mut self, node: u64) -> Option<PathBuf> {
        super::watch::path(&*self.inodes.get(node).ok()?)
    }

    /// Notes what a request touches, if anybody wants to know.
    fn touch(&mut self, touched: impl FnOnce() -> Touched) {
        if self.watch.is_some() {
            self.touched.push(touched());
        }
    }

    fn dispatch(&mut self, op: Op, request: &Request, args: Args<'_>) -> Result<(), Errno> {
        let node = request.node;
        match op {
            Op::Lookup => self.lookup(node, args),
            Op::GetAttr => self.get_attributes(node, args),
            Op::SetAttr => self.set_attributes(node, args),
            Op::ReadLink => self.read_link(node),
            Op::SymLink => self.make_symlink(request, args),
            Op::MkNod => self.make_node(request, args),
            Op::MkDir => self.make_directory(request, args),
            Op::Unlink => self.remove(node, args, rustix::fs::AtFlags::empty()),
            Op::RmDir => self.remove(node, args, rustix::fs::AtFlags::REMOVEDIR),
            Op::Rename => self.rename(node, args, false),
            Op::Rename2 => self.rename(node, args, true),
            Op::Link => self.link(node, args),
            Op::Open => self.open(node, args),
            Op::Create => self.create(request, args),
            Op::Read => self.read(args),
            Op::Write => self.write(args),
            Op::StatFs => self.statistics(node),
            Op::Release | Op::ReleaseDir => self.release(args),
            Op::FSync => self.sync_file(args),
            Op::FSyncDir => self.sync_directory(args),
            Op::SyncFs => self.sync_all(),
            Op::SetXattr => self.set_xattr(node, args),
            Op::GetXattr => self.get_xattr(node, args),
            Op::ListXattr => self.list_xattrs(node, args),
            Op::RemoveXattr => self.remove_xattr(node, args),
            Op::Flush => self.flush(args),
            Op::OpenDir => self.open_directory(node),
            Op::ReadDir => self.read_directory(node, args, false),
            Op::ReadDirPlus => self.read_directory(node, args, true),
            Op::FAllocate => self.allocate(args),
            Op::LSeek => self.seek(args),
            Op::CopyFileRange => self.copy(args),
            Op::Destroy => {
                self.reset();
                Ok(())
            }
            // These were answered before.
            Op::Init | Op::Forget | Op::BatchForget | Op::Interrupt => Err(Errno::NOSYS),
        }
    }

    /// `struct fuse_init_in`, `struct fuse_init_out`.
    fn init(&mut self, mut args: Args<'_>) -> Result<(), Errno> {
        let (major, minor) = (args.u32()?, args.u32()?);
        if major < MAJOR || (major == MAJOR && minor < MINOR_MIN) {
            return Err(Errno::PROTO);
        }
        // A newer guest is told what is spoken here, and asks again.
        let (readahead, offered) = if major > MAJOR { (0, 0) } else { (args.u32()?, args.u32()?) };
        self.reset();
        self.begun = major == MAJOR;
        let reply = &mut self.reply;
        reply.u32(MAJOR);
        reply.u32(MINOR);
        reply.u32(readahead);
        reply.u32(offered & WANTED);
        reply.u16(BACKGROUND);
        reply.u16(BACKGROUND / 4 * 3);
        reply.u32(u32::try_from(IO_BYTES_MAX).map_err(|_| Errno::OVERFLOW)?);
        // Times are to the nanosecond.
        reply.u32(1);
        reply.u16(u16::try_from(IO_BYTES_MAX / 4096).map_err(|_| Errno::OVERFLOW)?);
        reply.zeros(2 + 4 + 28);
        Ok(())
    }

    /// Whether a name may be looked up in a directory.
    fn admits(&self, parent: u64, name: &CStr) -> bool {
        parent != ROOT || self.only.as_deref().is_none_or(|only| only == name)
    }

    /// Whether entries of a directory may come and go.
    fn check_entries(&self, parent: u64) -> Result<(), Errno> {
        if parent == ROOT && self.only.is_some() { Err(Errno::PERM) } else { Ok(()) }
    }

    /// Tells the guest of an inode, as an answer; gives its number.
    fn tell(&mut self, parent: u64, name: &CStr, descriptor: OwnedFd) -> Result<u64, Errno> {
        let at = look(&descriptor)?;
        let node = self.know(parent, name, descriptor, &at)?;
        let ino = self.inodes.ino(&at);
        self.reply.entry(node, self.valid, ino, &at);
        Ok(node)
    }

    /// Puts an inode among those that the guest knows.
    fn know(
        &mut self,
        parent: u64,
        name: &CStr,
        descriptor: OwnedFd,
        at: &rustix::fs::Statx,
    ) -> Result<u64, Errno> {
        let (node, new) = self.inodes.tell(parent, name, descriptor, at)?;
        let directory = is_directory(at);
        if let Some(watch) = self.watch.as_mut().filter(|_| new && directory) {
            watch.add(node, &*self.inodes.get(node)?);
        }
        Ok(node)
    }

    fn forget(&mut self, node: u64, mut args: Args<'_>) {
        let Ok(lookups) = args.u64() else { return };
        self.forget_one(node, lookups);
    }

    fn forget_many(&mut self, mut args: Args<'_>) {
        let (Ok(count), Ok(_)) = (args.u32(), args.u32()) else { return };
        for _ in 0..count {
            let (Ok(node), Ok(lookups)) = (args.u64(), args.u64()) else { return };
            self.forget_one(node, lookups);
        }
    }

    fn forget_one(&mut self, node: u64, lookups: u64) {
        if self.inodes.forget(node, lookups)
            && let Some(watch) = &mut self.watch
        {
            watch.remove(node);
        }
    }
}

/// The path by which a descriptor is opened again, or changed although it is `O_PATH`. What it
/// leads to is the inode itself: a symbolic link is not followed.
///
/// Source: proc_pid_fd(5).
fn by_descriptor(descriptor: impl AsFd) -> Result<CString, Errno> {
    let path = format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd());
    CString::new(path).map_err(|_| Errno::INVAL)
}

/// Opens an inode for use.
fn reopen(descriptor: &OwnedFd, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(CWD, by_descriptor(descriptor)?, flags | OFlags::CLOEXEC, Mode::empty())
}

/// Whether these are the attributes of a directory.
fn is_directory(at: &rustix::fs::Statx) -> bool {
    rustix::fs::FileType::from_raw_mode(at.stx_mode.into()) == rustix::fs::FileType::Directory
}

/// Whether these are the attributes of a plain file.
fn is_file(at: &rustix::fs::Statx) -> bool {
    rustix::fs::FileType::from_raw_mode(at.stx_mode.into()) == rustix::fs::FileType::RegularFile
}
