//! The child's side: runs a plan's operations one after the other, then becomes the command.
//!
//! Between clone(2) and execve(2) nothing here allocates or takes a lock: all strings, programs
//! and lists are the plan's, descriptors are the launch's, buffers are on the stack. What fails
//! is reported with its operation's number; what may fail is reported as a warning.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`Child::step` lists every operation; each part is handed its own"
)]

mod command;
mod device;
mod hook;
pub(crate) mod mount;
mod privilege;
mod root;
mod terminal;

pub(crate) use self::privilege::GROUPS_MAX;

use std::{
    ffi::CStr,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::{Errno, Result},
};
use sys::{clone::Namespaces, process};

use crate::{
    op::{Command, Op, Slot, Stage},
    report::{self, Message},
};

/// Exit code of a child that reported why it failed.
const FAILED: u8 = 1;

/// What the child has at hand.
pub(crate) struct Child<'a> {
    pub(crate) ops: &'a [Op],
    pub(crate) fds: &'a [OwnedFd],
    pub(crate) command: &'a Command,
    pub(crate) channel: BorrowedFd<'a>,
}

/// What operations leave for later ones.
#[derive(Default)]
struct State {
    /// The root directory to be, then the root directory.
    root: Option<OwnedFd>,
    /// The host's `/proc`, in which `self` is this process.
    proc: Option<OwnedFd>,
    /// The container's own `/proc`, as it was mounted.
    own_proc: Option<OwnedFd>,
    /// The container's devpts.
    devpts: Option<OwnedFd>,
    /// An empty read-only directory to mask others with.
    empty: Option<OwnedFd>,
    /// Which candidate is the command.
    found: Option<usize>,
}

/// How running the operations ended without becoming the command.
enum End {
    /// A sibling goes on in this one's place.
    Succeeded,
    Failed(Errno),
}

impl Child<'_> {
    /// Runs the operations. Answers the exit code if it did not become the command.
    pub(crate) fn run(&self) -> u8 {
        let mut state = State { proc: open_host_proc(), ..State::default() };
        let code = self.run_all(&mut state);
        // Its descriptors may be closed already, and end with the process in any case.
        std::mem::forget(state);
        code
    }

    fn run_all(&self, state: &mut State) -> u8 {
        for (number, op) in self.ops.iter().enumerate() {
            let number = u16::try_from(number).unwrap_or(u16::MAX);
            match self.step(state, op) {
                Ok(()) => {}
                Err(End::Succeeded) => return 0,
                Err(End::Failed(errno)) if may_fail(op, errno) => {
                    let errno = errno.raw_os_error();
                    // A parent that is gone is found out by the operation that waits for it.
                    let _ = self.say(Message::Warned { op: number, errno }, None);
                }
                Err(End::Failed(errno)) => {
                    let errno = errno.raw_os_error();
                    let _ = self.say(Message::Failed { op: number, errno }, None);
                    return FAILED;
                }
            }
        }
        FAILED
    }

    fn say(&self, message: Message, fd: Option<BorrowedFd<'_>>) -> Result<()> {
        report::send(self.channel, message, fd)
    }

    fn fd(&self, slot: Slot) -> Result<BorrowedFd<'_>> {
        self.fds.get(slot.0).map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    fn step(&self, state: &mut State, op: &Op) -> std::result::Result<(), End> {
        match op {
            Op::Sibling => self.sibling(),
            Op::Execute => {
                // A container that was created is started when its maker has long ended.
                let _ = self.say(Message::Executing, None);
                Err(End::Failed(self.execute(state)))
            }
            op @ (Op::DieWithParent(_)
            | Op::StayWithParent
            | Op::DefaultSignals
            | Op::Session
            | Op::JoinCgroup(_)
            | Op::Enter { .. }
            | Op::Leave(_)
            | Op::Clocks(_)
            | Op::Await
            | Op::Tell(_)
            | Op::Hostname(_)
            | Op::Domainname(_)
            | Op::Loopback
            | Op::Sysctl { .. }
            | Op::AwaitStart(_)
            | Op::Hook(_)) => self.scene(state, op).map_err(End::Failed),
            op @ (Op::Detach
            | Op::AttachRoot { .. }
            | Op::OpenRoot
            | Op::Mount { .. }
            | Op::Attach { .. }
            | Op::Attributes { .. }
            | Op::Link { .. }
            | Op::Device { .. }
            | Op::BindDevice { .. }
            | Op::PivotRoot
            | Op::Chroot
            | Op::Mask(_)
            | Op::ReadOnly(_)
            | Op::MakeDirectory(_)) => self.files(state, op).map_err(End::Failed),
            op @ (Op::BecomeRoot
            | Op::Terminal { .. }
            | Op::ControlTerminal
            | Op::Streams(_)
            | Op::OwnStreams(_)
            | Op::Keyring(_)
            | Op::Label { .. }
            | Op::OomScore(_)
            | Op::Limit { .. }
            | Op::Personality(_)
            | Op::NoNewPrivileges
            | Op::Seccomp { .. }
            | Op::Bound { .. }
            | Op::Identity { .. }
            | Op::Capabilities { .. }
            | Op::Umask(_)
            | Op::Directory(_)
            | Op::Find
            | Op::CloseOthers) => self.self_(state, op).map_err(End::Failed),
        }
    }

    /// Operations on what surrounds the process.
    fn scene(&self, state: &State, op: &Op) -> Result<()> {
        match op {
            Op::DieWithParent(die) => errno(process::die_with_parent(*die)),
            Op::StayWithParent => {
                errno(process::die_with_parent(true))?;
                report::still_heard(self.channel)
            }
            Op::DefaultSignals => errno(process::default_signals()),
            Op::Session => rustix::process::setsid().map(|_| ()),
            Op::JoinCgroup(slot) => write_all(self.fd(*slot)?, b"0"),
            Op::Enter { namespace, kinds } => {
                errno(sys::namespace::enter(self.fd(*namespace)?, *kinds))
            }
            Op::Leave(kinds) => errno(sys::namespace::leave(*kinds)),
            Op::Clocks(offsets) => set_clocks(proc_of(state)?, offsets),
            Op::Await => report::await_go(self.channel),
            Op::Tell(stage) => self.tell(*stage),
            Op::Hostname(name) => rustix::system::sethostname(name.to_bytes()),
            Op::Domainname(name) => rustix::system::setdomainname(name.to_bytes()),
            Op::Loopback => errno(sys::namespace::loopback_up()),
            Op::Sysctl { path, value } => set_parameter(state, path, value.to_bytes()),
            Op::AwaitStart(slot) => await_start(self.fd(*slot)?),
            Op::Hook(hook) => hook::run(hook),
            _ => Err(Errno::INVAL),
        }
    }

    fn tell(&self, stage: Stage) -> Result<()> {
        self.say(Message::Told(stage), None)?;
        match stage {
            Stage::Created => report::await_go(self.channel),
            // What comes next is for the caller of `start`, not for this parent.
            Stage::Ready => Ok(()),
        }
    }

    /// Makes a sibling in the process id namespace for children, hands its pidfd to the parent,
    /// and is done; the sibling goes on.
    ///
    /// So the process that a hostile container sees has already lost every privilege that the
    /// command does not have.
    fn sibling(&self) -> std::result::Result<(), End> {
        match sys::clone::sibling() {
            Ok(None) => Ok(()),
            Ok(Some(child)) => {
                let message = Message::Sibling { pid: child.pid };
                match self.say(message, Some(child.pidfd.as_fd())) {
                    Ok(()) => Err(End::Succeeded),
                    Err(error) => {
                        // Nobody would know of it.
                        let _ = process::signal(child.pidfd.as_fd(), 9);
                        Err(End::Failed(error))
                    }
                }
            }
            Err(error) => Err(End::Failed(to_errno(&error))),
        }
    }
}

