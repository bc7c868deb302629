//! The plan of a container's file systems.

use std::{ffi::CString, path::Path};

use cgroups::{MountView, ViewEntry};
use rustix::fs::FileType;
use sys::mount::{Change, attribute, propagation};
use workload::{
    Bind, ContainerSpec, DeviceKind, DeviceNode, Filesystem, IdMap, Isolation, Mount, MountFlags,
    MountSource, Propagation, PropagationKind, Tmpfs,
};

use super::{Input, Planned, Source, Table, c_path, c_string, invalid, unsupported};
use crate::op::{NewMount, Node, Op};

/// Most mounts of one container.
const MOUNTS_MAX: usize = 4096;
/// The group that terminals belong to, by custom of every distribution.
const TTY_GROUP: u32 = 5;
/// The option that is ours and not the kernel's: begin with what the image has there.
const COPY_UP: &str = "tmpcopyup";
/// What the kernel makes where it is asked to: name, major, minor.
///
/// Source: OCI runtime-spec, config-linux.md, "Default Devices".
const DEVICES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
/// Links in `/dev`. Source: OCI runtime-spec, runtime-linux.md, "Dev symbolic links".
const LINKS: [(&str, &str); 6] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/core", "/proc/kcore"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// Mounts, devices and links of a container, in order.
pub(super) fn mounts(
    input: Input<'_>,
    container: &ContainerSpec,
    table: &mut Table,
) -> Planned<Vec<Op>> {
    if container.mounts.len() > MOUNTS_MAX {
        return Err(invalid("mounts", format!("there must be at most {MOUNTS_MAX}")));
    }
    let mut ops = Vec::new();
    for mount in &container.mounts {
        ops.extend(one(input, container, mount, table)?);
    }
    ops.extend(devices(input, container)?);
    Ok(ops)
}

fn one(
    input: Input<'_>,
    container: &ContainerSpec,
    mount: &Mount,
    table: &mut Table,
) -> Planned<Vec<Op>> {
    let target = c_path("mount target", &mount.target)?;
    let new = |fstype: &str, source: Option<&str>, parameters| {
        Ok(NewMount {
            fstype: c_string("mount type", fstype)?,
            source: source.map(|source| c_string("mount source", source)).transpose()?,
            parameters,
            attributes: attributes(mount.flags)?,
            propagation: mount.propagation.map(travel),
            or_bind: None,
        })
    };
    let mount = match &mount.source {
        MountSource::Bind(bind) => return bound(mount, bind, target, table),
        MountSource::Kernel(Filesystem::Cgroup) => {
            return cgroup(input, container, mount, &target, table);
        }
        MountSource::Kernel(kind) => NewMount {
            or_bind: instead(input, *kind).map(|path| c_string("mount", path)).transpose()?,
            ..kernel(input, *kind, new)?
        },
        MountSource::Tmpfs(tmpfs) if tmpfs.options.iter().any(|option| option == COPY_UP) => {
            if input.sandbox.user.is_some() {
                return Err(unsupported("tmpcopyup", "a user namespace owns other files"));
            }
            let mount = new("tmpfs", Some("tmpfs"), tmpfs_parameters(tmpfs)?)?;
            let source = Source::CopyUp { target: target.clone(), mount };
            return Ok(vec![Op::Attach { target, mount: table.add(source) }]);
        }
        MountSource::Tmpfs(tmpfs) => new("tmpfs", Some("tmpfs"), tmpfs_parameters(tmpfs)?)?,
        MountSource::Other { fstype, source, options } => {
            let source = (!source.is_empty()).then_some(source.as_str());
            new(fstype, source, parameters(options)?)?
        }
    };
    Ok(vec![Op::Mount { target, mount }])
}

fn kernel(
    input: Input<'_>,
    kind: Filesystem,
    new: impl Fn(&str, Option<&str>, Vec<(CString, Option<CString>)>) -> Planned<NewMount>,
) -> Planned<NewMount> {
    match kind {
        Filesystem::Proc => new("proc", Some("proc"), Vec::new()),
        Filesystem::Sysfs => new("sysfs", Some("sysfs"), Vec::new()),
        Filesystem::Mqueue => new("mqueue", Some("mqueue"), Vec::new()),
        Filesystem::Cgroup => new("cgroup2", Some("cgroup"), Vec::new()),
        Filesystem::Devpts => {
            let mut options = vec!["newinstance", "ptmxmode=0666", "mode=0620"];
            if has_tty_group(input) {
                options.push("gid=5");
            }
            let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
            new("devpts", Some("devpts"), parameters(&options)?)
        }
    }
}

