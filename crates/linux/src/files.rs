//! Files of a container that runs, beneath its root as its own processes see it.
//!
//! ```text
//! sandbox ──fork──▶ child: root of the process, the stream, a pipe for the answer
//!    ◀──answer── packs, unpacks or looks, and ends
//! ```
//!
//! A child does the work, because the sandbox's own process has one thread and must stay small:
//! what a large archive takes is gone when it ends, and hostile bytes never meet that process.

use std::{
    io::{Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    panic::{AssertUnwindSafe, catch_unwind},
};

use base::ProcessId;
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Gid, Pid, PidfdFlags, Uid, WaitId, WaitIdOptions, pidfd_open, waitid},
};
use sys::{clone::Namespaces, fork::Fork, process};
use workload::{DriverError, FileFault, FileStat, Files, Isolation, Pending, Unpack};

use crate::{descriptor, sandbox::LinuxSandbox};

/// Longest answer of a child.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// First number to which descriptors are copied on their way to their places.
const ASIDE: i32 = 64;

/// What a child is to do.
#[derive(Clone, Debug)]
enum Work {
    Stat { path: String },
    Read { path: String, name: String },
    Write { path: String, unpack: Unpack },
}

type Answer = Result<Option<FileStat>, FileFault>;

/// What a child needs.
struct Job {
    work: Work,
    root: OwnedFd,
    /// The user namespace in which ids are meant.
    users: Option<OwnedFd>,
    stream: Option<OwnedFd>,
}

impl Files for LinuxSandbox {
    fn stat(&self, process: &ProcessId, path: &str) -> Pending<'_, Result<FileStat, DriverError>> {
        let job = self.job(process, Work::Stat { path: path.to_owned() }, None);
        Box::pin(async move {
            let nothing = || DriverError::Unreachable { why: "nothing was looked at".into() };
            run(job?).await?.ok_or_else(nothing)
        })
    }

    fn read(
        &self,
        process: &ProcessId,
        path: &str,
        name: &str,
        to: OwnedFd,
    ) -> Pending<'_, Result<(), DriverError>> {
        let work = Work::Read { path: path.to_owned(), name: name.to_owned() };
        let job = self.job(process, work, Some(to));
        Box::pin(async move { run(job?).await.map(drop) })
    }

    fn write(
        &self,
        process: &ProcessId,
        path: &str,
        from: OwnedFd,
        unpack: Unpack,
    ) -> Pending<'_, Result<(), DriverError>> {
        let job = self.job(process, Work::Write { path: path.to_owned(), unpack }, Some(from));
        Box::pin(async move { run(job?).await.map(drop) })
    }
}

impl LinuxSandbox {
    fn job(&self, id: &ProcessId, work: Work, stream: Option<OwnedFd>) -> Result<Job, DriverError> {
        let pid = self.pid_of(id)?;
        let of_process = |name: &str, flags: OFlags| {
            // It is our child and not reaped, so the number means it.
            let path = format!("/proc/{pid}/{name}");
            rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).map_err(|_| {
                DriverError::State { what: format!("process {id}"), state: "not running".into() }
            })
        };
        let root = of_process("root", OFlags::PATH | OFlags::DIRECTORY)?;
        let mapped = self.has_user_map() && self.isolation() == Isolation::Container;
        let users = mapped.then(|| of_process("ns/user", OFlags::RDONLY)).transpose()?;
        Ok(Job { work, root, users, stream })
    }
}

/// Has a child do it. The waiting is a task of its own, so that the child is reaped even if
/// nobody wants its answer any more.
async fn run(job: Job) -> Result<Option<FileStat>, DriverError> {
    let (answer, tell) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed("make a pipe", error))?;
    let child = match sys::fork::fork() {
        Ok(Fork::Child) => be_child(&job, &tell),
        Ok(Fork::Parent(child)) => child,
        Err(error) => return Err(DriverError::step("fork to copy files", &error)),
    };
    drop((job, tell));
    let pid = i32::try_from(child).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed("fork to copy files", Errno::SRCH))?;
    let pidfd =
        pidfd_open(pid, PidfdFlags::empty()).map_err(|error| failed("watch the child", error))?;
    let waited = tokio::spawn(wait(pidfd, answer)).await;
    waited.map_err(|_| failed("watch the child", Errno::CHILD))?
}

