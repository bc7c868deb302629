//! What the engine shows: a snapshot of a container, complete, for every adapter to render.

use std::net::{IpAddr, Ipv4Addr};

use base::{ContainerId, ContainerName, clock::Timestamp};
use serde::{Deserialize, Serialize};
use workload::{Exit, Isolation};

use crate::{Create, ExecCreate, Protocol};

/// A container as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Digest of the image's configuration (the image id), `sha256:…`.
    pub image_id: String,
    /// What was asked, with the image's configuration merged in: entrypoint, command,
    /// environment, user, working directory, labels, exposed ports, stop signal.
    pub config: Create,
    /// When it was made.
    pub created: Timestamp,
    /// Where it stands.
    pub state: StateView,
    /// Its addresses.
    pub network: NetworkView,
    /// Where its log is, if one is kept.
    pub log_path: Option<String>,
    /// Execs that run, by id.
    pub execs: Vec<String>,
}

/// Where a container stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateView {
    /// In one word.
    pub state: ContainerState,
    /// Host process id while it runs, where it has one.
    pub pid: Option<u32>,
    /// When it was last started.
    pub started: Option<Timestamp>,
    /// How it last ended.
    pub exit: Option<Exit>,
    /// Why it could not be started, the last time.
    pub error: Option<String>,
}

/// Docker's words for a container's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerState {
    /// Made, never started.
    Created,
    /// Runs.
    Running,
    /// Runs, but stopped in its tracks.
    Paused,
    /// Ended.
    Exited,
    /// Being removed.
    Removing,
    /// Could not be removed.
    Dead,
}

/// A container's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkView {
    /// Address on the default bridge.
    pub address: Option<Ipv4Addr>,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Ports as they are bound.
    pub ports: Vec<PortBinding>,
}

/// A published port as it is bound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortBinding {
    /// Host address.
    pub host_ip: IpAddr,
    /// Host port.
    pub host_port: u16,
    /// Port inside.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// An exec as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecView {
    /// Its id.
    pub id: String,
    /// The container it runs in.
    pub container: ContainerId,
    /// What was asked.
    pub config: ExecCreate,
    /// Whether it runs.
    pub running: bool,
    /// Host process id while it runs.
    pub pid: Option<u32>,
    /// How it ended.
    pub exit: Option<Exit>,
}

/// The daemon in a few numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// Version of this build.
    pub version: String,
    /// Containers by state: running, paused, others.
    pub containers: (u64, u64, u64),
    /// Images.
    pub images: u64,
    /// Where everything is kept.
    pub data_root: String,
    /// Isolations that this build has a driver for.
    pub isolations: Vec<Isolation>,
}
