//! Lets something go wrong at one step of what the program does, whichever of its processes does it.
//!
//! A step is a system call that changes something or takes something from the kernel. The tracer
//! counts the steps of all processes of an instance in the order in which they happen, and at the
//! one it was told to it either kills the process or has the kernel answer with an error. Nothing
//! in the program knows of it. Source: ptrace(2), syscall user-space ABI of x86-64.

#![expect(unsafe_code, reason = "UNSAFETY: ptrace(2) and waitpid(2) with __WNOTHREAD")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    mem::{MaybeUninit, offset_of},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use libc::{c_int, c_long, pid_t};

/// A system call that is a step, and the error that a host in trouble answers with.
type Step = (c_long, &'static str, c_int);

const STEPS: &[Step] = &[
    (libc::SYS_openat, "openat", libc::ENOSPC),
    (libc::SYS_openat2, "openat2", libc::EMFILE),
    (libc::SYS_write, "write", libc::ENOSPC),
    (libc::SYS_writev, "writev", libc::ENOSPC),
    (libc::SYS_pwrite64, "pwrite64", libc::ENOSPC),
    (libc::SYS_ftruncate, "ftruncate", libc::EIO),
    (libc::SYS_fallocate, "fallocate", libc::ENOSPC),
    (libc::SYS_copy_file_range, "copy_file_range", libc::ENOSPC),
    (libc::SYS_sendfile, "sendfile", libc::ENOSPC),
    (libc::SYS_fsync, "fsync", libc::EIO),
    (libc::SYS_fdatasync, "fdatasync", libc::EIO),
    (libc::SYS_mkdir, "mkdir", libc::ENOSPC),
    (libc::SYS_mkdirat, "mkdirat", libc::ENOSPC),
    (libc::SYS_mknodat, "mknodat", libc::ENOSPC),
    (libc::SYS_symlink, "symlink", libc::ENOSPC),
    (libc::SYS_symlinkat, "symlinkat", libc::ENOSPC),
    (libc::SYS_link, "link", libc::ENOSPC),
    (libc::SYS_linkat, "linkat", libc::ENOSPC),
    (libc::SYS_rename, "rename", libc::EIO),
    (libc::SYS_renameat, "renameat", libc::EIO),
    (libc::SYS_renameat2, "renameat2", libc::EIO),
    (libc::SYS_unlink, "unlink", libc::EIO),
    (libc::SYS_unlinkat, "unlinkat", libc::EIO),
    (libc::SYS_rmdir, "rmdir", libc::EBUSY),
    (libc::SYS_mount, "mount", libc::ENOMEM),
    (libc::SYS_fsopen, "fsopen", libc::EMFILE),
    (libc::SYS_fsconfig, "fsconfig", libc::ENOMEM),
    (libc::SYS_fsmount, "fsmount", libc::ENOMEM),
    (libc::SYS_open_tree, "open_tree", libc::ENOMEM),
    (libc::SYS_move_mount, "move_mount", libc::ENOMEM),
    (libc::SYS_mount_setattr, "mount_setattr", libc::ENOMEM),
    (libc::SYS_umount2, "umount2", libc::EBUSY),
    (libc::SYS_pivot_root, "pivot_root", libc::EBUSY),
    (libc::SYS_unshare, "unshare", libc::ENOSPC),
    (libc::SYS_setns, "setns", libc::ENOMEM),
    (libc::SYS_clone, "clone", libc::EAGAIN),
    (libc::SYS_clone3, "clone3", libc::EAGAIN),
    (libc::SYS_fork, "fork", libc::EAGAIN),
    (libc::SYS_vfork, "vfork", libc::EAGAIN),
    (libc::SYS_execve, "execve", libc::ENOMEM),
    (libc::SYS_execveat, "execveat", libc::ENOMEM),
    (libc::SYS_pidfd_open, "pidfd_open", libc::EMFILE),
    (libc::SYS_pidfd_send_signal, "pidfd_send_signal", libc::EPERM),
    (libc::SYS_socket, "socket", libc::EMFILE),
    (libc::SYS_socketpair, "socketpair", libc::EMFILE),
    (libc::SYS_pipe2, "pipe2", libc::EMFILE),
    (libc::SYS_memfd_create, "memfd_create", libc::EMFILE),
    (libc::SYS_bind, "bind", libc::ENOMEM),
    (libc::SYS_connect, "connect", libc::ECONNREFUSED),
    (libc::SYS_sendto, "sendto", libc::ENOBUFS),
    (libc::SYS_sendmsg, "sendmsg", libc::ENOBUFS),
    (libc::SYS_bpf, "bpf", libc::ENOMEM),
    (libc::SYS_seccomp, "seccomp", libc::ENOMEM),
];

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process is killed just before the step.
    Kill,
    /// The step fails.
    Fail,
    /// Steps are only those of a process on its way into a container: everybody else is killed.
    Orphan,
    /// Steps are only those that make a process or a thread; this one and all after it fail.
    NoProcesses,
}

