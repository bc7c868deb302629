//! What the driver is told: a container's configuration and the host's facts as specs.
//!
//! Pure. What must be looked up (devices, files, other containers' processes) comes in as
//! [`Facts`]; `gather.rs` looks.

mod devices;
mod mounts;
mod security;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf};

use base::{ByteSize, ContainerId, ProcessId};
use workload::{
    ContainerSpec, DeviceNode, LogSpec, Namespace, Network, ProcessRoot, ProcessSpec, Rlimit,
    RootFs, SandboxSpec, TerminalSize, UserSpec,
};

use crate::{
    Create, EngineError, ExecCreate, NamespaceMode, NetworkMode,
    plan::{invalid, merge_env},
};

pub(crate) use devices::parse_device_rule;

/// Docker's search path where neither image nor user has one.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Docker's size of `/dev/shm`.
const SHM_BYTES: ByteSize = ByteSize(64 << 20);

/// What the host has to say about one start of one container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Kernel version, major and minor.
    pub(crate) kernel: (u32, u32),
    /// Capabilities that this process has to give, by bit.
    pub(crate) capabilities: u64,
    /// Last of the groups from 0 on that there are where the daemon is.
    pub(crate) last_group: u32,
    /// Host name of the host.
    pub(crate) hostname: String,
    /// The container's root file system.
    pub(crate) root: Option<RootFs>,
    /// Device nodes that were asked for, with what may be done with each (`rwm`).
    pub(crate) devices: Vec<(DeviceNode, String)>,
    /// Files put over the image's: target inside, source on the host.
    pub(crate) files: Vec<(PathBuf, PathBuf)>,
    /// Processes of the containers whose namespaces are joined, by name as in the configuration.
    pub(crate) joined: BTreeMap<String, u32>,
    /// Where its volumes are on the host, by their targets inside.
    pub(crate) volumes: BTreeMap<PathBuf, PathBuf>,
    /// Where the log goes.
    pub(crate) log: Option<LogSpec>,
}

/// The sandbox of a container.
///
/// # Errors
/// [`EngineError`] naming the part of the configuration that cannot be.
pub(crate) fn sandbox(
    id: &ContainerId,
    config: &Create,
    facts: &Facts,
) -> Result<SandboxSpec, EngineError> {
    let own_uts = config.uts == NamespaceMode::Private;
    let mut limits = config.limits.clone();
    limits.devices = devices::rules(config, facts)?;
    Ok(SandboxSpec {
        id: id.sandbox(),
        machine: config.machine.clone(),
        hostname: own_uts.then(|| hostname(id, config, facts)),
        domainname: config.domainname.clone().filter(|_| own_uts),
        network: network(config, facts)?,
        ipc: namespace(&config.ipc, "ipc", facts)?,
        uts: namespace(&config.uts, "uts", facts)?,
        user: config.user_map.clone(),
        time: None,
        sysctls: sysctls(config, facts),
        limits,
        cgroup: config.cgroup_parent.as_deref().map(|parent| cgroup(parent, id)),
        taken_from: None,
    })
}

/// The process that a container was made for.
///
/// # Errors
/// [`EngineError`] naming the part of the configuration that cannot be.
pub(crate) fn process(
    id: &ContainerId,
    config: &Create,
    facts: &Facts,
    size: Option<TerminalSize>,
) -> Result<ProcessSpec, EngineError> {
    let words = config.entrypoint.iter().flatten().chain(&config.command);
    let security = security::resolve(config, facts, config.security.privileged)?;
    let root = container(config, facts)?;
    Ok(ProcessSpec {
        id: ProcessId::main(),
        root: ProcessRoot::Own(Box::new(root)),
        args: words.cloned().collect(),
        env: environment(&hostname(id, config, facts), config.terminal, &config.env),
        cwd: directory(config.working_dir.as_deref()),
        user: user(config.user.as_deref(), &config.groups),
        umask: None,
        capabilities: security.capabilities,
        no_new_privileges: config.security.no_new_privileges,
        seccomp: security.seccomp,
        apparmor: security.apparmor,
        selinux: security.selinux,
        rlimits: rlimits(config)?,
        oom_score_adj: config.oom_score_adj,
        terminal: config.terminal.then(|| size.unwrap_or_default()),
        stdin: config.stdin,
        stdin_once: config.stdin_once,
        log: facts.log.clone(),
        whole: false,
    })
}

/// A further process in a running container.
///
/// # Errors
/// [`EngineError`] naming the part of the request that cannot be.
pub(crate) fn exec(
    id: &ContainerId,
    exec_id: &str,
    config: &Create,
    exec: &ExecCreate,
    facts: &Facts,
) -> Result<ProcessSpec, EngineError> {
    let privileged = exec.privileged || config.security.privileged;
    let security = security::resolve(config, facts, privileged)?;
    let terminal = exec.terminal.is_some();
    let env = environment(&hostname(id, config, facts), terminal, &config.env);
    let user_name = exec.user.as_deref().filter(|user| !user.is_empty());
    let working_dir = exec.working_dir.as_deref().filter(|dir| !dir.is_empty());
    Ok(ProcessSpec {
        id: exec_id.parse().map_err(|_| EngineError::NoSuchExec(exec_id.to_owned()))?,
        root: ProcessRoot::Join(ProcessId::main()),
        args: exec.command.clone(),
        env: merge_env(&env, &exec.env),
        cwd: directory(working_dir.or(config.working_dir.as_deref())),
        user: match user_name {
            Some(name) => user(Some(name), &[]),
            None => user(config.user.as_deref(), &config.groups),
        },
        umask: None,
        capabilities: security.capabilities,
        no_new_privileges: config.security.no_new_privileges,
        seccomp: security.seccomp,
        apparmor: security.apparmor,
        selinux: security.selinux,
        rlimits: rlimits(config)?,
        oom_score_adj: config.oom_score_adj,
        terminal: exec.terminal,
        stdin: exec.stdin,
        // Whoever starts an exec is the only one who writes to it.
        stdin_once: true,
        log: None,
        whole: false,
    })
}

