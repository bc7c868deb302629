//! What carries the daemon's network out: a program that plays its router with ordinary sockets
//! of this user, where one is installed.
//!
//! Source: passt(1), slirp4netns(1).

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Access, access},
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::daemon::find;

/// How long a program may take until there is a way out.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(2);
/// Most of what a program says that is passed on, in bytes.
const SAID_BYTES_MAX: u64 = 2000;

/// What a program that plays a router moves packets through. Source: tuntap.rst.
const TUN: &str = "/dev/net/tun";

/// The programs that can, best first, with all but the process whose network it is.
const PROGRAMS: [(&str, &[&str]); 2] = [
    // No port of the host is forwarded by it, and the host's loopback is not its gateway.
    (
        "pasta",
        &[
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
        ],
    ),
    ("slirp4netns", &["--configure", "--mtu=65520", "--disable-host-loopback"]),
];

/// A program that runs. Dropped, it ends.
#[derive(Debug)]
pub(super) struct WayOut {
    name: &'static str,
    program: Child,
    note: PathBuf,
}

impl WayOut {
    /// Starts the first program that is installed and works, for the network of a process.
    ///
    /// `note` is a file that says which process it is: one that an earlier run left is ended.
    pub(super) fn open(pid: u32, note: &Path) -> Result<WayOut, String> {
        end_left(note);
        let installed = PROGRAMS.iter().filter(|(name, _)| find(name).is_some());
        let mut why = Vec::new();
        for (name, args) in installed {
            match start(name, args, pid) {
                Ok(program) => {
                    // Without the note it is only not found after a kill.
                    let _ = note_down(note, program.id());
                    return Ok(WayOut { name, program, note: note.to_owned() });
                }
                Err(said) => why.push(format!("{name}: {said}")),
            }
        }
        if why.is_empty() {
            return Err("neither pasta (package passt) nor slirp4netns is installed".to_owned());
        }
        let both = Access::READ_OK | Access::WRITE_OK;
        if let Err(error) = access(TUN, both) {
            return Err(format!("both need {TUN}, which this user may not open: {error}"));
        }
        Err(why.join("; "))
    }

    /// Which program it is.
    pub(super) fn name(&self) -> String {
        self.name.to_owned()
    }

    /// Whether it is gone.
    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.program.try_wait(), Ok(None))
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

/// Starts a program and waits until the network has a way out.
fn start(name: &str, args: &[&str], pid: u32) -> Result<Child, String> {
    let mut command = Command::new(name);
    command.args(args).arg(pid.to_string());
    if name == "slirp4netns" {
        command.arg("tap0");
    }
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