/// The system calls that make a process or a thread.
const MAKES_PROCESS: [c_long; 4] =
    [libc::SYS_clone, libc::SYS_clone3, libc::SYS_fork, libc::SYS_vfork];

/// What came of it.
#[derive(Debug)]
pub struct Traced {
    /// Steps up to the fault, or all of them.
    pub steps: u64,
    /// Where the fault struck: the step and the process. Nothing if there are fewer steps.
    pub struck: Option<String>,
    /// Exit code of the command; 255 for a signal.
    pub code: i32,
}

/// Runs a command, and lets something go wrong at the nth step of these processes and of those
/// they start. Programs that they start are not followed into; counting goes on for a moment after
/// the command has ended, for what is still being put in order then.
///
/// # Panics
/// If they cannot be traced.
pub fn with_fault(
    program: &Path,
    pids: &[pid_t],
    command: Command,
    nth: u64,
    fault: Fault,
) -> Traced {
    let mut tracer = Tracer {
        program: program.to_owned(),
        nth,
        fault,
        steps: 0,
        struck: None,
        failing: BTreeMap::new(),
        at: BTreeMap::new(),
        letting_go: false,
        traced: BTreeSet::new(),
        seen: BTreeSet::new(),
    };
    // Who traces is one thread, and it alone hears of what it traces.
    thread::scope(|scope| {
        scope.spawn(move || tracer.run(pids, command)).join().expect("the tracer does not panic")
    })
}

struct Tracer {
    program: PathBuf,
    nth: u64,
    fault: Fault,
    steps: u64,
    struck: Option<String>,
    /// Whose steps are failing, between their begin and their end, and how.
    failing: BTreeMap<pid_t, c_int>,
    /// Which step a thread is at, also while the kernel lets it begin anew: that is no further one.
    at: BTreeMap<pid_t, c_long>,
    letting_go: bool,
    traced: BTreeSet<pid_t>,
    seen: BTreeSet<pid_t>,
}

impl Tracer {
    fn run(&mut self, pids: &[pid_t], mut command: Command) -> Traced {
        pids.iter().for_each(|pid| self.seize_all(*pid));
        let mut child = Some(start(&mut command));
        let mut code = None;
        // Rings when it has been long enough after the command.
        let mut bell = None;
        while child.is_some() || bell.is_some() || !self.traced.is_empty() {
            let (pid, status) = wait();
            if child == Some(pid) {
                code = Some(if libc::WIFEXITED(status) { libc::WEXITSTATUS(status) } else { 255 });
                child = None;
                bell = Some(start(Command::new("sleep").arg("0.15")));
            } else if bell == Some(pid) {
                bell = None;
                self.let_go();
            } else if libc::WIFSTOPPED(status) {
                self.stopped(pid, status);
            } else {
                self.traced.remove(&pid);
            }
        }
        Traced { steps: self.steps, struck: self.struck.take(), code: code.unwrap_or(255) }
    }

