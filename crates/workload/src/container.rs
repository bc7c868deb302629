//! A container's file system view: root, mounts, devices.

use std::path::PathBuf;

use base::ByteSize;
use serde::{Deserialize, Serialize};

use crate::Namespace;

/// A process tree with its own root file system inside a sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its root file system.
    pub root: RootFs,
    /// Whether the root is mounted read-only (mounts on top of it are not touched).
    #[serde(default)]
    pub read_only_root: bool,
    /// Propagation of the root mount; `None` is private.
    #[serde(default)]
    pub root_propagation: Option<Propagation>,
    /// What is mounted inside, in this order.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// Device nodes made in `/dev`, next to the ones every container has.
    #[serde(default)]
    pub devices: Vec<DeviceNode>,
    /// Paths that read as empty.
    #[serde(default)]
    pub masked_paths: Vec<PathBuf>,
    /// Paths that cannot be written.
    #[serde(default)]
    pub read_only_paths: Vec<PathBuf>,
    /// Process ids inside.
    #[serde(default)]
    pub pid: Namespace,
    /// The view of the control group tree.
    #[serde(default)]
    pub cgroup: Namespace,
    /// Put a small init before the process, which reaps orphans and passes signals on.
    #[serde(default)]
    pub init: bool,
}

/// A root file system, ready to be used. Made by somebody else: a driver mounts it, never fills it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootFs {
    /// Read-only directories under one writable one (overlayfs).
    Overlay {
        /// Directories with the layers' files (mounted images or unpacked trees), **top first**.
        lower: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// Overlayfs' scratch directory, on the same file system as `upper`.
        work: PathBuf,
    },
    /// A directory, used in place.
    Directory(PathBuf),
    /// The same layers as files, for a machine that mounts them itself.
    Layers {
        /// EROFS images, **top first**.
        images: Vec<PathBuf>,
        /// Where changes go: a disk image with a file system of its own, which the driver makes where
        /// it is missing.
        disk: PathBuf,
    },
}

/// Something mounted inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where, an absolute path inside the container. Missing directories and files are made.
    pub target: PathBuf,
    /// What.
    pub source: MountSource,
    /// How.
    #[serde(default)]
    pub flags: MountFlags,
    /// Propagation between host and container; `None` is private (recursive).
    #[serde(default)]
    pub propagation: Option<Propagation>,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A directory or file of the host.
    Bind(Bind),
    /// Memory.
    Tmpfs(Tmpfs),
    /// A file system that the kernel makes.
    Kernel(Filesystem),
    /// Any other file system, as mount(8) would name it (OCI config only).
    Other {
        /// Type, such as `ext4`.
        fstype: String,
        /// Source, such as a device.
        source: String,
        /// Options that are not [`MountFlags`], `key` or `key=value`.
        options: Vec<String>,
    },
}

/// A bind mount's source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bind {
    /// Absolute path on the host; it must exist.
    pub path: PathBuf,
    /// With everything mounted below it.
    #[serde(default)]
    pub recursive: bool,
    /// Ownership seen through the mount, or `None` for as it is on disk.
    #[serde(default)]
    pub idmap: Option<UserMap>,
}

/// A tmpfs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Most it may hold; `None` is the kernel's default, half the memory.
    #[serde(default)]
    pub size: Option<ByteSize>,
    /// Mode of its root directory; `None` is 01777.
    #[serde(default)]
    pub mode: Option<u32>,
    /// Further options, `key` or `key=value` (`uid=`, `gid=`, `nr_inodes=`, `huge=`).
    #[serde(default)]
    pub options: Vec<String>,
}

/// File systems that the kernel makes for a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filesystem {
    /// proc(5) of the container's process ids.
    Proc,
    /// sysfs(5) of the sandbox's network.
    Sysfs,
    /// The container's control groups, v1 or v2 as the host has them.
    Cgroup,
    /// POSIX message queues of the sandbox.
    Mqueue,
    /// Pseudo-terminals of the container.
    Devpts,
}

/// Per-mount flags; all false is a plain mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MountFlags {
    /// No writing.
    pub read_only: bool,
    /// No writing, in every mount below either (`rro`, Linux 5.12).
    pub recursive_read_only: bool,
    /// No set-user-id.
    pub nosuid: bool,
    /// No device files.
    pub nodev: bool,
    /// No execution.
    pub noexec: bool,
    /// Access times are not kept.
    pub noatime: bool,
    /// Access times of directories are not kept.
    pub nodiratime: bool,
    /// Access times are always kept.
    pub strictatime: bool,
    /// Symbolic links are not followed (Linux 5.10).
    pub nosymfollow: bool,
}

/// How mounts made on one side appear on the other.
///
/// Source: mount_namespaces(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Propagation {
    /// Which way.
    pub kind: PropagationKind,
    /// For every mount below as well.
    pub recursive: bool,
}

/// Which way mounts travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PropagationKind {
    /// Both ways.
    Shared,
    /// From the host only.
    Slave,
    /// Neither way.
    Private,
    /// Neither way, and it cannot be bound elsewhere.
    Unbindable,
}

/// A device node inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Absolute path inside.
    pub path: PathBuf,
    /// Where the host has it, if not at the same path: who may make no nodes binds that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<PathBuf>,
    /// Character, block or FIFO.
    pub kind: DeviceKind,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
    /// Permission bits.
    pub mode: u32,
    /// Owner inside.
    pub uid: u32,
    /// Group inside.
    pub gid: u32,
}

/// Kind of a device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceKind {
    /// Character device.
    Character,
    /// Block device.
    Block,
    /// Named pipe (no numbers).
    Fifo,
}

/// User and group ids of a user namespace or of an id-mapped mount.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserMap {
    /// Users.
    pub uids: Vec<IdMap>,
    /// Groups.
    pub gids: Vec<IdMap>,
    /// A user namespace to join in place of making one (`/proc/PID/ns/user`).
    #[serde(default)]
    pub join: Option<PathBuf>,
}

/// A range of ids.
///
/// Source: user_namespaces(7), "User and group ID mappings".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap {
    /// First id inside.
    pub inside: u32,
    /// First id outside.
    pub outside: u32,
    /// How many.
    pub count: u32,
}
