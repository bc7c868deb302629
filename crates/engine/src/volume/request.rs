//! What can be asked of volumes, and what is shown of them.

use std::collections::BTreeMap;

use base::{ContainerId, clock::Timestamp};
use serde::{Deserialize, Serialize};

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeCreate {
    /// Its name; one is made up where there is none, and the volume is anonymous.
    pub name: Option<String>,
    /// Its driver: `local`.
    pub driver: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver: `type`, `o`, `device`.
    pub options: BTreeMap<String, String>,
}

/// A volume as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeView {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Whether its name was made up.
    pub anonymous: bool,
    /// Where its content is.
    pub mountpoint: String,
    /// Containers that have it, whether they run or not.
    pub users: Vec<ContainerId>,
}

/// A condition on a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeLabel {
    /// Its name.
    pub name: String,
    /// Its value, if that matters.
    pub value: Option<String>,
    /// The condition is that there is no such label.
    pub absent: bool,
}

impl VolumeLabel {
    /// Whether labels meet the condition.
    pub fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.name);
        let there = value.is_some_and(|value| self.value.as_ref().is_none_or(|want| want == value));
        there != self.absent
    }
}

/// Which volumes nobody has are removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumePrune {
    /// Named ones too.
    pub all: bool,
    /// All of which hold.
    pub labels: Vec<VolumeLabel>,
}

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumesPruned {
    /// Names.
    pub names: Vec<String>,
    /// Bytes of their files.
    pub bytes: u64,
}

/// What a volume takes of the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeUsage {
    /// Its name.
    pub name: String,
    /// Bytes of its files.
    pub bytes: u64,
    /// How many containers have it.
    pub users: u64,
}

/// A snapshot of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotView {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Whether it shares blocks with the volume; else every byte was copied.
    pub shared: bool,
    /// Containers that ran with the volume meanwhile, and were not paused.
    #[serde(default)]
    pub running: Vec<ContainerId>,
}
