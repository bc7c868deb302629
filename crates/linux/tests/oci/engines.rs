//! Other people's engines over this command line.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use crate::bundle::{Bundle, Said, program, said, until};

/// A bundle whose root file system is also a tar archive, and the program under a name that
/// ends in `-runtime`.
fn bundle() -> Option<Bundle> {
    let bundle = Bundle::new("true")?;
    let tar = Command::new("tar")
        .args(["-C", &bundle.text("rootfs"), "-cf", &bundle.text("rootfs.tar"), "."])
        .status();
    assert!(tar.unwrap().success());
    symlink(program(), bundle.path("wythe-runtime")).unwrap();
    Some(bundle)
}

struct Podman {
    program: PathBuf,
    bundle: Bundle,
}

impl Podman {
    fn new() -> Option<Podman> {
        let (program, _) = (testkit::need::tool("podman")?, testkit::need::tool("conmon")?);
        let bundle = bundle()?;
        let ulimits =
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=4096:4096\"]\n";
        fs::write(bundle.path("containers.conf"), ulimits).unwrap();
        let podman = Podman { program, bundle };
        assert_eq!(podman.run(&["import", &podman.bundle.text("rootfs.tar"), "box"]).code, Some(0));
        Some(podman)
    }

    fn run(&self, args: &[&str]) -> Said {
        let text = |name| self.bundle.text(name);
        let mut command = Command::new(&self.program);
        command.args(["--root", &text("store"), "--runroot", &text("run")]);
        command.args(["--tmpdir", &text("tmp"), "--storage-driver", "vfs"]);
        command.args(["--cgroup-manager", "cgroupfs", "--events-backend", "none"]);
        command.args(["--runtime", &text("wythe-runtime")]).args(args);
        command.env("CONTAINERS_CONF", text("containers.conf")).stdin(Stdio::null());
        Said::from(command.output().unwrap())
    }

    /// Runs a command in a container without a network.
    fn run_box(&self, flags: &[&str], command: &[&str]) -> Said {
        let parent = format!("/{}", self.bundle.cgroup());
        let base = ["run", "--network", "none", "--cgroup-parent", &parent];
        let image = ["box"];
        let parts = [&base[..], flags, &image, command];
        self.run(&parts.concat())
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "-f", "-t", "0", "-a"]);
        self.run(&["rmi", "-f", "-a"]);
        self.bundle.remove_groups();
    }
}

#[test]
fn podman_runs_execs_pauses_and_removes() {
    let Some(podman) = Podman::new() else { return };
    let ran = podman.run_box(&["--rm"], &["/bin/sh", "-c", "echo in; exit 4"]);
    assert_eq!(ran, said(4, "in\n"), "{ran:?}");
    let missing = podman.run_box(&["--rm"], &["/bin/nope"]);
    assert_eq!(missing.code, Some(127), "{missing:?}");

    let limits = ["--memory", "64m", "--cpus", "0.5", "--pids-limit", "30"];
    let flags: Vec<&str> = ["-d", "--name", "idle"].into_iter().chain(limits).collect();
    let ran = podman.run_box(&flags, &["/bin/sleep", "1000"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let ran = podman.run(&["exec", "idle", "/bin/sh", "-c", "echo joined; exit 3"]);
    assert_eq!(ran, said(3, "joined\n"), "{ran:?}");
    for (args, status) in [(["pause", "idle"], "paused"), (["unpause", "idle"], "running")] {
        let ran = podman.run(&args);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let state = podman.run(&["inspect", "-f", "{{.State.Status}}", "idle"]);
        assert_eq!(state, said(0, &format!("{status}\n")), "{state:?}");
    }
    let ran = podman.run(&["stop", "-t", "1", "idle"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let state = podman.run(&["inspect", "-f", "{{.State.ExitCode}}", "idle"]);
    assert_eq!(state, said(0, "137\n"), "{state:?}");
}

#[test]
fn podman_gives_terminals() {
    let Some(podman) = Podman::new() else { return };
    let ran = podman.run_box(&["--rm", "-t"], &["/bin/tty"]);
    assert_eq!(ran, said(0, "/dev/pts/0\r\n"), "{ran:?}");
}

/// A containerd of its own, stopped in the end.
struct Containerd {
    process: Child,
    bundle: Bundle,
}

impl Containerd {
    fn new() -> Option<Containerd> {
        testkit::need::tool("ctr")?;
        let containerd = testkit::need::tool("containerd")?;
        let bundle = bundle()?;
        let text = |name| bundle.text(name);
        let config = format!(
            "version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             root = \"{}\"\nstate = \"{}\"\n[grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
            text("root"),
            text("run"),
            text("socket"),
            text("socket.ttrpc"),
        );
        fs::write(bundle.path("config.toml"), config).unwrap();
        let log = fs::File::create(bundle.path("log")).unwrap();
        let process = Command::new(containerd)
            .args(["--config", &text("config.toml")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let containerd = Containerd { process, bundle };
        until(|| containerd.ctr(&["version"]).code == Some(0));
        Some(containerd)
    }

    fn ctr(&self, args: &[&str]) -> Said {
        let mut command = Command::new("ctr");
        let namespace = self.bundle.cgroup();
        command.args(["--address", &self.bundle.text("socket"), "--namespace", &namespace]);
        command.args(args);
        Said::from(command.stdin(Stdio::null()).output().unwrap())
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
        self.bundle.remove_groups();
    }
}

#[test]
fn containerd_runs_execs_and_removes() {
    let Some(containerd) = Containerd::new() else { return };
    let (runtime, rootfs) =
        (containerd.bundle.text("wythe-runtime"), containerd.bundle.text("rootfs"));
    let run = |more: &[&str]| {
        let base = ["run", "--runtime", "io.containerd.runc.v2", "--runc-binary", &runtime];
        let args: Vec<&str> = base.into_iter().chain(more.iter().copied()).collect();
        containerd.ctr(&args)
    };
    let ran = run(&["--rm", "--rootfs", &rootfs, "one", "/bin/sh", "-c", "echo in; exit 4"]);
    assert_eq!(ran, said(4, "in\n"), "{ran:?}");
    let ran = run(&["-d", "--rootfs", &rootfs, "two", "/bin/sleep", "1000"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let exec = ["tasks", "exec", "--exec-id", "e", "two", "/bin/sh", "-c", "echo joined; exit 3"];
    let ran = containerd.ctr(&exec);
    assert_eq!(ran, said(3, "joined\n"), "{ran:?}");
    for args in [
        &["tasks", "pause", "two"][..],
        &["tasks", "resume", "two"],
        &["tasks", "kill", "-s", "KILL", "two"],
    ] {
        let ran = containerd.ctr(args);
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
    }
    until(|| containerd.ctr(&["tasks", "list"]).stdout.contains("STOPPED"));
    let ran = containerd.ctr(&["tasks", "rm", "two"]);
    assert!(ran.stderr.is_empty() || ran.code == Some(0), "{ran:?}");
    let ran = containerd.ctr(&["containers", "rm", "two"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}
