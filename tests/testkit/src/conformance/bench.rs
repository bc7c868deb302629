//! What the checks share: making sandboxes and processes of the host under test, reading logs.

use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use base::{ProcessId, SandboxId};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use workload::{
    ContainerSpec, Driver, DriverError, Exit, ExitStatus, LogSpec, Materials, Process, ProcessRoot,
    ProcessSpec, Sandbox, SandboxSpec, Streams, profile,
};

use super::{Host, PATIENCE, soon};

/// A check's workbench: it remembers the sandboxes it made, so that a failed check is cleaned up
/// after and every check is looked behind.
pub struct Bench<'a> {
    /// What is under test.
    pub host: &'a dyn Host,
    name: String,
    count: AtomicU32,
    made: Mutex<Vec<SandboxId>>,
}

impl std::fmt::Debug for Bench<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<'a> Bench<'a> {
    /// One for a check of this name.
    pub fn new(host: &'a dyn Host, name: &str) -> Bench<'a> {
        let name = name.to_owned();
        Bench { host, name, count: AtomicU32::new(0), made: Mutex::default() }
    }

    /// The driver under test.
    pub fn driver(&self) -> Arc<dyn Driver> {
        self.host.driver()
    }

    /// An id that nobody else uses, noted for the end.
    pub fn id(&self) -> SandboxId {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let name: String = self.name.chars().take(40).collect();
        let id = format!("conf-{}-{name}-{count}", std::process::id());
        let id: SandboxId = id.parse().expect("made of words and numbers");
        self.made.lock().expect("no check panics while holding it").push(id.clone());
        id
    }

    /// A new sandbox, changed by `change`.
    pub async fn sandbox_with(&self, change: impl FnOnce(&mut SandboxSpec)) -> Arc<dyn Sandbox> {
        let mut spec = self.host.sandbox(&self.id());
        change(&mut spec);
        let made = self.driver().create(spec, Materials::default(), soon()).await;
        made.unwrap_or_else(|error| panic!("create: {error}"))
    }

    /// A new sandbox.
    pub async fn sandbox(&self) -> Arc<dyn Sandbox> {
        self.sandbox_with(|_| {}).await
    }

    /// A container for a sandbox.
    pub fn container(&self, sandbox: &dyn Sandbox) -> ContainerSpec {
        self.host.container(&sandbox.handle().sandbox)
    }

    /// The spec of a main process that runs this command in a container of its own.
    pub fn main(&self, sandbox: &dyn Sandbox, args: &[&str]) -> ProcessSpec {
        let root = ProcessRoot::Own(Box::new(self.container(sandbox)));
        process(ProcessId::main(), root, self.host.command(args))
    }

    /// The spec of the first process of a further container.
    pub fn further(&self, id: &str, container: ContainerSpec, args: &[&str]) -> ProcessSpec {
        process(name(id), ProcessRoot::Own(Box::new(container)), self.host.command(args))
    }

    /// The spec of an exec beside the main process.
    pub fn exec(&self, id: &str, args: &[&str]) -> ProcessSpec {
        self.exec_beside("main", id, args)
    }

    /// The spec of an exec beside the process of this name.
    pub fn exec_beside(&self, beside: &str, id: &str, args: &[&str]) -> ProcessSpec {
        process(name(id), ProcessRoot::Join(name(beside)), self.host.command(args))
    }

    /// A file for a log, in the host's directory.
    pub fn log(&self) -> LogSpec {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        let path = self.host.directory().join(format!("{}-{count}.log", self.name));
        LogSpec { path, bytes_max: 1 << 20, files_max: 2, ..LogSpec::default() }
    }

    /// A sandbox whose main process runs until it is killed.
    pub async fn idle(&self) -> Arc<dyn Sandbox> {
        let sandbox = self.sandbox().await;
        let spec = self.main(&*sandbox, &["sleep", "infinity"]);
        start(&*sandbox, spec).await;
        sandbox
    }

    /// Runs a spec to its end and gives its output (both streams) and status.
    pub async fn output(&self, sandbox: &dyn Sandbox, spec: ProcessSpec) -> (String, ExitStatus) {
        let terminal = spec.terminal.is_some();
        let (ours, theirs) = socket_pair();
        let streams = Streams { attached: Some(theirs.into()) };
        let process = sandbox.spawn(spec, streams, soon()).await;
        let process = process.unwrap_or_else(|error| panic!("spawn: {error}"));
        let text = within("reading the output", read_all(ours, terminal)).await;
        (text, ended(&*process).await.status)
    }

    /// Path below the host's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.host.directory().join(name)
    }