/// Whether the start goes on if this operation fails so.
fn may_fail(op: &Op, errno: Errno) -> bool {
    match op {
        Op::Limit { required, .. } => !required && errno == Errno::PERM,
        Op::OomScore(_) => matches!(errno, Errno::PERM | Errno::ACCESS),
        // Whoever shares the host's has message queues only if the host has mounted them.
        Op::Mount { mount, .. } => {
            &*mount.fstype == c"mqueue" && mount.or_bind.is_some() && errno == Errno::NOENT
        }
        // Kernels without keyrings, and users at their quota.
        Op::Keyring(_) => true,
        _ => false,
    }
}

fn open_host_proc() -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, c"/proc", flags, Mode::empty()).ok()
}

fn proc_of(state: &State) -> Result<&OwnedFd> {
    state.proc.as_ref().ok_or(Errno::NOENT)
}

fn root_of(state: &State) -> Result<BorrowedFd<'_>> {
    state.root.as_ref().map(AsFd::as_fd).ok_or(Errno::NOENT)
}

/// Sets a kernel parameter of the namespaces that this process is in.
///
/// Wherever `/proc` is mounted its parameters are those of the caller's namespaces. In the host's
/// all namespaces' files of one name are looked up in one chain (`proc_sys_compare`), a millisecond
/// among a thousand containers; the container's own has only its own. Nothing that was mounted
/// there since is entered.
fn set_parameter(state: &State, path: &CStr, value: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
    let own = |proc| rustix::fs::openat2(proc, path, flags, Mode::empty(), resolve).ok();
    match state.own_proc.as_ref().and_then(own) {
        Some(file) => write_all(file.as_fd(), value),
        None => write_file(proc_of(state)?, path, value),
    }
}

/// Sets the clocks of the time namespace for children, then enters it.
///
/// Source: time_namespaces(7).
fn set_clocks(proc: &OwnedFd, offsets: &CStr) -> Result<()> {
    write_file(proc, c"self/timens_offsets", offsets.to_bytes())?;
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let namespace = rustix::fs::openat(proc, c"self/ns/time_for_children", flags, Mode::empty())?;
    errno(sys::namespace::enter(namespace.as_fd(), Namespaces(Namespaces::TIME)))
}

/// Waits until somebody writes a byte to a FIFO.
fn await_start(fifo: BorrowedFd<'_>) -> Result<()> {
    let mut byte = [0];
    loop {
        match rustix::io::read(fifo, &mut byte) {
            Ok(1) => return Ok(()),
            Ok(_) => return Err(Errno::PIPE),
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
}

/// Writes a whole value to a file of the kernel's in one call, as such files want it.
fn write_file(directory: &OwnedFd, path: &CStr, value: &[u8]) -> Result<()> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(directory, path, flags, Mode::empty())?;
    write_all(file.as_fd(), value)
}

fn write_all(file: BorrowedFd<'_>, value: &[u8]) -> Result<()> {
    let written = rustix::io::write(file, value)?;
    if written == value.len() { Ok(()) } else { Err(Errno::IO) }
}

/// The error number of what `sys` says.
fn errno(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| to_errno(&error))
}

fn to_errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
