//! Whether a container that ended is started again, and when.
//!
//! Pure: no clock, no I/O. [`crate::step`] asks, and carries the answer out as a phase of its own
//! with a timer; nothing of a pending restart is on disk but what a new daemon needs to decide the
//! same again.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use workload::{Exit, ExitStatus};

/// Time before the first restart in a row. Source: moby, `restartmanager.defaultTimeout`.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Most time before a restart. Source: moby, `restartmanager.maxRestartTimeout`.
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// A run this long is no part of a row of failures. Source: moby, `restartmanager.ShouldRestart`.
const RAN_LONG: Duration = Duration::from_secs(10);

/// What is done when a container has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestartPolicy {
    /// Nothing.
    #[default]
    No,
    /// It is started again if it failed.
    OnFailure {
        /// At most so many times in a row; `None` is without end.
        most: Option<u32>,
    },
    /// It is started again, also when the daemon starts.
    Always,
    /// The same, unless its user had stopped it before the daemon did.
    UnlessStopped,
}

/// A text that is no restart policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestartPolicyError {
    /// The count is not one.
    #[error("invalid restart policy format: maximum retry count must be an integer")]
    NotANumber,
    /// The count is below nothing.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
    /// Only `on-failure` counts.
    #[error("invalid restart policy: maximum retry count cannot be used with restart policy '{0}'")]
    Counted(String),
    /// There is no such policy.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or \
         'unless-stopped'"
    )]
    Unknown(String),
}

impl RestartPolicy {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::OnFailure { .. } => "on-failure",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
        }
    }
}

impl FromStr for RestartPolicy {
    type Err = RestartPolicyError;

    /// Reads `no`, `always`, `unless-stopped` and `on-failure[:count]`; a count of 0 is none.
    fn from_str(text: &str) -> Result<RestartPolicy, RestartPolicyError> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        let most = match count.map(str::parse::<i64>) {
            None => None,
            Some(Err(_)) => return Err(RestartPolicyError::NotANumber),
            Some(Ok(count)) => match u32::try_from(count) {
                Ok(count) => Some(count).filter(|count| *count > 0),
                Err(_) if count < 0 => return Err(RestartPolicyError::Negative),
                Err(_) => return Err(RestartPolicyError::NotANumber),
            },
        };
        let policy = match name {
            "" | "no" => RestartPolicy::No,
            "always" => RestartPolicy::Always,
            "unless-stopped" => RestartPolicy::UnlessStopped,
            "on-failure" => return Ok(RestartPolicy::OnFailure { most }),
            _ => return Err(RestartPolicyError::Unknown(name.to_owned())),
        };
        match most {
            Some(_) => Err(RestartPolicyError::Counted(name.to_owned())),
            None => Ok(policy),
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestartPolicy::OnFailure { most: Some(most) } => write!(f, "on-failure:{most}"),
            RestartPolicy::No
            | RestartPolicy::OnFailure { most: None }
            | RestartPolicy::Always
            | RestartPolicy::UnlessStopped => f.write_str(self.name()),
        }
    }
}

/// One container's restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Restarts {
    pub(crate) policy: RestartPolicy,
    /// How often it was started again since its user started it.
    pub(crate) count: u32,
    /// Whether its user wants it to have ended.
    pub(crate) stopped: bool,
    /// Whether this start is not its user's.
    pub(crate) again: bool,
    /// The last time that was waited in this row.
    pub(crate) delay: Option<Duration>,
}

impl Restarts {
    /// A container's restarts as the records have them.
    pub(crate) fn recorded(policy: RestartPolicy, count: u32, stopped: bool) -> Restarts {
        Restarts { policy, count, stopped, ..Restarts::default() }
    }

    /// Its user starts it.
    pub(crate) fn user_starts(&mut self) {
        *self = Restarts { policy: self.policy, ..Restarts::default() };
    }

    /// Its user wants it to end: nothing is started again.
    pub(crate) fn user_stops(&mut self) {
        self.stopped = true;
        self.again = false;
    }

