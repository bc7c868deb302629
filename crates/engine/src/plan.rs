//! What a container will be: the request with its image's configuration merged in, checked.
//!
//! Pure: what Docker's daemon does between a create request and the record of a container.

pub(crate) mod platforms;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use base::ByteSize;
use workload::{Isolation, Limits, MachineSpec, Signal, profile};

use crate::{
    Create, EngineError, ImageConfig, MountKind, NamespaceMode, NetworkMode, PortRequest,
    RestartPolicy, health,
    spec::{parse_device_rule, rlimit_number},
};

/// Least memory that a container can be limited to. Source: moby, `linuxMinMemory`.
const MEMORY_MIN: ByteSize = ByteSize(6 << 20);
/// Most of any list in a request.
const LIST_MAX: usize = 4096;

/// A container's configuration, complete, and what is worth a word about it.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) config: Create,
    pub(crate) warnings: Vec<String>,
}

/// Merges a request with its image's configuration.
///
/// # Errors
/// [`EngineError::Invalid`], naming the field.
pub(crate) fn plan(create: Create, image: &ImageConfig) -> Result<Plan, EngineError> {
    let mut config = create;
    let mut warnings = Vec::new();
    merge_command(&mut config, image);
    merge_rest(&mut config, image)?;
    config.health = health::merge(config.health.take(), image.health.as_ref())?;
    check_command(&config)?;
    check_network(&mut config, &mut warnings)?;
    check_mounts(&config)?;
    check_limits(&config)?;
    if config.auto_remove && config.restart != RestartPolicy::No {
        let why = "can't create 'AutoRemove' container with restart policy";
        return Err(invalid("restart", why.to_owned()));
    }
    check_security(&config)?;
    check_machine(&config)?;
    publish_exposed(&mut config);
    Ok(Plan { config, warnings })
}

/// Docker's rule: an entrypoint of one's own does without the image's command too.
fn merge_command(config: &mut Create, image: &ImageConfig) {
    match &mut config.entrypoint {
        // `--entrypoint ""` takes the image's away, and its command with it.
        Some(own) if own.len() == 1 && own.first().is_some_and(String::is_empty) => own.clear(),
        // An empty list takes away the entrypoint alone.
        Some(own) if own.is_empty() && config.command.is_empty() => {
            config.command = image.command.clone().unwrap_or_default();
        }
        Some(_) => {}
        None => {
            config.entrypoint.clone_from(&image.entrypoint);
            if config.command.is_empty() {
                config.command = image.command.clone().unwrap_or_default();
            }
        }
    }
}

fn merge_rest(config: &mut Create, image: &ImageConfig) -> Result<(), EngineError> {
    config.env = merge_env(&image.env, &config.env);
    let empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if empty(&config.user) {
        config.user.clone_from(&image.user);
    }
    if empty(&config.working_dir) {
        config.working_dir.clone_from(&image.working_dir);
    }
    for (label, value) in &image.labels {
        config.labels.entry(label.clone()).or_insert_with(|| value.clone());
    }
    if let (None, Some(text)) = (config.stop_signal, &image.stop_signal) {
        let why = || format!("the image's stop signal {text:?} is not a signal");
        let signal = Signal::parse(text).ok_or_else(|| invalid("stop signal", why()))?;
        config.stop_signal = Some(signal);
    }
    let exposed: BTreeSet<_> = config.expose.iter().chain(&image.expose).copied().collect();
    config.expose = exposed.into_iter().collect();
    Ok(())
}

/// The lower variables with the upper ones in their place or behind them. An upper one without
/// `=` takes the lower one away.
pub(crate) fn merge_env(lower: &[String], upper: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let mut env: Vec<String> = lower.to_vec();
    for entry in upper {
        let at = env.iter().position(|other| name(other) == name(entry));
        match (at, entry.contains('=')) {
            (Some(at), true) => env[at].clone_from(entry),
            (Some(at), false) => drop(env.remove(at)),
            (None, true) => env.push(entry.clone()),
            (None, false) => {}
        }
    }
    env
}

fn check_command(config: &Create) -> Result<(), EngineError> {
    let words = config.entrypoint.iter().flatten().chain(&config.command);
    let count = words.clone().count();
    if count == 0 {
        return Err(invalid("command", "no command specified".to_owned()));
    }
    if count > LIST_MAX || config.env.len() > LIST_MAX || config.mounts.len() > LIST_MAX {
        return Err(invalid("request", format!("more than {LIST_MAX} of one kind")));
    }
    if words.chain(&config.env).any(|word| word.contains('\0')) {
        return Err(invalid("command", "an argument or variable has a zero byte".to_owned()));
    }
    if let Some(dir) = config.working_dir.as_deref().filter(|dir| !dir.is_empty())
        && !dir.starts_with('/')
    {
        let why =
            format!("the working directory '{dir}' is invalid, it needs to be an absolute path");
        return Err(invalid("working directory", why));
    }
    if let Some(host) = &config.hostname
        && (host.len() > 63
            || !host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)))
    {
        return Err(invalid(
            "hostname",
            format!("{host:?} is not a host name of up to 63 letters"),
        ));
    }
    Ok(())
}

