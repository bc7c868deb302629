//! What is asked of a machine's agent in place of what was asked of the driver. Pure.
//!
//! Paths of this host mean nothing inside. Layers become disks that the agent mounts; files and
//! directories of the host become numbered entries of one shared directory.

use std::path::{Path, PathBuf};

use shim::protocol::Chore;
use workload::{
    Bind, ContainerSpec, DriverError, MountFlags, MountSource, Namespace, Network, ProcessRoot,
    ProcessSpec, RootFs, SandboxSpec, Seccomp,
};

use crate::machine;

/// Where the agent mounts layers, each under its disk's name.
const LAYERS: &str = "/run/layers";

/// The machine's own network, of its first process.
const OWN_NETWORK: &str = "/proc/1/ns/net";

/// Where it mounts the disk with the changes.
pub(crate) const DISK: &str = "/run/disk";

/// By which it finds that disk.
pub(crate) const CHANGES: &str = "changes";

/// Where it mounts what the host shares.
pub(crate) const SHARES: &str = "/run/shares";

/// The tag of the shared directory.
pub(crate) const SHARE_TAG: &str = "shares";

/// A disk of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disk {
    /// By which the agent finds it; at most 20 bytes.
    pub(crate) serial: String,
    /// The file of the host.
    pub(crate) image: PathBuf,
    pub(crate) read_only: bool,
}

/// Something of the host that the machine shares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// A directory or a file.
    pub(crate) path: PathBuf,
    /// Whether it cannot be written.
    pub(crate) read_only: bool,
    /// Whether nothing that is mounted below it can.
    pub(crate) recursive_read_only: bool,
}

/// A container, as the machine is to have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Container {
    pub(crate) disks: Vec<Disk>,
    /// What of the host is shared, by the number that it has inside.
    pub(crate) shares: Vec<Share>,
    /// To be done before the process is started, in this order.
    pub(crate) chores: Vec<Chore>,
    pub(crate) process: ProcessSpec,
}

/// The sandbox as the agent makes it: the machine's own network is its network.
///
/// # Errors
/// [`DriverError::Unsupported`] for namespaces and ids of this host.
pub(crate) fn sandbox(spec: &SandboxSpec) -> Result<SandboxSpec, DriverError> {
    let foreign = [
        ("the host's network", matches!(spec.network, Network::Host | Network::Join(_))),
        ("an IPC namespace of the host", spec.ipc != Namespace::Private),
        ("a UTS namespace of the host", spec.uts != Namespace::Private),
        ("ids mapped to the host's", spec.user.is_some()),
        ("clocks beside the host's", spec.time.is_some()),
    ];
    refuse(&foreign)?;
    Ok(SandboxSpec {
        network: match spec.network {
            Network::None => Network::None,
            Network::Given | Network::Host | Network::Join(_) => Network::Join(OWN_NETWORK.into()),
        },
        limits: machine::inside(&spec.limits)?,
        cgroup: None,
        // It is its machine that is taken from somewhere.
        taken_from: None,
        ..spec.clone()
    })
}

/// A process as the agent starts it: its streams are kept here, on the host.
fn process(spec: &ProcessSpec) -> Result<ProcessSpec, DriverError> {
    Ok(ProcessSpec {
        log: None,
        // The host's side ends it when it is to end.
        stdin_once: true,
        // The host has the faster processor.
        seccomp: spec.seccomp.as_ref().map(compiled).transpose()?,
        // The host's own walls; the machine has them around it.
        apparmor: None,
        selinux: None,
        ..spec.clone()
    })
}

fn compiled(filter: &Seccomp) -> Result<Seccomp, DriverError> {
    let Seccomp::Policy(policy) = filter else { return Ok(filter.clone()) };
    seccomp::assemble(policy).map(Seccomp::Program).map_err(|error| DriverError::Invalid {
        what: "seccomp".to_owned(),
        why: error.to_string(),
    })
}

/// A process that joins another.
///
/// # Errors
/// [`DriverError::Invalid`] for a system call filter that cannot be.
pub(crate) fn exec(spec: &ProcessSpec) -> Result<ProcessSpec, DriverError> {
    process(spec)
}

