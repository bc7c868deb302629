//! What carries the daemon's network out: a process that plays its router with ordinary sockets of
//! this user. It is this program itself, or another one that is installed.
//!
//! Source: passt(1), slirp4netns(1).

use std::{
    fs,
    io::{self, Read as _},
    net::IpAddr,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Access, access},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use serde::{Deserialize, Serialize};
use sys::tap::DEVICE;

use super::{factory::Factory, network};
use crate::daemon::find;

/// How long a program may take until there is a way out.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// Most of what a program says that is passed on, in bytes.
const SAID_BYTES_MAX: u64 = 2000;

/// Who plays the router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
pub(crate) enum Router {
    /// The stack that this program brings.
    Own,
    /// passt's program.
    Pasta,
    /// Another.
    #[value(name = "slirp4netns")]
    Slirp4netns,
}

/// All of them, best first: ours is there everywhere, and the same.
const ROUTERS: [Router; 3] = [Router::Own, Router::Pasta, Router::Slirp4netns];

/// Arguments of pasta but the process whose network it is: no port of the host is forwarded by it,
/// and the host's loopback is not its gateway.
const PASTA: [&str; 12] = [
    "--quiet",
    "--foreground",
    "--config-net",
    "--no-map-gw",
    "--tcp-ports",
    "none",
    "--udp-ports",
    "none",
    "--tcp-ns",
    "none",
    "--udp-ns",
    "none",
];
/// Arguments of slirp4netns but the process and the device.
const SLIRP: [&str; 3] = ["--configure", "--mtu=65520", "--disable-host-loopback"];

impl Router {
    fn name(self) -> &'static str {
        match self {
            Router::Own => "own",
            Router::Pasta => "pasta",
            Router::Slirp4netns => "slirp4netns",
        }
    }

    fn start(self, pid: u32, factory: &Factory) -> Result<Child, String> {
        let pid_word = pid.to_string();
        match self {
            Router::Own => own(factory),
            Router::Pasta => start(self.name(), &[&PASTA[..], &[&pid_word]].concat(), pid),
            Router::Slirp4netns => {
                start(self.name(), &[&SLIRP[..], &[&pid_word, "tap0"]].concat(), pid)
            }
        }
    }
}

/// Who resolves names where a router of this name leads out; none where it is whom the host's own
/// configuration names.
pub(crate) fn resolver(router: &str) -> Option<IpAddr> {
    // The other one that has a resolver has it at the same address: slirp4netns(1).
    let has = [Router::Own, Router::Slirp4netns].iter().any(|each| each.name() == router);
    has.then(|| network::resolver().into())
}

/// A router that runs. Dropped, it ends.
#[derive(Debug)]
pub(super) struct WayOut {
    router: Router,
    program: Child,
    note: PathBuf,
}

impl WayOut {
    /// Starts the first that works for the network of a process, or the one that is asked for.
    ///
    /// `note` is a file that says which process it is: one that an earlier run left is ended.
    pub(super) fn open(
        pid: u32,
        asked: Option<Router>,
        factory: &Factory,
        note: &Path,
    ) -> Result<WayOut, String> {
        end_left(note);
        let mut why = Vec::new();
        for router in ROUTERS.into_iter().filter(|router| asked.is_none_or(|a| a == *router)) {
            match router.start(pid, factory) {
                Ok(program) => {
                    // Without the note it is only not found after a kill.
                    let _ = note_down(note, program.id());
                    return Ok(WayOut { router, program, note: note.to_owned() });
                }
                Err(said) => why.push(format!("{}: {said}", router.name())),
            }
        }
        let both = Access::READ_OK | Access::WRITE_OK;
        if let Err(error) = access(DEVICE, both) {
            return Err(format!(
                "{DEVICE}, which it takes, cannot be opened by this user: {error}"
            ));
        }
        Err(why.join("; "))
    }

    /// Which one it is.
    pub(super) fn name(&self) -> String {
        self.router.name().to_owned()
    }

    /// Whether it runs and is what is asked for.
    pub(super) fn serves(&mut self, asked: Option<Router>) -> bool {
        let runs = matches!(self.program.try_wait(), Ok(None));
        runs && asked.is_none_or(|asked| asked == self.router)
    }
}

impl Drop for WayOut {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.program.kill();
        let _ = self.program.wait();
        let _ = fs::remove_file(&self.note);
    }
}

/// Starts the stack of our own. Packets wait in the device until it reads them.
fn own(factory: &Factory) -> Result<Child, String> {
    let device = factory.tap().map_err(|error| format!("cannot make a tap device: {error}"))?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wythe").arg(super::NETWORK).current_dir("/");
    command.stdin(Stdio::from(device)).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|error| error.to_string())
}

/// Starts a program and waits until the network has a way out.
fn start(name: &str, args: &[&str], pid: u32) -> Result<Child, String> {
    if find(name).is_none() {
        return Err("it is not installed".to_owned());
    }
    let mut command = Command::new(name);
    command.args(args);
    command.current_dir("/").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut program = command.spawn().map_err(|error| error.to_string())?;
    let until = Instant::now() + READY_WITHIN;
    loop {
        if has_default_route(pid) {
            // Nobody reads it: it would stop at a full pipe, but says nothing more.
            program.stderr = None;
            return Ok(program);
        }
        let ended = !matches!(program.try_wait(), Ok(None));
        if ended || Instant::now() > until {
            let _ = program.kill();
            let _ = program.wait();
            return Err(said(program.stderr.take()));
        }
        thread::sleep(LOOK);
    }
}

fn said(from: Option<impl io::Read>) -> String {
    let mut text = String::new();
    if let Some(from) = from {
        // What is not text is not worth passing on.
        let _ = from.take(SAID_BYTES_MAX).read_to_string(&mut text);
    }
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let noise = |line: &&&str| !line.starts_with("Failed to send");
    let last = lines.iter().rev().find(noise);
    last.map_or_else(|| "it gave no way out and did not say why".to_owned(), |l| (*l).to_owned())
}

/// Whether a process's network has a route to everywhere. Source: proc_pid_net(5).
fn has_default_route(pid: u32) -> bool {
    let table = fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap_or_default();
    table.lines().skip(1).any(|line| line.split_whitespace().nth(1) == Some("00000000"))
}

/// A process by its number and the time it started at, which together mean no other.
fn identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Field 22, counted from the state, which is the third: proc_pid_stat(5).
    let start = stat.rsplit_once(") ")?.1.split_whitespace().nth(19)?;
    Some(format!("{pid} {start}"))
}

fn note_down(note: &Path, pid: u32) -> io::Result<()> {
    fs::write(note, identity(pid).unwrap_or_default())
}

/// Ends the program that a note names.
fn end_left(note: &Path) {
    let Ok(text) = fs::read_to_string(note) else { return };
    let pid: Option<u32> = text.split(' ').next().and_then(|pid| pid.parse().ok());
    let number = pid.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    if let (Some(pid), Some(number)) = (pid, number)
        && let Ok(process) = pidfd_open(number, PidfdFlags::empty())
        && identity(pid).is_some_and(|identity| identity == text)
    {
        let _ = pidfd_send_signal(&process, Signal::KILL);
    }
    let _ = fs::remove_file(note);
}
