//! Namespaces, identity, devices.

use std::{collections::BTreeMap, path::PathBuf};

use base::SandboxId;
use oci_spec::runtime::{
    LinuxDeviceType, LinuxIdMapping, LinuxNamespaceType, LinuxPersonalityDomain, Spec,
};
use workload::{
    DeviceKind, DeviceNode, IdMap, Namespace, Network, SandboxSpec, TimeOffsets, UserMap,
};

use super::{ConvertError, limits};

/// The namespaces of a container: a type that is not listed is the host's
/// (config-linux.md, "Namespaces").
#[derive(Debug)]
pub(super) struct Namespaces {
    pub(super) pid: Namespace,
    pub(super) cgroup: Namespace,
    network: Namespace,
    ipc: Namespace,
    uts: Namespace,
    user: Option<UserMap>,
    time: Option<TimeOffsets>,
}

impl Namespaces {
    pub(super) fn of(spec: &Spec) -> Result<Namespaces, ConvertError> {
        let mut listed: BTreeMap<&'static str, Option<PathBuf>> = BTreeMap::new();
        let linux = spec.linux().as_ref();
        for namespace in linux.and_then(|l| l.namespaces().as_ref()).into_iter().flatten() {
            let name = name(namespace.typ());
            let path = namespace.path().clone().filter(|p| !p.as_os_str().is_empty());
            if listed.insert(name, path).is_some() {
                let why = format!("{name} is listed twice");
                return Err(ConvertError::invalid("linux.namespaces", why));
            }
        }
        let mut take = |name| match listed.remove(name) {
            None => Namespace::Host,
            Some(None) => Namespace::Private,
            Some(Some(path)) => Namespace::Join(path),
        };
        match take("mount") {
            Namespace::Private => {}
            Namespace::Host => {
                let why = "a container needs a mount namespace of its own; list one of type mount";
                return Err(ConvertError::invalid("linux.namespaces", why));
            }
            Namespace::Join(_) => {
                return Err(ConvertError::unsupported("linux.namespaces: mount with a path"));
            }
        }
        let user = user(spec, &take("user"))?;
        let time = time(spec, &take("time"))?;
        Ok(Namespaces {
            pid: take("pid"),
            cgroup: take("cgroup"),
            network: take("network"),
            ipc: take("ipc"),
            uts: take("uts"),
            user,
            time,
        })
    }
}

fn name(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mount",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "network",
        LinuxNamespaceType::Time => "time",
    }
}

fn user(spec: &Spec, namespace: &Namespace) -> Result<Option<UserMap>, ConvertError> {
    let linux = spec.linux().as_ref();
    let map = |given: Option<&Option<Vec<LinuxIdMapping>>>| -> Vec<IdMap> {
        id_maps(given.and_then(Option::as_ref).map_or(&[], Vec::as_slice))
    };
    let uids = map(linux.map(|l| l.uid_mappings()));
    let gids = map(linux.map(|l| l.gid_mappings()));
    match namespace {
        Namespace::Host if uids.is_empty() && gids.is_empty() => Ok(None),
        Namespace::Host => {
            let why = "mappings need a namespace of type user";
            Err(ConvertError::invalid("linux.uidMappings", why))
        }
        Namespace::Private if uids.is_empty() || gids.is_empty() => {
            let why = "a new user namespace needs uidMappings and gidMappings";
            Err(ConvertError::invalid("linux.uidMappings", why))
        }
        Namespace::Private => Ok(Some(UserMap { uids, gids, join: None })),
        Namespace::Join(path) => Ok(Some(UserMap { uids, gids, join: Some(path.clone()) })),
    }
}

/// Id mappings in the contract's words.
pub(super) fn id_maps(given: &[LinuxIdMapping]) -> Vec<IdMap> {
    let map = |m: &LinuxIdMapping| IdMap {
        inside: m.container_id(),
        outside: m.host_id(),
        count: m.size(),
    };
    given.iter().map(map).collect()
}

