//! A root file system, a driver, and short ways to run something.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use base::{ByteSize, Deadline, ProcessId};
use linux::LinuxDriver;
use tempfile::TempDir;
use workload::{
    ContainerSpec, Driver, DriverError, Exit, ExitStatus, Isolation, Limits, LogSpec, Materials,
    Namespace, Network, ProcessRoot, ProcessSpec, RootFs, Sandbox, SandboxSpec, Streams, UserSpec,
    profile,
};

/// How long anything may take.
pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

/// Runs a future on a runtime of one thread, as the shim does.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// One container to be, in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) home: TempDir,
    pub(crate) driver: LinuxDriver,
    pub(crate) sandbox: SandboxSpec,
    pub(crate) container: ContainerSpec,
    pub(crate) process: ProcessSpec,
}

impl Fixture {
    /// Nothing where the host lacks what these tests need.
    pub(crate) fn new() -> Option<Fixture> {
        if !testkit::need::root() {
            return None;
        }
        let busybox = testkit::need::tool("busybox")?;
        let home = tempfile::tempdir().unwrap();
        let lower = home.path().join("lower");
        rootfs(&lower, &busybox);
        for name in ["upper", "work"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        let id = format!("t{}-{}", std::process::id(), home.path().file_name()?.to_str()?);
        let id = id.replace('.', "");
        let capabilities =
            profile::DEFAULT_CAPABILITIES.iter().filter_map(|n| profile::capability(n));
        Some(Fixture {
            driver: LinuxDriver::new(Isolation::Container, None, "/wythe-test").unwrap(),
            sandbox: SandboxSpec {
                id: id.parse().unwrap(),
                machine: workload::MachineSpec::default(),
                hostname: Some("inside".into()),
                domainname: None,
                network: Network::None,
                ipc: Namespace::Private,
                uts: Namespace::Private,
                user: None,
                time: None,
                sysctls: Default::default(),
                limits: Limits {
                    devices: Some(profile::device_rules()),
                    pids: Some(100),
                    ..Limits::default()
                },
                cgroup: Some(format!("/wythe-test/{id}")),
                taken_from: None,
            },
            container: ContainerSpec {
                root: RootFs::Overlay {
                    lower: vec![lower],
                    upper: home.path().join("upper"),
                    work: home.path().join("work"),
                },
                read_only_root: false,
                root_propagation: None,
                mounts: profile::mounts(ByteSize(1 << 20), false),
                devices: Vec::new(),
                masked_paths: profile::masked_paths(),
                read_only_paths: profile::read_only_paths(),
                pid: Namespace::Private,
                cgroup: Namespace::Private,
                init: false,
            },
            process: ProcessSpec {
                id: ProcessId::main(),
                root: ProcessRoot::Join(ProcessId::main()),
                args: vec!["true".into()],
                env: vec!["PATH=/bin".into()],
                cwd: "/".into(),
                user: UserSpec::default(),
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
            },
            home,
        })
    }

    pub(crate) fn lower(&self) -> PathBuf {
        self.home.path().join("lower")
    }

    pub(crate) async fn create(&self) -> Result<Arc<dyn Sandbox>, DriverError> {
        self.driver.create(self.sandbox.clone(), Materials::default(), soon()).await
    }

    /// The spec of a process that runs a script of busybox's shell.
    pub(crate) fn sh(&self, script: &str) -> ProcessSpec {
        let args = ["sh", "-c", script].map(str::to_owned).to_vec();
        ProcessSpec { args, ..self.main() }
    }

    /// The spec of the container's own process.
    pub(crate) fn main(&self) -> ProcessSpec {
        ProcessSpec {
            root: ProcessRoot::Own(Box::new(self.container.clone())),
            log: Some(self.log("main")),
            ..self.process.clone()
        }
    }

    /// The spec of a process that joins the container's own.
    pub(crate) fn exec(&self, name: &str, script: &str) -> ProcessSpec {
        ProcessSpec {
            id: name.parse().unwrap(),
            root: ProcessRoot::Join(ProcessId::main()),
            args: ["sh", "-c", script].map(str::to_owned).to_vec(),
            log: Some(self.log(name)),
            ..self.process.clone()
        }
    }

    pub(crate) fn log(&self, name: &str) -> LogSpec {
        LogSpec {
            path: self.home.path().join(name),
            bytes_max: 1 << 20,
            files_max: 1,
            ..LogSpec::default()
        }
    }

    /// What a process wrote.
    pub(crate) fn output(&self, name: &str) -> String {
        let query = stdio::log::Query::default();
        let mut reader = stdio::log::Reader::open(&self.home.path().join(name), query).unwrap();
        let mut text = Vec::new();
        while let Some(record) = reader.next().unwrap() {
            if let stdio::log::Content::Bytes { bytes, .. } = record.content {
                text.extend(bytes);
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Runs the container's own process to its end: its exit and what it wrote.
    pub(crate) fn run(&self, spec: ProcessSpec) -> Result<(Exit, String), DriverError> {
        let _ = fs::remove_file(self.home.path().join("main"));
        block_on(async {
            let sandbox = self.create().await?;
            let ended = match sandbox.spawn(spec, Streams::default(), soon()).await {
                Ok(process) => Ok(process.wait().await),
                Err(error) => Err(error),
            };
            sandbox.destroy(soon()).await.unwrap();
            ended.map(|exit| (exit, self.output("main")))
        })
    }

    /// What a script wrote; it must succeed.
    pub(crate) fn says(&self, script: &str) -> String {
        let (exit, output) = self.run(self.sh(script)).unwrap();
        assert_eq!(exit.status, ExitStatus::Code(0), "{script}: {output}");
        output
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        // The parent of all test groups stays for as long as another test uses it.
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = fs::remove_dir(hierarchy.path().join("wythe-test"));
        }
    }
}

/// A root file system with busybox and its applets.
fn rootfs(root: &Path, busybox: &Path) {
    for directory in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let list = std::process::Command::new(busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        let _ = symlink("busybox", root.join("bin").join(applet));
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n")
        .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\nwww:x:33:\naudio:x:29:web\n").unwrap();
}
