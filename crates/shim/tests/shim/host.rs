//! A driver for tests: a sandbox is a directory, its processes are plain host processes.
//!
//! It knows every way to fail that the tests need, chosen by the sandbox's host name.

use std::{
    collections::BTreeMap,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::{Arc, Mutex},
    time::Duration,
};

use base::{Deadline, ProcessId, clock::Timestamp};
use rustix::process::{Pid, Signal as KernelSignal, kill_process_group};
use stdio::{ChildStreams, Keeper, KeeperError, StreamSpec};
use tokio::sync::watch;
use workload::{
    Attachment, Capabilities, Driver, DriverError, Exit, ExitStatus, Finding, Isolation, Limits,
    Materials, Pausable, Pending, Process, ProcessSpec, Sandbox, SandboxHandle, SandboxSpec,
    Signal, Streams, TerminalSize, Trace, Usage,
};

/// Host name of a sandbox that takes half a second to make.
pub(crate) const SLOW: &str = "slow";
/// Host name of a sandbox that cannot be made.
pub(crate) const REFUSED: &str = "refused";
/// Host name of a sandbox whose making panics.
pub(crate) const PANICS: &str = "panics";

const SLOWNESS: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(crate) struct HostDriver;

impl Driver for HostDriver {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            isolation: Isolation::Host,
            pause: true,
            files: false,
            fork: false,
            many_containers: false,
            user_map: false,
            layers: false,
        }
    }

    fn probe(&self) -> Pending<'_, Vec<Finding>> {
        Box::pin(async { Vec::new() })
    }

    fn traces(&self) -> Pending<'_, Result<Vec<Trace>, DriverError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn create(
        &self,
        spec: SandboxSpec,
        materials: Materials,
        by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Sandbox>, DriverError>> {
        Box::pin(async move {
            match spec.hostname.as_deref() {
                Some(REFUSED) => {
                    let what = "host name".to_owned();
                    return Err(DriverError::Invalid { what, why: "it is refused".to_owned() });
                }
                Some(PANICS) => panic!("as asked"),
                Some(SLOW) => {
                    let slow = tokio::time::sleep(SLOWNESS);
                    if tokio::time::timeout_at(by.instant().into(), slow).await.is_err() {
                        let doing = "being slow".to_owned();
                        return Err(DriverError::DeadlinePassed { doing });
                    }
                }
                Some(_) | None => {}
            }
            let directory = PathBuf::from(spec.cgroup.expect("tests name a directory"));
            fs::create_dir(&directory).map_err(|e| DriverError::step("make the directory", &e))?;
            if let Some(network) = materials.network {
                let name = fs::read_link(format!(
                    "/proc/self/fd/{}",
                    std::os::fd::AsRawFd::as_raw_fd(&network)
                ));
                fs::write(directory.join("network"), format!("{:?}", name.unwrap())).unwrap();
            }
            Ok(HostSandbox::of(spec.id, directory))
        })
    }

    fn recover(
        &self,
        handle: SandboxHandle,
        _by: Deadline,
    ) -> Pending<'_, Result<Option<Arc<dyn Sandbox>>, DriverError>> {
        let directory = PathBuf::from(&handle.token);
        Box::pin(async move {
            Ok(directory.is_dir().then(|| HostSandbox::of(handle.sandbox, directory)))
        })
    }
}

#[derive(Debug)]
struct HostSandbox {
    handle: SandboxHandle,
    directory: PathBuf,
    processes: Mutex<BTreeMap<ProcessId, Arc<HostProcess>>>,
}

impl HostSandbox {
    fn of(id: base::SandboxId, directory: PathBuf) -> Arc<dyn Sandbox> {
        let token = directory.to_str().unwrap().to_owned();
        let handle = SandboxHandle { isolation: Isolation::Host, sandbox: id, token };
        Arc::new(HostSandbox { handle, directory, processes: Mutex::default() })
    }

    /// Process groups that were started, also by a shim that is gone: a file for each.
    fn groups(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let names = entries.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
        names.filter_map(|name| name.parse().ok().and_then(Pid::from_raw)).collect()
    }

    fn signal_all(&self, signal: KernelSignal) {
        for group in self.groups() {
            let _ = kill_process_group(group, signal);
        }
    }

