//! What is recorded of a container, and what is shown.

use base::ContainerId;

use super::Actor;
use crate::{
    Container, ContainerState, Create, NetworkView, StateView,
    execs::ExecState,
    log_options::Logger,
    record::{Record, Stage},
    step::{Cleared, Frozen, Phase, Resource, State},
};

impl Actor {
    /// The record of the next state; `None` when the container is gone.
    pub(super) fn describe(&self, next: &State) -> Option<Record> {
        let holds = |resource| next.held.contains_key(&resource);
        let execs = self.execs.iter().filter(|(_, exec)| {
            matches!(&*exec.state.borrow(), ExecState::Starting | ExecState::Running(_))
        });
        let stage = next.stage()?;
        Some(Record {
            stage,
            remove_volumes: match stage {
                // What is not made to its end leaves nothing.
                Stage::Making => true,
                Stage::Removing => self.record.remove_volumes || self.remove_volumes,
                Stage::Idle
                | Stage::Starting
                | Stage::Running
                | Stage::Pausing
                | Stage::Paused
                | Stage::Resuming
                | Stage::Clearing => false,
            },
            started: next.started,
            exit: next.exit,
            restarts: next.restarts.count,
            stopped: next.restarts.stopped,
            health: self.health_note(next),
            error: next.error.clone(),
            network: if holds(Resource::Network) {
                self.network.clone()
            } else {
                NetworkView::default()
            },
            handle: self.handle.clone().filter(|_| holds(Resource::Sandbox)),
            execs: execs.map(|(id, exec)| (id.clone(), exec.config.clone())).collect(),
            ..self.record.clone()
        })
    }

    /// The container as it is shown.
    pub(super) fn view(&self) -> Container {
        let log = self.shared.files.log(&self.record.id, self.record.config.log.kind);
        let state = StateView {
            state: state_word(&self.state),
            pid: match &self.state.phase {
                Phase::Running { pid, .. } => *pid,
                Phase::Making
                | Phase::Idle
                | Phase::Starting { .. }
                | Phase::Backoff
                | Phase::Clearing(_)
                | Phase::Removing
                | Phase::Dead
                | Phase::Gone => None,
            },
            started: self.state.started,
            exit: self.state.exit.filter(|_| !self.state.runs()),
            error: self.state.error.clone(),
            restarts: self.state.restarts.count,
            health: self
                .checks
                .as_ref()
                .filter(|_| self.state.started.is_some())
                .map(|checks| checks.health.clone()),
        };
        let log_path = self.record.config.log.can_be_read().then(|| log.display().to_string());
        container(&self.record, state, log_path, self.execs.keys().cloned().collect())
    }
}

/// A container before its task has begun.
pub(crate) fn first_view(record: &Record) -> Container {
    let state = match record.stage {
        Stage::Removing | Stage::Making => ContainerState::Removing,
        Stage::Idle
        | Stage::Starting
        | Stage::Running
        | Stage::Pausing
        | Stage::Paused
        | Stage::Resuming
        | Stage::Clearing => idle_word(record.exit.is_some()),
    };
    let state = StateView {
        state,
        pid: None,
        started: record.started,
        exit: record.exit,
        error: record.error.clone(),
        restarts: record.restarts,
        health: None,
    };
    container(record, state, None, Vec::new())
}

fn container(
    record: &Record,
    state: StateView,
    log_path: Option<String>,
    execs: Vec<String>,
) -> Container {
    Container {
        id: record.id.clone(),
        name: record.name.clone(),
        image_id: record.image_id.clone(),
        config: record.config.clone(),
        created: record.created,
        state,
        network: record.network.clone(),
        log_path,
        log_attributes: Logger {
            id: &record.id,
            name: record.name.as_str(),
            image_id: &record.image_id,
            config: &record.config,
        }
        .attributes(),
        execs,
    }
}

fn idle_word(ended: bool) -> ContainerState {
    if ended { ContainerState::Exited } else { ContainerState::Created }
}

fn state_word(state: &State) -> ContainerState {
    if state.restarting() {
        return ContainerState::Restarting;
    }
    match &state.phase {
        Phase::Running { frozen: Frozen::No | Frozen::Pausing, .. } => ContainerState::Running,
        Phase::Running { frozen: Frozen::Yes | Frozen::Resuming, .. } => ContainerState::Paused,
        // It shows as ended when all it held is free again, its published ports above all.
        Phase::Clearing(Cleared::Ended) => ContainerState::Running,
        Phase::Making
        | Phase::Idle
        | Phase::Backoff
        | Phase::Starting { .. }
        | Phase::Clearing(Cleared::Failed(_) | Cleared::Leftover | Cleared::Late) => {
            idle_word(state.exit.is_some())
        }
        Phase::Removing | Phase::Gone => ContainerState::Removing,
        Phase::Dead => ContainerState::Dead,
    }
}

/// A record of a container that is to be made.
pub(crate) fn first_record(
    id: ContainerId,
    name: base::ContainerName,
    image_id: String,
    layers: Vec<base::Digest>,
    config: Create,
    created: base::clock::Timestamp,
) -> Record {
    Record {
        id,
        name,
        image_id,
        layers,
        config,
        created,
        stage: Stage::Making,
        started: None,
        exit: None,
        restarts: 0,
        stopped: false,
        health: None,
        error: None,
        forked_from: None,
        network: NetworkView::default(),
        handle: None,
        remove_volumes: true,
        execs: std::collections::BTreeMap::new(),
    }
}
