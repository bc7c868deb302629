//! Whether a container is well: what is checked, how results are judged, when the next check is.
//!
//! ```text
//!             success                      success
//!  Starting ───────────▶ Healthy ◀────────────────────── Unhealthy
//!      └── failures in a row, after the start period ──▶─┘  (and from Healthy)
//! ```
//!
//! Pure: no clock, no I/O. `actor/health.rs` runs the checks.

use std::time::Duration;

use base::clock::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{EngineError, plan::invalid};

/// Time between two checks. Source: moby, `defaultProbeInterval`.
const INTERVAL: Duration = Duration::from_secs(30);
/// Time for one check. Source: moby, `defaultProbeTimeout`.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two checks during the start period. Source: moby, `defaultStartInterval`.
const START_INTERVAL: Duration = Duration::from_secs(5);
/// Failures in a row that make a container unhealthy. Source: moby, `defaultProbeRetries`.
const RETRIES: u32 = 3;
/// Shortest time that can be asked for. Source: moby, `MinimumDuration`.
const SHORTEST: Duration = Duration::from_millis(1);
/// How many results are kept. Source: moby, `maxLogEntries`.
const RESULTS_MAX: usize = 5;
/// Most bytes of a check's output that are kept. Source: moby, `maxOutputLen`.
pub(crate) const OUTPUT_MAX: usize = 4096;
/// The shell of commands in shell form where the image has none.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// How to tell whether a container is well. `None` is as the image says, else the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthCheck {
    /// What is run.
    pub test: HealthTest,
    /// Time between two checks.
    pub interval: Option<Duration>,
    /// Time for one.
    pub timeout: Option<Duration>,
    /// Time from the start on in which failures do not count.
    pub start_period: Option<Duration>,
    /// Time between two checks in it.
    pub start_interval: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// What runs a [`HealthTest::Shell`], as the image says.
    pub shell: Option<Vec<String>>,
}

/// What is run to see whether a container is well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthTest {
    /// What the image says.
    #[default]
    Inherit,
    /// Nothing.
    None,
    /// A command and its arguments.
    Command(Vec<String>),
    /// A line for the shell.
    Shell(String),
}

impl HealthTest {
    /// Reads Docker's list: empty; `NONE`; `CMD` and a command; `CMD-SHELL` and a line. What
    /// begins otherwise checks nothing, as with Docker.
    pub fn from_words(words: &[String]) -> HealthTest {
        match words {
            [] => HealthTest::Inherit,
            [kind, command @ ..] if kind == "CMD" && !command.is_empty() => {
                HealthTest::Command(command.to_vec())
            }
            [kind, line, ..] if kind == "CMD-SHELL" => HealthTest::Shell(line.clone()),
            _ => HealthTest::None,
        }
    }

    /// Docker's list.
    pub fn to_words(&self) -> Vec<String> {
        match self {
            HealthTest::Inherit => Vec::new(),
            HealthTest::None => vec!["NONE".to_owned()],
            HealthTest::Command(command) => [&["CMD".to_owned()], command.as_slice()].concat(),
            HealthTest::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
        }
    }
}

impl HealthCheck {
    /// The command that is run, if one is.
    pub(crate) fn command(&self) -> Option<Vec<String>> {
        match &self.test {
            HealthTest::Inherit | HealthTest::None => None,
            HealthTest::Command(command) => Some(command.clone()),
            HealthTest::Shell(line) => {
                let shell = self.shell.clone().filter(|shell| !shell.is_empty());
                let mut command =
                    shell.unwrap_or_else(|| SHELL.iter().map(|&word| word.to_owned()).collect());
                command.push(line.clone());
                Some(command)
            }
        }
    }

    /// Time for one check.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(TIMEOUT)
    }

    fn start_period(&self) -> Duration {
        self.start_period.unwrap_or_default()
    }
}

/// What was asked with the image's in its gaps; `None` if nothing is to be checked.
///
/// # Errors
/// [`EngineError::Invalid`] for times that are too short.
pub(crate) fn merge(
    asked: Option<HealthCheck>,
    image: Option<&HealthCheck>,
) -> Result<Option<HealthCheck>, EngineError> {
    let mut check = asked.unwrap_or_default();
    if let Some(image) = image {
        if check.test == HealthTest::Inherit {
            check.test.clone_from(&image.test);
        }
        check.interval = check.interval.or(image.interval);
        check.timeout = check.timeout.or(image.timeout);
        check.start_period = check.start_period.or(image.start_period);
        check.start_interval = check.start_interval.or(image.start_interval);
        check.retries = check.retries.or(image.retries);
        check.shell = check.shell.or_else(|| image.shell.clone());
    }
    let times = [
        ("Interval", check.interval),
        ("Timeout", check.timeout),
        ("StartPeriod", check.start_period),
        ("StartInterval", check.start_interval),
    ];
    if let Some((name, _)) = times.iter().find(|(_, time)| time.is_some_and(|t| t < SHORTEST)) {
        return Err(invalid("health", format!("{name} in Healthcheck cannot be less than 1ms")));
    }
    Ok(match check.test {
        HealthTest::Inherit => None,
        HealthTest::None | HealthTest::Command(_) | HealthTest::Shell(_) => Some(check),
    })
}

/// Docker's words for how a container is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthStatus {
    /// No check has succeeded yet.
    #[default]
    Starting,
    /// The last check that counts succeeded.
    Healthy,
    /// Too many failed in a row, or it has ended.
    Unhealthy,
}

impl HealthStatus {
    /// Docker's word.
    pub fn word(self) -> &'static str {
        match self {
            HealthStatus::Starting => "starting",
            HealthStatus::Healthy => "healthy",
            HealthStatus::Unhealthy => "unhealthy",
        }
    }
}