fn time(spec: &Spec, namespace: &Namespace) -> Result<Option<TimeOffsets>, ConvertError> {
    let offsets = spec.linux().as_ref().and_then(|l| l.time_offsets().clone()).unwrap_or_default();
    match namespace {
        Namespace::Host if offsets.is_empty() => return Ok(None),
        Namespace::Host => {
            return Err(ConvertError::invalid(
                "linux.timeOffsets",
                "they need a namespace of type time",
            ));
        }
        Namespace::Join(_) => {
            return Err(ConvertError::unsupported("linux.namespaces: time with a path"));
        }
        Namespace::Private => {}
    }
    let mut times = TimeOffsets::default();
    for (clock, offset) in &offsets {
        let value = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        match clock.as_str() {
            "monotonic" => times.monotonic = value,
            "boottime" => times.boottime = value,
            other => {
                let why = format!("there is no clock \"{other}\"; use monotonic or boottime");
                return Err(ConvertError::invalid("linux.timeOffsets", why));
            }
        }
    }
    Ok(Some(times))
}

pub(super) fn sandbox(
    spec: &Spec,
    id: &SandboxId,
    namespaces: Namespaces,
) -> Result<SandboxSpec, ConvertError> {
    let linux = spec.linux().as_ref();
    refuse_rare(spec)?;
    let resources = linux.and_then(|l| l.resources().as_ref());
    let cgroup =
        linux.and_then(|l| l.cgroups_path().as_ref()).map(|path| path.display().to_string());
    let text = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    Ok(SandboxSpec {
        id: id.clone(),
        machine: workload::MachineSpec::default(),
        hostname: text(spec.hostname()),
        domainname: text(spec.domainname()),
        network: match namespaces.network {
            Namespace::Private => Network::None,
            Namespace::Host => Network::Host,
            Namespace::Join(path) => Network::Join(path),
        },
        ipc: namespaces.ipc,
        uts: namespaces.uts,
        user: namespaces.user,
        time: namespaces.time,
        sysctls: linux.and_then(|l| l.sysctl().clone()).unwrap_or_default().into_iter().collect(),
        limits: resources.map(limits).transpose()?.unwrap_or_default(),
        cgroup: cgroup.filter(|path| !path.is_empty()),
        taken_from: None,
    })
}

/// Parts of the specification that this runtime does not carry out.
fn refuse_rare(spec: &Spec) -> Result<(), ConvertError> {
    let Some(linux) = spec.linux() else { return Ok(()) };
    let rare = [
        ("linux.intelRdt", linux.intel_rdt().is_some()),
        ("linux.memoryPolicy", linux.memory_policy().is_some()),
        ("linux.netDevices", linux.net_devices().as_ref().is_some_and(|d| !d.is_empty())),
        ("linux.mountLabel", linux.mount_label().as_ref().is_some_and(|l| !l.is_empty())),
    ];
    match rare.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(ConvertError::unsupported(*name)),
        None => Ok(()),
    }
}

/// The number of the execution domain.
///
/// Source: config-linux.md, "Personality"; personality(2), `include/uapi/linux/personality.h`.
pub(super) fn personality(spec: &Spec) -> Result<Option<u32>, ConvertError> {
    let given = spec.linux().as_ref().and_then(|l| l.personality().as_ref());
    let Some(given) = given else { return Ok(None) };
    if given.flags().as_ref().is_some_and(|flags| !flags.is_empty()) {
        return Err(ConvertError::unsupported("linux.personality.flags"));
    }
    Ok(Some(match given.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    }))
}

pub(super) fn device_nodes(spec: &Spec) -> Result<Vec<DeviceNode>, ConvertError> {
    let devices = spec.linux().as_ref().and_then(|l| l.devices().as_ref());
    devices
        .into_iter()
        .flatten()
        .map(|device| {
            let number = |n: i64| {
                let why = || format!("{n} is not a device number");
                u32::try_from(n).map_err(|_| ConvertError::invalid("linux.devices", why()))
            };
            Ok(DeviceNode {
                host: None,
                path: device.path().clone(),
                kind: match device.typ() {
                    LinuxDeviceType::C | LinuxDeviceType::U => DeviceKind::Character,
                    LinuxDeviceType::B => DeviceKind::Block,
                    LinuxDeviceType::P => DeviceKind::Fifo,
                    LinuxDeviceType::A => {
                        let why = "a: it stands for all types and makes no node";
                        return Err(ConvertError::invalid("linux.devices.type", why));
                    }
                },
                major: number(device.major())?,
                minor: number(device.minor())?,
                mode: device.file_mode().unwrap_or(0o666) & 0o7777,
                uid: device.uid().unwrap_or(0),
                gid: device.gid().unwrap_or(0),
            })
        })
        .collect()
}