/// Whether the terminals' group is somebody inside.
fn has_tty_group(input: Input<'_>) -> bool {
    let has = |range: &IdMap| range.inside <= TTY_GROUP && TTY_GROUP - range.inside < range.count;
    let around = input.facts.confined.as_ref().is_none_or(|ids| ids.has_gid(TTY_GROUP));
    let user = input.sandbox.user.as_ref();
    user.map_or(around, |map| map.join.is_some() || map.gids.iter().any(has))
}

/// What is bound where a user namespace may not mount the real thing, because the network or the
/// process ids it would show belong to another.
fn instead(input: Input<'_>, kind: Filesystem) -> Option<&'static str> {
    if !input.is_confined() {
        return None;
    }
    match kind {
        Filesystem::Proc => Some("/proc"),
        Filesystem::Sysfs => Some("/sys"),
        Filesystem::Mqueue => Some("/dev/mqueue"),
        Filesystem::Cgroup | Filesystem::Devpts => None,
    }
}

fn tmpfs_parameters(tmpfs: &Tmpfs) -> Planned<Vec<(CString, Option<CString>)>> {
    let mut options = Vec::new();
    if let Some(size) = tmpfs.size {
        options.push(format!("size={}", size.bytes()));
    }
    if let Some(mode) = tmpfs.mode {
        options.push(format!("mode={mode:o}"));
    }
    options.extend(tmpfs.options.iter().filter(|option| *option != COPY_UP).cloned());
    parameters(&options)
}

/// `key=value` or `key`, split.
fn parameters(options: &[String]) -> Planned<Vec<(CString, Option<CString>)>> {
    let split = |option: &String| {
        let (key, value) = match option.split_once('=') {
            Some((key, value)) => (key, Some(c_string("mount option", value)?)),
            None => (option.as_str(), None),
        };
        Ok((c_string("mount option", key)?, value))
    };
    options.iter().map(split).collect()
}

fn bound(mount: &Mount, bind: &Bind, target: CString, table: &mut Table) -> Planned<Vec<Op>> {
    c_path("mount source", &bind.path)?;
    let flags = mount.flags;
    let recursive = flags.recursive_read_only;
    let change = Change {
        set: attributes(MountFlags { recursive_read_only: false, ..flags })?,
        ..Change::default()
    };
    // Access times are a field of several bits, to be cleared before it is set.
    let clear = if change.set & attribute::ACCESS_TIME == 0 { 0 } else { attribute::ACCESS_TIME };
    let change = Change { clear, ..change };
    let travel = mount.propagation.map_or(
        Change { propagation: propagation::PRIVATE, recursive: true, ..Change::default() },
        travel,
    );
    let travel = match recursive {
        true => Change { set: attribute::READ_ONLY, recursive: true, ..travel },
        false => travel,
    };
    let source = Source::Bind {
        path: bind.path.clone(),
        recursive: bind.recursive,
        change,
        travel,
        idmap: bind.idmap.clone(),
    };
    Ok(vec![Op::Attach { target, mount: table.add(source) }])
}

/// Per-mount attributes of the contract's flags.
fn attributes(flags: MountFlags) -> Planned<u64> {
    if flags.noatime && flags.strictatime {
        return Err(invalid("mount flags", "noatime and strictatime exclude each other"));
    }
    let bits = [
        (flags.read_only || flags.recursive_read_only, attribute::READ_ONLY),
        (flags.nosuid, attribute::NO_SUID),
        (flags.nodev, attribute::NO_DEV),
        (flags.noexec, attribute::NO_EXEC),
        (flags.noatime, attribute::NO_ATIME),
        (flags.strictatime, attribute::STRICT_ATIME),
        (flags.nodiratime, attribute::NO_DIRATIME),
        (flags.nosymfollow, attribute::NO_SYMFOLLOW),
    ];
    Ok(bits.iter().filter(|(on, _)| *on).fold(0, |all, (_, bit)| all | bit))
}

fn travel(travel: Propagation) -> Change {
    let kind = match travel.kind {
        PropagationKind::Shared => propagation::SHARED,
        PropagationKind::Slave => propagation::SLAVE,
        PropagationKind::Private => propagation::PRIVATE,
        PropagationKind::Unbindable => propagation::UNBINDABLE,
    };
    Change { propagation: kind, recursive: travel.recursive, ..Change::default() }
}

/// The view of the control groups: version 2 as it is, version 1 as a directory of hierarchies.
fn cgroup(
    input: Input<'_>,
    container: &ContainerSpec,
    mount: &Mount,
    target: &CString,
    table: &mut Table,
) -> Planned<Vec<Op>> {
    let flags = attributes(mount.flags)?;
    match input.view {
        Some(MountView::V1(entries)) => hierarchies(entries, mount, target, flags, table),
        Some(MountView::V2(host)) if container.cgroup == workload::Namespace::Private => {
            let mount = NewMount {
                fstype: c"cgroup2".to_owned(),
                source: Some(c"cgroup".to_owned()),
                parameters: Vec::new(),
                attributes: flags,
                propagation: None,
                or_bind: Some(c_path("cgroup", host)?),
            };
            Ok(vec![Op::Mount { target: target.clone(), mount }])
        }
        Some(MountView::V2(host)) => {
            let source = group_bind(host, flags);
            Ok(vec![Op::Attach { target: target.clone(), mount: table.add(source) }])
        }
        None => Ok(Vec::new()),
    }
}

fn group_bind(host: &Path, flags: u64) -> Source {
    Source::Bind {
        path: host.to_owned(),
        recursive: false,
        change: Change { set: flags, ..Change::default() },
        travel: Change { propagation: propagation::PRIVATE, ..Change::default() },
        idmap: None,
    }
}

fn hierarchies(
    entries: &[ViewEntry],
    mount: &Mount,
    target: &CString,
    flags: u64,
    table: &mut Table,
) -> Planned<Vec<Op>> {
    let inside = |name: &str| c_path("cgroup", &mount.target.join(name));
    let directory = NewMount {
        fstype: c"tmpfs".to_owned(),
        source: Some(c"cgroup".to_owned()),
        parameters: vec![(c"mode".to_owned(), Some(c"755".to_owned()))],
        // It is filled before it is made read-only.
        attributes: flags & !attribute::READ_ONLY,
        propagation: None,
        or_bind: None,
    };
    let mut ops = vec![Op::Mount { target: target.clone(), mount: directory }];
    for entry in entries {
        let source = table.add(group_bind(&entry.host, flags));
        ops.push(Op::Attach { target: inside(&entry.name)?, mount: source });
        for link in &entry.links {
            let to = c_string("cgroup", entry.name.as_str())?;
            ops.push(Op::Link { path: inside(link)?, to });
        }
    }
    if flags & attribute::READ_ONLY != 0 {
        let change = Change { set: attribute::READ_ONLY, ..Change::default() };
        ops.push(Op::Attributes { target: target.clone(), change });
    }
    Ok(ops)
}

/// Nodes and links in `/dev`, unless somebody bound a `/dev` of his own.
fn devices(input: Input<'_>, container: &ContainerSpec) -> Planned<Vec<Op>> {
    let own = container.mounts.iter().any(|mount| {
        mount.target == Path::new("/dev") && matches!(mount.source, MountSource::Bind(_))
    });
    let fresh = container.mounts.iter().any(|mount| mount.target == Path::new("/dev"));
    let bind = input.is_confined();
    let mut ops = Vec::new();
    if !own {
        for (path, major, minor) in DEVICES {
            if container.devices.iter().any(|node| node.path == Path::new(path)) {
                continue;
            }
            let mode = FileType::CharacterDevice.as_raw_mode() | 0o666;
            let node = Node { mode, major, minor, uid: 0, gid: 0 };
            ops.push(device(path, path, node, bind)?);
        }
    }
    for node in &container.devices {
        ops.push(given(node, bind)?);
    }
    if !own && (fresh || input.isolation == Isolation::Container) {
        for (path, to) in LINKS {
            ops.push(Op::Link { path: c_string("link", path)?, to: c_string("link", to)? });
        }
    }
    Ok(ops)
}

fn given(node: &DeviceNode, bind: bool) -> Planned<Op> {
    let kind = match node.kind {
        DeviceKind::Character => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    };
    let path = c_path("device", &node.path)?;
    let made = Node {
        mode: kind.as_raw_mode() | node.mode & 0o7777,
        major: node.major,
        minor: node.minor,
        uid: node.uid,
        gid: node.gid,
    };
    // A user namespace may make FIFOs.
    let bind = bind && node.kind != DeviceKind::Fifo;
    let path = path.to_str().map_err(|_| invalid("device", "its path must be UTF-8"))?;
    let host = node.host.as_deref().map(|host| c_path("device", host)).transpose()?;
    let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or(path);
    device(path, host, made, bind)
}

fn device(path: &str, host: &str, node: Node, bind: bool) -> Planned<Op> {
    let path = c_string("device", path)?;
    if bind {
        return Ok(Op::BindDevice { path, host: c_string("device", host)? });
    }
    Ok(Op::Device { path, node })
}
