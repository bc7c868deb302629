//! Looks up what a start needs to know of the host, and writes the files put into the container.

use std::{
    collections::BTreeMap,
    fs, io,
    net::IpAddr,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use base::ContainerId;
use net::files as text;
use workload::{DeviceKind, DeviceNode};

use crate::{
    Create, DeviceRequest, EngineError, MountKind, NetworkMode, NetworkView,
    files::{Files, failed},
    log_options::Logger,
    plan::invalid,
    spec::{self, Facts},
    volume::Places,
};

/// Most device nodes that a directory of them (or `--privileged`) hands in.
const DEVICES_MAX: usize = 4096;
/// Deepest directory below `/dev` that is looked at.
const DEPTH_MAX: usize = 8;

/// What does not change while the daemon runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostFacts {
    kernel: (u32, u32),
    capabilities: u64,
    last_group: u32,
}

/// Last group that the kernel lets in a range of groups. Source: icmp(7), `ping_group_range`.
const GROUP_MAX: u32 = i32::MAX.unsigned_abs();

impl HostFacts {
    /// Reads kernel version and capabilities.
    pub(crate) fn read() -> HostFacts {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|word| word.parse());
        let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0);
        let kernel = (next(), next());
        // Source: proc_pid_status(5), CapBnd. Without it, all that every kernel has, up to
        // AUDIT_READ.
        let capabilities = fs::read_to_string("/proc/self/status")
            .ok()
            .and_then(|text| {
                let bounding = text.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
                u64::from_str_radix(bounding.trim(), 16).ok()
            })
            .unwrap_or((1 << 38) - 1);
        HostFacts { kernel, capabilities, last_group: last_group() }
    }

    /// What an exec needs to know.
    pub(crate) fn facts(self) -> Facts {
        let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let HostFacts { kernel, capabilities, last_group } = self;
        Facts { kernel, capabilities, last_group, hostname, ..Facts::default() }
    }
}

/// Last of the groups from 0 on that the user namespace of this process has without a gap.
fn last_group() -> u32 {
    let Ok(ids) = sys::userns::Ids::own() else { return GROUP_MAX };
    let mut next = 0;
    while let Some(range) = ids.gids.iter().find(|range| range.inside == next && range.count > 0) {
        next = range.inside.saturating_add(range.count);
    }
    next.saturating_sub(1).min(GROUP_MAX)
}

/// One start of one container.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) id: ContainerId,
    pub(crate) name: String,
    pub(crate) image_id: String,
    pub(crate) config: Create,
    pub(crate) network: NetworkView,
    /// Layers, top first.
    pub(crate) lower: Vec<PathBuf>,
    /// The same as files, top first, for a driver that wants them so.
    pub(crate) images: Option<Vec<PathBuf>>,
    /// Its volumes: target inside, and the path to bind.
    pub(crate) volumes: Places,
    /// Other containers whose namespaces are joined: name as configured, id, process.
    pub(crate) joined: BTreeMap<String, (ContainerId, u32)>,
}

/// Everything the specs are made of; `resolver` stands in for the host's own. Blocks.
///
/// # Errors
/// [`EngineError`] naming what is not there.
pub(crate) fn gather(
    host: HostFacts,
    files: &Files,
    start: &Start,
    resolver: Option<IpAddr>,
) -> Result<Facts, EngineError> {
    let Start { id, name, image_id, config, lower, joined, .. } = start;
    let mut facts = host.facts();
    facts.root = Some(match &start.images {
        Some(images) => files.layers(id, images.clone()),
        None => files.root(id, lower.clone()),
    });
    facts.joined = joined.iter().map(|(name, (_, pid))| (name.clone(), *pid)).collect();
    facts.volumes = start.volumes.iter().cloned().collect();
    let logger = Logger { id, name, image_id, config };
    facts.log = logger.spec(files.log(id, config.log.kind))?;
    facts.files = write_files(files, start, &facts, resolver)?;
    facts.devices = devices(config)?;
    check_binds(config)?;
    Ok(facts)
}

fn write_files(
    files: &Files,
    start: &Start,
    facts: &Facts,
    resolver: Option<IpAddr>,
) -> Result<Vec<(PathBuf, PathBuf)>, EngineError> {
    let Start { id, config, joined, .. } = start;
    let hostname = spec::hostname(id, config, facts);
    // Who shares a network shares its names.
    let sharing = match &config.network {
        NetworkMode::Container(name) => joined.get(name).map(|(id, _)| files.own(id)),
        NetworkMode::Bridge | NetworkMode::Named(_) | NetworkMode::None | NetworkMode::Host => None,
    };
    let mut list =
        vec![("/etc/hostname".into(), { files.write(id, "hostname", &format!("{hostname}\n"))? })];
    let (hosts, resolv_conf) = match sharing {
        Some(directory) => (directory.join("hosts"), directory.join("resolv.conf")),
        None => (
            files.write(id, "hosts", &hosts(start, &hostname)?)?,
            files.write(id, "resolv.conf", &resolv_conf(config, &start.network, resolver))?,
        ),
    };
    list.push(("/etc/hosts".into(), hosts));
    list.push(("/etc/resolv.conf".into(), resolv_conf));
    Ok(list)
}

