//! A bundle with busybox, and the command line over it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Programs of busybox that tests use.
const APPLETS: [&str; 18] = [
    "sh", "true", "sleep", "cat", "echo", "ls", "ps", "id", "env", "pwd", "grep", "stty", "tty",
    "kill", "head", "stat", "readlink", "mkdir",
];

/// Longest wait for something that is bound to happen.
const SOON: Duration = Duration::from_secs(20);

/// A bundle and a state directory of its own; both are gone in the end, containers too.
pub(crate) struct Bundle {
    directory: TempDir,
}

impl Bundle {
    /// A bundle that runs `script`, or `None` where this host cannot run one.
    pub(crate) fn new(script: &str) -> Option<Bundle> {
        if !testkit::need::root() {
            return None;
        }
        let busybox = testkit::need::tool("busybox")?;
        let directory = tempfile::Builder::new().prefix("wythe-oci-").tempdir().unwrap();
        let bundle = Bundle { directory };
        let bin = bundle.path("rootfs/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::copy(busybox, bin.join("busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        assert_eq!(bundle.oci(["spec", "-b", &bundle.text("")]), said(0, ""));
        let group = format!("/{}", bundle.cgroup());
        bundle.change(|config| {
            // Containers of one name run at the same time, each test's in a group of its own.
            config["linux"]["cgroupsPath"] = group.into();
            config["process"]["terminal"] = false.into();
            config["process"]["args"] = json!(["sh", "-c", script]);
        });
        Some(bundle)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Changes `config.json`.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.path("config.json");
        let mut config = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut config);
        fs::write(path, serde_json::to_vec(&config).unwrap()).unwrap();
    }

    /// The program with its global flags, in the bundle, with nothing to read.
    pub(crate) fn command<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(program());
        command.arg("--root").arg(self.path("state"));
        command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        command.current_dir(self.path("")).stdin(Stdio::null());
        command
    }

    /// Runs a command line to its end.
    pub(crate) fn oci<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Said {
        self.command(args).output().unwrap().into()
    }

    /// Creates container `box`, whose output goes to the file `output`.
    pub(crate) fn create(&self) {
        let output = fs::File::create(self.path("output")).unwrap();
        let mut command = self.command(["create", "--pid-file", &self.text("pid"), "box"]);
        let ended = command.stdout(output).status().unwrap();
        assert!(ended.success());
    }

    /// Creates and starts container `box`.
    pub(crate) fn start(&self) {
        self.create();
        assert_eq!(self.oci(["start", "box"]), said(0, ""));
    }

    pub(crate) fn state(&self) -> Value {
        serde_json::from_str(&self.oci(["state", "box"]).stdout).unwrap()
    }

    pub(crate) fn status(&self) -> String {
        self.state()["status"].as_str().unwrap().to_owned()
    }

    /// Waits until the container says so.
    pub(crate) fn await_status(&self, wanted: &str) {
        until(|| self.status() == wanted);
    }

    pub(crate) fn output(&self) -> String {
        fs::read_to_string(self.path("output")).unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        fs::read_to_string(self.path("pid")).unwrap().parse().unwrap()
    }

    /// Deletes container `box`, whatever it does, and sees that nothing is left.
    pub(crate) fn delete(&self) {
        assert_eq!(self.oci(["delete", "--force", "box"]), said(0, ""));
        assert!(!self.path("state/box").exists());
        assert_eq!(groups(&self.cgroup()), Vec::<PathBuf>::new());
    }

    /// A name that nobody else has: of the container's control group, among other things.
    pub(crate) fn cgroup(&self) -> String {
        let name = self.directory.path().file_name().unwrap().to_str().unwrap();
        format!("{name}-group")
    }

    /// Removes what engines leave of a parent of control groups.
    pub(crate) fn remove_groups(&self) {
        for group in groups(&self.cgroup()) {
            // Deepest first; what still holds processes stays to be seen.
            let mut below = vec![group];
            let mut at = 0;
            while let Some(group) = below.get(at) {
                let entries = fs::read_dir(group).into_iter().flatten().flatten();
                let directories = entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
                below.extend(directories.map(|entry| entry.path()).collect::<Vec<_>>());
                at += 1;
            }
            below.iter().rev().for_each(|group| drop(fs::remove_dir(group)));
        }
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        for id in self.oci(["list", "-q"]).stdout.lines() {
            self.oci(["delete", "--force", id]);
        }
    }
}

/// Directories of this name at the top of the host's cgroup hierarchies.
fn groups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    let candidates = std::iter::once(top.to_owned()).chain(below).map(|path| path.join(name));
    candidates.filter(|path| path.exists()).collect()
}

/// The example of this crate that is nothing but the command line.
pub(crate) fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().unwrap().with_file_name("examples").join("oci");
    assert!(path.exists(), "{} is missing: build the examples too", path.display());
    path
}

/// Waits until something holds.
pub(crate) fn until(mut holds: impl FnMut() -> bool) {
    let by = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < by, "it does not come to that");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a command line answered. Comparing looks at exit code and standard output only.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl PartialEq for Said {
    fn eq(&self, other: &Said) -> bool {
        (self.code, &self.stdout) == (other.code, &other.stdout)
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Said { code: output.status.code(), stdout, stderr }
    }
}

/// This exit code and this output.
pub(crate) fn said(code: i32, stdout: &str) -> Said {
    Said { code: Some(code), stdout: stdout.to_owned(), stderr: String::new() }
}