fn check_network(config: &mut Create, warnings: &mut Vec<String>) -> Result<(), EngineError> {
    let publishes = !config.ports.is_empty() || config.publish_all;
    let conflict = |with: &str| {
        let what = format!("conflicting options: {with} and the network mode");
        Err(invalid("network", what))
    };
    match &config.network {
        NetworkMode::Host if publishes => {
            warnings.push("Published ports are discarded when using host network mode".to_owned());
            config.ports.clear();
            config.publish_all = false;
        }
        NetworkMode::None if publishes => {
            config.ports.clear();
            config.publish_all = false;
        }
        NetworkMode::Container(_) if publishes => return conflict("port publishing"),
        NetworkMode::Container(_) if !config.dns.is_empty() => return conflict("dns"),
        NetworkMode::Container(_) if !config.extra_hosts.is_empty() => {
            return conflict("custom host-to-IP mapping");
        }
        NetworkMode::Container(_) if config.hostname.is_some() => return conflict("hostname"),
        NetworkMode::Bridge
        | NetworkMode::Named(_)
        | NetworkMode::None
        | NetworkMode::Host
        | NetworkMode::Container(_) => {}
    }
    if config.uts != NamespaceMode::Private && config.hostname.is_some() {
        return Err(invalid("uts", "conflicting options: hostname and the UTS mode".to_owned()));
    }
    let private = config.network.is_plugged() || config.network == NetworkMode::None;
    if let Some(name) = config.sysctls.keys().find(|name| !private && name.starts_with("net.")) {
        let why = format!("sysctl '{name}' is not allowed: the network is not the container's own");
        return Err(invalid("sysctl", why));
    }
    if config.ports.iter().any(|port| port.container_port == 0 || port.host_port == Some(0)) {
        return Err(invalid("ports", "port 0 cannot be published".to_owned()));
    }
    Ok(())
}

fn check_mounts(config: &Create) -> Result<(), EngineError> {
    let mut targets = BTreeSet::new();
    for mount in &config.mounts {
        let target = &mount.target;
        let plain = target.components().all(|part| {
            matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
        });
        if !target.is_absolute() || !plain {
            let why = format!("mount path must be absolute: {}", target.display());
            return Err(invalid("mount", why));
        }
        if target.parent().is_none() {
            return Err(invalid("mount", "destination can't be '/'".to_owned()));
        }
        // Components, so that `/a/` and `/a` are one.
        if !targets.insert(target.components().collect::<std::path::PathBuf>()) {
            return Err(invalid("mount", format!("Duplicate mount point: {}", target.display())));
        }
        if let MountKind::Bind { source, .. } = &mount.kind
            && !source.is_absolute()
        {
            let why = format!("bind source must be an absolute path: {}", source.display());
            return Err(invalid("mount", why));
        }
    }
    Ok(())
}

pub(crate) fn check_limits(config: &Create) -> Result<(), EngineError> {
    check_cpu(&config.limits)?;
    let memory = &config.limits.memory;
    if memory.limit.is_some_and(|limit| limit < MEMORY_MIN) {
        return Err(invalid("memory", "Minimum memory limit allowed is 6MB".to_owned()));
    }
    if let Some(workload::MemorySwap::Total(total)) = memory.swap {
        match memory.limit {
            None => {
                let why = "You should always set the Memory limit when using Memoryswap limit";
                return Err(invalid("memory swap", why.to_owned()));
            }
            Some(limit) if total < limit => {
                let why = "Minimum memoryswap limit should be larger than memory limit";
                return Err(invalid("memory swap", why.to_owned()));
            }
            Some(_) => {}
        }
    }
    if let (Some(limit), Some(reservation)) = (memory.limit, memory.reservation)
        && reservation > limit
    {
        let why = "Minimum memory limit can not be less than memory reservation limit";
        return Err(invalid("memory", why.to_owned()));
    }
    for limit in &config.ulimits {
        if rlimit_number(&limit.name).is_none() {
            return Err(invalid("ulimit", format!("invalid ulimit type: {}", limit.name)));
        }
        if limit.soft > limit.hard {
            let why = "ulimit soft limit must be less than or equal to hard limit";
            return Err(invalid("ulimit", format!("{why}: {}", limit.name)));
        }
    }
    if config.oom_score_adj.is_some_and(|badness| !(-1000..=1000).contains(&badness)) {
        let why = "Invalid value, range for oom score adj is [-1000, 1000]";
        return Err(invalid("oom score adj", why.to_owned()));
    }
    config.device_rules.iter().try_for_each(|rule| parse_device_rule(rule).map(drop))
}

