//! What the engine shows: a snapshot of a container, complete, for every adapter to render.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base::{ContainerId, ContainerName, clock::Timestamp};
use serde::{Deserialize, Serialize};
use workload::{Exit, Isolation};

use crate::{
    Create, EndpointView, ExecCreate, Health, HealthCheck, MountRequest, NetworkMode, Protocol,
};

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
    /// What stands with each entry of its log: the tag, labels and variables that were asked for.
    #[serde(default)]
    pub log_attributes: BTreeMap<String, String>,
    /// Execs that run, by id.
    pub execs: Vec<String>,
}

/// A container in a list of them: what is shown of it there.
///
/// What was asked for is most of a [`Container`], and a thousand of those are megabytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// The image, as it was asked for.
    pub image: String,
    /// Digest of the image's configuration.
    pub image_id: String,
    /// Entrypoint and command.
    pub command: Vec<String>,
    /// When it was made.
    pub created: Timestamp,
    /// Where it stands; of its health, the status alone.
    pub state: StateView,
    /// What it is plugged into.
    pub network: NetworkMode,
    /// Ports as they are bound.
    pub ports: Vec<PortBinding>,
    /// Ports that are said to be in use inside.
    pub expose: Vec<(u16, Protocol)>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is mounted in it.
    pub mounts: Vec<MountRequest>,
    /// Behind which wall it is.
    #[serde(default)]
    pub isolation: Isolation,
}

impl From<&Container> for Summary {
    fn from(container: &Container) -> Summary {
        let config = &container.config;
        let health = container.state.health.as_ref();
        let health = health.map(|health| Health { results: Vec::new(), ..*health });
        let entrypoint = config.entrypoint.iter().flatten();
        Summary {
            id: container.id.clone(),
            name: container.name.clone(),
            image: config.image.clone(),
            image_id: container.image_id.clone(),
            command: entrypoint.chain(&config.command).cloned().collect(),
            created: container.created,
            state: StateView { health, ..container.state.clone() },
            network: config.network.clone(),
            ports: container.network.ports.clone(),
            expose: config.expose.clone(),
            labels: config.labels.clone(),
            mounts: config.mounts.clone(),
            isolation: config.isolation,
        }
    }
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
    /// How often it was started again since its user started it.
    #[serde(default)]
    pub restarts: u32,
    /// How it is, if it is checked.
    #[serde(default)]
    pub health: Option<Health>,
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
    /// Ended, and about to run again.
    Restarting,
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
    /// Address on the network that leads out.
    pub address: Option<Ipv4Addr>,
    /// Length of the network's prefix.
    pub prefix: u8,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// IPv6 address there.
    pub address6: Option<Ipv6Addr>,
    /// Length of the network's IPv6 prefix.
    pub prefix6: u8,
    /// The way out for IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// Hardware address.
    pub mac: Option<String>,
    /// Ports as they are bound.
    pub ports: Vec<PortBinding>,
    /// Its places on all networks, the one above first.
    pub places: Vec<EndpointView>,
}

impl NetworkView {
    /// Of a container with these places, the one that leads out first.
    pub fn of(places: Vec<EndpointView>, ports: Vec<PortBinding>) -> NetworkView {
        let Some(first) = places.first() else {
            return NetworkView { ports, ..NetworkView::default() };
        };
        NetworkView {
            address: Some(first.address),
            prefix: first.prefix,
            gateway: first.gateway,
            address6: first.address6,
            prefix6: first.prefix6,
            gateway6: first.gateway6,
            mac: Some(first.mac.clone()),
            ports,
            places,
        }
    }

    /// Whether it is on a network on which names are resolved: any but the default one.
    pub(crate) fn has_names(&self) -> bool {
        self.places.iter().any(|place| place.network != "bridge")
    }

    /// Its places; records of earlier versions know of the default network alone, whose id this
    /// is.
    pub(crate) fn endpoints(&self, default: &str) -> Vec<EndpointView> {
        let Some(address) = self.address.filter(|_| self.places.is_empty()) else {
            return self.places.clone();
        };
        vec![EndpointView {
            network: "bridge".to_owned(),
            network_id: default.to_owned(),
            interface: 0,
            address,
            prefix: self.prefix,
            gateway: self.gateway,
            address6: self.address6,
            prefix6: self.prefix6,
            gateway6: self.gateway6,
            mac: self.mac.clone().unwrap_or_default(),
            names: Vec::new(),
            leads_out: true,
            priority: 0,
        }]
    }
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
    /// How it ended: with code 127 or 126 if it could not be started.
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
    /// Whether an ordinary user runs it.
    #[serde(default)]
    pub rootless: bool,
    /// What the host does not grant to that user, and what would grant it, in sentences.
    #[serde(default)]
    pub lacks: Vec<String>,
}

