//! The parent's side: carries a plan out, follows the child until it has become the command.
//!
//! [`start`] makes the child; [`Launching::advance`] is called whenever its descriptor is
//! readable, by an event loop or by [`Launching::wait`]. Dropping a [`Launching`] that has not
//! come to its end kills the child and reaps it.

use std::{
    fs::File,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
};

use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, waitid},
};
use sys::clone::{Child, Namespaces};
use workload::DriverError;

use crate::{
    idmap, init,
    op::{Kinds, Op, Stage},
    plan::Plan,
    prepare::{self, Given},
    report::{self, Message},
    sysctl::Parameter,
};

/// A child on its way to the command.
#[derive(Debug)]
pub(crate) struct Launching {
    child: Option<Child>,
    channel: OwnedFd,
    ops: Vec<Op>,
    command: String,
    path: bool,
    executing: bool,
    terminal: Option<OwnedFd>,
    warnings: Vec<String>,
}

/// A process that has become the command, or waits to be started.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) child: Child,
    /// The master of its terminal.
    pub(crate) terminal: Option<OwnedFd>,
    /// What was let go.
    pub(crate) warnings: Vec<String>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing new until the descriptor is readable.
    Waiting,
    /// It waits at this stage for [`Launching::go`].
    Told(Stage),
    /// It is the command.
    Running,
}

/// Makes the child.
///
/// # Errors
/// `Step` for what the kernel refuses; nothing is left.
pub(crate) fn start(plan: Plan, given: &Given) -> Result<Launching, DriverError> {
    let table = prepare::table(&plan.table, given)?;
    let step = |what: &'static str| move |error: std::io::Error| DriverError::step(what, &error);
    let (channel, child_end) =
        report::channel().map_err(|error| step("make a socket pair")(error.into()))?;
    // The command must not be able to look into its makers.
    if rustix::process::geteuid().is_root() {
        sys::process::hide().map_err(step("hide from tracers"))?;
    }
    let visit = Visit::enter(&plan, &table)?;
    let body = init::Child {
        ops: &plan.ops,
        fds: &table,
        command: &plan.command,
        channel: child_end.as_fd(),
    };
    let cgroup = given.cgroup.as_ref().map(AsFd::as_fd);
    let set = set_parameters(&plan.sysctls);
    let child = set.map(|()| sys::clone::spawn(plan.namespaces, cgroup, || body.run()));
    visit.leave()?;
    let child = child?;
    let child = child.map_err(|error| {
        DriverError::step(format!("clone with {} namespaces", Kinds(plan.namespaces)), &error)
    })?;
    drop(child_end);
    let launching = Launching {
        path: plan.command.name.contains('/'),
        command: plan.command.name,
        child: Some(child),
        channel,
        ops: plan.ops,
        executing: false,
        terminal: None,
        warnings: Vec::new(),
    };
    if let Some(map) = &plan.user {
        idmap::write(launching.pid(), map)?;
        launching.go()?;
    }
    Ok(launching)
}

impl Launching {
    /// The child's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().map_or(0, |child| child.pid)
    }

    /// What becomes readable when there is something new.
    pub(crate) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Lets the child go on from where it waits.
    pub(crate) fn go(&self) -> Result<(), DriverError> {
        report::go(self.channel())
            .map_err(|error| DriverError::step("let the child go on", &error.into()))
    }

    /// Takes what there is.
    ///
    /// # Errors
    /// Why it did not become the command; it is gone then.
    pub(crate) fn advance(&mut self) -> Result<Progress, DriverError> {
        loop {
            let (message, fd) = match report::receive(&self.channel) {
                Ok(Some(received)) => received,
                Ok(None) if self.executing => return Ok(Progress::Running),
                Ok(None) => return Err(self.lost()),
                Err(Errno::AGAIN) => return Ok(Progress::Waiting),
                Err(error) => return Err(DriverError::step("hear the child", &error.into())),
            };
            match message {
                Message::Failed { op, errno } => return Err(self.failed(op, errno)),
                Message::Warned { op, errno } => self.warn(op, errno),
                Message::Told(stage) => return Ok(Progress::Told(stage)),
                Message::Terminal => self.terminal = fd,
                Message::Executing => self.executing = true,
                Message::Sibling { pid } => {
                    let next = fd.map(|pidfd| Child { pid, pidfd });
                    // The one it came from is done.
                    if let Some(done) = std::mem::replace(&mut self.child, next) {
                        reap(&done);
                    }
                }
            }
        }
    }

    /// [`Launching::advance`] until there is something to do.
    #[cfg(feature = "oci")]
    pub(crate) fn wait(&mut self) -> Result<Progress, DriverError> {
        use rustix::event::{PollFd, PollFlags, poll};
        loop {
            match self.advance()? {
                Progress::Waiting => {}
                told @ (Progress::Told(_) | Progress::Running) => return Ok(told),
            }
            let mut fds = [PollFd::new(&self.channel, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(DriverError::step("wait for the child", &error.into())),
            }
        }
    }

    /// The process, once it runs or waits to be started.
    pub(crate) fn into_launched(mut self) -> Result<Launched, DriverError> {
        match self.child.take() {
            Some(child) => Ok(Launched {
                child,
                terminal: self.terminal.take(),
                warnings: std::mem::take(&mut self.warnings),
            }),
            None => Err(self.lost()),
        }
    }

    fn warn(&mut self, op: u16, errno: i32) {
        let error = std::io::Error::from_raw_os_error(errno);
        self.warnings.push(format!("{}: {error}", self.step(op)));
    }

    fn step(&self, op: u16) -> String {
        self.ops.get(usize::from(op)).map_or_else(|| format!("step {op}"), Op::to_string)
    }

    fn failed(&self, op: u16, errno: i32) -> DriverError {
        let command = self.command.clone();
        let why = text(errno);
        let error = Errno::from_raw_os_error(errno);
        match self.ops.get(usize::from(op)) {
            Some(Op::Find) if error == Errno::NOENT && self.path => {
                let why = format!("stat {command}: {why}");
                DriverError::CommandNotFound { command, why }
            }
            Some(Op::Find) if error == Errno::NOENT => {
                let why = "executable file not found in $PATH".into();
                DriverError::CommandNotFound { command, why }
            }
            // A script whose interpreter, or a program whose loader, is not there.
            Some(Op::Execute) if error == Errno::NOENT => {
                DriverError::CommandNotFound { command, why }
            }
            Some(Op::Find | Op::Execute) => DriverError::CommandNotRunnable { command, why },
            _ => DriverError::Step { step: self.step(op), errno },
        }
    }

    /// The child ended without a word: killed, as by a limit on memory.
    fn lost(&self) -> DriverError {
        DriverError::Step {
            step: "start the process: it was killed on the way (is there too little memory?)"
                .into(),
            errno: Errno::CHILD.raw_os_error(),
        }
    }
}