/// Processor time and placement, and the block weight. Source of ranges and words: moby,
/// `verifyPlatformContainerResources`.
fn check_cpu(limits: &Limits) -> Result<(), EngineError> {
    const PERIOD_US: std::ops::RangeInclusive<u64> = 1000..=1_000_000;
    let cpu = &limits.cpu;
    if cpu.period_us.is_some_and(|period| !PERIOD_US.contains(&period)) {
        let why = "CPU cfs period can not be less than 1ms (i.e. 1000) or larger than 1s (i.e. \
                   1000000)";
        return Err(invalid("cpu period", why.to_owned()));
    }
    if cpu.quota_us.is_some_and(|quota| quota < *PERIOD_US.start()) {
        let why = "CPU cfs quota can not be less than 1ms (i.e. 1000)";
        return Err(invalid("cpu quota", why.to_owned()));
    }
    for (what, list) in [("cpuset cpus", &cpu.cpus), ("cpuset mems", &cpu.mems)] {
        let listed = |byte: u8| byte.is_ascii_digit() || matches!(byte, b',' | b'-' | b':' | b'/');
        if let Some(list) = list.as_deref().filter(|list| !list.bytes().all(listed)) {
            let why = format!("Invalid value {list} for {what}: write a list such as 0-3,7");
            return Err(invalid(what, why));
        }
    }
    if limits.block_weight.is_some_and(|weight| !(10..=1000).contains(&weight)) {
        return Err(invalid("block weight", "Range of blkio weight is from 10 to 1000".to_owned()));
    }
    Ok(())
}

/// What is asked of a machine is not passed over where there is none.
fn check_machine(config: &Create) -> Result<(), EngineError> {
    if config.isolation == Isolation::Vm {
        return check_kernel_arguments(&config.machine.arguments);
    }
    let MachineSpec { kernel, arguments, accel } = &config.machine;
    let asked = [
        ("kernel", kernel.is_some()),
        ("kernel argument", !arguments.is_empty()),
        ("accel", accel.is_some()),
    ];
    match asked.iter().find(|(_, asked)| *asked) {
        None => Ok(()),
        Some((what, _)) => {
            let why = format!("isolation {} has no machine: use vm", config.isolation);
            Err(invalid(what, why))
        }
    }
}

/// A command line is words between spaces, and the kernel's own limit is 2 KiB.
///
/// Source: Linux `arch/x86/include/asm/setup.h`, `COMMAND_LINE_SIZE`.
fn check_kernel_arguments(arguments: &[String]) -> Result<(), EngineError> {
    /// Half of it; the rest is for what every machine is told.
    const BYTES_MAX: usize = 1024;
    let odd = |c: char| c.is_control() || !c.is_ascii();
    if let Some(bad) = arguments.iter().find(|text| text.trim().is_empty() || text.contains(odd)) {
        let why = format!("{bad:?}: use a word of a kernel's command line, such as quiet");
        return Err(invalid("kernel argument", why));
    }
    let bytes: usize = arguments.iter().map(|text| text.len() + 1).sum();
    if bytes > BYTES_MAX {
        let why = format!("{bytes} bytes of kernel arguments: at most {BYTES_MAX}");
        return Err(invalid("kernel argument", why));
    }
    Ok(())
}

fn check_security(config: &Create) -> Result<(), EngineError> {
    let security = &config.security;
    let known =
        |name: &&String| name.eq_ignore_ascii_case("all") || profile::capability(name).is_some();
    if let Some(bad) = security.cap_add.iter().chain(&security.cap_drop).find(|name| !known(name)) {
        return Err(invalid("capability", format!("invalid capability: {bad:?}")));
    }
    let letters = |text: &str| !text.is_empty() && text.bytes().all(|b| b"rwm".contains(&b));
    for device in &config.devices {
        if !letters(&device.permissions) {
            let why = format!("invalid device mode: {:?}: use letters of rwm", device.permissions);
            return Err(invalid("device", why));
        }
    }
    if let Some(text) = security.seccomp.as_deref().filter(|text| *text != "unconfined") {
        seccomp::Profile::parse(text.as_bytes())
            .map_err(|error| invalid("seccomp", crate::error::chain(&error)))?;
    }
    Ok(())
}

/// `-P`: every exposed port that is not published otherwise gets a free port of the host.
fn publish_exposed(config: &mut Create) {
    if !config.publish_all {
        return;
    }
    for (container_port, protocol) in config.expose.clone() {
        let same =
            |port: &PortRequest| (port.container_port, port.protocol) == (container_port, protocol);
        if !config.ports.iter().any(same) {
            config.ports.push(PortRequest {
                container_port,
                protocol,
                host_ip: None,
                host_port: None,
                host_port_end: None,
            });
        }
    }
}

pub(crate) fn invalid(what: &str, why: String) -> EngineError {
    EngineError::Invalid { what: what.to_owned(), why }
}
