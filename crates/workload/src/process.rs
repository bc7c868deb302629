//! A process in a sandbox: what to run, as whom, with which streams, and how it ended.

use std::{fmt, num::NonZeroU8, os::fd::OwnedFd, path::PathBuf};

use base::{ProcessId, clock::Timestamp};
use serde::{Deserialize, Serialize};

use crate::{CapabilitySets, ContainerSpec, LogSpec, Seccomp};

/// Everything a driver needs to start one process, but for descriptors ([`Streams`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Its name within the sandbox.
    pub id: ProcessId,
    /// The file system it lives in: a container of its own, or another process's (an exec).
    pub root: ProcessRoot,
    /// The command and its arguments; never empty. A command without `/` is looked for in the
    /// `PATH` of `env`.
    pub args: Vec<String>,
    /// Environment, `NAME=value`. `HOME` is added from the user database where it is missing.
    pub env: Vec<String>,
    /// Working directory, an absolute path inside; made where it is missing.
    pub cwd: PathBuf,
    /// As whom.
    #[serde(default)]
    pub user: UserSpec,
    /// File mode creation mask; `None` is 0022.
    #[serde(default)]
    pub umask: Option<u32>,
    /// What it may ask of the kernel.
    pub capabilities: CapabilitySets,
    /// Never gain privileges by execve(2).
    #[serde(default)]
    pub no_new_privileges: bool,
    /// System call filter, `None` for unconfined.
    #[serde(default)]
    pub seccomp: Option<Seccomp>,
    /// AppArmor profile; refused where the host has no AppArmor.
    #[serde(default)]
    pub apparmor: Option<String>,
    /// SELinux label; refused where the host has no SELinux policy.
    #[serde(default)]
    pub selinux: Option<String>,
    /// Resource limits of getrlimit(2).
    #[serde(default)]
    pub rlimits: Vec<Rlimit>,
    /// Badness for the out-of-memory killer, -1000..=1000.
    #[serde(default)]
    pub oom_score_adj: Option<i16>,
    /// Its terminal, or `None` for pipes.
    #[serde(default)]
    pub terminal: Option<TerminalSize>,
    /// Whether standard input stays open for those who attach; otherwise it reads as empty.
    #[serde(default)]
    pub stdin: bool,
    /// Whether standard input ends when the first one who wrote to it detaches (Docker's
    /// `StdinOnce`).
    #[serde(default)]
    pub stdin_once: bool,
    /// Where its output is recorded, `None` for nowhere.
    #[serde(default)]
    pub log: Option<LogSpec>,
    /// Whether a signal that ends it ends what it has started too, as far as that stayed in its
    /// session (setsid(2)). Otherwise what a process leaves behind goes on.
    #[serde(default)]
    pub whole: bool,
}

/// Descriptors that go with a [`ProcessSpec`].
#[derive(Debug, Default)]
pub struct Streams {
    /// One who is attached from the first byte on; see [`crate::Process::attach`].
    pub attached: Option<Attachment>,
}

/// One who is attached to a process.
#[derive(Debug)]
pub struct Attachment {
    /// A stream socket.
    pub socket: OwnedFd,
    /// Whether input comes from it. If not, what comes is thrown away, and that it ends is nothing
    /// to the process.
    pub input: bool,
    /// Whether it is to be told from which point of the log on it gets what is said.
    pub mark: bool,
}

impl From<OwnedFd> for Attachment {
    /// One who gives input, and does not look into the log.
    fn from(socket: OwnedFd) -> Attachment {
        Attachment { socket, input: true, mark: false }
    }
}

/// Where a process's root file system comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessRoot {
    /// It is the first process of a container of its own.
    Own(Box<ContainerSpec>),
    /// It joins the container of this process, which must be running.
    Join(ProcessId),
}

/// As whom a process runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserSpec {
    /// By number.
    Ids {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
        /// Further groups.
        groups: Vec<u32>,
    },
    /// As Docker's `--user` names it, `user[:group]`, each a name or a number, looked up in the
    /// container's own `/etc/passwd` and `/etc/group`; empty is root.
    Named {
        /// `user[:group]`.
        name: String,
        /// Further groups (`--group-add`), names or numbers.
        groups: Vec<String>,
    },
}

impl Default for UserSpec {
    fn default() -> UserSpec {
        UserSpec::Named { name: String::new(), groups: Vec::new() }
    }
}

/// A resource limit of getrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// The kernel's number of the resource (`RLIMIT_NOFILE` is 7).
    pub resource: u32,
    /// Soft limit, `u64::MAX` for unlimited.
    pub soft: u64,
    /// Hard limit, `u64::MAX` for unlimited.
    pub hard: u64,
    /// Whether failing to set it fails the start. Defaults that the host cannot grant are let go.
    pub required: bool,
}

