//! start, kill, delete, pause, resume: what happens to a container after it was made.

use std::{os::fd::AsFd, time::Duration};

use base::Deadline;
use cgroups::Cgroup;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
};
use workload::Signal;

use super::{
    Context,
    args::Parsed,
    error::OciError,
    hooks,
    record::{Container, Held, Record},
    status::{Identity, Status},
};

/// How long killed processes may take to end.
const END_MS_MAX: u64 = 10_000;
/// How long processes may take to be frozen or thawed.
const FREEZE_MS_MAX: u64 = 10_000;

/// The control group of a container, if it is there.
pub(super) fn cgroup(context: &Context, record: &Record) -> Result<Option<Cgroup>, OciError> {
    Ok(Cgroup::open(context.hierarchy()?, &record.cgroup)?)
}

/// What a container is doing.
pub(super) fn status(context: &Context, container: &Container) -> Result<Status, OciError> {
    match container.status() {
        status @ (Status::Created | Status::Running) => {
            let frozen = match cgroup(context, &container.record)? {
                Some(group) => group.is_frozen()?,
                None => false,
            };
            Ok(if frozen { Status::Paused } else { status })
        }
        status @ (Status::Creating | Status::Paused | Status::Stopped) => Ok(status),
    }
}

/// `start`.
pub(super) fn start(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let held = context.hold(arguments.container())?;
    match status(context, &held.container)? {
        Status::Created => {}
        status @ (Status::Creating | Status::Running | Status::Paused | Status::Stopped) => {
            return Err(OciError::CannotStart { status });
        }
    }
    open_gate(&held.container)?;
    after_start(context, &held)
}

/// Writes the byte that the container's process waits for.
fn open_gate(container: &Container) -> Result<(), OciError> {
    let path = container.fifo();
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let written = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(fifo) => rustix::io::write(&fifo, &[1]).map(drop),
        // Nobody waits: an earlier start was killed before it could remove the FIFO.
        Err(Errno::NXIO) if container.record.process.is_some_and(Identity::lives) => {
            let _ = std::fs::remove_file(&path);
            return Err(OciError::CannotStart { status: Status::Running });
        }
        Err(Errno::NXIO) => return Err(OciError::Ended { id: container.record.id.to_string() }),
        Err(error) => Err(error),
    };
    written.map_err(OciError::io(format!("start by {}", path.display())))?;
    std::fs::remove_file(&path).map_err(OciError::io(format!("remove {}", path.display())))
}

/// Runs the poststart hooks of a container whose command was just started. If one fails, the
/// container is stopped (runtime-spec, runtime.md, "Lifecycle").
pub(super) fn after_start(context: &Context, held: &Held) -> Result<(), OciError> {
    let spec = held.container.config()?;
    let hooks = spec.hooks().as_ref().and_then(|hooks| hooks.poststart().as_deref());
    let Some(hooks) = hooks.filter(|hooks| !hooks.is_empty()) else { return Ok(()) };
    let record = &held.container.record;
    let state = record.state_json(Status::Running);
    let ran = hooks::run(hooks, "poststart", &state, &record.bundle);
    if ran.is_err()
        && let Err(error) = stop(context, record)
    {
        context.log.warning(&error.chain());
    }
    Ok(ran?)
}

/// Kills everything in a container.
fn stop(context: &Context, record: &Record) -> Result<(), OciError> {
    let by = Deadline::after(Duration::from_millis(END_MS_MAX));
    if let Some(group) = cgroup(context, record)? {
        group.kill(by)?;
    }
    if let Some(process) = record.process {
        send(process, Signal::KILL)?;
    }
    Ok(())
}

/// `kill`.
pub(super) fn kill(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let given = arguments.operands.get(1).map_or("TERM", String::as_str);
    let signal = Signal::parse(given).ok_or_else(|| OciError::Signal { given: given.into() })?;
    let container = context.open(arguments.container())?;
    if arguments.has("all") {
        return kill_all(context, &container, signal);
    }
    let process = container.record.process.filter(|process| process.lives());
    let process = process.ok_or_else(|| container.not_running())?;
    if !send(process, signal)? {
        return Err(container.not_running());
    }
    if signal == Signal::KILL && status(context, &container)? == Status::Paused {
        // A process that was frozen by cgroup v1 ends when it is thawed.
        resume_group(context, &container.record)?;
    }
    Ok(())
}

