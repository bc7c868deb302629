//! One process: its pidfd is waited for by a task, everybody else by what that task says.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use base::{ProcessId, clock::Timestamp};
use cgroups::Cgroup;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use stdio::Keeper;
use sys::clone::Child;
use tokio::{io::unix::AsyncFd, sync::watch, task::JoinHandle};
use workload::{Attachment, DriverError, Exit, ExitStatus, Pending, Process, Signal, TerminalSize};

use crate::{descriptor, tree};

/// A process of a sandbox.
#[derive(Debug)]
pub(crate) struct LinuxProcess {
    id: ProcessId,
    pid: u32,
    pidfd: Arc<AsyncFd<OwnedFd>>,
    keeper: Arc<Keeper>,
    terminal: Mutex<Option<OwnedFd>>,
    exit: watch::Receiver<Option<Exit>>,
    /// Reaps it. Ends with the process, or with this value.
    reaper: JoinHandle<()>,
}

impl LinuxProcess {
    pub(crate) fn new(
        id: ProcessId,
        child: Child,
        keeper: Keeper,
        terminal: Option<OwnedFd>,
        cgroup: Cgroup,
        whole: bool,
    ) -> Result<Arc<LinuxProcess>, DriverError> {
        let pidfd = descriptor::watch(child.pidfd)
            .map_err(|error| DriverError::step("watch the process", &error))?;
        let (pidfd, keeper) = (Arc::new(pidfd), Arc::new(keeper));
        let (tell, exit) = watch::channel(None);
        let kills = cgroup.oom_kills().unwrap_or(0);
        let session = whole.then_some(child.pid);
        let reaper = Reaper {
            pidfd: Arc::clone(&pidfd),
            keeper: Arc::clone(&keeper),
            cgroup,
            kills,
            session,
        };
        let reaper = tokio::spawn(async move {
            let exit = reaper.run().await;
            // Nobody may be left who waits.
            let _ = tell.send(Some(exit));
        });
        let terminal = Mutex::new(terminal);
        Ok(Arc::new(LinuxProcess { id, pid: child.pid, pidfd, keeper, terminal, exit, reaper }))
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Its number, as long as that means it.
    pub(crate) fn running_pid(&self) -> Option<u32> {
        (!self.has_ended()).then_some(self.pid)
    }

    pub(crate) fn pidfd(&self) -> io::Result<OwnedFd> {
        self.pidfd.get_ref().try_clone()
    }

    pub(crate) async fn ended(&self) -> Exit {
        let mut exit = self.exit.clone();
        let ended = exit.wait_for(Option::is_some).await;
        let lost = Exit { status: ExitStatus::Lost, out_of_memory: false, at: Timestamp::now() };
        // The reaper ends without a word only if the runtime is shut down.
        ended.ok().and_then(|exit| *exit).unwrap_or(lost)
    }

    fn not_running(&self) -> DriverError {
        DriverError::State { what: format!("process {}", self.id), state: "not running".into() }
    }
}

impl Drop for LinuxProcess {
    fn drop(&mut self) {
        self.reaper.abort();
    }
}

struct Reaper {
    pidfd: Arc<AsyncFd<OwnedFd>>,
    keeper: Arc<Keeper>,
    cgroup: Cgroup,
    /// Processes killed for want of memory before this one started.
    kills: u64,
    /// The session that it leads and that a signal ends with it.
    session: Option<u32>,
}

impl Reaper {
    async fn run(self) -> Exit {
        let status = self.status().await;
        let at = Timestamp::now();
        let kills = self.cgroup.oom_kills().unwrap_or(self.kills);
        self.keeper.finish().await;
        Exit { status, out_of_memory: kills > self.kills, at }
    }

    async fn status(&self) -> ExitStatus {
        loop {
            let Ok(mut ready) = self.pidfd.readable().await else { return ExitStatus::Lost };
            self.end_session();
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            match waitid(WaitId::PidFd(self.pidfd.as_fd()), options) {
                Ok(Some(status)) => return exit_status(status),
                Ok(None) => ready.clear_ready(),
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return ExitStatus::Lost,
            }
        }
    }
}

impl Reaper {
    /// Kills what is left of its session, if a signal has ended it.
    fn end_session(&self) {
        let Some(leader) = self.session else { return };
        // It stays a zombie while its session is looked at, so that its number stays its own.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let ended = waitid(WaitId::PidFd(self.pidfd.as_fd()), look).ok().flatten();
        if ended.is_some_and(|status| status.terminating_signal().is_some())
            && let Err(failure) = tree::kill_session(leader)
        {
            tracing::warn!(error = %failure, "something that a process left goes on");
        }
    }
}

/// How a child ended, as waitid(2) tells it.
pub(crate) fn exit_status(status: rustix::process::WaitIdStatus) -> ExitStatus {
    let number = |value: i32| u8::try_from(value).ok();
    let code = status.exit_status().and_then(number).map(ExitStatus::Code);
    let signal = status.terminating_signal().and_then(number).and_then(Signal::from_number);
    code.or(signal.map(ExitStatus::Signal)).unwrap_or(ExitStatus::Lost)
}

impl Process for LinuxProcess {
    fn id(&self) -> &ProcessId {
        &self.id
    }

    fn host_pid(&self) -> Option<u32> {
        self.running_pid()
    }

    fn signal(&self, signal: Signal) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            if self.has_ended() {
                return Err(self.not_running());
            }
            sys::process::signal(self.pidfd.as_fd(), signal.number()).map_err(|error| {
                match error.raw_os_error() {
                    Some(code) if code == rustix::io::Errno::SRCH.raw_os_error() => {
                        self.not_running()
                    }
                    _ => DriverError::step(format!("send {signal}"), &error),
                }
            })
        })
    }

    fn resize(&self, size: TerminalSize) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            if self.has_ended() {
                return Err(self.not_running());
            }
            let terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(master) = terminal.as_ref() else {
                let what = format!("process {}", self.id);
                return Err(DriverError::State { what, state: "without a terminal".into() });
            };
            crate::terminal::resize(master, size)
        })
    }

    fn attach(
        &self,
        attachment: Attachment,
    ) -> Pending<'_, Result<Option<Timestamp>, DriverError>> {
        Box::pin(async move {
            if self.has_ended() {
                return Err(self.not_running());
            }
            self.keeper.attach(attachment).await.map_err(|error| match error {
                stdio::KeeperError::Ended => self.not_running(),
                other @ (stdio::KeeperError::Log(_)
                | stdio::KeeperError::Io { .. }
                | stdio::KeeperError::NotASocket
                | stdio::KeeperError::Full) => {
                    DriverError::Invalid { what: "attach".into(), why: other.to_string() }
                }
            })
        })
    }

    fn wait(&self) -> Pending<'_, Exit> {
        Box::pin(self.ended())
    }
}