impl Drop for Launching {
    fn drop(&mut self) {
        if let Some(child) = self.child.take() {
            // It may have ended by itself.
            let _ = sys::process::signal(child.pidfd.as_fd(), 9);
            reap(&child);
        }
    }
}

/// Waits for a child that is about to end.
pub(crate) fn reap(child: &Child) {
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
}

/// What the kernel's error numbers are called in Docker's messages.
fn text(errno: i32) -> String {
    match Errno::from_raw_os_error(errno) {
        Errno::NOENT => "no such file or directory".into(),
        Errno::ACCESS => "permission denied".into(),
        Errno::ISDIR => "is a directory".into(),
        Errno::NOTDIR => "not a directory".into(),
        Errno::NOEXEC => "exec format error".into(),
        Errno::PERM => "operation not permitted".into(),
        other => other.to_string(),
    }
}

/// Sets kernel parameters of the namespaces that this process is in.
fn set_parameters(all: &[Parameter]) -> Result<(), DriverError> {
    for (path, value) in all {
        let path = std::path::Path::new("/proc").join(std::ffi::OsStr::from_bytes(path.to_bytes()));
        std::fs::write(&path, value.to_bytes())
            .map_err(|error| DriverError::step(format!("set {}", path.display()), &error))?;
    }
    Ok(())
}

/// Namespaces that this process visits while it clones, and the way back.
struct Visit(Vec<(OwnedFd, Namespaces)>);

impl Visit {
    fn enter(plan: &Plan, table: &[OwnedFd]) -> Result<Visit, DriverError> {
        let mut visit = Visit(Vec::new());
        for (slot, kind) in &plan.visits {
            let entered = visit.enter_one(table.get(slot.0), *kind);
            if let Err(error) = entered {
                visit.leave()?;
                return Err(error);
            }
        }
        Ok(visit)
    }

    fn enter_one(&mut self, target: Option<&OwnedFd>, kind: Namespaces) -> Result<(), DriverError> {
        let step = format!("enter the {} namespace", Kinds(kind));
        let step = |error: &std::io::Error| DriverError::step(&step, error);
        let own = File::open(own(kind)).map_err(|error| step(&error))?;
        let target = target.ok_or_else(|| step(&Errno::BADF.into()))?;
        sys::namespace::enter(target.as_fd(), kind).map_err(|error| step(&error))?;
        self.0.push((own.into(), kind));
        Ok(())
    }

    fn leave(self) -> Result<(), DriverError> {
        for (own, kind) in self.0.iter().rev() {
            sys::namespace::enter(own.as_fd(), *kind).map_err(|error| {
                DriverError::step(format!("return to the {} namespace", Kinds(*kind)), &error)
            })?;
        }
        Ok(())
    }
}

fn own(kind: Namespaces) -> &'static str {
    match kind.0 {
        Namespaces::NET => "/proc/thread-self/ns/net",
        Namespaces::IPC => "/proc/thread-self/ns/ipc",
        Namespaces::UTS => "/proc/thread-self/ns/uts",
        _ => "/proc/thread-self/ns/pid",
    }
}
