//! What a container is doing: decided from its record and what the host shows of it.

use std::{fmt, io, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use serde::{Deserialize, Serialize};

/// What a container is doing (runtime-spec, runtime.md, "State"; `paused` is runc's).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// It is being made.
    Creating,
    /// It is made, and its command waits for start.
    Created,
    /// Its command runs.
    Running,
    /// Its processes were stopped in their tracks.
    Paused,
    /// Its process has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// A process that is meant whatever happens to its number: numbers are used again, the pair
/// with the start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    /// Its number in the runtime's process id namespace.
    pub(super) pid: u32,
    /// When it was made, in clock ticks since boot (proc_pid_stat(5), field 22).
    pub(super) start_ticks: u64,
}

impl Identity {
    /// The identity of a process that is there now.
    pub(super) fn of(pid: u32) -> io::Result<Identity> {
        let stat = stat(pid)?;
        let (_, start_ticks) = parse(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Identity { pid, start_ticks })
    }

    /// Whether the very process is there still; one that has ended and was not waited for is not.
    pub(super) fn lives(self) -> bool {
        let now = stat(self.pid).ok();
        now.as_deref().and_then(parse).is_some_and(|(state, start_ticks)| {
            start_ticks == self.start_ticks && !matches!(state, b'Z' | b'X')
        })
    }

    /// A descriptor that means this very process, if it lives.
    pub(super) fn open(self) -> io::Result<Option<OwnedFd>> {
        let number = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        let Some(number) = number else { return Ok(None) };
        let pidfd = match pidfd_open(number, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            other => other?,
        };
        // Who lives after the descriptor was opened is who it means.
        Ok(self.lives().then_some(pidfd))
    }
}

fn stat(pid: u32) -> io::Result<Vec<u8>> {
    std::fs::read(format!("/proc/{pid}/stat"))
}

/// State letter and start time. The name in parentheses may itself hold anything.
fn parse(stat: &[u8]) -> Option<(u8, u64)> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // Field 3 was taken; field 22 is the nineteenth from there.
    let start_ticks = fields.nth(18)?.parse().ok()?;
    Some((state, start_ticks))
}

/// What the host shows of a container.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// Whether its process was recorded: it was made to the end.
    pub(super) made: bool,
    /// Whether somebody is at work on it, and holds its lock.
    pub(super) busy: bool,
    /// Whether its process lives.
    pub(super) lives: bool,
    /// Whether its command still waits for start.
    pub(super) waits: bool,
}

/// What it is doing, but for being paused.
pub(super) fn status(observed: Observed) -> Status {
    match observed {
        Observed { made: false, busy: true, .. } => Status::Creating,
        // Its maker was killed on the way, and the unfinished process with it.
        Observed { made: false, busy: false, .. } | Observed { lives: false, .. } => {
            Status::Stopped
        }
        Observed { waits: true, .. } => Status::Created,
        Observed { .. } => Status::Running,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_forge_its_start_time() {
        let after = "S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 999 1";
        for name in ["sh", "a) R 1 (", "x y z"] {
            let stat = format!("17 ({name}) {after}");
            assert_eq!(parse(stat.as_bytes()), Some((b'S', 4242)), "{name}");
        }
        for bad in ["", "17", "17 (sh", "17 (sh) S 1 2"] {
            assert_eq!(parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_process_is_itself_and_nobody_else() {
        let own = Identity::of(std::process::id()).unwrap();
        assert!(own.lives());
        assert!(!Identity { start_ticks: own.start_ticks + 1, ..own }.lives());
    }

    #[test]
    fn what_was_never_finished_is_stopped_when_its_maker_is_gone() {
        let observed = Observed { made: false, busy: true, lives: false, waits: true };
        assert_eq!(status(observed), Status::Creating);
        assert_eq!(status(Observed { busy: false, ..observed }), Status::Stopped);
    }

    #[test]
    fn a_living_process_is_created_until_its_command_runs() {
        let observed = Observed { made: true, busy: false, lives: true, waits: true };
        assert_eq!(status(observed), Status::Created);
        assert_eq!(status(Observed { waits: false, ..observed }), Status::Running);
        assert_eq!(status(Observed { lives: false, ..observed }), Status::Stopped);
    }
}
