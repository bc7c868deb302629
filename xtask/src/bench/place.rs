//! Where it is measured: a bundle and a root file system, our daemon's roots, podman's store.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::processes;
use crate::command::{cargo, quietly, run, target, which};

/// A directory for all contenders. Dropped, it stops what it started and leaves nothing.
pub(crate) struct Place {
    dir: TempDir,
    pub(crate) wythe: PathBuf,
    podman: Option<PathBuf>,
    peers: bool,
}

/// A container that idles while the others come and go.
const IDLE: [&str; 8] = ["run", "-d", "--name", "idle", "--network", "none", "bench", "/bin/sleep"];

impl Place {
    /// Builds the program as it is handed out, as the peers are what their distribution handed out,
    /// and makes everything ready for it and for them.
    pub(crate) fn new(peers: bool) -> Result<Place> {
        run(&mut cargo(&["build", "--profile", "dist", "--package", "wythe", "--locked"]))?;
        let dir = tempfile::Builder::new().prefix("wythe-bench-").tempdir()?;
        let place = Place {
            dir,
            wythe: target().join("dist/wythe"),
            podman: which("podman").filter(|_| peers && which("conmon").is_some()),
            peers,
        };
        place.make_bundle()?;
        quietly(place.wythe().args(["import", "--name", "bench"]).arg(place.path("rootfs.tar")))?;
        quietly(place.wythe().args(IDLE).arg("100000"))?;
        place.podman_ready()?;
        Ok(place)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A peer's program, if it is installed and peers take part.
    pub(crate) fn peer(&self, name: &str) -> Option<PathBuf> {
        which(name).filter(|_| self.peers)
    }

    fn make_bundle(&self) -> Result<()> {
        let rootfs = self.path("bundle/rootfs");
        for dir in ["bin", "proc", "sys", "dev", "tmp", "etc"] {
            fs::create_dir_all(rootfs.join(dir))?;
        }
        let busybox = which("busybox").context("busybox-static is not installed")?;
        fs::copy(busybox, rootfs.join("bin/busybox"))?;
        for applet in ["cat", "sh", "sleep", "true"] {
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

    /// Our client, on the daemon that all timed work uses.
    pub(crate) fn wythe(&self) -> Command {
        self.wythe_at("data", "run")
    }

    /// Our client, on a daemon of its own.
    pub(crate) fn wythe_at(&self, data: &str, run: &str) -> Command {
        let mut command = Command::new(&self.wythe);
        command.env("WYTHE_DATA", self.path(data)).env("WYTHE_RUN", self.path(run));
        command
    }

    /// Sees to it that a daemon with these roots does not outlive what is measured.
    pub(super) fn cleared(&self, data: &'static str, run: &'static str) -> Cleared<'_> {
        Cleared { place: self, data, run }
    }

    /// Removes all containers of the daemon that serves from here, if one does, and ends it.
    fn clear(&self, data: &str, run: &str) {
        if self.daemon(run).is_err() {
            return;
        }
        let all = self.wythe_at(data, run).args(["ps", "-aq"]).output();
        let all = all.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let all = all.unwrap_or_default();
        if !all.trim().is_empty() {
            let mut remove = self.wythe_at(data, run);
            drop(quietly(remove.args(["rm", "-f"]).args(all.split_whitespace())));
        }
        self.stop_daemon(run);
    }

    /// The daemon that serves from here.
    pub(crate) fn daemon(&self, run: &str) -> Result<u32> {
        let text = fs::read_to_string(self.path(run).join("daemon.lock"))?;
        Ok(text.trim().parse()?)
    }

    /// Our processes of this name: `wythe-shim`, `wythe-fork`.
    pub(crate) fn ours(&self, name: &str, run: &str) -> Result<Vec<u32>> {
        processes::named(name, &self.path(run))
    }

    /// Podman's watchers.
    pub(crate) fn conmons(&self) -> Result<Vec<u32>> {
        processes::named("conmon", self.dir.path())
    }

    pub(crate) fn podman(&self, args: &[&str]) -> Option<Command> {
        let mut command = Command::new(self.podman.as_ref()?);
        let (root, run) = (self.path("podman"), self.path("podman-run"));
        command.arg("--root").arg(root).arg("--runroot").arg(run);
        command.args(["--storage-driver", "overlay", "--cgroup-manager", "cgroupfs"]);
        command.args(["--runtime", "runc", "--events-backend", "file"]).args(args);
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
        match self.podman(&IDLE) {
            Some(mut idle) => quietly(idle.arg("100000")),
            None => Ok(()),
        }
    }

    /// Ends the daemon that serves from here, and waits until it has gone.
    pub(crate) fn stop_daemon(&self, run: &str) {
        let Ok(pid) = self.daemon(run) else { return };
        drop(quietly(Command::new("kill").arg(pid.to_string())));
        let until = Instant::now() + Duration::from_secs(20);
        while Path::new(&format!("/proc/{pid}")).exists() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear("data", "run");
        for args in [&["rm", "-f", "-t", "0", "-a"], &["rmi", "-f", "-a", "", ""]] {
            let args: Vec<&str> = args.iter().copied().filter(|arg| !arg.is_empty()).collect();
            if let Some(mut podman) = self.podman(&args) {
                drop(quietly(&mut podman));
            }
        }
        drop(quietly(Command::new("umount").arg("-l").arg(self.path("podman/overlay"))));
    }
}

/// Our daemon with these roots. Dropped, it is gone with all its containers, also when what was
/// measured there has failed.
pub(super) struct Cleared<'p> {
    place: &'p Place,
    data: &'static str,
    run: &'static str,
}

impl Drop for Cleared<'_> {
    fn drop(&mut self) {
        self.place.clear(self.data, self.run);
    }
}

/// How long a command takes that must succeed.
pub(crate) fn timed(command: &mut Command) -> Result<Duration> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let began = Instant::now();
    let output =
        command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    let time = began.elapsed();
    ensure!(
        output.status.success(),
        "{:?}: {}: {}",
        command.get_program(),
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(time)
}

/// The same in milliseconds.
pub(crate) fn timed_ms(command: &mut Command) -> Result<f64> {
    Ok(timed(command)?.as_secs_f64() * 1000.0)
}

/// Median of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}
