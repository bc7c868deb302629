//! A container's state in a sentence, as `ps` shows it.

use base::clock::Timestamp;
use engine::{ContainerState, HealthStatus, StateView};
use workload::ExitStatus;

use crate::time;

/// `Up 5 minutes`, `Exited (0) 2 hours ago`, `Created`.
pub fn sentence(state: &StateView, now: Timestamp) -> String {
    let up = || time::human(time::between(state.started.unwrap_or(now), now));
    match state.state {
        ContainerState::Created => "Created".to_owned(),
        ContainerState::Running => match &state.health {
            Some(health) => format!("Up {} ({})", up(), health_words(health.status)),
            None => format!("Up {}", up()),
        },
        ContainerState::Paused => format!("Up {} (Paused)", up()),
        ContainerState::Exited => ended("Exited", state, now),
        ContainerState::Restarting => ended("Restarting", state, now),
        ContainerState::Removing => "Removal In Progress".to_owned(),
        ContainerState::Dead => "Dead".to_owned(),
    }
}

fn health_words(status: HealthStatus) -> &'static str {
    match status {
        HealthStatus::Starting => "health: starting",
        HealthStatus::Healthy => "healthy",
        HealthStatus::Unhealthy => "unhealthy",
    }
}

fn ended(word: &str, state: &StateView, now: Timestamp) -> String {
    let code = exit_code(state);
    match state.exit.map(|exit| time::human(time::between(exit.at, now))) {
        Some(ago) => format!("{word} ({code}) {ago} ago"),
        None => format!("{word} ({code})"),
    }
}

/// Docker's word for the state.
pub fn word(state: ContainerState) -> &'static str {
    match state {
        ContainerState::Created => "created",
        ContainerState::Running => "running",
        ContainerState::Paused => "paused",
        ContainerState::Restarting => "restarting",
        ContainerState::Exited => "exited",
        ContainerState::Removing => "removing",
        ContainerState::Dead => "dead",
    }
}

/// The exit code, 0 for one that has not ended.
pub fn exit_code(state: &StateView) -> u8 {
    state.exit.map_or(0, |exit| exit.status.shell_code())
}

/// Why it does not run, if that needs saying.
pub fn error(state: &StateView) -> String {
    match (&state.error, state.exit.map(|exit| exit.status)) {
        (Some(error), _) => error.clone(),
        (None, Some(ExitStatus::Lost)) => "the exit status was lost".to_owned(),
        (None, Some(ExitStatus::Machine(end))) => end.to_string(),
        (None, _) => String::new(),
    }
}