fn hosts(start: &Start, hostname: &str) -> Result<String, EngineError> {
    let Start { config, network, .. } = start;
    let mut extra = Vec::new();
    for (name, address) in &config.extra_hosts {
        let entry = format!("{name}={address}");
        extra.push(
            entry
                .parse()
                .map_err(|error: text::ExtraHostError| invalid("add-host", error.to_string()))?,
        );
    }
    let hosts = text::Hosts {
        hostname,
        domainname: config.domainname.as_deref(),
        address: network.address,
        address6: network.address6,
        gateway: network.gateway,
        extra: &extra,
    };
    if config.network != NetworkMode::Host {
        return Ok(text::hosts(&hosts));
    }
    // On the host's network the host's own names hold, and what was asked for.
    let mut own = fs::read_to_string("/etc/hosts").unwrap_or_default();
    for entry in extra {
        if let Some(address) = entry.address.or(network.gateway.map(IpAddr::V4)) {
            own.push_str(&format!("{address}\t{}\n", entry.name));
        }
    }
    Ok(own)
}

/// Has a container that runs ask those who answer on its networks, which are others than before,
/// unless somebody has written the file anew.
///
/// # Errors
/// [`EngineError::Files`].
pub(crate) fn resolve_anew(
    files: &Files,
    id: &ContainerId,
    config: &Create,
    (before, after): (&NetworkView, &NetworkView),
    resolver: Option<IpAddr>,
) -> Result<(), EngineError> {
    if before.has_names() == after.has_names() {
        return Ok(());
    }
    let ours = resolv_conf(config, before, resolver);
    let path = files.own(id).join("resolv.conf");
    if fs::read_to_string(&path).is_ok_and(|text| text == ours) {
        // In place: it is mounted in the container.
        files.write(id, "resolv.conf", &resolv_conf(config, after, resolver))?;
    }
    Ok(())
}

fn resolv_conf(config: &Create, network: &NetworkView, resolver: Option<IpAddr>) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut of_host = read("/etc/resolv.conf");
    let asked = text::Dns {
        servers: if config.dns.is_empty() { resolver.as_slice() } else { &config.dns },
        search: &config.dns_search,
        options: &config.dns_options,
        ipv6: network.address6.is_some(),
        own: network.has_names(),
    };
    let asks =
        !(config.dns.is_empty() && config.dns_search.is_empty() && config.dns_options.is_empty());
    if config.network == NetworkMode::Host && !asks && resolver.is_none() {
        return of_host;
    }
    if text::is_local_stub(&of_host) && resolver.is_none() {
        of_host = read(text::RESOLV_CONF_BEHIND_STUB);
    }
    text::resolv_conf(&of_host, &asked)
}

/// Bind sources must exist; `-v` makes a missing directory.
fn check_binds(config: &Create) -> Result<(), EngineError> {
    for mount in &config.mounts {
        let MountKind::Bind { source, create, .. } = &mount.kind else { continue };
        let exists = source.try_exists().map_err(failed("look for", source))?;
        if !exists && *create {
            fs::create_dir_all(source).map_err(failed("make", source))?;
        } else if !exists {
            let why = format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                source.display()
            );
            return Err(invalid("mount", why));
        }
    }
    Ok(())
}

fn devices(config: &Create) -> Result<Vec<(DeviceNode, String)>, EngineError> {
    let mut list = Vec::new();
    if config.security.privileged {
        walk(Path::new("/dev"), Path::new("/dev"), "rwm", DEPTH_MAX, &mut list)
            .map_err(failed("list", Path::new("/dev")))?;
        list.retain(|(node, _)| !is_given(&node.path));
    }
    for request in &config.devices {
        asked(request, &mut list)?;
    }
    Ok(list)
}

/// What every container has of its own in `/dev`.
fn is_given(path: &Path) -> bool {
    const GIVEN: [&str; 10] = [
        "/dev/console",
        "/dev/full",
        "/dev/null",
        "/dev/ptmx",
        "/dev/random",
        "/dev/tty",
        "/dev/urandom",
        "/dev/zero",
        "/dev/pts",
        "/dev/shm",
    ];
    GIVEN.iter().any(|given| path.starts_with(given))
}

fn asked(request: &DeviceRequest, list: &mut Vec<(DeviceNode, String)>) -> Result<(), EngineError> {
    let DeviceRequest { host, container, permissions } = request;
    let gathering = |error: io::Error| {
        let why = format!("error gathering device information: {}: {error}", host.display());
        invalid("device", why)
    };
    let metadata = fs::metadata(host).map_err(gathering)?;
    if metadata.is_dir() {
        return walk(host, container, permissions, DEPTH_MAX, list).map_err(gathering);
    }
    let node = node(host, container, &metadata)
        .ok_or_else(|| invalid("device", format!("{} is not a device node", host.display())))?;
    list.push((node, permissions.clone()));
    Ok(())
}