/// Waits for a child and reads what it has to say.
async fn wait(pidfd: OwnedFd, answer: OwnedFd) -> Result<Option<FileStat>, DriverError> {
    let pidfd = descriptor::watch(pidfd);
    let pidfd = pidfd.map_err(|error| DriverError::step("watch the child", &error))?;
    let ended = pidfd.readable().await.map(|mut ready| ready.clear_ready());
    ended.map_err(|error| DriverError::step("watch the child", &error))?;
    // Whoever adopts orphans here may have been first.
    let _ = waitid(
        WaitId::PidFd(pidfd.get_ref().as_fd()),
        WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
    );
    let mut text = Vec::new();
    let read = std::fs::File::from(answer).take(ANSWER_BYTES_MAX).read_to_end(&mut text);
    read.map_err(|error| DriverError::step("read the child's answer", &error))?;
    let answer: Answer = serde_json::from_slice(&text).map_err(|_| DriverError::Unreachable {
        why: "the process that copied files was killed".into(),
    })?;
    Ok(answer?)
}

fn failed(step: &str, errno: Errno) -> DriverError {
    DriverError::step(step, &errno.into())
}

/// The child's whole life.
fn be_child(job: &Job, tell: &OwnedFd) -> ! {
    let done = catch_unwind(AssertUnwindSafe(|| {
        let answer = work(job, tell);
        let (tell, answer) = answer.ok()?;
        let text = serde_json::to_vec(&answer).ok()?;
        std::fs::File::from(tell).write_all(&text).ok()
    }));
    process::exit_now(u8::from(!matches!(done, Ok(Some(())))))
}

/// Puts the child in order and does the work.
fn work(job: &Job, tell: &OwnedFd) -> std::io::Result<(OwnedFd, Answer)> {
    process::die_with_parent(true)?;
    // Nothing else of the parent's is held open here: not its clients, not its children's pipes.
    let given = [Some(tell), Some(&job.root), job.users.as_ref(), job.stream.as_ref()];
    let aside: Vec<_> = given
        .into_iter()
        .map(|fd| fd.map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, ASIDE)).transpose())
        .collect::<Result<_, _>>()?;
    let mut number = 3;
    for fd in aside.iter().flatten() {
        process::place(fd.as_fd(), number, true)?;
        number += 1;
    }
    std::mem::forget(aside);
    process::close_range(number.unsigned_abs(), u32::MAX)?;
    let mut next = 3;
    let mut take = |there: bool| {
        let fd = there.then(|| process::inherited(next)).transpose();
        next += i32::from(there);
        fd
    };
    let (tell, root) = (take(true)?, take(true)?);
    let (users, stream) = (take(job.users.is_some())?, take(job.stream.is_some())?);
    let (Some(tell), Some(root)) = (tell, root) else { return Err(Errno::BADF.into()) };
    // The copies above stay as they are until the end; the reader of an archive must see one.
    process::close_range(3, number.unsigned_abs() - 1)?;
    if let Some(users) = users {
        become_root_inside(&users)?;
    }
    let answer = carry_out(&job.work, &root, stream);
    Ok((tell, answer))
}

/// Ids are then those of the container, and no more can be done to its files than its own root
/// could.
fn become_root_inside(users: &OwnedFd) -> std::io::Result<()> {
    sys::namespace::enter(users.as_fd(), Namespaces(Namespaces::USER))?;
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_gid(Gid::ROOT)?;
    rustix::thread::set_thread_uid(Uid::ROOT)?;
    Ok(())
}

fn carry_out(work: &Work, root: &OwnedFd, stream: Option<OwnedFd>) -> Answer {
    let stream = || {
        let missing = FileFault::Stream { errno: Errno::BADF.raw_os_error() };
        stream.map(files::Stream::from).ok_or(missing)
    };
    // Modes are set as archives say.
    rustix::process::umask(Mode::empty());
    let root = root.as_fd();
    match work {
        Work::Stat { path } => files::stat(root, path).map(Some),
        Work::Read { path, name } => {
            files::pack(root, path, name.as_bytes(), stream()?).map(|()| None)
        }
        Work::Write { path, unpack } => {
            let place = files::Place::InRoot { root, path };
            files::unpack(place, stream()?, unpack, None).map(|()| None)
        }
    }
}
