//! Gives a container new limits and another restart policy, while it runs or not.
//!
//! One update after the other; those that come while it is being made or started wait for that.
//! The driver is asked first and the record is changed then: whatever refuses, the old limits are
//! put back in force and the record stays.

use std::{collections::VecDeque, fs, sync::Arc, time::Duration};

use base::Deadline;
use tokio::task;
use tracing::warn;
use workload::{DriverError, Limits, Sandbox};

use super::{Actor, Outcome, Reply, effects};
use crate::{
    Create, EngineError,
    error::chain,
    record::Record,
    step::{Phase, Run},
    update::{self, Placement, Update},
};

/// Updates that may wait for one container.
const UPDATES_MAX: usize = 64;
/// How long a driver may take to set limits.
const LIMIT_WAIT: Duration = Duration::from_secs(10);

/// Updates that are to be made, and the one that is.
#[derive(Debug, Default)]
pub(super) struct Updates {
    waiting: VecDeque<(Update, Reply)>,
    under_way: Option<Box<UnderWay>>,
}

/// An update that the driver is carrying out.
#[derive(Debug)]
struct UnderWay {
    task: task::Id,
    /// Of which run these limits are.
    run: Run,
    config: Create,
    /// What puts the old limits back.
    undo: Vec<Limits>,
    update: Update,
    reply: Reply,
}

impl Actor {
    /// Takes an update; it is answered when it is made.
    pub(super) fn queue_update(&mut self, update: Update, reply: Reply) {
        if self.updates.waiting.len() < UPDATES_MAX {
            self.updates.waiting.push_back((update, reply));
        } else {
            let what = "updates that wait for a container";
            let failure = EngineError::TooMany { what, most: UPDATES_MAX };
            reply.send(Err(self.cannot_update(failure))).ok();
        }
    }

    /// Begins the next update if it is time for it.
    pub(super) fn tend_updates(&mut self) {
        while self.updates.under_way.is_none() && self.takes_updates() {
            let Some((update, reply)) = self.updates.waiting.pop_front() else { return };
            self.begin_update(update, reply);
        }
    }

    /// Whether it stands still as far as its configuration goes.
    fn takes_updates(&self) -> bool {
        !matches!(self.state.phase, Phase::Making | Phase::Starting { .. })
    }

    fn begin_update(&mut self, update: Update, reply: Reply) {
        if matches!(self.state.phase, Phase::Removing | Phase::Dead | Phase::Gone) {
            let failure = EngineError::Removing(self.record.name.to_string());
            reply.send(Err(self.cannot_update(failure))).ok();
            return;
        }
        let config = match update::merge(&self.record.config, &update) {
            Ok(config) => config,
            Err(failure) => {
                reply.send(Err(self.cannot_update(failure))).ok();
                return;
            }
        };
        let change = update::change(&update.limits, &config.limits);
        let sandbox = self.entry.live().sandbox;
        let sandbox = sandbox.filter(|_| matches!(self.state.phase, Phase::Running { .. }));
        let Some(sandbox) = sandbox.filter(|_| change != Limits::default()) else {
            let result = self.commit_update(config);
            reply.send(result.map_err(|failure| self.cannot_update(failure))).ok();
            return;
        };
        let undo = update::undo(&update.limits, &self.record.config.limits, &placement());
        let parts = undo.clone();
        let task = self.tasks.spawn(async move {
            let result = set(&*sandbox, change).await;
            if result.is_err() {
                put_back(&*sandbox, parts).await;
            }
            Outcome::Limited(result)
        });
        let (task, run) = (task.id(), self.state.run);
        let under_way = UnderWay { task, run, config, undo, update, reply };
        self.updates.under_way = Some(Box::new(under_way));
    }

    /// The driver has answered.
    pub(super) fn limited(&mut self, result: Result<(), EngineError>) {
        let Some(under_way) = self.updates.under_way.take() else { return };
        let UnderWay { run, config, undo, update, reply, .. } = *under_way;
        if run != self.state.run || !self.takes_updates() {
            // It has been started again meanwhile, with the old limits.
            self.updates.waiting.push_front((update, reply));
            return;
        }
        let result = match result {
            // It has ended meanwhile: what is recorded counts when it is started again.
            Ok(()) | Err(EngineError::Driver(DriverError::Gone { .. })) => {
                self.commit_update(config).inspect_err(|_| self.put_limits_back(undo))
            }
            Err(failure) => Err(failure),
        };
        reply.send(result.map_err(|failure| self.cannot_update(failure))).ok();
    }

    /// This task failed; if it was an update, that is its answer.
    pub(super) fn update_failed(&mut self, id: task::Id) {
        if let Some(under_way) = self.updates.under_way.take_if(|update| update.task == id) {
            let failure = EngineError::Failed { doing: "setting its limits" };
            under_way.reply.send(Err(self.cannot_update(failure))).ok();
            self.put_limits_back(under_way.undo);
        }
    }

    /// Records what the container is from now on, and lets it be that.
    fn commit_update(&mut self, config: Create) -> Result<(), EngineError> {
        let state = self.state.with_policy(config.restart);
        let removing = || EngineError::Removing(self.record.name.to_string());
        let record = Record { config, ..self.describe(&state).ok_or_else(removing)? };
        self.shared.records.put(&record)?;
        self.record = record;
        if matches!(state.phase, Phase::Idle) {
            self.timer = None;
        }
        self.state = state;
        self.publish();
        self.tell("update", &[]);
        Ok(())
    }

    fn put_limits_back(&mut self, undo: Vec<Limits>) {
        let Some(sandbox) = self.entry.live().sandbox else { return };
        self.tasks.spawn(async move {
            put_back(&*sandbox, undo).await;
            Outcome::Quiet
        });
    }

    fn cannot_update(&self, failure: EngineError) -> EngineError {
        EngineError::CannotUpdate { id: self.entry.id.clone(), source: Arc::new(failure) }
    }
}

async fn set(sandbox: &dyn Sandbox, limits: Limits) -> Result<(), EngineError> {
    let by = Deadline::after(LIMIT_WAIT);
    effects::within(by, "setting its limits", sandbox.limit(limits)).await
}

/// Puts old limits back in force, as many of them as the driver takes.
async fn put_back(sandbox: &dyn Sandbox, undo: Vec<Limits>) {
    for limits in undo {
        match set(sandbox, limits).await {
            Ok(()) => {}
            Err(EngineError::Driver(DriverError::Gone { .. })) => return,
            // What this host has not at all was not changed either.
            Err(EngineError::Driver(DriverError::Unsupported { .. })) => {}
            Err(failure) => warn!(error = chain(&failure), "an old limit could not be put back"),
        }
    }
}

/// Source: Linux, Documentation/ABI/testing/sysfs-devices-system-cpu and …/sysfs-devices-node.
fn placement() -> Placement {
    let read = |path| fs::read_to_string(path).ok().map(|list| list.trim().to_owned());
    Placement {
        cpus: read("/sys/devices/system/cpu/online"),
        mems: read("/sys/devices/system/node/online"),
    }
}