/// Every device node below a directory.
fn walk(
    host: &Path,
    container: &Path,
    permissions: &str,
    depth: usize,
    list: &mut Vec<(DeviceNode, String)>,
) -> io::Result<()> {
    for entry in fs::read_dir(host)? {
        let entry = entry?;
        let inside = container.join(entry.file_name());
        let metadata = entry.metadata()?;
        if metadata.is_dir() && depth > 0 {
            walk(&entry.path(), &inside, permissions, depth - 1, list)?;
        } else if let Some(node) = node(&entry.path(), &inside, &metadata) {
            if list.len() >= DEVICES_MAX {
                return Err(io::Error::other(format!("more than {DEVICES_MAX} devices")));
            }
            list.push((node, permissions.to_owned()));
        }
    }
    Ok(())
}

fn node(host: &Path, path: &Path, metadata: &fs::Metadata) -> Option<DeviceNode> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => DeviceKind::Character,
        kind if kind.is_block_device() => DeviceKind::Block,
        _ => return None,
    };
    let number = metadata.rdev();
    Some(DeviceNode {
        path: path.to_owned(),
        host: (host != path).then(|| host.to_owned()),
        kind,
        major: rustix::fs::major(number),
        minor: rustix::fs::minor(number),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MountRequest;

    fn start(config: Create) -> Start {
        Start {
            name: "web".to_owned(),
            image_id: "sha256:1".to_owned(),
            id: ContainerId::from_random([1; 32]),
            config,
            network: NetworkView::default(),
            images: None,
            lower: vec!["/layer".into()],
            volumes: Places::new(),
            joined: BTreeMap::new(),
        }
    }

    fn gathered(config: Create) -> Result<Facts, EngineError> {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), &dir.path().join("run")).unwrap();
        let start = start(config);
        files.make(&start.id).unwrap();
        gather(HostFacts::read(), &files, &start, None)
    }

    #[test]
    fn files_are_written_and_named_in_order() {
        let facts = gathered(Create { hostname: Some("me".to_owned()), ..Create::default() });
        let facts = facts.unwrap();
        let targets: Vec<_> = facts.files.iter().map(|(target, _)| target.clone()).collect();
        assert_eq!(targets, ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].map(PathBuf::from));
        assert!(facts.kernel >= (3, 0) && facts.capabilities != 0);
    }

    #[test]
    fn whoever_has_the_host_resolves_names_unless_others_are_asked_for() {
        let resolver = Some([10, 0, 2, 3].into());
        for network in [NetworkMode::Bridge, NetworkMode::Host] {
            let config = Create { network, ..Create::default() };
            let text = resolv_conf(&config, &NetworkView::default(), resolver);
            assert!(text.starts_with("nameserver 10.0.2.3\n"), "{text}");
            assert_eq!(text.matches("nameserver").count(), 1, "{text}");
            let asked = Create { dns: vec![[192, 0, 2, 1].into()], ..config };
            let text = resolv_conf(&asked, &NetworkView::default(), resolver);
            assert!(text.starts_with("nameserver 192.0.2.1\n"), "{text}");
        }
    }

    #[test]
    fn a_device_is_described_as_it_is_on_the_host() {
        let null = DeviceRequest {
            host: "/dev/null".into(),
            container: "/dev/nothing".into(),
            permissions: "rw".to_owned(),
        };
        let facts = gathered(Create { devices: vec![null.clone()], ..Create::default() }).unwrap();
        let (node, permissions) = &facts.devices[0];
        assert_eq!((node.major, node.minor, permissions.as_str()), (1, 3, "rw"));
        assert_eq!(node.path, PathBuf::from("/dev/nothing"));
        let file = DeviceRequest { host: "/etc/passwd".into(), ..null };
        assert!(gathered(Create { devices: vec![file], ..Create::default() }).is_err());
    }

    #[test]
    fn a_missing_bind_source_is_made_for_v_and_refused_for_mount() {
        let dir = tempfile::tempdir().unwrap();
        let mount = |create| MountRequest {
            target: "/srv".into(),
            kind: MountKind::Bind {
                source: dir.path().join("missing"),
                create,
                non_recursive: false,
                propagation: None,
            },
            read_only: false,
            idmap: None,
        };
        let refused = gathered(Create { mounts: vec![mount(false)], ..Create::default() });
        assert!(refused.unwrap_err().to_string().contains("does not exist"));
        gathered(Create { mounts: vec![mount(true)], ..Create::default() }).unwrap();
        assert!(dir.path().join("missing").is_dir());
    }
}