    /// Destroys whatever the check made and did not destroy.
    pub(super) async fn clean(&self) {
        let made = self.made.lock().expect("no check panics while holding it").clone();
        for sandbox in made {
            let handle = self.host.handle(&sandbox);
            if let Ok(Some(left)) = self.driver().recover(handle, soon()).await {
                // What does not go shows as residue.
                drop(left.destroy(soon()).await);
            }
        }
    }

    /// What is left of every sandbox of this check.
    pub(super) fn residue(&self) -> Vec<String> {
        let made = self.made.lock().expect("no check panics while holding it").clone();
        made.iter().flat_map(|id| self.host.residue(id)).collect()
    }
}

fn name(id: &str) -> ProcessId {
    id.parse().expect("checks name processes well")
}

fn process(id: ProcessId, root: ProcessRoot, args: Vec<String>) -> ProcessSpec {
    let capabilities = profile::DEFAULT_CAPABILITIES.iter().filter_map(|c| profile::capability(c));
    ProcessSpec {
        id,
        root,
        args,
        env: vec!["PATH=/bin".to_owned()],
        cwd: "/".into(),
        user: workload::UserSpec::default(),
        umask: None,
        capabilities: profile::capability_sets(capabilities),
        no_new_privileges: false,
        seccomp: None,
        apparmor: None,
        selinux: None,
        rlimits: Vec::new(),
        oom_score_adj: None,
        terminal: None,
        stdin: false,
        stdin_once: false,
        log: None,
        whole: false,
    }
}

/// Starts a process without attaching to it.
pub(super) async fn start(sandbox: &dyn Sandbox, spec: ProcessSpec) -> Arc<dyn Process> {
    let started = sandbox.spawn(spec, Streams::default(), soon()).await;
    started.unwrap_or_else(|error| panic!("spawn: {error}"))
}

/// The error of a spawn that must fail.
pub(super) async fn refused(sandbox: &dyn Sandbox, spec: ProcessSpec) -> DriverError {
    match sandbox.spawn(spec, Streams::default(), soon()).await {
        Ok(process) => panic!("{} was started", process.id()),
        Err(error) => error,
    }
}

/// Waits for a process, but not for ever.
pub(super) async fn ended(process: &dyn Process) -> Exit {
    within("waiting for the process", process.wait()).await
}

/// Destroys a sandbox, which must work.
pub(super) async fn destroy(sandbox: &dyn Sandbox) {
    sandbox.destroy(soon()).await.unwrap_or_else(|error| panic!("destroy: {error}"));
}

/// Fails a wait that does not end.
pub(super) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("{what} did not end"))
}

/// A connected pair: ours, and the end that is handed over.
pub(super) fn socket_pair() -> (tokio::net::UnixStream, OwnedFd) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair can be made");
    ours.set_nonblocking(true).expect("a socket can be made non-blocking");
    (tokio::net::UnixStream::from_std(ours).expect("we run in a runtime"), theirs.into())
}

/// Everything that comes until the other side closes, as text; frames are taken apart.
pub(super) async fn read_all(mut socket: impl AsyncRead + Unpin, raw: bool) -> String {
    let mut bytes = Vec::new();
    // A terminal's other side may end in an error where it has simply ended.
    drop(socket.read_to_end(&mut bytes).await);
    let bytes = if raw { bytes } else { payload(&bytes) };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The payload of Docker's multiplexed frames.
fn payload(mut frames: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while let [stream, 0, 0, 0, a, b, c, d, rest @ ..] = frames {
        assert!(matches!(stream, 1 | 2), "a frame of stream {stream}");
        let length = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).expect("a length");
        let (text, after) = rest.split_at_checked(length).expect("a frame is whole");
        out.extend_from_slice(text);
        frames = after;
    }
    assert!(frames.is_empty(), "half a frame header: {frames:?}");
    out
}

/// Reads until this text has come.
pub(super) async fn read_until(socket: &mut tokio::net::UnixStream, text: &str) -> String {
    let mut seen = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            let mut buffer = [0; 4096];
            match socket.read(&mut buffer).await {
                Ok(0) => panic!("ended before \"{text}\": {:?}", String::from_utf8_lossy(&seen)),
                Ok(length) => seen.extend_from_slice(&buffer[..length]),
                Err(error) => panic!("reading: {error}"),
            }
        }
    };
    within("reading", reading).await;
    String::from_utf8_lossy(&seen).into_owned()
}