/// What creating a container gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Created {
    /// The new container's id.
    pub id: ContainerId,
    /// What was asked and is not so, without being worth a failure.
    pub warnings: Vec<String>,
}

/// An image as it is at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageView {
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Digest of its manifest, `sha256:…`.
    pub manifest: String,
    /// References as Docker shows them, `repository:tag`.
    pub references: Vec<String>,
    /// When it was made, as its configuration says.
    pub created: Option<String>,
    /// Operating system.
    pub os: String,
    /// Processor architecture, in Go's words (`amd64`).
    pub architecture: String,
    /// Bytes its layers take in the store.
    pub size: u64,
    /// Variant of the architecture (`v7` of `arm`).
    #[serde(default)]
    pub variant: Option<String>,
    /// Digest of the manifest or index that it came with, `sha256:…`.
    #[serde(default)]
    pub target: String,
    /// Bytes of content of each layer, lowest first.
    #[serde(default)]
    pub layer_bytes: Vec<u64>,
    /// Everything that is here under the same name, by platform.
    #[serde(default)]
    pub variants: Vec<ImageVariant>,
    /// How many containers use it.
    pub containers: u64,
    /// Digests of its layers uncompressed (diff ids), lowest first.
    pub layers: Vec<String>,
    /// What its configuration says a container of it runs.
    pub config: ImageConfig,
    /// How it came to be, oldest step first.
    pub history: Vec<ImageHistory>,
    /// What else is told of it.
    #[serde(default)]
    pub about: ImageAbout,
}

/// What is told of an image and makes no difference to its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageAbout {
    /// References with a digest, given or derived, `repository@sha256:…`.
    pub digests: Vec<String>,
    /// When it last got a reference.
    pub tagged: Option<Timestamp>,
    /// Type of the manifest or index that it came with.
    pub media_type: String,
    /// Bytes of that document.
    pub target_bytes: u64,
    /// Who made it.
    pub author: Option<String>,
    /// What its maker said.
    pub comment: Option<String>,
    /// Version of the Docker that made it.
    pub docker_version: Option<String>,
    /// What a build on top of it begins with.
    pub on_build: Option<Vec<String>>,
    /// The shell of shell-form commands.
    pub shell: Option<Vec<String>>,
    /// How its layers are kept: `erofs` or `directory`.
    pub form: String,
}

/// The image for one platform, of those that share a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageVariant {
    /// `os/architecture[/variant]`.
    pub platform: String,
    /// Digest of its configuration, `sha256:…`.
    pub id: String,
    /// Digest of its manifest, `sha256:…`.
    pub manifest: String,
    /// Type of its manifest.
    #[serde(default)]
    pub media_type: String,
    /// Bytes of its manifest.
    #[serde(default)]
    pub manifest_bytes: u64,
    /// Bytes of content of its layers.
    pub size: u64,
    /// Bytes of its layers as they came, compressed mostly.
    #[serde(default)]
    pub blob_bytes: u64,
}

/// What an image's configuration says a container of it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Before the command.
    pub entrypoint: Option<Vec<String>>,
    /// The command.
    pub command: Option<Vec<String>>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub working_dir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to stop, as it stands there.
    pub stop_signal: Option<String>,
    /// Ports it listens on.
    pub expose: Vec<(u16, Protocol)>,
    /// How to tell whether it is well.
    pub health: Option<HealthCheck>,
    /// Paths that want a volume.
    pub volumes: Vec<String>,
}

/// One step of an image's history.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageHistory {
    /// When, as its configuration says.
    pub created: Option<String>,
    /// By which instruction.
    pub created_by: Option<String>,
    /// In which words.
    pub comment: Option<String>,
    /// Whether it has no layer of its own.
    pub empty_layer: bool,
}

/// One record of a container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// When it was written, unix nanoseconds.
    pub at: Timestamp,
    /// To which stream.
    pub stream: LogSource,
    /// What. A line ends with `\n`; what does not is a part, or the last.
    pub bytes: Vec<u8>,
}

/// A process's output stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// How far long work has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub doing: String,
    /// Bytes done.
    pub done: u64,
    /// Bytes altogether, where that is known.
    pub total: Option<u64>,
}

/// Something that a container changed of its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathChange {
    /// Where.
    pub path: String,
    /// What became of it.
    pub kind: PathChangeKind,
}

/// What can become of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PathChangeKind {
    /// It was there and is different.
    Modified,
    /// It was not there.
    Added,
    /// It is not there any more.
    Deleted,
}
