//! What can be asked of the engine. Each adapter (our command line, Docker's API) parses its own
//! format into these; a request is complete, the engine never asks back.

use std::{collections::BTreeMap, net::IpAddr, path::PathBuf, time::Duration};

use base::{ByteSize, ContainerName};
use serde::{Deserialize, Serialize};
use workload::{Isolation, Limits, MachineSpec, Signal, TerminalSize, UserMap};

use crate::{EndpointRequest, HealthCheck, LogOptions, RestartPolicy};

/// A container to be made. `None` and empty mean "as the image says, else the default".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Create {
    /// The name it will have; one is made up where there is none.
    pub name: Option<ContainerName>,
    /// Image reference or id.
    pub image: String,
    /// Behind which wall.
    pub isolation: Isolation,
    /// What is asked of its machine.
    #[serde(skip_serializing_if = "MachineSpec::is_default")]
    pub machine: MachineSpec,
    /// `os/architecture[/variant]` of the image; the host's, if it is there, where none is given.
    pub platform: Option<String>,
    /// Replaces the image's entrypoint. An empty list removes it; a list of one empty word removes
    /// the image's command too.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Vec<String>,
    /// `NAME=value`, on top of the image's.
    pub env: Vec<String>,
    /// Working directory inside.
    pub working_dir: Option<String>,
    /// `user[:group]`.
    pub user: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// On top of the image's.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks it to stop.
    pub stop_signal: Option<Signal>,
    /// Seconds between that signal and the kill.
    pub stop_timeout_s: Option<u32>,
    /// Give it a terminal.
    pub terminal: bool,
    /// The terminal's size, where whoever starts it does not say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terminal_size: Option<TerminalSize>,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close standard input when the first one attached leaves.
    pub stdin_once: bool,
    /// Host name inside; the short id where there is none.
    pub hostname: Option<String>,
    /// NIS domain name inside.
    pub domainname: Option<String>,
    /// Its network.
    pub network: NetworkMode,
    /// Its places on networks, by their names; where none are given, the one that `network` says.
    pub endpoints: Option<BTreeMap<String, EndpointRequest>>,
    /// Ports to publish.
    pub ports: Vec<PortRequest>,
    /// Publish every exposed port of the image on a free host port.
    pub publish_all: bool,
    /// Ports to expose beside the image's: number and protocol.
    pub expose: Vec<(u16, Protocol)>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Lines for `/etc/hosts`: name and address, or `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    /// What is mounted.
    pub mounts: Vec<MountRequest>,
    /// Other containers whose volumes and binds it has too: `NAME[:ro]`.
    pub volumes_from: Vec<String>,
    /// Driver of volumes that do not say; `local`.
    pub volume_driver: Option<String>,
    /// Resource limits.
    pub limits: Limits,
    /// Parent control group.
    pub cgroup_parent: Option<String>,
    /// Size of `/dev/shm`; 64 MiB where there is none.
    pub shm_size: Option<ByteSize>,
    /// Resource limits of getrlimit(2).
    pub ulimits: Vec<UlimitRequest>,
    /// Kernel parameters.
    pub sysctls: BTreeMap<String, String>,
    /// Host devices.
    pub devices: Vec<DeviceRequest>,
    /// Further lines for the device allow-list, as `--device-cgroup-rule` writes them
    /// (`c 1:3 rwm`).
    pub device_rules: Vec<String>,
    /// Capabilities and the like.
    pub security: SecurityOptions,
    /// Process ids.
    pub pid: NamespaceMode,
    /// Inter-process communication.
    pub ipc: NamespaceMode,
    /// Host name.
    pub uts: NamespaceMode,
    /// The view of the control group tree.
    pub cgroupns: NamespaceMode,
    /// User ids inside, `None` for the host's.
    pub user_map: Option<UserMap>,
    /// Badness for the out-of-memory killer.
    pub oom_score_adj: Option<i16>,
    /// The root cannot be written.
    pub read_only: bool,
    /// Put a reaping init before the command.
    pub init: bool,
    /// Remove it when it has ended.
    pub auto_remove: bool,
    /// What is done when it has ended.
    pub restart: RestartPolicy,
    /// How to tell whether it is well.
    pub health: Option<HealthCheck>,
    /// Its log.
    pub log: LogOptions,
}

/// A container's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkMode {
    /// The default bridge.
    #[default]
    Bridge,
    /// Only a loopback interface.
    None,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
    /// One that its user made, by name or id.
    Named(String),
}

impl NetworkMode {
    /// Whether a container has a network namespace of its own that is plugged into networks.
    pub fn is_plugged(&self) -> bool {
        self.name().is_some()
    }

    /// The network that it is plugged into first.
    pub fn name(&self) -> Option<&str> {
        match self {
            NetworkMode::Bridge => Some("bridge"),
            NetworkMode::Named(name) => Some(name),
            NetworkMode::None | NetworkMode::Host | NetworkMode::Container(_) => None,
        }
    }
}

impl Create {
    /// Its places on networks, by their names.
    pub fn places(&self) -> BTreeMap<String, EndpointRequest> {
        let Some(name) = self.network.name() else { return BTreeMap::new() };
        let one = || [(name.to_owned(), EndpointRequest::default())].into();
        self.endpoints.clone().unwrap_or_else(one)
    }
}

/// Whose namespace is used.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamespaceMode {
    /// One of its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// That of another container, by name or id.
    Container(String),
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// A port to publish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRequest {
    /// Port inside.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
    /// Host address; `None` is every address of the host.
    pub host_ip: Option<IpAddr>,
    /// Host port; `None` is a free one.
    pub host_port: Option<u16>,
    /// Last of the host ports of which a free one is taken, where there are several.
    #[serde(default)]
    pub host_port_end: Option<u16>,
}

/// A mount to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountRequest {
    /// Absolute path inside.
    pub target: PathBuf,
    /// What.
    pub kind: MountKind,
    /// No writing.
    #[serde(default)]
    pub read_only: bool,
    /// Ids seen through it, of a bind or a volume: those on disk inside, those seen outside.
    /// Without ranges, the container's own map.
    #[serde(default)]
    pub idmap: Option<UserMap>,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountKind {
    /// A host path.
    Bind {
        /// Absolute path on the host.
        source: PathBuf,
        /// `-v` makes a missing directory; `--mount` refuses.
        create: bool,
        /// Not what is mounted below.
        non_recursive: bool,
        /// `shared`, `slave`, `private`, `rshared`, `rslave`, `rprivate`.
        propagation: Option<String>,
    },
    /// Memory.
    Tmpfs {
        /// Most it may hold.
        size: Option<ByteSize>,
        /// Permission bits.
        mode: Option<u32>,
        /// Further mount options as `--tmpfs` takes them (`noexec`, `uid=1000`, …).
        options: Vec<String>,
    },
    /// A volume.
    Volume(VolumeMount),
}

/// A volume to mount. It is made where there is none of its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeMount {
    /// Its name; one is made up where it is empty.
    pub name: String,
    /// Whether its name was made up, so that it may go with the container.
    pub anonymous: bool,
    /// Where its content is, once it is known.
    pub source: Option<PathBuf>,
    /// Its driver, if it is made.
    pub driver: Option<String>,
    /// Its labels, if it is made.
    pub labels: BTreeMap<String, String>,
    /// Options of its driver, if it is made.
    pub options: BTreeMap<String, String>,
    /// It is not filled with what the image has in its place.
    pub no_copy: bool,
    /// Only this part of it.
    pub subpath: Option<PathBuf>,
}

/// A limit of getrlimit(2) by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UlimitRequest {
    /// `nofile`, `nproc`, …
    pub name: String,
    /// Soft limit, `u64::MAX` for unlimited.
    pub soft: u64,
    /// Hard limit, `u64::MAX` for unlimited.
    pub hard: u64,
}

/// A host device to hand in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRequest {
    /// Path on the host: a node, or a directory of nodes.
    pub host: PathBuf,
    /// Path inside.
    pub container: PathBuf,
    /// Letters of `rwm`.
    pub permissions: String,
}

/// What a container's processes may ask of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityOptions {
    /// Everything: all capabilities, devices and system calls, nothing masked.
    pub privileged: bool,
    /// Capabilities on top of the default, by name, or `ALL`.
    pub cap_add: Vec<String>,
    /// Capabilities taken from the default, by name, or `ALL`.
    pub cap_drop: Vec<String>,
    /// Never gain privileges by execve(2).
    pub no_new_privileges: bool,
    /// Text of a seccomp profile (Docker's or OCI's JSON form), `unconfined`, or `None` for the default.
    pub seccomp: Option<String>,
    /// AppArmor profile.
    pub apparmor: Option<String>,
    /// SELinux label.
    pub selinux: Option<String>,
    /// Mask nothing (`systempaths=unconfined`).
    pub unmasked: bool,
}

/// A process to start in a running container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecCreate {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// On top of the container's.
    pub env: Vec<String>,
    /// Working directory; the container's where there is none.
    pub working_dir: Option<String>,
    /// `user[:group]`; the container's where there is none.
    pub user: Option<String>,
    /// Give it a terminal.
    pub terminal: Option<TerminalSize>,
    /// Keep standard input open.
    pub stdin: bool,
    /// With every privilege.
    pub privileged: bool,
}

/// How a container is stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Stop {
    /// In place of the container's own.
    pub signal: Option<Signal>,
    /// Time until the kill, in place of the container's own; `Some(None)` waits for ever.
    pub grace: Option<Option<Duration>>,
}

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Remove {
    /// Kill it if it runs.
    pub force: bool,
    /// With its anonymous volumes.
    pub volumes: bool,
}

/// What is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// Not running: at once if it does not run.
    #[default]
    NotRunning,
    /// The next exit.
    NextExit,
    /// Its removal.
    Removed,
}

/// How a container is forked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Fork {
    /// The copy's name; of several, what their names begin with. Made up where there is none.
    pub name: Option<ContainerName>,
    /// How many copies.
    pub count: u32,
}

impl Default for Fork {
    fn default() -> Fork {
        Fork { name: None, count: 1 }
    }
}

/// Which log records are wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Go on as more comes.
    pub follow: bool,
    /// Only so many from the end.
    pub tail: Option<u64>,
    /// Only those at or after, unix nanoseconds.
    pub since: Option<u64>,
    /// Only those at or before, unix nanoseconds.
    pub until: Option<u64>,
}

impl Default for LogQuery {
    fn default() -> LogQuery {
        LogQuery { stdout: true, stderr: true, follow: false, tail: None, since: None, until: None }
    }
}

/// An image made of a root file system archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Import {
    /// The reference it will have.
    pub reference: Option<String>,
    /// Dockerfile instructions applied to its configuration (`CMD ["sh"]`).
    pub changes: Vec<String>,
    /// Text for its history.
    pub message: Option<String>,
    /// `os/architecture[/variant]`.
    pub platform: Option<String>,
}

/// An image made of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Commit {
    /// The reference it will have.
    pub reference: Option<String>,
    /// Who made it.
    pub author: Option<String>,
    /// Text for its history.
    pub message: Option<String>,
    /// Dockerfile instructions applied to its configuration (`CMD ["sh"]`).
    pub changes: Vec<String>,
    /// Leave the container running meanwhile.
    pub no_pause: bool,
}

/// How an image is removed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RemoveImage {
    /// Even with several references, or used by stopped containers.
    pub force: bool,
    /// Of an image for several platforms only these, each `os/architecture[/variant]`; the others
    /// stay, with their names.
    pub platforms: Vec<String>,
}

/// What happened to the store when an image was removed or loaded; shown as Docker shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A reference is gone.
    Untagged(String),
    /// An image is gone.
    Deleted(String),
    /// A reference names a loaded or imported image.
    Loaded(String),
}
