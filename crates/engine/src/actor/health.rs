//! Runs a container's health checks, one after the other, and takes note of what they came to.
//!
//! A check is an exec that is not listed and not recorded; only a status that is another one is.
//! It has a name of its own in the sandbox, so that a new daemon finds what an old one left.

use std::{
    os::fd::OwnedFd,
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

use base::{Deadline, ProcessId, clock};
use tokio::io::AsyncReadExt as _;
use workload::{ExitStatus, Process, ProcessSpec, Sandbox, Signal, Streams};

use super::{Actor, Outcome, effects};
use crate::{
    EngineError, ExecCreate,
    error::chain,
    health::{Health, HealthCheck, HealthResult, HealthStatus, OUTPUT_MAX},
    record::HealthNote,
    spec,
    step::{Frozen, Phase, Run, State},
};

/// The name of checks among a sandbox's processes.
const NAME: &str = "health";
/// How long a check that was killed is waited for.
const KILL_WAIT: Duration = Duration::from_secs(5);
/// How long the output of a check that has ended may take to come through.
const DRAIN_WAIT: Duration = Duration::from_millis(500);
/// Bytes in front of each part of the output; see [`workload::Process::attach`].
const HEADER_BYTES: usize = 8;

/// One container's checks.
#[derive(Debug)]
pub(super) struct Checks {
    pub(super) health: Health,
    /// When the next one is, if it runs.
    due: Option<Instant>,
    /// The run whose check is under way.
    under_way: Option<Run>,
    /// How long the container had run when that was begun, if this daemon started it.
    begun_after: Option<Duration>,
    /// What the check that is under way comes to is of no interest.
    void: bool,
    /// There may be a check of before that has not ended.
    left: bool,
}

impl Checks {
    /// The checks of a container, if it is to be checked.
    pub(super) fn new(check: Option<&HealthCheck>, note: Option<HealthNote>) -> Option<Checks> {
        check?.command()?;
        let HealthNote { status, streak } = note.unwrap_or_default();
        let health = Health { status, streak, results: Vec::new() };
        Some(Checks {
            health,
            due: None,
            under_way: None,
            begun_after: None,
            void: false,
            left: true,
        })
    }
}

/// Whether a container in this state is checked.
fn checked(state: &State) -> bool {
    matches!(state.phase, Phase::Running { frozen: Frozen::No, stopping: None, .. })
}

impl Actor {
    /// What is recorded of its health in the next state.
    pub(super) fn health_note(&self, next: &State) -> Option<HealthNote> {
        let Health { status, streak, .. } = self.checks.as_ref()?.health;
        let running = |state: &State| matches!(state.phase, Phase::Running { .. });
        Some(match (running(&self.state), running(next)) {
            (false, true) => HealthNote::default(),
            (true, false) => HealthNote { status: HealthStatus::Unhealthy, streak },
            (true, true) | (false, false) => HealthNote { status, streak },
        })
    }

    /// The moment of the next check.
    pub(super) fn check_due(&self) -> Option<Instant> {
        self.checks.as_ref().filter(|checks| checks.under_way.is_none())?.due
    }

    /// Begins, interrupts or ends the checks as the container's state has changed.
    pub(super) fn tend_checks(&mut self, before: &State) {
        let Some(checks) = &mut self.checks else { return };
        let (ran, runs) = (
            matches!(before.phase, Phase::Running { .. }),
            matches!(self.state.phase, Phase::Running { .. }),
        );
        match (ran, runs) {
            (false, true) => {
                checks.health = Health::default();
                checks.left = false;
            }
            (true, false) => checks.health.end(),
            (true, true) | (false, false) => {}
        }
        match (checks.due.is_some(), checked(&self.state)) {
            (false, true) => self.plan_check(),
            (true, false) => {
                checks.due = None;
                checks.void = checks.under_way.is_some();
            }
            (true, true) | (false, false) => {}
        }
    }

    /// Sets the time of the next check.
    pub(super) fn plan_check(&mut self) {
        let lasted = self.lasted();
        let Some((checks, check)) = self.checks.as_mut().zip(self.record.config.health.as_ref())
        else {
            return;
        };
        if checked(&self.state) {
            let now = clock::Timestamp::now();
            let started = began_before(now, lasted).or(self.state.started).unwrap_or(now);
            let pause = checks.health.pause(check, started, now);
            checks.due = clock::monotonic().checked_add(pause);
        }
    }

    /// It is time for a check.
    pub(super) fn begin_check(&mut self) {
        let lasted = self.lasted();
        let Some((checks, check)) = self.checks.as_mut().zip(self.record.config.health.clone())
        else {
            return;
        };
        let (Some(sandbox), Some(command)) = (self.entry.live().sandbox, check.command()) else {
            return;
        };
        let run = self.state.run;
        checks.under_way = Some(run);
        checks.begun_after = lasted;
        checks.void = false;
        let left = std::mem::replace(&mut checks.left, true);
        let exec = ExecCreate { command, ..ExecCreate::default() };
        let spec =
            spec::exec(&self.entry.id, NAME, &self.record.config, &exec, &self.shared.host.facts())
                .map(|spec| ProcessSpec { whole: true, ..spec });
        self.tasks.spawn(async move {
            let began = clock::Timestamp::now();
            let (code, output, ended) = match probe(&*sandbox, spec, check.timeout(), left).await {
                Ok(found) => found,
                Err(failure) => (-1, chain(&failure), false),
            };
            let ended_at = clock::Timestamp::now();
            Outcome::Checked(run, HealthResult { began, ended: ended_at, code, output }, ended)
        });
    }

    /// A check has come to this. `ended`: nothing of it is left.
    pub(super) fn checked(&mut self, run: Run, result: HealthResult, ended: bool) {
        let Some((checks, check)) = self.checks.as_mut().zip(self.record.config.health.as_ref())
        else {
            return;
        };
        checks.under_way = None;
        checks.left = !ended;
        let void = std::mem::take(&mut checks.void) || run != self.state.run;
        if !void && checked(&self.state) {
            let started = began_before(result.began, checks.begun_after);
            let started = started.or(self.state.started).unwrap_or(result.began);
            let changed = checks.health.take(check, started, result);
            let status = checks.health.status;
            if let (true, Some(record)) = (changed, self.describe(&self.state)) {
                self.note(&record);
                self.record = record;
            }
            self.publish();
            if changed {
                self.tell(&format!("health_status: {}", status.word()), &[]);
            }
        }
        self.plan_check();
    }
}

/// The civil time of the container's start, had the clock not jumped since.
fn began_before(moment: clock::Timestamp, lasted: Option<Duration>) -> Option<clock::Timestamp> {
    let lasted = u64::try_from(lasted?.as_nanos()).unwrap_or(u64::MAX);
    Some(clock::Timestamp(moment.0.saturating_sub(lasted)))
}

/// Runs a check to its end: exit code, output, and whether nothing of it is left.
async fn probe(
    sandbox: &dyn Sandbox,
    spec: Result<ProcessSpec, EngineError>,
    timeout: Duration,
    left: bool,
) -> Result<(i32, String, bool), EngineError> {
    let name: ProcessId = NAME.parse().expect("it is a name of letters");
    if left && let Some(old) = sandbox.process(&name).await {
        end(&*old).await;
        sandbox.forget(&name).await;
    }
    let failed = |_| EngineError::Failed { doing: "making a socket for a health check" };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    ours.set_nonblocking(true).map_err(failed)?;
    let mut ours = tokio::net::UnixStream::from_std(ours).map_err(failed)?;
    let by = Deadline::after(effects::SPAWN_WAIT);
    let streams = Streams { attached: Some(OwnedFd::from(theirs).into()) };
    let started =
        effects::within(by, "starting the health check", sandbox.spawn(spec?, streams, by));
    let process: Arc<dyn Process> = started.await?;
    let mut output = Output::default();
    let exit = {
        let ends = async {
            tokio::select! {
                exit = process.wait() => exit,
                // Nothing more can come, or be read: only the end is waited for.
                () = output.read(&mut ours) => process.wait().await,
            }
        };
        tokio::time::timeout(timeout, ends).await
    };
    let ended = match exit {
        Ok(_) => true,
        Err(_) => end(&*process).await,
    };
    tokio::time::timeout(DRAIN_WAIT, output.read(&mut ours)).await.ok();
    if ended {
        sandbox.forget(&name).await;
    }
    let text = output.text();
    Ok(match exit {
        // Nobody knows how it ended.
        Ok(exit) if matches!(exit.status, ExitStatus::Lost | ExitStatus::Machine(_)) => {
            (-1, text, ended)
        }
        Ok(exit) => (exit.status.shell_code().into(), text, ended),
        Err(_) => (-1, late(timeout, &text), ended),
    })
}

/// Docker's words for a check that took too long.
fn late(timeout: Duration, output: &str) -> String {
    let mut text = format!("Health check exceeded timeout ({timeout:?})");
    if !output.is_empty() {
        text.push_str(": ");
        text.push_str(output);
    }
    cut(&text).to_owned()
}

/// Kills a process; whether it has ended.
async fn end(process: &dyn Process) -> bool {
    let by = Deadline::after(KILL_WAIT);
    // It may have ended meanwhile.
    effects::within(by, "ending the health check", process.signal(Signal::KILL)).await.ok();
    tokio::time::timeout(KILL_WAIT, process.wait()).await.is_ok()
}

/// The beginning of what a check writes to both streams, taken out of its frames.
#[derive(Debug, Default)]
struct Output {
    header: Vec<u8>,
    /// Bytes until the next header.
    payload: usize,
    kept: Vec<u8>,
}

impl Output {
    /// Reads to the end; what is more than is kept is passed over.
    async fn read(&mut self, from: &mut tokio::net::UnixStream) {
        let mut buffer = [0; 4096];
        while let Ok(count) = from.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
            self.take(bytes);
        }
    }

    fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.payload > 0 {
                let (part, rest) = bytes.split_at(self.payload.min(bytes.len()));
                let room = OUTPUT_MAX.saturating_sub(self.kept.len());
                self.kept.extend(part.iter().take(room));
                self.payload -= part.len();
                bytes = rest;
                continue;
            }
            let (part, rest) = bytes.split_at((HEADER_BYTES - self.header.len()).min(bytes.len()));
            self.header.extend(part);
            bytes = rest;
            if let [_, _, _, _, a, b, c, d] = *self.header.as_slice() {
                self.payload = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(0);
                self.header.clear();
            }
        }
    }

    fn text(&self) -> String {
        cut(&String::from_utf8_lossy(&self.kept)).to_owned()
    }
}

/// The text, or as much of its beginning as is kept.
fn cut(text: &str) -> &str {
    let end = (0..=OUTPUT_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_taken_out_of_its_frames_and_cut() {
        let mut stream = Vec::new();
        for (source, text) in [(1_u8, "out "), (2, "err "), (1, &"é".repeat(5000))] {
            stream.extend([source, 0, 0, 0]);
            stream.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
            stream.extend(text.as_bytes());
        }
        for piece in [1, 3, 7, 100_000] {
            let mut output = Output::default();
            stream.chunks(piece).for_each(|bytes| output.take(bytes));
            let text = output.text();
            assert!(text.starts_with("out err éé") && text.len() <= OUTPUT_MAX, "{piece}");
            assert!(text.len() > OUTPUT_MAX - 4);
        }
        assert_eq!(late(Duration::from_secs(2), ""), "Health check exceeded timeout (2s)");
        assert!(late(Duration::from_secs(2), &"x".repeat(9000)).len() <= OUTPUT_MAX);
    }
}
