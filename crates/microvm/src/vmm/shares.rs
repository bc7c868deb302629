//! What of the host is in the machine: one directory in which every share has its name.
//!
//! ```text
//! guest ══ device, in the machine's process ── socket ──▶ server, a process of its own
//!                                                          /proc, and mounts that are nowhere
//! ```
//!
//! The server is what the machine's process must not be: one that may do with files what root may.
//! So it has nothing but the shares: its root holds the `/proc` that a server needs and an empty
//! directory, to which shares are handed over as mounts that nobody else has, also while the machine
//! runs. It ends when the machine's end of the socket does.

use std::{
    convert::Infallible,
    ffi::{CStr, CString},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use base::chain;
use rustix::{
    fs::{CWD, Mode, OFlags, open},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, move_mount,
    },
    process::{Resource, Rlimit, chroot, fchdir, getrlimit, setrlimit},
};
use sys::{
    clone::Namespaces,
    fork::{Children, on_child_exit},
    mount::{Change, attribute, set_attributes},
};
use virtio::fs::{Export, Limits, Remote, Serve as _, Server, VALID, run};

use walls::{
    calls,
    rights::{self, Step},
};

use super::Refusal;
use crate::furniture::SHARES_MAX;

/// The directory that is served, in the server's root.
const PLACE: &str = "/shares";

/// What the server keeps of root's capabilities: `CHOWN`, `DAC_OVERRIDE`, `FOWNER`, `FSETID`,
/// `MKNOD` (for the marks of overlays) and `SETFCAP`.
///
/// Source: [`virtio::fs::Server`], what its process needs; linux/capability.h.
const CAPABILITIES: u64 = 1 | 1 << 1 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31;

/// The namespaces that it has from its birth on; that of its mounts it enters.
const NAMESPACES: Namespaces = Namespaces(
    Namespaces::PID | Namespaces::NET | Namespaces::IPC | Namespaces::UTS | Namespaces::CGROUP,
);

/// Descriptors that the server has beside those of the guest's files: its own, and shares.
const DESCRIPTORS_OWN: u64 = 64 + SHARES_MAX as u64;

/// What the server says when it serves; anything else is the text of an error.
const SERVES: u8 = 0;

/// Longest such text, in bytes.
const ERROR_BYTES_MAX: u64 = 4096;

/// Shares that were handed over.
#[derive(Debug, Default)]
pub(super) struct Shares(Vec<(CString, OwnedFd)>);

impl Shares {
    pub(super) fn add(&mut self, name: CString, mount: OwnedFd) {
        self.0.push((name, mount));
    }

    /// Has them served from now on, and those that come later. `ground` is an empty mount
    /// namespace. To be called while this process has one thread.
    pub(super) fn serve(self, ground: &OwnedFd) -> Result<Remote, Refusal> {
        let mut remote = start(ground)?;
        for (name, mount) in self.0 {
            remote.graft(&name, mount)?;
        }
        Ok(remote)
    }
}

/// Starts the server.
fn start(ground: &OwnedFd) -> Result<Remote, Refusal> {
    let (mut ours, theirs) = UnixStream::pair()?;
    // Nobody waits for it: its end is seen at the socket.
    on_child_exit(Children::Forgotten)?;
    sys::clone::spawn(NAMESPACES, None, || {
        let Err(error) = serve(&theirs, ground);
        // Whoever is to read it may be gone.
        let _ = (&theirs).write_all(chain(&*error).as_bytes());
        1
    })?;
    drop(theirs);
    let mut word = [0];
    let mut why = match ours.read(&mut word)? {
        0 => return Err("the server of the shares was killed".into()),
        _ if word == [SERVES] => return Ok(Remote::new(ours)),
        _ => word.to_vec(),
    };
    ours.take(ERROR_BYTES_MAX).read_to_end(&mut why)?;
    Err(format!("the shares are not served: {}", String::from_utf8_lossy(&why)).into())
}

/// Is the server, until the machine has gone.
fn serve(socket: &UnixStream, ground: &OwnedFd) -> Result<Infallible, Refusal> {
    // It is only for `ps`.
    let _ = rustix::thread::set_name(c"wythe-shares");
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let (root, requests) = (make_root(ground)?, socket.try_clone()?);
    rights::keep_only(&null, &[root.as_fd(), requests.as_fd(), socket.as_fd()])?;
    let limits = limits()?;
    let (read_only, watch) = (false, false);
    let server = Server::new(Export { root, only: None, read_only, valid: VALID, limits, watch })?;
    rights::give_up(&[
        Step::Bound(CAPABILITIES),
        Step::Capabilities(CAPABILITIES),
        Step::Hide,
        Step::NoNewPrivileges,
        Step::Calls(calls::shares()?),
    ])?;
    (&requests).write_all(&[SERVES])?;
    let ended = run(server, requests, None);
    sys::process::exit_now(u8::from(ended.is_err()))
}

/// Makes the server's root, and gives the directory that is served.
fn make_root(ground: &OwnedFd) -> io::Result<OwnedFd> {
    // Where the host's own can be seen: who has no other is not let have one.
    let proc = new_mount(c"proc", &[(c"subset", c"pid")])?;
    let root = new_mount(c"tmpfs", &[(c"mode", c"555"), (c"size", c"1M")])?;
    let mounts = Namespaces(Namespaces::MOUNT);
    sys::namespace::enter(ground.as_fd(), mounts)?;
    sys::namespace::leave(mounts)?;
    place(&root, Path::new("/"))?;
    fchdir(&root)?;
    chroot(".")?;
    fs::create_dir("/proc")?;
    place(&proc, Path::new("/proc"))?;
    fs::create_dir(PLACE)?;
    let change = Change { set: attribute::READ_ONLY, ..Change::default() };
    set_attributes(root.as_fd(), change, None)?;
    Ok(open(PLACE, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A file system of its own that is in no namespace yet, and from which nothing runs.
fn new_mount(kind: &CStr, parameters: &[(&CStr, &CStr)]) -> io::Result<OwnedFd> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in parameters {
        fsconfig_set_string(&context, *key, *value)?;
    }
    fsconfig_create(&context)?;
    let guard = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, guard)?)
}

fn place(mount: &OwnedFd, at: &Path) -> io::Result<()> {
    Ok(move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?)
}

/// How much the server may know of and have open, with all the descriptors that it may have.
fn limits() -> io::Result<Limits> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    let usual = Limits::default();
    let each = limit.maximum.unwrap_or(u64::MAX).saturating_sub(DESCRIPTORS_OWN) / 2;
    let each = usize::try_from(each).unwrap_or(usize::MAX);
    Ok(Limits {
        descriptors: usual.descriptors.min(each).max(2),
        handles: usual.handles.min(each),
        ..usual
    })
}