/// How a container is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Health {
    /// In one word.
    pub status: HealthStatus,
    /// Failures in a row.
    pub streak: u32,
    /// The last results, oldest first. They are not kept over the daemon's end.
    pub results: Vec<HealthResult>,
}

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// Its exit code; -1 if it could not be run, or did not end in time.
    pub code: i32,
    /// What it wrote, the beginning of it.
    pub output: String,
}

impl Health {
    /// Takes a result in. Answers whether the status is another.
    pub(crate) fn take(
        &mut self,
        check: &HealthCheck,
        started: Timestamp,
        result: HealthResult,
    ) -> bool {
        let before = self.status;
        if result.code == 0 {
            self.streak = 0;
            self.status = HealthStatus::Healthy;
        } else if before != HealthStatus::Starting
            || since(started, result.began) >= check.start_period()
        {
            self.streak = self.streak.saturating_add(1);
            if self.streak >= check.retries.filter(|most| *most > 0).unwrap_or(RETRIES) {
                self.status = HealthStatus::Unhealthy;
            }
        }
        if self.results.len() >= RESULTS_MAX {
            self.results.remove(0);
        }
        self.results.push(result);
        before != self.status
    }

    /// It has ended. Docker: what is not checked is not healthy.
    pub(crate) fn end(&mut self) {
        self.status = HealthStatus::Unhealthy;
    }

    /// Time until the next check.
    pub(crate) fn pause(
        &self,
        check: &HealthCheck,
        started: Timestamp,
        now: Timestamp,
    ) -> Duration {
        let interval = check.interval.unwrap_or(INTERVAL);
        let starting = self.status == HealthStatus::Starting;
        match starting && since(started, now) < check.start_period() {
            true => check.start_interval.unwrap_or(START_INTERVAL),
            false => interval,
        }
    }
}

fn since(began: Timestamp, now: Timestamp) -> Duration {
    Duration::from_nanos(now.0.saturating_sub(began.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn result(at_s: u64, code: i32) -> HealthResult {
        let at = Timestamp(at_s * SECOND);
        HealthResult { began: at, ended: at, code, output: String::new() }
    }

    fn check(text: &[&str]) -> HealthCheck {
        let words: Vec<_> = text.iter().map(|&word| word.to_owned()).collect();
        HealthCheck { test: HealthTest::from_words(&words), ..HealthCheck::default() }
    }

    #[test]
    fn three_failures_in_a_row_are_too_many_and_one_success_mends_it() {
        let (check, started) = (check(&["CMD", "true"]), Timestamp(0));
        let mut health = Health::default();
        for (code, want) in [
            (1, HealthStatus::Starting),
            (0, HealthStatus::Healthy),
            (1, HealthStatus::Healthy),
            (-1, HealthStatus::Healthy),
            (0, HealthStatus::Healthy),
            (1, HealthStatus::Healthy),
            (1, HealthStatus::Healthy),
            (2, HealthStatus::Unhealthy),
            (0, HealthStatus::Healthy),
        ] {
            let before = health.status;
            let changed = health.take(&check, started, result(9, code));
            assert_eq!((health.status, changed), (want, before != want));
            assert!(health.results.len() <= RESULTS_MAX);
        }
        assert_eq!(health.results.last().unwrap().code, 0);
    }

    #[test]
    fn failures_of_the_start_period_do_not_count_unless_it_was_well_before() {
        let check = HealthCheck {
            start_period: Some(Duration::from_secs(60)),
            retries: Some(1),
            ..check(&["CMD", "true"])
        };
        let mut health = Health::default();
        assert_eq!(health.pause(&check, Timestamp(0), Timestamp(SECOND)), START_INTERVAL);
        health.take(&check, Timestamp(0), result(1, 1));
        assert_eq!((health.status, health.streak), (HealthStatus::Starting, 0));
        health.take(&check, Timestamp(0), result(2, 0));
        assert_eq!(health.pause(&check, Timestamp(0), Timestamp(SECOND)), INTERVAL);
        health.take(&check, Timestamp(0), result(3, 1));
        assert_eq!(health.status, HealthStatus::Unhealthy);
        let mut late = Health::default();
        late.take(&check, Timestamp(0), result(61, 1));
        assert_eq!(late.status, HealthStatus::Unhealthy);
    }

    #[test]
    fn what_is_asked_fills_up_with_the_images() {
        let image = HealthCheck {
            interval: Some(Duration::from_secs(7)),
            shell: Some(vec!["/bin/ash".to_owned(), "-ec".to_owned()]),
            ..check(&["CMD-SHELL", "true && true"])
        };
        let asked = HealthCheck { retries: Some(9), ..HealthCheck::default() };
        let both = merge(Some(asked), Some(&image)).unwrap().unwrap();
        assert_eq!((both.interval, both.retries), (image.interval, Some(9)));
        assert_eq!(both.command().unwrap(), ["/bin/ash", "-ec", "true && true"]);
        let none = merge(Some(check(&["NONE"])), Some(&image)).unwrap().unwrap();
        assert_eq!(none.command(), None);
        assert_eq!(merge(None, None).unwrap(), None);
        let short = HealthCheck { timeout: Some(Duration::ZERO), ..check(&["CMD", "x"]) };
        let error = merge(Some(short), None).unwrap_err().to_string();
        assert!(error.contains("Timeout in Healthcheck cannot be less than 1ms"), "{error}");
    }

    #[test]
    fn dockers_lists_are_read_and_written() {
        for words in [&["NONE"][..], &["CMD", "a", "b"], &["CMD-SHELL", "a b"], &[]] {
            assert_eq!(check(words).test.to_words(), words);
        }
        assert_eq!(check(&["CMD"]).test, HealthTest::None);
        assert_eq!(check(&["a", "b"]).test, HealthTest::None);
    }
}