    /// Takes hold of every thread of a process.
    fn seize_all(&mut self, pid: pid_t) {
        const OPTIONS: c_int = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACEEXEC;
        loop {
            let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
            let tasks = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
            let new: Vec<pid_t> = tasks.filter(|task| !self.seen.contains(task)).collect();
            if new.is_empty() {
                return;
            }
            for task in new {
                self.seen.insert(task);
                let options = OPTIONS.unsigned_abs() as usize;
                // Already ours if the thread that made it was; gone if it has ended.
                if ptrace(libc::PTRACE_SEIZE, task, 0, options).is_ok() {
                    self.traced.insert(task);
                    drop(ptrace(libc::PTRACE_INTERRUPT, task, 0, 0));
                }
            }
            // One that was stopped until it is traced goes on.
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::CONT);
            }
        }
    }

    fn stopped(&mut self, pid: pid_t, status: c_int) {
        if self.seen.insert(pid) || !self.letting_go {
            self.traced.insert(pid);
        }
        let signal = libc::WSTOPSIG(status);
        let event = status >> 16;
        let mut deliver = 0;
        let mut go_on = libc::PTRACE_SYSCALL;
        if signal == libc::SIGTRAP | 0x80 {
            self.at_system_call(pid);
        } else if event == libc::PTRACE_EVENT_STOP {
            let stays = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
            if stays.contains(&signal) {
                go_on = libc::PTRACE_LISTEN;
            }
        } else if event == libc::PTRACE_EVENT_EXEC {
            if !crate::host::runs(pid, &self.program) {
                return self.release(pid, 0);
            }
        } else if event != 0 {
            // A new process or thread, which is ours too and has perhaps been heard of.
            let mut new: usize = 0;
            let into = (&raw mut new).expose_provenance();
            let said = ptrace(libc::PTRACE_GETEVENTMSG, pid, 0, into);
            if let (Ok(()), Ok(new)) = (said, pid_t::try_from(new))
                && self.seen.insert(new)
            {
                self.traced.insert(new);
            }
        } else {
            deliver = signal.unsigned_abs() as usize;
        }
        if self.letting_go && !self.failing.contains_key(&pid) {
            return self.release(pid, deliver);
        }
        // It may have been killed meanwhile; then we hear of it.
        drop(ptrace(go_on, pid, 0, deliver));
    }

    /// At the begin or the end of a system call.
    fn at_system_call(&mut self, pid: pid_t) {
        let Some(call) = system_call(pid) else { return };
        let lasts = self.fault == Fault::NoProcesses;
        match call {
            Call::Begins(step, detail) => {
                let over = self.letting_go || (self.struck.is_some() && !lasts);
                let again = self.at.insert(pid, step.0) == Some(step.0);
                if over || again || !self.counts(pid, step, &detail) {
                    return;
                }
                self.steps += 1;
                if self.steps == self.nth || (lasts && self.steps > self.nth) {
                    self.strike(pid, step, &detail);
                }
            }
            Call::Ends { restarts } => {
                if !restarts {
                    self.at.remove(&pid);
                }
                let Some(error) = self.failing.remove(&pid) else { return };
                // What the kernel answers with is minus the error.
                let answer = -i64::from(error);
                poke(pid, offset_of!(libc::user_regs_struct, rax), answer.cast_unsigned());
                if !lasts {
                    self.let_go();
                }
            }
        }
    }

    /// Whether a call is a step: reading is none, nor is waking another thread.
    fn counts(&self, pid: pid_t, (number, ..): Step, arguments: &[u64; 6]) -> bool {
        const WRITES: u64 = (libc::O_CREAT | libc::O_WRONLY | libc::O_RDWR).unsigned_abs() as u64;
        if self.fault == Fault::NoProcesses {
            return MAKES_PROCESS.contains(&number);
        }
        if self.fault == Fault::Orphan && !is_child_of_shim(pid) {
            return false;
        }
        match number {
            libc::SYS_openat => arguments[2] & WRITES != 0,
            libc::SYS_write | libc::SYS_writev => written(pid, arguments).is_some(),
            _ => true,
        }
    }

    fn strike(&mut self, pid: pid_t, (number, name, error): Step, arguments: &[u64; 6]) {
        let process = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let group = group_of(pid);
        let writes = [libc::SYS_write, libc::SYS_writev].contains(&number);
        let file = writes.then(|| written(pid, arguments)).flatten();
        let file = file.map(|file| format!(" to {}", file.display())).unwrap_or_default();
        let struck = format!("{name}{file} of {} ({pid} of {group})", process.trim());
        self.struck.get_or_insert(struck);
        match self.fault {
            Fault::Kill => {
                let group = rustix::process::Pid::from_raw(group).expect("a process id");
                let killed = rustix::process::kill_process(group, rustix::process::Signal::KILL);
                killed.expect("it is stopped, so it is there");
                self.let_go();
            }
            Fault::Orphan => {
                let groups: BTreeSet<_> = self.traced.iter().map(|pid| group_of(*pid)).collect();
                for other in groups.into_iter().filter(|other| *other != group) {
                    let Some(other) = rustix::process::Pid::from_raw(other) else { continue };
                    // It may have ended meanwhile.
                    let _ = rustix::process::kill_process(other, rustix::process::Signal::KILL);
                }
                self.let_go();
            }
            Fault::Fail | Fault::NoProcesses => {
                // The kernel knows no such call and does nothing; the answer is put in at its end.
                poke(pid, offset_of!(libc::user_regs_struct, orig_rax), u64::MAX);
                self.failing.insert(pid, error);
            }
        }
    }

    /// Lets go of everyone, one after the other as they stop.
    fn let_go(&mut self) {
        self.letting_go = true;
        for pid in &self.traced {
            drop(ptrace(libc::PTRACE_INTERRUPT, *pid, 0, 0));
        }
    }

    fn release(&mut self, pid: pid_t, signal: usize) {
        if ptrace(libc::PTRACE_DETACH, pid, 0, signal).is_ok() {
            self.traced.remove(&pid);
        }
    }
}

