//! What is kept of a container on disk: everything that a new daemon must know.
//!
//! The format is versioned by [`FORMAT`], kept once for the whole store. A field that is added has
//! a default; a change that an older build would misread raises the number.

use std::collections::BTreeMap;

use base::{ContainerId, ContainerName, Digest, clock::Timestamp};
use serde::{Deserialize, Serialize};
use workload::{Exit, SandboxHandle};

use crate::{Create, ExecCreate, HealthStatus, NetworkView};

/// Version of the records' format.
pub(crate) const FORMAT: u64 = 1;

/// A container, as it is recorded before anything is done about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Its id.
    pub(crate) id: ContainerId,
    /// Its name.
    pub(crate) name: ContainerName,
    /// Digest of its image's configuration.
    pub(crate) image_id: String,
    /// Its image's layers by diff id, lowest first: they stay as long as it does.
    pub(crate) layers: Vec<Digest>,
    /// The request with the image's configuration merged in.
    pub(crate) config: Create,
    /// When it was made.
    pub(crate) created: Timestamp,
    /// What is or was being done.
    pub(crate) stage: Stage,
    /// When it was last started.
    #[serde(default)]
    pub(crate) started: Option<Timestamp>,
    /// How it last ended.
    #[serde(default)]
    pub(crate) exit: Option<Exit>,
    /// How often it was started again since its user started it.
    #[serde(default)]
    pub(crate) restarts: u32,
    /// Whether its user wants it to have ended.
    #[serde(default)]
    pub(crate) stopped: bool,
    /// How it is, if it is checked.
    #[serde(default)]
    pub(crate) health: Option<HealthNote>,
    /// Why it could not be started, the last time.
    #[serde(default)]
    pub(crate) error: Option<String>,
    /// Whose copy it is. One that has not run yet is undone if it is found so: begun anew, it would
    /// be something else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) forked_from: Option<ContainerId>,
    /// Its addresses.
    #[serde(default)]
    pub(crate) network: NetworkView,
    /// Where its sandbox is found again.
    #[serde(default)]
    pub(crate) handle: Option<SandboxHandle>,
    /// Whether its anonymous volumes go with it.
    #[serde(default)]
    pub(crate) remove_volumes: bool,
    /// Execs that run.
    #[serde(default)]
    pub(crate) execs: BTreeMap<String, ExecCreate>,
}

/// How a container is, as far as a new daemon goes on from there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HealthNote {
    /// In one word.
    pub(crate) status: HealthStatus,
    /// Failures in a row when that was last written.
    pub(crate) streak: u32,
}

impl Record {
    /// Whether it holds something of a run that could not be given back.
    pub(crate) fn leftover(&self) -> bool {
        self.handle.is_some() || self.network.address.is_some()
    }

    /// Whether it is a copy that has not run yet.
    pub(crate) fn is_unborn(&self) -> bool {
        self.forked_from.is_some() && self.started.is_none()
    }
}

/// What is or was being done with a container, as far as recovery needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stage {
    /// It is being made: undone if it is found so.
    Making,
    /// It does not run.
    Idle,
    /// It is being started: undone if it is found so.
    Starting,
    /// It runs.
    Running,
    /// It is being paused.
    Pausing,
    /// It is paused.
    Paused,
    /// It is being let go on.
    Resuming,
    /// What it held for running is being given back.
    Clearing,
    /// It is being removed: finished if it is found so.
    Removing,
}
