//! An ordinary user with an instance of his own, for one test: a uid that nobody has, a home, a
//! network and a mount namespace that stand for the host's.

use std::{
    fs,
    io::Read as _,
    os::{fd::AsFd as _, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

use crate::{
    host::{processes, wait_until},
    instance::{Instance, Ran, ran},
};

/// First of the uids that tests take, by their process ids.
const UID_FIRST: u32 = 700_000_000;
/// First of the ids granted to such a user, who has so many.
const SUBIDS: (u32, u32) = (1_000_000_000, 65_536);

/// The router of a host with a way out.
pub const ROUTER: &str = "10.99.0.2";

/// What the user's host grants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Grants {
    /// Ranges in `/etc/subuid` and `/etc/subgid`.
    pub ids: bool,
    /// `/dev/net/tun`, and a network with a way out.
    pub tun: bool,
}

/// A user. Dropped, everything of his goes, and the test fails if something is left.
#[derive(Debug)]
pub struct User {
    dir: TempDir,
    uid: u32,
    /// Holds what stands for the host.
    holder: Child,
}

impl User {
    /// A user, or nothing where we are not root.
    pub fn new(grants: Grants) -> Option<User> {
        if !testkit::need::root() || (grants.ids && testkit::need::tool("newuidmap").is_none()) {
            return None;
        }
        let dir = tempfile::Builder::new().prefix("wythe-user-").tempdir().expect("a directory");
        let uid = UID_FIRST + std::process::id();
        let at = |name: &str| dir.path().join(name);
        open_to_all(dir.path());
        let program = at("wythe");
        fs::hard_link(Instance::program(), &program)
            .or_else(|_| fs::copy(Instance::program(), &program).map(drop))
            .expect("the program can be put there");
        for name in ["home", "run"] {
            fs::create_dir(at(name)).expect("the directory is ours");
            std::os::unix::fs::chown(at(name), Some(uid), Some(uid)).expect("we are root");
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o700)).expect("we are root");
        }
        let holder = hold(&setup(&dir, uid, grants));
        Some(User { dir, uid, holder })
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// A file or directory of this user's.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A program, run by the user on his host.
    pub fn program(&self, program: impl AsRef<Path>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.holder.id().to_string(), "setpriv"]);
        let id = self.uid.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]).arg(program.as_ref());
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("XDG_RUNTIME_DIR", self.path("run"));
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// The client, run by the user.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program(self.path("wythe"));
        command.args(args);
        command
    }

    /// Runs the client to its end.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().expect("the program runs"))
    }

    /// Runs the client, which must succeed, and gives its output without the last line's end.
    ///
    /// # Panics
    /// If it does not succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!(ran.code, 0, "{args:?}: {ran:?}\n{}", self.log());
        ran.out.trim_end().to_owned()
    }

    /// Runs a shell command as root on the user's host.
    pub fn on_host(&self, script: &str) -> Ran {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target", &self.holder.id().to_string()]);
        ran(command.args(["sh", "-c", script]).output().expect("nsenter runs"))
    }

    /// Does something in the network of his host, or of the router beside it.
    pub fn on_network<T: Send>(&self, router: bool, work: impl FnOnce() -> T + Send) -> T {
        let holder = self.holder.id();
        let file = match router {
            true => format!("/proc/{holder}/root{}", self.path("router").display()),
            false => format!("/proc/{holder}/ns/net"),
        };
        let namespace = fs::File::open(file).expect("the holder runs");
        // A thread of its own: namespaces belong to threads.
        let inside = move || {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("we are root");
            work()
        };
        thread::scope(|scope| scope.spawn(inside).join().expect("the work does not panic"))
    }

    /// The process id of his daemon.
    pub fn daemon(&self) -> Option<rustix::process::Pid> {
        let text = fs::read_to_string(self.path("run/wythe/daemon.lock")).ok()?;
        rustix::process::Pid::from_raw(text.trim().parse().ok()?)
    }

    /// Sends his daemon a signal and waits until it is gone.
    pub fn end_daemon(&self, signal: rustix::process::Signal) {
        let Some(pid) = self.daemon() else { return };
        let stat = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
        if rustix::process::kill_process(pid, signal).is_ok() {
            wait_until("the daemon is gone", || fs::read(&stat).unwrap_or_default().is_empty());
        }
    }

    fn log(&self) -> String {
        let log = self.path("home/.local/share/wythe/daemon.log");
        fs::read_to_string(log).unwrap_or_default()
    }

    fn text(&self) -> String {
        self.dir.path().to_string_lossy().into_owned()
    }

    fn stop_everything(&mut self) {
        if self.daemon().is_some() {
            let all = self.ok(&["ps", "-aq", "--no-trunc"]);
            let mut remove = vec!["rm", "-f"];
            remove.extend(all.lines());
            if remove.len() > 2 {
                self.ok(&remove);
            }
        }
        self.end_daemon(rustix::process::Signal::TERM);
    }
}

impl Drop for User {
    fn drop(&mut self) {
        if thread::panicking() {
            #[expect(clippy::print_stderr, reason = "what the daemon said helps to see why")]
            {
                eprintln!("the daemon said: {}", self.log());
            }
            for pid in pids_of(self.uid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        } else {
            self.stop_everything();
            let text = self.text();
            wait_until("every process of the user is gone", || processes(&text).is_empty());
        }
        drop(self.holder.kill());
        drop(self.holder.wait());
    }
}

/// What makes the host: a network with a router beside it, and files of its own.
fn setup(dir: &TempDir, uid: u32, grants: Grants) -> String {
    let dir = dir.path().display();
    let mut script = "set -e; mount --make-rprivate /; ip link set lo up\n".to_owned();
    if grants.ids {
        let (first, count) = SUBIDS;
        script += &format!(
            "cp -a /etc {dir}/etc\n\
             echo 'tester:x:{uid}:{uid}::{dir}/home:/bin/sh' >> {dir}/etc/passwd\n\
             echo 'tester:{first}:{count}' > {dir}/etc/subuid\n\
             echo 'tester:{first}:{count}' > {dir}/etc/subgid\n\
             mount --bind {dir}/etc /etc\n"
        );
    }
    if grants.tun {
        // A node of our own, as most hosts have it: everybody may open it.
        script += &format!(
            "mknod {dir}/tun c 10 200; chmod 666 {dir}/tun; mount --bind {dir}/tun /dev/net/tun\n\
             : > {dir}/router; unshare --net={dir}/router true\n\
             ip link add up0 type veth peer name up1 netns {dir}/router\n\
             nsenter --net={dir}/router sh -c 'ip link set lo up; \
             ip addr add {ROUTER}/24 dev up1; ip link set up1 up'\n\
             ip addr add 10.99.0.1/24 dev up0; ip link set up0 up; ip route add default via {ROUTER}\n"
        );
    }
    script + "echo ready; exec sleep infinity"
}

/// Runs the script in namespaces of its own and waits until it is through.
fn hold(script: &str) -> Child {
    let mut holder = Command::new("unshare");
    holder.args(["--net", "--mount", "sh", "-c", script]);
    let mut holder = holder.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("it runs");
    let mut ready = [0; 6];
    let out = holder.stdout.as_mut().expect("it is a pipe");
    out.read_exact(&mut ready).expect("the host is made");
    holder
}

fn open_to_all(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("it is ours");
}

/// Processes of a user.
fn pids_of(uid: u32) -> Vec<rustix::process::Pid> {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.uid() == uid))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(rustix::process::Pid::from_raw)
        .collect()
}
