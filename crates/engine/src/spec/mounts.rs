//! What is mounted in a container, in order.

use std::path::{Path, PathBuf};

use base::ByteSize;
use workload::{
    Bind, IdMap, Mount, MountFlags, MountSource, Propagation, PropagationKind, Tmpfs, UserMap,
    profile,
};

use super::Facts;
use crate::{Create, EngineError, MountKind, MountRequest, NamespaceMode, plan::invalid};

/// Since this kernel a mount can be made read-only with all below it (mount_setattr(2)).
const RECURSIVE_READ_ONLY: (u32, u32) = (5, 12);

/// Every mount of a container: the defaults, the engine's files, what was asked for. Parents come
/// before what is mounted in them; what was asked for takes a default's place.
pub(super) fn mounts(
    config: &Create,
    facts: &Facts,
    shm: ByteSize,
) -> Result<Vec<Mount>, EngineError> {
    let mut mounts = profile::mounts(shm, config.security.privileged);
    if config.ipc == NamespaceMode::Host {
        replace_shm(&mut mounts);
    }
    let own = |(target, source): &(PathBuf, PathBuf)| file(target, source, config);
    mounts.extend(facts.files.iter().map(own));
    // Whoever brings a /dev of their own has everything in it.
    let own_dev = config.mounts.iter().any(|mount| same(&mount.target, Path::new("/dev")));
    mounts.retain(|default| {
        let taken = config.mounts.iter().any(|own| same(&own.target, &default.target));
        let beside = own_dev && default.target.starts_with("/dev");
        !(taken || beside)
    });
    for own in &config.mounts {
        mounts.push(asked(own, config, facts)?);
    }
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

/// `--ipc host` shares POSIX shared memory too.
fn replace_shm(mounts: &mut [Mount]) {
    for mount in mounts.iter_mut().filter(|mount| same(&mount.target, Path::new("/dev/shm"))) {
        let bind = Bind { path: "/dev/shm".into(), recursive: true, idmap: None };
        mount.source = MountSource::Bind(bind);
    }
}

fn same(one: &Path, other: &Path) -> bool {
    one.components().eq(other.components())
}

/// One of the engine's files, which root inside owns.
fn file(target: &Path, source: &Path, config: &Create) -> Mount {
    let idmap = config.user_map.clone();
    Mount {
        target: target.to_owned(),
        source: MountSource::Bind(Bind { path: source.to_owned(), recursive: false, idmap }),
        flags: MountFlags::default(),
        propagation: None,
    }
}

fn asked(request: &MountRequest, config: &Create, facts: &Facts) -> Result<Mount, EngineError> {
    match &request.kind {
        MountKind::Bind { source, non_recursive, propagation, .. } => {
            let propagation = propagation.as_deref().map(parse_propagation).transpose()?.flatten();
            bound(request, source, !non_recursive, propagation, config, facts)
        }
        MountKind::Volume(volume) => {
            let missing = || invalid("mount", format!("volume {} is not mounted", volume.name));
            let source = facts.volumes.get(&request.target).ok_or_else(missing)?;
            bound(request, source, true, None, config, facts)
        }
        MountKind::Tmpfs { size, mode, options } => {
            tmpfs(&request.target, request.read_only, *size, *mode, options)
        }
    }
}

fn bound(
    request: &MountRequest,
    source: &Path,
    recursive: bool,
    propagation: Option<Propagation>,
    config: &Create,
    facts: &Facts,
) -> Result<Mount, EngineError> {
    let below = recursive && facts.kernel >= RECURSIVE_READ_ONLY;
    let idmap = request.idmap.as_ref().map(|map| id_map(map, config)).transpose()?;
    Ok(Mount {
        target: request.target.clone(),
        source: MountSource::Bind(Bind { path: source.to_owned(), recursive, idmap }),
        flags: MountFlags {
            read_only: request.read_only,
            recursive_read_only: request.read_only && below,
            ..MountFlags::default()
        },
        propagation,
    })
}

/// The ids seen through a mount: as asked, with all ids as they are where only users or only
/// groups were asked for; else the container's own.
fn id_map(asked: &UserMap, config: &Create) -> Result<UserMap, EngineError> {
    let missing = || {
        let why = "idmap without ids takes a container in a user namespace (--userns): write \
                   idmap=uids=ON_DISK-SEEN-COUNT;gids=ON_DISK-SEEN-COUNT";
        invalid("mount", why.to_owned())
    };
    let all = || vec![IdMap { inside: 0, outside: 0, count: u32::MAX }];
    match (asked.uids.is_empty(), asked.gids.is_empty()) {
        (true, true) => config.user_map.clone().ok_or_else(missing),
        (false, true) => Ok(UserMap { gids: all(), ..asked.clone() }),
        (true, false) => Ok(UserMap { uids: all(), ..asked.clone() }),
        (false, false) => Ok(asked.clone()),
    }
}

/// `None` for private, which is the default.
fn parse_propagation(text: &str) -> Result<Option<Propagation>, EngineError> {
    let (recursive, word) = match text.strip_prefix('r') {
        Some(word) => (true, word),
        None => (false, text),
    };
    let kind = match word {
        "" if text.is_empty() => return Ok(None),
        "shared" => PropagationKind::Shared,
        "slave" => PropagationKind::Slave,
        "private" => PropagationKind::Private,
        _ => {
            let why = format!(
                "invalid propagation {text:?}: use shared, slave, private, rshared, rslave or \
                 rprivate"
            );
            return Err(invalid("mount", why));
        }
    };
    Ok(Some(Propagation { kind, recursive }))
}

/// A tmpfs with Docker's defaults (`noexec,nosuid,nodev`) and the words of `--tmpfs`.
fn tmpfs(
    target: &Path,
    read_only: bool,
    size: Option<ByteSize>,
    mode: Option<u32>,
    options: &[String],
) -> Result<Mount, EngineError> {
    let mut flags =
        MountFlags { read_only, nosuid: true, nodev: true, noexec: true, ..MountFlags::default() };
    let mut tmpfs = Tmpfs { size, mode, options: Vec::new() };
    for option in options {
        tmpfs_option(option, &mut flags, &mut tmpfs)?;
    }
    let source = MountSource::Tmpfs(tmpfs);
    Ok(Mount { target: PathBuf::from(target), source, flags, propagation: None })
}

fn tmpfs_option(
    option: &str,
    flags: &mut MountFlags,
    tmpfs: &mut Tmpfs,
) -> Result<(), EngineError> {
    let bad = || invalid("tmpfs", format!("invalid tmpfs option {option:?}"));
    match option {
        "" | "rw" => {}
        "ro" => flags.read_only = true,
        "suid" => flags.nosuid = false,
        "nosuid" => flags.nosuid = true,
        "dev" => flags.nodev = false,
        "nodev" => flags.nodev = true,
        "exec" => flags.noexec = false,
        "noexec" => flags.noexec = true,
        "noatime" => flags.noatime = true,
        "nodiratime" => flags.nodiratime = true,
        "strictatime" => flags.strictatime = true,
        "tmpcopyup" => tmpfs.options.push(option.to_owned()),
        _ => match option.split_once('=') {
            Some(("size", size)) if size.ends_with('%') => tmpfs.options.push(option.to_owned()),
            Some(("size", size)) => tmpfs.size = Some(size.parse().map_err(|_| bad())?),
            Some(("mode", mode)) => {
                tmpfs.mode = Some(u32::from_str_radix(mode, 8).map_err(|_| bad())?);
            }
            Some(("uid" | "gid" | "nr_inodes" | "nr_blocks" | "huge" | "mpol", _)) => {
                tmpfs.options.push(option.to_owned());
            }
            Some(_) | None => return Err(bad()),
        },
    }
    Ok(())
}