/// A terminal's size in characters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Rows; 0 leaves the kernel's default.
    pub rows: u16,
    /// Columns; 0 leaves the kernel's default.
    pub columns: u16,
}

/// A signal number, 1..=64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signal(NonZeroU8);

impl Signal {
    /// Asks politely.
    pub const TERM: Signal = Signal(NonZeroU8::new(15).expect("15 is not zero"));
    /// Does not ask.
    pub const KILL: Signal = Signal(NonZeroU8::new(9).expect("9 is not zero"));

    /// The signal of this number, if there is one.
    pub fn from_number(number: u8) -> Option<Signal> {
        NonZeroU8::new(number).filter(|n| n.get() <= 64).map(Signal)
    }

    /// Its number.
    pub fn number(self) -> u8 {
        self.0.get()
    }

    /// The signal with this name, with or without `SIG` and in either case (`TERM`, `sigterm`,
    /// `RTMIN+3`), or number (`15`).
    pub fn parse(text: &str) -> Option<Signal> {
        if let Ok(number) = text.parse() {
            return Signal::from_number(number);
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let offset = |rest: &str| rest.get(1..).and_then(|n| n.parse::<u8>().ok());
        if let Some(rest) = name.strip_prefix("RTMIN") {
            let up =
                if rest.is_empty() { 0 } else { offset(rest).filter(|_| rest.starts_with('+'))? };
            return Signal::from_number(34_u8.checked_add(up)?);
        }
        if let Some(rest) = name.strip_prefix("RTMAX") {
            let down =
                if rest.is_empty() { 0 } else { offset(rest).filter(|_| rest.starts_with('-'))? };
            return Signal::from_number(64_u8.checked_sub(down)?).filter(|s| s.number() >= 34);
        }
        NAMES.iter().find(|(n, _)| *n == name).and_then(|(_, number)| Signal::from_number(*number))
    }
}

/// Names of signal(7) for x86 and Arm.
const NAMES: [(&str, u8); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.number(), NAMES.iter().find(|(_, n)| *n == self.number())) {
            (_, Some((name, _))) => write!(f, "SIG{name}"),
            (number @ 34.., None) => write!(f, "SIGRTMIN+{}", number - 34),
            (number, None) => write!(f, "signal {number}"),
        }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// By itself, or by a signal.
    pub status: ExitStatus,
    /// Whether the kernel killed anything of its sandbox for want of memory while it ran.
    pub out_of_memory: bool,
    /// When.
    pub at: Timestamp,
}

/// The status of a process that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It left with this code.
    Code(u8),
    /// A signal ended it.
    Signal(Signal),
    /// Whoever could have known was killed first.
    Lost,
    /// The machine that it was in ended under it.
    Machine(MachineEnd),
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineEnd {
    /// It was switched off from inside.
    PoweredOff,
    /// Its kernel asked for a reset.
    Reset,
    /// Its kernel panicked.
    Panicked,
    /// A processor could not even deliver a double fault.
    TripleFault,
    /// All its processors waited with interrupts off.
    Stuck,
    /// Whoever carried it out could not go on.
    Failed,
    /// The process that was the machine was killed.
    Killed,
}

impl fmt::Display for MachineEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            MachineEnd::PoweredOff => "the machine was switched off from inside",
            MachineEnd::Reset => "the machine's kernel asked for a reset",
            MachineEnd::Panicked => "the machine's kernel panicked",
            MachineEnd::TripleFault => {
                "the machine faulted while a fault was handled (triple fault)"
            }
            MachineEnd::Stuck => "all the machine's processors waited with interrupts off",
            MachineEnd::Failed => "the machine could not go on",
            MachineEnd::Killed => "the machine's process was killed",
        })
    }
}

impl ExitStatus {
    /// The code that a shell would report: the code itself, 128 + signal, 255 for what nobody knows.
    pub fn shell_code(self) -> u8 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal.number(),
            ExitStatus::Lost | ExitStatus::Machine(_) => 255,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers_in_either_case() {
        for (text, number) in [
            ("15", 15),
            ("term", 15),
            ("SIGKILL", 9),
            ("RTMIN+3", 37),
            ("RTMAX-1", 63),
            ("SIGRTMIN", 34),
        ] {
            assert_eq!(Signal::parse(text).map(Signal::number), Some(number), "{text}");
        }
        for bad in ["", "0", "65", "NOPE", "RTMIN-1", "RTMIN+99", "SIG"] {
            assert_eq!(Signal::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn every_signal_reads_as_it_is_written() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(Signal::parse(&signal.to_string()), Some(signal), "{signal}");
        }
    }
}