    async fn start(
        &self,
        spec: ProcessSpec,
        streams: Streams,
    ) -> Result<Arc<dyn Process>, DriverError> {
        let keeper_failed =
            |error: KeeperError| DriverError::step("keep", &io::Error::other(error));
        let (keeper, ours) = Keeper::open(&StreamSpec::from(&spec)).map_err(keeper_failed)?;
        if let Some(attachment) = streams.attached {
            keeper.attach(attachment).await.map_err(keeper_failed)?;
        }
        let ChildStreams::Pipes { stdin, stdout, stderr } = ours else {
            return Err(DriverError::Invalid { what: "terminal".into(), why: "no".into() });
        };
        let mut command = Command::new(&spec.args[0]);
        command.args(&spec.args[1..]).stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        let child = command.spawn().map_err(|error| DriverError::CommandNotFound {
            command: spec.args[0].clone(),
            why: error.to_string(),
        })?;
        drop(command);
        let pid = child.id();
        fs::write(self.directory.join(pid.to_string()), "").unwrap();
        let process = Arc::new(HostProcess {
            id: spec.id.clone(),
            pid,
            keeper: Arc::new(keeper),
            exit: watch::Sender::new(None),
        });
        tokio::spawn(Arc::clone(&process).reap(child));
        self.processes.lock().unwrap().insert(spec.id, Arc::clone(&process));
        Ok(process)
    }
}

impl Sandbox for HostSandbox {
    fn handle(&self) -> SandboxHandle {
        self.handle.clone()
    }

    fn spawn(
        &self,
        spec: ProcessSpec,
        streams: Streams,
        _by: Deadline,
    ) -> Pending<'_, Result<Arc<dyn Process>, DriverError>> {
        Box::pin(self.start(spec, streams))
    }

    fn process(&self, id: &ProcessId) -> Pending<'_, Option<Arc<dyn Process>>> {
        let found = self.processes.lock().unwrap().get(id).cloned();
        Box::pin(async move { found.map(|process| process as Arc<dyn Process>) })
    }

    fn forget(&self, id: &ProcessId) -> Pending<'_, ()> {
        self.processes.lock().unwrap().remove(id);
        Box::pin(async {})
    }

    fn limit(&self, limits: Limits) -> Pending<'_, Result<(), DriverError>> {
        fs::write(self.directory.join("limits"), format!("{:?}", limits.pids)).unwrap();
        Box::pin(async { Ok(()) })
    }

    fn usage(&self) -> Pending<'_, Result<Usage, DriverError>> {
        let pids = Some(self.groups().len() as u64);
        Box::pin(async move { Ok(Usage { pids, ..Usage::default() }) })
    }

    fn host_pids(&self) -> Pending<'_, Result<Vec<u32>, DriverError>> {
        let pids = self.groups().iter().map(|pid| pid.as_raw_pid().cast_unsigned()).collect();
        Box::pin(async move { Ok(pids) })
    }

    fn destroy(&self, _by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            self.signal_all(KernelSignal::KILL);
            let running: Vec<_> = self.processes.lock().unwrap().values().cloned().collect();
            for process in running {
                process.wait().await;
            }
            match fs::remove_dir_all(&self.directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    Err(DriverError::step("remove the directory", &error))
                }
                Ok(()) | Err(_) => Ok(()),
            }
        })
    }

    fn pausable(&self) -> Option<&dyn Pausable> {
        Some(self)
    }

    fn files(&self) -> Option<&dyn workload::Files> {
        None
    }

    fn forkable(&self) -> Option<&dyn workload::Forkable> {
        None
    }
}

impl Pausable for HostSandbox {
    fn pause(&self, _by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        self.signal_all(KernelSignal::STOP);
        Box::pin(async { Ok(()) })
    }

    fn resume(&self, _by: Deadline) -> Pending<'_, Result<(), DriverError>> {
        self.signal_all(KernelSignal::CONT);
        Box::pin(async { Ok(()) })
    }
}

#[derive(Debug)]
struct HostProcess {
    id: ProcessId,
    pid: u32,
    keeper: Arc<Keeper>,
    exit: watch::Sender<Option<Exit>>,
}

