//! What a test needs around it: a directory, a fork server, and a look at what is left.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdUnixStream},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base::Deadline;
use rustix::process::{Pid, Signal, kill_process};
use shim::{ForkServer, ShimConfig, ShimDriver};
use stdio::log::{Content, Query, Reader};
use workload::{Driver as _, Isolation, SandboxHandle};

use crate::host::HostDriver;

/// Set for every process that a test's fork server is or makes, to the test's directory.
const WORLD: &str = "WYTHE_SHIM_TEST_WORLD";
const BUILD: &str = "WYTHE_SHIM_TEST_BUILD";

/// Longer than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(30);

pub(crate) fn soon() -> Deadline {
    Deadline::after(LONG)
}

/// The directory of one test, and everything that runs in its name.
pub(crate) struct World {
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        World { dir: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn driver(&self) -> ShimDriver {
        driver_in(self.path(), "this build")
    }

    /// How to find a sandbox again by its id alone, as after a kill.
    pub(crate) fn handle(&self, id: &str) -> SandboxHandle {
        let token = self.path().join(format!("sandbox-{id}"));
        SandboxHandle {
            isolation: Isolation::Host,
            sandbox: id.parse().unwrap(),
            token: token.to_str().unwrap().to_owned(),
        }
    }

    /// What a process wrote.
    pub(crate) fn log(&self, id: &str) -> String {
        let mut reader =
            Reader::open(&self.path().join(format!("log-{id}")), Query::default()).unwrap();
        let mut text = String::new();
        while let Some(record) = reader.next().unwrap() {
            let Content::Bytes { bytes, .. } = record.content else { panic!("a loss") };
            text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        text
    }

    /// Everything that runs in this test's name: name and process id.
    pub(crate) fn processes(&self) -> Vec<(String, Pid)> {
        let mark = format!("{WORLD}={}", self.path().display());
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap() {
            let Ok(pid) = entry.unwrap().file_name().into_string().unwrap().parse() else {
                continue;
            };
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if environ.split(|byte| *byte == 0).any(|line| line == mark.as_bytes()) {
                let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
                found.push((name.trim().to_owned(), Pid::from_raw(pid).unwrap()));
            }
        }
        found
    }

    /// The processes of this name.
    pub(crate) fn named(&self, name: &str) -> Vec<Pid> {
        let all = self.processes().into_iter().filter(|(found, _)| found == name);
        all.map(|(_, pid)| pid).collect()
    }

    /// Files in the directory of the shims' sockets.
    pub(crate) fn sockets(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.path().join("run"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Checks that but for the fork server nothing is left, as soon as processes have ended.
    pub(crate) async fn assert_empty(&self) {
        let leftover = || {
            let processes = self.processes();
            processes.into_iter().filter(|(name, _)| name != "wythe-fork").collect::<Vec<_>>()
        };
        let until = Instant::now() + LONG;
        while !leftover().is_empty() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(leftover(), []);
        let sockets: Vec<_> =
            self.sockets().into_iter().filter(|name| name != "fork-server").collect();
        assert_eq!(sockets, [""; 0]);
        let files: Vec<_> = fs::read_dir(self.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.starts_with("sandbox-"))
            .collect();
        assert_eq!(files, [""; 0]);
    }

    /// Runs another process of this program that plays `role`.
    pub(crate) fn play(&self, role: &str) -> std::process::Child {
        itself(role, self.path()).stdin(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Twice: one may be forking another.
        for _ in 0..2 {
            for (_, pid) in self.processes() {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

pub(crate) fn driver_in(world: &Path, build: &str) -> ShimDriver {
    let (path, build) = (world.to_owned(), build.to_owned());
    let config = ShimConfig {
        run_dir: world.join("run"),
        build: build.clone(),
        start: Arc::new(move |listener| start(&path, &build, listener)),
    };
    ShimDriver::new(Arc::new(HostDriver), config).unwrap()
}

fn start(world: &Path, build: &str, listener: OwnedFd) -> io::Result<()> {
    let status = itself("fork_server", world).env(BUILD, build).stdin(listener).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
}

/// This program again, to play a role instead of running tests: see `roles` in `main.rs`.
fn itself(role: &str, world: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("roles::{role}"), "--exact", "--ignored", "--test-threads=1"]);
    command.env(WORLD, world).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The directory of the test in whose name this process plays a role.
pub(crate) fn world() -> Option<std::path::PathBuf> {
    std::env::var_os(WORLD).map(Into::into)
}

/// Serves as fork server.
pub(crate) fn fork_server(world: &Path) {
    let server = ForkServer {
        run_dir: world.join("run"),
        build: std::env::var(BUILD).unwrap(),
        prepare: Arc::new(|| ()),
        driver: Arc::new(|isolation| {
            assert_eq!(isolation, HostDriver.capabilities().isolation);
            Ok(Arc::new(HostDriver))
        }),
    };
    server.serve().unwrap();
}

/// A socket for somebody who attaches: their side, and the one to hand over.
pub(crate) fn socket() -> (tokio::net::UnixStream, OwnedFd) {
    let (ours, theirs) = StdUnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    (tokio::net::UnixStream::from_std(ours).unwrap(), theirs.into())
}
