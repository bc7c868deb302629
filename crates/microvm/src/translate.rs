//! What is asked of a machine's agent in place of what was asked of the driver. Pure.
//!
//! Paths of this host mean nothing inside. Layers become disks that the agent mounts; files and
//! directories of the host become numbered entries of one shared directory.

use std::path::PathBuf;

use shim::protocol::Chore;
use workload::{
    Bind, ContainerSpec, DriverError, MountFlags, MountSource, Namespace, Network, ProcessRoot,
    ProcessSpec, RootFs, SandboxSpec, Seccomp,
};

use crate::{
    furniture::{Disk, Fitted, SHARES, Shared, Wanted},
    machine,
};

/// The machine's own network, of its first process.
const OWN_NETWORK: &str = "/proc/1/ns/net";

/// The tag of the shared directory.
pub(crate) const SHARE_TAG: &str = "shares";

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

/// What of the host a container is to have.
///
/// # Errors
/// [`DriverError::Invalid`] for a root that is no layers, [`DriverError::Unsupported`] for what is
/// this host's own.
pub(crate) fn wanted(own: &ContainerSpec) -> Result<Wanted, DriverError> {
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
        ("ids mapped to the host's", binds(own).any(|(bind, _)| bind.idmap.is_some())),
    ])?;
    let mut shares = Vec::new();
    for share in binds(own).map(|(bind, flags)| shared(bind, flags)) {
        if !shares.contains(&share) {
            shares.push(share);
        }
    }
    Ok(Wanted { changes: disk.clone(), layers: images.clone(), shares })
}

fn binds(own: &ContainerSpec) -> impl Iterator<Item = (&Bind, MountFlags)> {
    own.mounts.iter().filter_map(|mount| match &mount.source {
        MountSource::Bind(bind) => Some((bind, mount.flags)),
        MountSource::Tmpfs(_) | MountSource::Kernel(_) | MountSource::Other { .. } => None,
    })
}

/// That something is not to be written holds on the host too, whatever the machine's kernel thinks
/// of it.
fn shared(bind: &Bind, flags: MountFlags) -> Shared {
    let MountFlags { read_only, recursive_read_only, .. } = flags;
    Shared { path: bind.path.clone(), read_only, recursive_read_only }
}

/// A process with a root of its own, in a machine that has this for it.
///
/// # Errors
/// [`DriverError::Invalid`] for a system call filter that cannot be.
pub(crate) fn container(
    spec: &ProcessSpec,
    own: &ContainerSpec,
    fitted: &Fitted,
) -> Result<ProcessSpec, DriverError> {
    let mut mounts = own.mounts.clone();
    for mount in &mut mounts {
        if let MountSource::Bind(bind) = &mut mount.source {
            let is = shared(bind, mount.flags);
            let share = fitted.shares.iter().find(|share| share.what == is);
            bind.path = share.expect("every bind is among what is wanted").target();
        }
    }
    let [upper, work] = changes_directories(fitted.changes());
    let lower = fitted.layers().map(Disk::target).collect();
    let root = RootFs::Overlay { lower, upper, work };
    let own = ContainerSpec { root, mounts, ..own.clone() };
    Ok(ProcessSpec { root: ProcessRoot::Own(Box::new(own)), ..process(spec)? })
}

/// What has a disk of so many bytes where the root has it.
pub(crate) fn mount_disk(disk: &Disk, bytes: u64) -> Vec<Chore> {
    let read_only = disk.what.read_only;
    let mount = Chore::Mount {
        serial: disk.serial(),
        bytes,
        filesystem: if read_only { "erofs" } else { "ext4" }.to_owned(),
        target: disk.target(),
        read_only,
        options: String::new(),
    };
    let directories = Chore::Directories(changes_directories(disk).to_vec());
    [mount].into_iter().chain((!read_only).then_some(directories)).collect()
}

/// What removes all changes from a disk that is mounted.
pub(crate) fn clear_changes(disk: &Disk) -> Vec<Chore> {
    let directories = changes_directories(disk).to_vec();
    vec![Chore::Remove(directories.clone()), Chore::Directories(directories)]
}

/// What has no disk where it was, so that it can be taken away.
pub(crate) fn unmount_disk(disk: &Disk) -> Chore {
    Chore::Unmount { serial: disk.serial(), target: disk.target() }
}

/// What has the shared directory where binds lead.
pub(crate) fn mount_shares() -> Chore {
    Chore::Mount {
        serial: SHARE_TAG.to_owned(),
        bytes: 0,
        filesystem: "virtiofs".to_owned(),
        target: SHARES.into(),
        read_only: false,
        options: String::new(),
    }
}

fn changes_directories(disk: &Disk) -> [PathBuf; 2] {
    ["upper", "work"].map(|name| disk.target().join(name))
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
