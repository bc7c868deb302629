//! The container's terminal.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Uid},
    io::{Errno, Result},
    pty::OpenptFlags,
};
use sys::process;
use workload::TerminalSize;

use super::{Child, State, errno, mount, root_of};
use crate::{
    beneath,
    op::{Make, Slot},
    report::Message,
    terminal,
};

/// statfs(2): `DEVPTS_SUPER_MAGIC`.
const DEVPTS_MAGIC: i64 = 0x1cd1;
/// Device number of `/dev/pts/ptmx` (linux Documentation/admin-guide/devices.txt).
const PTMX: (u32, u32) = (5, 2);

impl Child<'_> {
    /// Opens a terminal in the container's own devpts, so that its name is right inside.
    pub(super) fn terminal(
        &self,
        state: &State,
        console: bool,
        uid: u32,
        size: TerminalSize,
    ) -> Result<()> {
        let master = open_master(state)?;
        rustix::pty::unlockpt(&master)?;
        // Before anybody can ask for it.
        if size != TerminalSize::default() {
            rustix::termios::tcsetwinsize(&master, terminal::window(size))?;
        }
        // By ioctl, because a path to the other end could be made to mean something else.
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = rustix::pty::ioctl_tiocgptpeer(&master, flags)?;
        rustix::fs::fchown(&slave, Some(Uid::from_raw(uid)), None)?;
        if console {
            let copy = mount::copy_of(slave.as_fd(), c"", false)?;
            let target = beneath::find_or_make(root_of(state)?, c"/dev/console", Make::File)?;
            mount::attach(copy.as_fd(), target.as_fd())?;
        }
        self.say(Message::Terminal, Some(master.as_fd()))?;
        for number in 0..3 {
            errno(process::place(slave.as_fd(), number, false))?;
        }
        Ok(())
    }

    pub(super) fn streams(&self, slots: [Slot; 3]) -> Result<()> {
        for (number, slot) in (0..3).zip(slots) {
            errno(process::place(self.fd(slot)?, number, false))?;
        }
        Ok(())
    }
}

/// The container's `ptmx`, checked to be one: in an exec, whoever runs inside may have put
/// something else there.
fn open_master(state: &State) -> Result<OwnedFd> {
    let found;
    let devpts = match &state.devpts {
        Some(devpts) => devpts,
        None => {
            found = beneath::find(root_of(state)?, c"/dev/pts")?;
            &found
        }
    };
    if rustix::fs::fstatfs(devpts)?.f_type != DEVPTS_MAGIC {
        return Err(Errno::NODEV);
    }
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
    let path = OFlags::PATH | OFlags::CLOEXEC;
    let node = rustix::fs::openat2(devpts, c"ptmx", path, Mode::empty(), resolve)?;
    let stat = rustix::fs::fstat(&node)?;
    let ptmx = rustix::fs::makedev(PTMX.0, PTMX.1);
    if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice || stat.st_rdev != ptmx {
        return Err(Errno::NODEV);
    }
    rustix::fs::openat2(devpts, c"ptmx", flags, Mode::empty(), resolve)
}

/// Gives standard streams to the user, so that `/dev/stdout` can be opened again. Pipes and
/// terminals can be given; what cannot (a file of another user namespace, a read-only file
/// system) is left, and the null device is everybody's.
pub(super) fn own_streams(uid: u32) -> Result<()> {
    for fd in [rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr()] {
        let Ok(stat) = rustix::fs::fstat(fd) else { continue };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if stat.st_uid == uid || kind == FileType::CharacterDevice && stat.st_rdev == null() {
            continue;
        }
        match rustix::fs::fchown(fd, Some(Uid::from_raw(uid)), None::<Gid>) {
            Ok(()) | Err(Errno::INVAL | Errno::PERM | Errno::ROFS | Errno::NOTSUP) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

fn null() -> u64 {
    rustix::fs::makedev(1, 3)
}