/// A process with a root of its own.
///
/// # Errors
/// [`DriverError::Invalid`] for a root that is no layers, [`DriverError::Unsupported`] for what is
/// this host's own.
pub(crate) fn container(spec: &ProcessSpec, own: &ContainerSpec) -> Result<Container, DriverError> {
    let RootFs::Layers { images, disk } = &own.root else {
        return Err(DriverError::Invalid {
            what: "root".to_owned(),
            why: "a machine needs layers as files".to_owned(),
        });
    };
    refuse(&[
        ("process ids of the host", own.pid != Namespace::Private),
        ("control groups of the host", matches!(own.cgroup, Namespace::Join(_))),
        ("devices of the host", own.devices.iter().any(|device| device.host.is_some())),
    ])?;
    let (disks, mut chores, root) = layers(images, disk);
    let mut shares = Vec::new();
    let mut mounts = own.mounts.clone();
    for mount in &mut mounts {
        if let MountSource::Bind(bind) = &mut mount.source {
            share(bind, mount.flags, &mut shares)?;
        }
    }
    if !shares.is_empty() {
        chores.push(Chore::Mount {
            serial: SHARE_TAG.to_owned(),
            filesystem: "virtiofs".to_owned(),
            target: SHARES.into(),
            read_only: false,
            options: String::new(),
        });
    }
    let own = ContainerSpec { root, mounts, ..own.clone() };
    let process = ProcessSpec { root: ProcessRoot::Own(Box::new(own)), ..process(spec)? };
    Ok(Container { disks, shares, chores, process })
}

/// Layers as disks, what the agent does with them, and the root that comes of it.
fn layers(images: &[PathBuf], changes: &Path) -> (Vec<Disk>, Vec<Chore>, RootFs) {
    let (mut disks, mut chores, mut lower) = (Vec::new(), Vec::new(), Vec::new());
    for (n, image) in images.iter().enumerate() {
        let serial = format!("layer-{n}");
        let target = Path::new(LAYERS).join(&serial);
        lower.push(target.clone());
        chores.push(Chore::Mount {
            serial: serial.clone(),
            filesystem: "erofs".to_owned(),
            target,
            read_only: true,
            options: String::new(),
        });
        disks.push(Disk { serial, image: image.clone(), read_only: true });
    }
    disks.push(Disk { serial: CHANGES.to_owned(), image: changes.to_owned(), read_only: false });
    let [upper, work] = changes_directories();
    (disks, chores, RootFs::Overlay { lower, upper, work })
}

/// What has the disk with the changes where the root has them.
pub(crate) fn mount_changes() -> Vec<Chore> {
    let mount = Chore::Mount {
        serial: CHANGES.to_owned(),
        filesystem: "ext4".to_owned(),
        target: DISK.into(),
        read_only: false,
        options: String::new(),
    };
    vec![mount, Chore::Directories(changes_directories().to_vec())]
}

fn changes_directories() -> [PathBuf; 2] {
    ["upper", "work"].map(|name| Path::new(DISK).join(name))
}

/// Gives something of the host a number inside. That it is not to be written holds on the host too,
/// whatever the machine's kernel thinks of it.
fn share(bind: &mut Bind, flags: MountFlags, shares: &mut Vec<Share>) -> Result<(), DriverError> {
    refuse(&[("ids mapped to the host's", bind.idmap.is_some())])?;
    let MountFlags { read_only, recursive_read_only, .. } = flags;
    let share = Share { path: bind.path.clone(), read_only, recursive_read_only };
    let known = shares.iter().position(|known| *known == share);
    let number = known.unwrap_or_else(|| {
        shares.push(share);
        shares.len() - 1
    });
    bind.path = Path::new(SHARES).join(number.to_string());
    Ok(())
}

fn refuse(what: &[(&str, bool)]) -> Result<(), DriverError> {
    match what.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((what, _)) => Err(DriverError::Unsupported {
            what: (*what).to_owned(),
            why: "a machine has nothing of the host but what it is given".to_owned(),
        }),
    }
}