impl HostProcess {
    async fn reap(self: Arc<HostProcess>, mut child: Child) {
        wait_readable(pidfd(self.pid)).await;
        let status = child.wait().unwrap();
        self.keeper.finish().await;
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => ExitStatus::Code(u8::try_from(code).unwrap()),
            (None, signal) => {
                let number = u8::try_from(signal.unwrap()).unwrap();
                ExitStatus::Signal(Signal::from_number(number).unwrap())
            }
        };
        let exit = Exit { status, out_of_memory: false, at: Timestamp::now() };
        self.exit.send_replace(Some(exit));
    }

    fn ended(&self) -> Result<(), DriverError> {
        if self.exit.borrow().is_none() {
            return Ok(());
        }
        let what = format!("process {}", self.id);
        Err(DriverError::State { what, state: "not running".to_owned() })
    }
}

impl Process for HostProcess {
    fn id(&self) -> &ProcessId {
        &self.id
    }

    fn host_pid(&self) -> Option<u32> {
        self.exit.borrow().is_none().then_some(self.pid)
    }

    fn signal(&self, signal: Signal) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            self.ended()?;
            let pid = Pid::from_raw(self.pid.cast_signed()).unwrap();
            let signal = KernelSignal::from_named_raw(i32::from(signal.number())).unwrap();
            kill_process_group(pid, signal).map_err(|e| DriverError::step("kill", &e.into()))
        })
    }

    fn resize(&self, _size: TerminalSize) -> Pending<'_, Result<(), DriverError>> {
        let what = format!("process {}", self.id);
        Box::pin(async { Err(DriverError::State { what, state: "without a terminal".to_owned() }) })
    }

    fn attach(
        &self,
        attachment: Attachment,
    ) -> Pending<'_, Result<Option<Timestamp>, DriverError>> {
        Box::pin(async move {
            self.ended()?;
            let attached = self.keeper.attach(attachment).await;
            attached.map_err(|error| DriverError::step("attach", &io::Error::other(error)))
        })
    }

    fn wait(&self) -> Pending<'_, Exit> {
        Box::pin(
            async move { self.exit.subscribe().wait_for(Option::is_some).await.unwrap().unwrap() },
        )
    }
}

fn pidfd(pid: u32) -> OwnedFd {
    let pid = Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap()
}

#[expect(deprecated, reason = "an OwnedFd never changes its descriptor (tokio#8587)")]
async fn wait_readable(fd: OwnedFd) {
    let fd = tokio::io::unix::AsyncFd::with_interest(fd, tokio::io::Interest::READABLE).unwrap();
    drop(fd.readable().await.unwrap());
}

/// A sandbox with a directory of its own beneath `root`.
pub(crate) fn sandbox(root: &Path, id: &str) -> SandboxSpec {
    SandboxSpec {
        id: id.parse().unwrap(),
        machine: workload::MachineSpec::default(),
        hostname: None,
        domainname: None,
        network: workload::Network::Host,
        ipc: workload::Namespace::Host,
        uts: workload::Namespace::Host,
        user: None,
        time: None,
        sysctls: BTreeMap::new(),
        limits: Limits::default(),
        cgroup: Some(root.join(format!("sandbox-{id}")).to_str().unwrap().to_owned()),
        taken_from: None,
    }
}

/// A process that runs a shell script, its output logged beneath `root`.
pub(crate) fn script(root: &Path, id: &str, script: &str) -> ProcessSpec {
    let log = workload::LogSpec {
        path: root.join(format!("log-{id}")),
        bytes_max: 1 << 30,
        files_max: 1,
        ..workload::LogSpec::default()
    };
    ProcessSpec {
        id: id.parse().unwrap(),
        root: workload::ProcessRoot::Join(ProcessId::main()),
        args: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        env: Vec::new(),
        cwd: "/".into(),
        user: workload::UserSpec::default(),
        umask: None,
        capabilities: workload::CapabilitySets::default(),
        no_new_privileges: false,
        seccomp: None,
        apparmor: None,
        selinux: None,
        rlimits: Vec::new(),
        oom_score_adj: None,
        terminal: None,
        stdin: false,
        stdin_once: false,
        log: Some(log),
        whole: false,
    }
}
