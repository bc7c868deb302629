//! An instance of Wythe for one test: data root, run root, network namespace, daemon.

use std::{
    env, fs,
    fs::File,
    io::Write as _,
    os::{fd::AsFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::host::{cgroups, processes, runs, wait_until};

/// One daemon and everything it keeps. Dropped, it takes all of it away and fails the test if
/// something is left.
#[derive(Debug)]
pub struct Instance {
    dir: TempDir,
    /// Holds the network namespace that stands for the host's, over the daemon's deaths.
    holder: Child,
    daemon: Option<Child>,
}

/// What a command said and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; 255 for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Instance {
    /// An instance whose daemon runs, or nothing where we are not root.
    pub fn start() -> Option<Instance> {
        let mut instance = Instance::without_daemon()?;
        instance.start_daemon();
        Some(instance)
    }

    /// An instance whose daemon is yet to be started.
    pub fn without_daemon() -> Option<Instance> {
        if !testkit::need::root() {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("wythe-it-").tempdir().expect("a directory");
        let script = "ip link set lo up && echo ready && exec sleep infinity";
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut holder = holder.spawn().expect("unshare runs");
        let mut ready = [0; 6];
        let out = holder.stdout.as_mut().expect("it is a pipe");
        std::io::Read::read_exact(out, &mut ready).expect("the namespace is made");
        Some(Instance { dir, holder, daemon: None })
    }

    /// The program under test: cargo puts it beside the tests' own directory.
    pub fn program() -> PathBuf {
        let test = env::current_exe().expect("a test has a path");
        let target = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/test");
        let program = target.join("wythe");
        assert!(program.is_file(), "{} is not built: use cargo xtask test", program.display());
        program
    }

    /// A file or directory of this instance.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The client, on this instance.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(Instance::program());
        command.args(args).stdin(Stdio::null());
        command.env("WYTHE_DATA", self.path("data")).env("WYTHE_RUN", self.path("run"));
        command
    }

    /// The client, which starts no daemon if there is none.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = self.command(args);
        let socket = format!("unix://{}", self.path("run/wythe.sock").display());
        command.env("WYTHE_HOST", socket);
        command
    }

    /// Runs the client to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().expect("the program runs"))
    }

    /// Runs the client with this on its standard input.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        thread::scope(|scope| {
            // It may end before it has read everything; that is for the test to judge.
            scope.spawn(move || drop(stdin.write_all(input)));
            ran(child.wait_with_output().expect("it ends"))
        })
    }

    /// Runs the client, which must succeed, and gives its output without the last line's end.
    ///
    /// # Panics
    /// If it does not succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
        ran.out.trim_end().to_owned()
    }

    /// One value of a container, by a Go template.
    pub fn inspect(&self, container: &str, template: &str) -> String {
        self.ok(&["inspect", "--format", template, container])
    }

    /// Starts the daemon and waits until it answers.
    pub fn start_daemon(&mut self) {
        self.start_daemon_with("exec \"$0\" daemon");
    }

    /// Starts the daemon by a shell script whose `$0` is the program, and waits until it answers.
    pub fn start_daemon_with(&mut self, script: &str) {
        let mut daemon = self.spawn_daemon(script);
        let socket = self.path("run/wythe.sock");
        wait_until("the daemon answers", || {
            if let Some(status) = daemon.try_wait().expect("it is our child") {
                panic!("the daemon left: {status}: {}", self.daemon_log());
            }
            UnixStream::connect(&socket).is_ok()
        });
        self.daemon = Some(daemon);
    }

    /// Makes a daemon that is stopped before its first step, and tells which process it is.
    pub fn start_daemon_stopped(&mut self) -> u32 {
        let daemon = self.spawn_daemon("kill -STOP $$; exec \"$0\" daemon");
        let pid = daemon.id();
        self.daemon = Some(daemon);
        let stat = format!("/proc/{pid}/stat");
        wait_until("it has stopped", || {
            fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
        });
        pid
    }

    fn spawn_daemon(&self, script: &str) -> Child {
        let log = File::create(self.path("daemon.err")).expect("the directory is ours");
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        command.args(["sh", "-c", script]).arg(Instance::program());
        command.env("WYTHE_DATA", self.path("data")).env("WYTHE_RUN", self.path("run"));
        let out = log.try_clone().expect("a descriptor can be doubled");
        command.stdin(Stdio::null()).stdout(out).stderr(log);
        command.spawn().expect("nsenter runs")
    }

    /// Whether the daemon runs.
    pub fn has_daemon(&mut self) -> bool {
        self.daemon.as_mut().is_some_and(|it| it.try_wait().is_ok_and(|status| status.is_none()))
    }

    /// Its processes: the daemon, the fork server, and the shims.
    pub fn own_processes(&self) -> Vec<i32> {
        let program = Instance::program();
        let ours = |pid: &rustix::process::Pid| runs(pid.as_raw_nonzero().get(), &program);
        let all = pids_with(&self.text()).into_iter().filter(ours);
        all.map(|pid| pid.as_raw_nonzero().get()).collect()
    }

    /// The daemon's process id.
    ///
    /// # Panics
    /// If there is none.
    pub fn daemon_pid(&self) -> u32 {
        self.daemon.as_ref().expect("it was started").id()
    }

    /// Waits until every container is at rest, and what the records say is what the host has.
    pub fn wait_until_agreed(&self, what: &str) {
        wait_until(&format!("records and host agree: {what}"), || {
            let listed = self.ok(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]);
            listed.lines().all(|line| match line.split_once(' ').expect("two words") {
                (id, "running") => !cgroups(id).is_empty(),
                (id, "created" | "exited") => cgroups(id).is_empty(),
                // What would not go, and whoever asked was told; it goes when asked again.
                (_, "dead") => true,
                _ => false,
            })
        });
        for id in self.ok(&["ps", "-q", "--no-trunc"]).lines() {
            assert_eq!(self.ok(&["exec", id, "echo", "alive"]), "alive", "{what}");
        }
    }

    /// What the doctor says, which looks and changes nothing.
    pub fn diagnosis(&self) -> serde_json::Value {
        let ran = self.run(&["doctor", "--format", "json"]);
        serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
    }

    /// What the daemon has said.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.path("daemon.err")).unwrap_or_default()
    }

    /// Kills the daemon as it stands (kill -9).
    pub fn kill_daemon(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have ended by itself, and a tracer may have heard of that in our place.
            drop(daemon.kill());
            drop(daemon.wait());
        }
    }

    /// Does something inside the network namespace that stands for the host's.
    pub fn on_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.holder.id()));
        let namespace = namespace.expect("the holder runs");
        // A thread of its own: namespaces belong to threads.
        let inside = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("we are root");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("the work does not panic"))
    }

    /// Names of the network links of that namespace.
    pub fn links(&self) -> Vec<String> {
        let mut list = Command::new("nsenter");
        list.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        let output = list.args(["ip", "-o", "link"]).output().expect("ip runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter_map(|line| Some(line.split(": ").nth(1)?.to_owned())).collect()
    }

    /// The rules of that namespace's packet filter.
    pub fn rules(&self) -> String {
        let mut list = Command::new("nsenter");
        list.arg(format!("--net=/proc/{}/ns/net", self.holder.id()));
        let output = list.args(["nft", "list", "ruleset"]).output().expect("nft runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Removes every container.
    pub fn remove_all(&self) {
        wait_until("every container is removed", || {
            let all = self.ok(&["ps", "-aq", "--no-trunc"]);
            if all.is_empty() {
                return true;
            }
            let ran = self.run(&[&["rm", "-f"], &all.lines().collect::<Vec<_>>()[..]].concat());
            // A `run --rm` has ended that still removes its container.
            let late = ["is already in progress", "No such container"];
            assert!(ran.code == 0 || late.iter().any(|late| ran.err.contains(late)), "{ran:?}");
            ran.code == 0
        });
    }

    fn text(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    fn stop_everything(&mut self) {
        if self.daemon.is_some() {
            self.remove_all();
        }
        if let Some(mut daemon) = self.daemon.take() {
            let pid = rustix::process::Pid::from_child(&daemon);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            drop(daemon.wait());
        }
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "what the daemon said helps to see why")]
            {
                eprintln!("the daemon said: {}", self.daemon_log());
            }
            // Clean up as far as it goes; the failure is on its way already.
            drop(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop_everything())));
            for pid in pids_with(&self.text()) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            return;
        }
        self.stop_everything();
        let text = self.text();
        wait_until("every process of the instance is gone", || processes(&text).is_empty());
    }
}

/// Process ids of the processes that have this text in their command line or environment.
fn pids_with(text: &str) -> Vec<rustix::process::Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ours = i32::try_from(std::process::id()).unwrap_or(0);
    entries
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let read = |name| fs::read(entry.path().join(name)).unwrap_or_default();
            let all = [read("cmdline"), read("environ")].concat();
            (pid != ours && String::from_utf8_lossy(&all).contains(text)).then_some(pid)
        })
        .filter_map(rustix::process::Pid::from_raw)
        .collect()
}

pub(crate) fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(255),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