enum Call {
    Begins(Step, [u64; 6]),
    Ends {
        /// Whether the kernel begins it anew by itself, as with a lock that it did not get.
        restarts: bool,
    },
}

/// What the kernel answers with then, inside (`ERESTARTSYS` and the like).
const RESTARTS: std::ops::RangeInclusive<i64> = -516..=-512;

/// The system call that a stopped thread is at, if it is a step.
fn system_call(pid: pid_t) -> Option<Call> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let into = info.as_mut_ptr().expose_provenance();
    ptrace(libc::PTRACE_GET_SYSCALL_INFO, pid, size_of_val(&info), into).ok()?;
    // SAFETY: zeroes are a value of it, and the kernel wrote no more than its size.
    let info = unsafe { info.assume_init() };
    if info.op != libc::PTRACE_SYSCALL_INFO_ENTRY {
        // SAFETY: it is the end of a call, or what it has instead is zeroes.
        let answer = unsafe { info.u.exit.sval };
        return Some(Call::Ends { restarts: RESTARTS.contains(&answer) });
    }
    // SAFETY: the kernel says that it is the begin of a call; any bits are a number.
    let entry = unsafe { info.u.entry };
    let number = c_long::try_from(entry.nr).ok()?;
    let step = STEPS.iter().find(|(step, ..)| *step == number)?;
    Some(Call::Begins(*step, entry.args))
}

/// The file that is written to; nothing for a pipe, a socket, a descriptor that wakes somebody.
fn written(pid: pid_t, arguments: &[u64; 6]) -> Option<PathBuf> {
    let file = fs::read_link(format!("/proc/{pid}/fd/{}", arguments[0])).ok()?;
    file.is_absolute().then_some(file)
}

/// Sets a register of a stopped thread.
fn poke(pid: pid_t, register: usize, value: u64) {
    let value = usize::try_from(value).expect("64 bits");
    // The registers are the first thing in the area of struct user.
    ptrace(libc::PTRACE_POKEUSER, pid, register, value).expect("it is stopped");
}

fn group_of(pid: pid_t) -> pid_t {
    status_of(pid, "Tgid:\t").unwrap_or(pid)
}

fn status_of(pid: pid_t, field: &str) -> Option<pid_t> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(field)?.parse().ok())
}

fn is_child_of_shim(pid: pid_t) -> bool {
    let parent = status_of(pid, "PPid:\t").unwrap_or_default();
    let name = fs::read_to_string(format!("/proc/{parent}/comm")).unwrap_or_default();
    name.trim() == "wythe-shim"
}

/// Starts a child of this thread, for [`wait`] to hear of.
#[expect(clippy::zombie_processes, reason = "the thread waits for every child there is")]
fn start(command: &mut Command) -> pid_t {
    let child = command.stdin(Stdio::null()).spawn().expect("the program runs");
    pid_t::try_from(child.id()).expect("a process id")
}

/// Waits for the next that happens to what this thread traces or started.
fn wait() -> (pid_t, c_int) {
    loop {
        let mut status = 0;
        // SAFETY: the status is ours to write to.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        if pid > 0 {
            return (pid, status);
        }
        let error = io::Error::last_os_error();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted, "waiting for what is traced: {error}");
    }
}

fn ptrace(request: libc::c_uint, pid: pid_t, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: those requests that write do it to `data`, which the caller made of what is big enough.
    match unsafe { libc::ptrace(request, pid, address, data) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