/// Signals every process of a container; none is none.
fn kill_all(context: &Context, container: &Container, signal: Signal) -> Result<(), OciError> {
    let Some(group) = cgroup(context, &container.record)? else { return Ok(()) };
    let by = Deadline::after(Duration::from_millis(END_MS_MAX));
    if signal == Signal::KILL {
        return Ok(group.kill(by)?);
    }
    // Frozen processes make no others meanwhile.
    let was_frozen = group.is_frozen()?;
    if !was_frozen {
        group.freeze(by)?;
    }
    let sent = group.pids().map_err(OciError::from).and_then(|pids| {
        pids.into_iter().try_for_each(|pid| match Identity::of(pid) {
            Ok(process) => send(process, signal).map(drop),
            Err(_) => Ok(()),
        })
    });
    if !was_frozen {
        group.thaw(by)?;
    }
    sent
}

/// Sends a signal to this very process. Answers whether it was there.
fn send(process: Identity, signal: Signal) -> Result<bool, OciError> {
    let doing = || format!("send {signal} to process {}", process.pid);
    let Some(pidfd) = process.open().map_err(OciError::io(doing()))? else { return Ok(false) };
    match sys::process::signal(pidfd.as_fd(), signal.number()) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(false),
        Err(error) => Err(OciError::io(doing())(error)),
    }
}

/// `delete`.
pub(super) fn delete(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let force = arguments.has("force");
    let id = context.id(arguments.container())?;
    let held = match context.store.hold(&id) {
        Err(OciError::Missing { .. }) if force => return context.store.sweep(&id),
        other => other?,
    };
    match status(context, &held.container)? {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status @ (Status::Creating | Status::Running | Status::Paused) => {
            return Err(OciError::CannotDelete { id: id.to_string(), status });
        }
    }
    destroy(context, held)
}

/// Kills what is left of a container and removes everything that was made for it, then runs the
/// poststop hooks, whose failure is a warning (runtime-spec, runtime.md, "Lifecycle").
pub(super) fn destroy(context: &Context, held: Held) -> Result<(), OciError> {
    let by = Deadline::after(Duration::from_millis(END_MS_MAX));
    let record = &held.container.record;
    if let Some(process) = record.process {
        send(process, Signal::KILL)?;
    }
    if let Some(group) = cgroup(context, record)? {
        // Mostly nothing is left in it, and it goes at once.
        if group.remove(Deadline::after(Duration::ZERO)).is_err() {
            group.kill(by)?;
            group.remove(by)?;
        }
    }
    if let Some(process) = record.process {
        await_end(process, by, record)?;
    }
    // A container that was never finished may have no configuration yet.
    let hooks = held.container.config().ok().and_then(|spec| spec.hooks().as_ref());
    let hooks = hooks.and_then(|hooks| hooks.poststop().clone()).unwrap_or_default();
    let record = held.remove()?;
    let state = record.state_json(Status::Stopped);
    for hook in &hooks {
        let ran = hooks::run(std::slice::from_ref(hook), "poststop", &state, &record.bundle);
        if let Err(error) = ran {
            context.log.warning(&OciError::from(error).chain());
        }
    }
    Ok(())
}

/// Waits until a killed process has ended; who reaps it is its parent's affair.
fn await_end(process: Identity, by: Deadline, record: &Record) -> Result<(), OciError> {
    let doing = || format!("wait for process {}", process.pid);
    let Some(pidfd) = process.open().map_err(OciError::io(doing()))? else { return Ok(()) };
    loop {
        let left = Timespec::try_from(by.remaining()).ok();
        match poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()) {
            Ok(0) if by.passed() => {
                return Err(OciError::StillRunning { id: record.id.to_string() });
            }
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(OciError::io(doing())(error)),
        }
    }
}

/// `pause`.
pub(super) fn pause(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let held = context.hold(arguments.container())?;
    match status(context, &held.container)? {
        Status::Created | Status::Running => {}
        Status::Creating | Status::Paused | Status::Stopped => {
            return Err(held.container.not_running());
        }
    }
    let group =
        cgroup(context, &held.container.record)?.ok_or_else(|| held.container.not_running())?;
    Ok(group.freeze(Deadline::after(Duration::from_millis(FREEZE_MS_MAX)))?)
}

/// `resume`.
pub(super) fn resume(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    let held = context.hold(arguments.container())?;
    match status(context, &held.container)? {
        Status::Paused => resume_group(context, &held.container.record),
        Status::Creating | Status::Created | Status::Running | Status::Stopped => {
            Err(OciError::NotPaused { id: held.container.record.id.to_string() })
        }
    }
}

fn resume_group(context: &Context, record: &Record) -> Result<(), OciError> {
    let by = Deadline::after(Duration::from_millis(FREEZE_MS_MAX));
    cgroup(context, record)?.map_or(Ok(()), |group| Ok(group.thaw(by)?))
}