    /// It has ended after `ran`, or could not be started again (`exit` is none): the time until
    /// the next attempt, if there is to be one, which is counted.
    pub(crate) fn next(&mut self, exit: Option<&Exit>, ran: Duration) -> Option<Duration> {
        self.again = false;
        if self.stopped || !self.wanted(exit.is_none_or(failed)) {
            return None;
        }
        let delay = match self.delay {
            Some(delay) if ran < RAN_LONG => (delay * 2).min(BACKOFF_MAX),
            Some(_) | None => BACKOFF_FIRST,
        };
        self.delay = Some(delay);
        self.count = self.count.saturating_add(1);
        Some(delay)
    }

    /// Whether a new daemon starts it: it ended, or it was to be started again.
    pub(crate) fn at_daemon_start(&self, exit: &Exit) -> bool {
        match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::No | RestartPolicy::OnFailure { .. } | RestartPolicy::UnlessStopped => {
                !self.stopped && self.wanted(failed(exit))
            }
        }
    }

    fn wanted(&self, failed: bool) -> bool {
        match self.policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { most } => {
                failed && most.is_none_or(|most| self.count < most)
            }
        }
    }
}

fn failed(exit: &Exit) -> bool {
    exit.status != ExitStatus::Code(0)
}

#[cfg(test)]
mod tests {
    use base::clock::Timestamp;

    use super::*;

    fn exit(code: u8) -> Exit {
        Exit { status: ExitStatus::Code(code), out_of_memory: false, at: Timestamp(0) }
    }

    fn of(text: &str) -> Restarts {
        Restarts { policy: text.parse().unwrap(), ..Restarts::default() }
    }

    #[test]
    fn policies_are_read_and_written_as_docker_writes_them() {
        for text in ["no", "always", "unless-stopped", "on-failure", "on-failure:3"] {
            assert_eq!(text.parse::<RestartPolicy>().unwrap().to_string(), text);
        }
        assert_eq!("on-failure:0".parse(), Ok(RestartPolicy::OnFailure { most: None }));
        for (bad, said) in [
            ("sometimes", "unknown policy 'sometimes'"),
            ("always:3", "cannot be used with restart policy 'always'"),
            ("on-failure:-1", "cannot be negative"),
            ("on-failure:x", "must be an integer"),
        ] {
            let error = bad.parse::<RestartPolicy>().unwrap_err().to_string();
            assert!(error.contains(said), "{bad}: {error}");
        }
    }

    #[test]
    fn the_delay_doubles_to_a_minute_and_begins_anew_after_a_long_run() {
        let mut restarts = of("always");
        let short = Duration::from_millis(5);
        let mut delays = Vec::new();
        for _ in 0..12 {
            delays.push(restarts.next(Some(&exit(0)), short).unwrap().as_millis());
        }
        let want = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000];
        assert_eq!(delays, want);
        assert_eq!(restarts.count, 12);
        assert_eq!(restarts.next(Some(&exit(0)), RAN_LONG), Some(BACKOFF_FIRST));
    }

    #[test]
    fn only_failures_count_and_only_so_many() {
        let mut restarts = of("on-failure:2");
        let short = Duration::ZERO;
        assert_eq!(restarts.next(Some(&exit(0)), short), None);
        assert!(restarts.next(Some(&exit(1)), short).is_some());
        assert!(restarts.at_daemon_start(&exit(1)), "the second attempt is pending");
        // An attempt that did not even start is one.
        assert!(restarts.next(None, short).is_some());
        assert_eq!(restarts.next(Some(&exit(1)), short), None);
        assert!(!restarts.at_daemon_start(&exit(1)), "it has given up");
        restarts.user_starts();
        assert!(restarts.next(Some(&exit(1)), short).is_some());
    }

    #[test]
    fn a_user_who_stops_it_is_obeyed_and_remembered_unless_always() {
        for (text, now, later) in [
            ("no", false, false),
            ("on-failure", false, false),
            ("unless-stopped", false, false),
            ("always", false, true),
        ] {
            let mut restarts = of(text);
            restarts.user_stops();
            assert_eq!(restarts.next(Some(&exit(1)), Duration::ZERO).is_some(), now, "{text}");
            assert_eq!(restarts.at_daemon_start(&exit(1)), later, "{text}");
        }
        assert!(of("unless-stopped").at_daemon_start(&exit(0)));
    }
}
