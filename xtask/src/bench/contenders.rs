//! Who is measured, and how each is asked to do the same work.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{Contender, Work};
use crate::command::{quietly, target, which};

/// A directory with a bundle and a root file system, our daemon's data root, and podman's store.
/// Dropped, it stops what it started and leaves nothing.
pub(crate) struct Bench {
    dir: TempDir,
    wythe: PathBuf,
    podman: Option<PathBuf>,
}

impl Bench {
    pub(crate) fn new() -> Result<Bench> {
        let dir = tempfile::Builder::new().prefix("wythe-bench-").tempdir()?;
        let bench = Bench {
            dir,
            wythe: target().join("release/wythe"),
            podman: which("podman").filter(|_| which("conmon").is_some()),
        };
        bench.make_bundle()?;
        bench.wythe_ready()?;
        bench.podman_ready()?;
        Ok(bench)
    }

    /// All the work that is measured.
    pub(crate) fn works(&self) -> Vec<Work> {
        vec![
            self.oci_run(),
            self.run("run --rm, no network", "none"),
            self.run("run --rm, bridge", ""),
            self.exec(),
        ]
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn make_bundle(&self) -> Result<()> {
        let rootfs = self.path("bundle/rootfs");
        for dir in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(dir))?;
        }
        let busybox = which("busybox").context("busybox-static is not installed")?;
        fs::copy(busybox, rootfs.join("bin/busybox"))?;
        for applet in ["sh", "true", "sleep"] {
            symlink("busybox", rootfs.join("bin").join(applet))?;
        }
        quietly(Command::new(&self.wythe).args(["oci", "spec"]).current_dir(self.path("bundle")))?;
        let config = self.path("bundle/config.json");
        let mut spec: serde_json::Value = serde_json::from_slice(&fs::read(&config)?)?;
        // What the oldest of the contenders understands.
        spec["ociVersion"] = serde_json::json!("1.0.2");
        let process = spec.get_mut("process").context("the spec has a process")?;
        process["args"] = serde_json::json!(["/bin/true"]);
        process["terminal"] = serde_json::json!(false);
        // Hard limits that this host may not be able to raise would fail the peers.
        process["rlimits"] = serde_json::json!([]);
        fs::write(&config, serde_json::to_vec(&spec)?)?;
        let tar = self.path("rootfs.tar");
        quietly(Command::new("tar").arg("-C").arg(rootfs).arg("-cf").arg(&tar).arg("."))
    }

    /// Our client, on a daemon of its own.
    fn wythe(&self) -> Command {
        let mut command = Command::new(&self.wythe);
        command.env("WYTHE_DATA", self.path("data")).env("WYTHE_RUN", self.path("run"));
        command
    }

    fn wythe_ready(&self) -> Result<()> {
        quietly(self.wythe().args(["import", "--name", "bench"]).arg(self.path("rootfs.tar")))?;
        quietly(self.wythe().args([
            "run",
            "-d",
            "--name",
            "idle",
            "--network",
            "none",
            "bench",
            "/bin/sleep",
            "100000",
        ]))
    }

    fn podman(&self, args: &[&str]) -> Option<Command> {
        let mut command = Command::new(self.podman.as_ref()?);
        let (root, run) = (self.path("podman"), self.path("podman-run"));
        command.arg("--root").arg(root).arg("--runroot").arg(run);
        command.args([
            "--storage-driver",
            "overlay",
            "--cgroup-manager",
            "cgroupfs",
            "--runtime",
            "runc",
        ]);
        command.args(["--events-backend", "file"]).args(args);
        command.env("CONTAINERS_CONF", self.path("containers.conf"));
        Some(command)
    }

    fn podman_ready(&self) -> Result<()> {
        fs::write(
            self.path("containers.conf"),
            "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
        )?;
        let tar = self.path("rootfs.tar");
        if let Some(mut import) = self.podman(&["import", &tar.to_string_lossy(), "bench"]) {
            quietly(&mut import)?;
        }
        let idle =
            ["run", "-d", "--name", "idle", "--network", "none", "bench", "/bin/sleep", "100000"];
        self.podman(&idle).map_or(Ok(()), |mut command| quietly(&mut command))
    }

    fn oci_run(&self) -> Work {
        let bundle = self.path("bundle");
        let state = |name: &str| self.path(&format!("state-{name}"));
        let mut contenders =
            vec![oci("wythe", runtime(&self.wythe, &["oci"]), &bundle, &state("wythe"))];
        if let Some(crun) = which("crun") {
            contenders.push(oci("crun", runtime(&crun, &[]), &bundle, &state("crun")));
        }
        if let Some(runc) = which("runc") {
            contenders.push(oci("runc", runtime(&runc, &[]), &bundle, &state("runc")));
        }
        Work { name: "oci run true", contenders }
    }

    fn run(&self, name: &'static str, network: &str) -> Work {
        let mut args = vec!["run", "--rm"];
        if !network.is_empty() {
            args.extend(["--network", network]);
        }
        args.extend(["bench", "/bin/true"]);
        self.clients(name, &args)
    }

    fn exec(&self) -> Work {
        self.clients("exec true", &["exec", "idle", "/bin/true"])
    }

    fn clients(&self, name: &'static str, args: &[&str]) -> Work {
        let mut ours = self.wythe();
        ours.args(args);
        let mut contenders =
            vec![Contender { name: "wythe", once: Box::new(move || timed(&mut ours)) }];
        if let Some(mut podman) = self.podman(args) {
            contenders
                .push(Contender { name: "podman", once: Box::new(move || timed(&mut podman)) });
        }
        Work { name, contenders }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // What is left of a failed round does not matter any more; it is removed with the rest.
        drop(quietly(self.wythe().args(["rm", "-f", "idle"])));
        if let Ok(pid) = fs::read_to_string(self.path("run/daemon.lock")) {
            drop(quietly(Command::new("kill").arg(pid.trim())));
        }
        if let Some(mut podman) = self.podman(&["rm", "-f", "-t", "0", "-a"]) {
            drop(quietly(&mut podman));
        }
        if let Some(mut podman) = self.podman(&["rmi", "-f", "-a"]) {
            drop(quietly(&mut podman));
        }
        drop(quietly(Command::new("umount").arg("-l").arg(self.path("podman/overlay"))));
    }
}

/// A runtime's command line, up to its options.
fn runtime(program: &Path, args: &[&str]) -> Vec<String> {
    std::iter::once(program.to_string_lossy().into_owned())
        .chain(args.iter().map(|a| (*a).to_owned()))
        .collect()
}

fn oci(name: &'static str, command: Vec<String>, bundle: &Path, state: &Path) -> Contender {
    let (bundle, state) = (bundle.to_owned(), state.to_owned());
    let mut count = 0_u32;
    let once = move || {
        count += 1;
        let id = format!("bench-{name}-{}-{count}", std::process::id());
        let (program, args) = command.split_first().context("a runtime has a program")?;
        let mut command = Command::new(program);
        command
            .args(args)
            .arg("--root")
            .arg(&state)
            .arg("run")
            .arg("--bundle")
            .arg(&bundle)
            .arg(&id);
        timed(&mut command)
    };
    Contender { name, once: Box::new(once) }
}

fn timed(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let output =
        command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let time = began.elapsed();
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(time)
}