/// The number of a limit of getrlimit(2), by the name that `--ulimit` has for it.
///
/// Source: asm-generic/resource.h; docker/go-units, `ulimitNameMapping`.
pub(crate) fn rlimit_number(name: &str) -> Option<u32> {
    const NAMES: [&str; 16] = [
        "cpu",
        "fsize",
        "data",
        "stack",
        "core",
        "rss",
        "nproc",
        "nofile",
        "memlock",
        "as",
        "locks",
        "sigpending",
        "msgqueue",
        "nice",
        "rtprio",
        "rttime",
    ];
    NAMES.iter().position(|known| *known == name).and_then(|at| u32::try_from(at).ok())
}

/// The container's name for itself: its own, else the host's on the host's network, else its id.
pub(crate) fn hostname(id: &ContainerId, config: &Create, facts: &Facts) -> String {
    match (&config.hostname, &config.network) {
        (Some(own), _) if !own.is_empty() => own.clone(),
        (_, NetworkMode::Host) => facts.hostname.clone(),
        _ if config.uts == NamespaceMode::Host => facts.hostname.clone(),
        _ => id.short().to_owned(),
    }
}

fn container(config: &Create, facts: &Facts) -> Result<ContainerSpec, EngineError> {
    let open = config.security.privileged || config.security.unmasked;
    let (masked_paths, read_only_paths) = if open {
        (Vec::new(), Vec::new())
    } else {
        (workload::profile::masked_paths(), workload::profile::read_only_paths())
    };
    let root = facts.root.clone().ok_or_else(|| invalid("root", "it is not mounted".to_owned()))?;
    Ok(ContainerSpec {
        root,
        read_only_root: config.read_only,
        root_propagation: None,
        mounts: mounts::mounts(config, facts, config.shm_size.unwrap_or(SHM_BYTES))?,
        devices: facts.devices.iter().map(|(node, _)| node.clone()).collect(),
        masked_paths,
        read_only_paths,
        pid: namespace(&config.pid, "pid", facts)?,
        cgroup: namespace(&config.cgroupns, "cgroup", facts)?,
        init: config.init,
    })
}

fn network(config: &Create, facts: &Facts) -> Result<Network, EngineError> {
    Ok(match &config.network {
        NetworkMode::Bridge | NetworkMode::Named(_) => Network::Given,
        NetworkMode::None => Network::None,
        NetworkMode::Host => Network::Host,
        NetworkMode::Container(name) => Network::Join(namespace_file(name, "net", facts)?),
    })
}

fn namespace(mode: &NamespaceMode, file: &str, facts: &Facts) -> Result<Namespace, EngineError> {
    Ok(match mode {
        NamespaceMode::Private => Namespace::Private,
        NamespaceMode::Host => Namespace::Host,
        NamespaceMode::Container(name) => Namespace::Join(namespace_file(name, file, facts)?),
    })
}

fn namespace_file(name: &str, file: &str, facts: &Facts) -> Result<PathBuf, EngineError> {
    let pid = facts.joined.get(name).ok_or_else(|| EngineError::JoinsStopped(name.to_owned()))?;
    Ok(format!("/proc/{pid}/ns/{file}").into())
}

/// What was asked, and Docker's defaults for a network of one's own.
fn sysctls(config: &Create, facts: &Facts) -> BTreeMap<String, String> {
    let mut sysctls = config.sysctls.clone();
    if config.network.is_plugged() || config.network == NetworkMode::None {
        let mut default = |name: &str, value: &str| {
            sysctls.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        };
        default("net.ipv4.ip_unprivileged_port_start", "0");
        // The range is of ids inside, which a user namespace may have few of.
        let last = match &config.user_map {
            None => Some(facts.last_group),
            Some(map) => {
                let first = map.gids.iter().find(|range| range.inside == 0);
                first.map(|range| range.count.saturating_sub(1).min(facts.last_group))
            }
        };
        if let Some(last) = last {
            default("net.ipv4.ping_group_range", &format!("0 {last}"));
        }
    }
    sysctls
}

fn cgroup(parent: &str, id: &ContainerId) -> String {
    format!("/{}/{id}", parent.trim_matches('/'))
}

/// Docker's variables, in its order, and the container's own in their place.
fn environment(hostname: &str, terminal: bool, own: &[String]) -> Vec<String> {
    let mut env = vec![format!("PATH={PATH_DEFAULT}"), format!("HOSTNAME={hostname}")];
    if terminal {
        env.push("TERM=xterm".to_owned());
    }
    merge_env(&env, own)
}

fn directory(path: Option<&str>) -> PathBuf {
    path.filter(|path| !path.is_empty()).unwrap_or("/").into()
}

fn user(name: Option<&str>, groups: &[String]) -> UserSpec {
    UserSpec::Named { name: name.unwrap_or_default().to_owned(), groups: groups.to_vec() }
}

fn rlimits(config: &Create) -> Result<Vec<Rlimit>, EngineError> {
    let number = |name: &str| {
        rlimit_number(name).ok_or_else(|| invalid("ulimit", format!("invalid ulimit type: {name}")))
    };
    let limit = |limit: &crate::UlimitRequest| {
        let resource = number(&limit.name)?;
        Ok(Rlimit { resource, soft: limit.soft, hard: limit.hard, required: true })
    };
    config.ulimits.iter().map(limit).collect()
}
