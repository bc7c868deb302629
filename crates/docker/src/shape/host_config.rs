//! `HostConfig` of `inspect`: what was asked of the host.

use std::collections::BTreeMap;

use engine::{Create, MountKind, MountRequest, NamespaceMode, NetworkMode, SecurityOptions};
use serde::Serialize;
use workload::{BlockRate, CpuLimits, Isolation, MemorySwap, profile};

use super::ports::{self, Binding};

/// Docker's `HostConfig`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HostConfig {
    binds: Option<Vec<String>>,
    #[serde(rename = "ContainerIDFile")]
    container_id_file: &'static str,
    log_config: LogConfig,
    network_mode: String,
    port_bindings: BTreeMap<String, Vec<Binding>>,
    restart_policy: RestartPolicy,
    auto_remove: bool,
    volume_driver: String,
    volumes_from: Option<Vec<String>>,
    console_size: [u16; 2],
    cap_add: Option<Vec<String>>,
    cap_drop: Option<Vec<String>>,
    cgroupns_mode: String,
    dns: Vec<String>,
    dns_options: Vec<String>,
    dns_search: Vec<String>,
    extra_hosts: Option<Vec<String>>,
    group_add: Option<Vec<String>>,
    ipc_mode: String,
    cgroup: &'static str,
    links: Option<Vec<String>>,
    oom_score_adj: i16,
    pid_mode: String,
    privileged: bool,
    publish_all_ports: bool,
    readonly_rootfs: bool,
    security_opt: Option<Vec<String>>,
    #[serde(rename = "UTSMode")]
    uts_mode: String,
    userns_mode: &'static str,
    shm_size: u64,
    runtime: &'static str,
    isolation: String,
    cpu_shares: u64,
    memory: u64,
    nano_cpus: u64,
    cgroup_parent: String,
    blkio_weight: u16,
    blkio_weight_device: Vec<WeightDevice>,
    blkio_device_read_bps: Vec<ThrottleDevice>,
    blkio_device_write_bps: Vec<ThrottleDevice>,
    #[serde(rename = "BlkioDeviceReadIOps")]
    blkio_device_read_iops: Vec<ThrottleDevice>,
    #[serde(rename = "BlkioDeviceWriteIOps")]
    blkio_device_write_iops: Vec<ThrottleDevice>,
    cpu_period: u64,
    cpu_quota: u64,
    cpu_realtime_period: u64,
    cpu_realtime_runtime: i64,
    cpuset_cpus: String,
    cpuset_mems: String,
    devices: Vec<Device>,
    device_cgroup_rules: Option<Vec<String>>,
    device_requests: Option<()>,
    memory_reservation: u64,
    memory_swap: i64,
    memory_swappiness: Option<u8>,
    oom_kill_disable: bool,
    pids_limit: Option<u64>,
    ulimits: Vec<Ulimit>,
    cpu_count: u64,
    cpu_percent: u64,
    #[serde(rename = "IOMaximumIOps")]
    io_maximum_iops: u64,
    #[serde(rename = "IOMaximumBandwidth")]
    io_maximum_bandwidth: u64,
    init: Option<bool>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tmpfs: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    sysctls: BTreeMap<String, String>,
    masked_paths: Vec<&'static str>,
    readonly_paths: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct LogConfig {
    r#type: &'static str,
    config: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RestartPolicy {
    name: &'static str,
    maximum_retry_count: u32,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct WeightDevice {
    path: String,
    weight: u16,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ThrottleDevice {
    path: String,
    rate: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Device {
    path_on_host: String,
    path_in_container: String,
    cgroup_permissions: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ulimit {
    name: String,
    hard: i64,
    soft: i64,
}

impl HostConfig {
    /// What was asked of the host.
    pub fn of(create: &Create) -> HostConfig {
        let (limits, cpu, memory) = (&create.limits, &create.limits.cpu, &create.limits.memory);
        let security = &create.security;
        let open = security.privileged || security.unmasked;
        let (nano_cpus, cpu_quota, cpu_period) = cpu_time(cpu);
        HostConfig {
            binds: some(create.mounts.iter().filter_map(bind).collect()),
            container_id_file: "",
            log_config: log_config(create),
            network_mode: network_name(&create.network),
            port_bindings: port_bindings(create),
            restart_policy: restart_policy(create.restart),
            auto_remove: create.auto_remove,
            volume_driver: create.volume_driver.clone().unwrap_or_default(),
            volumes_from: some(create.volumes_from.clone()),
            console_size: create.terminal_size.map_or([0, 0], |size| [size.rows, size.columns]),
            cap_add: some(security.cap_add.iter().map(|name| capability(name)).collect()),
            cap_drop: some(security.cap_drop.iter().map(|name| capability(name)).collect()),
            cgroupns_mode: namespace(&create.cgroupns, "private"),
            dns: create.dns.iter().map(ToString::to_string).collect(),
            dns_options: create.dns_options.clone(),
            dns_search: create.dns_search.clone(),
            extra_hosts: some(
                create.extra_hosts.iter().map(|(name, ip)| format!("{name}:{ip}")).collect(),
            ),
            group_add: some(create.groups.clone()),
            ipc_mode: namespace(&create.ipc, "private"),
            cgroup: "",
            links: None,
            oom_score_adj: create.oom_score_adj.unwrap_or(0),
            pid_mode: namespace(&create.pid, ""),
            privileged: security.privileged,
            publish_all_ports: create.publish_all,
            readonly_rootfs: create.read_only,
            security_opt: some(security_opt(security)),
            uts_mode: namespace(&create.uts, ""),
            userns_mode: if create.user_map.is_some() { "private" } else { "" },
            shm_size: create.shm_size.map_or(64 << 20, |size| size.bytes()),
            runtime: "wythe",
            isolation: isolation(create.isolation),
            cpu_shares: cpu.shares.unwrap_or(0),
            memory: memory.limit.map_or(0, |limit| limit.bytes()),
            nano_cpus,
            cgroup_parent: create.cgroup_parent.clone().unwrap_or_default(),
            blkio_weight: limits.block_weight.unwrap_or(0),
            blkio_weight_device: weights(&limits.block_rates),
            blkio_device_read_bps: throttle(&limits.block_rates, |rate| rate.read_bytes),
            blkio_device_write_bps: throttle(&limits.block_rates, |rate| rate.write_bytes),
            blkio_device_read_iops: throttle(&limits.block_rates, |rate| rate.read_operations),
            blkio_device_write_iops: throttle(&limits.block_rates, |rate| rate.write_operations),
            cpu_period,
            cpu_quota,
            cpu_realtime_period: cpu.realtime_period_us.unwrap_or(0),
            cpu_realtime_runtime: cpu.realtime_runtime_us.unwrap_or(0),
            cpuset_cpus: cpu.cpus.clone().unwrap_or_default(),
            cpuset_mems: cpu.mems.clone().unwrap_or_default(),
            devices: devices(create),
            device_requests: None,
            device_cgroup_rules: some(create.device_rules.clone()),
            memory_reservation: memory.reservation.map_or(0, |limit| limit.bytes()),
            memory_swap: match memory.swap {
                None => 0,
                Some(MemorySwap::Unlimited) => -1,
                Some(MemorySwap::Total(total)) => i64::try_from(total.bytes()).unwrap_or(i64::MAX),
            },
            memory_swappiness: memory.swappiness,
            oom_kill_disable: memory.disable_oom_killer,
            pids_limit: limits.pids,
            ulimits: ulimits(create),
            // Windows'.
            cpu_count: 0,
            cpu_percent: 0,
            io_maximum_iops: 0,
            io_maximum_bandwidth: 0,
            init: create.init.then_some(true),
            tmpfs: create.mounts.iter().filter_map(tmpfs).collect(),
            sysctls: create.sysctls.clone(),
            masked_paths: if open { Vec::new() } else { profile::MASKED_PATHS.to_vec() },
            readonly_paths: if open { Vec::new() } else { profile::READ_ONLY_PATHS.to_vec() },
        }
    }
}

fn restart_policy(policy: engine::RestartPolicy) -> RestartPolicy {
    let most = match policy {
        engine::RestartPolicy::OnFailure { most } => most,
        engine::RestartPolicy::No
        | engine::RestartPolicy::Always
        | engine::RestartPolicy::UnlessStopped => None,
    };
    RestartPolicy { name: policy.name(), maximum_retry_count: most.unwrap_or(0) }
}

/// Docker's word for a network mode.
pub fn network_name(mode: &NetworkMode) -> String {
    match mode {
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Named(name) => name.clone(),
        NetworkMode::Container(who) => format!("container:{who}"),
    }
}

/// An empty list is `null`, as Go writes a list that was never made.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    if list.is_empty() { None } else { Some(list) }
}

fn namespace(mode: &NamespaceMode, private: &str) -> String {
    match mode {
        NamespaceMode::Private => private.to_owned(),
        NamespaceMode::Host => "host".to_owned(),
        NamespaceMode::Container(who) => format!("container:{who}"),
    }
}

fn capability(name: &str) -> String {
    match name {
        "ALL" => name.to_owned(),
        _ if name.starts_with("CAP_") => name.to_owned(),
        _ => format!("CAP_{name}"),
    }
}

/// `--cpus` is shown as such; a quota of its own stays one.
fn cpu_time(cpu: &CpuLimits) -> (u64, u64, u64) {
    match (cpu.quota_us, cpu.period_us) {
        (Some(quota), Some(100_000)) => (quota.saturating_mul(10_000), 0, 0),
        (quota, period) => (0, quota.unwrap_or(0), period.unwrap_or(0)),
    }
}

fn log_config(create: &Create) -> LogConfig {
    let log = &create.log;
    let mut config = log.given.clone();
    if log.can_be_read() {
        // What nobody said is said here.
        config.entry("max-file".to_owned()).or_insert_with(|| log.files_max.to_string());
        config.entry("max-size".to_owned()).or_insert_with(|| log.bytes_max.to_string());
    }
    LogConfig { r#type: log.driver_name(), config }
}

fn port_bindings(create: &Create) -> BTreeMap<String, Vec<Binding>> {
    let mut bindings: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
    for port in &create.ports {
        let binding = Binding {
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            host_port: match (port.host_port, port.host_port_end) {
                (None, _) => String::new(),
                (Some(first), Some(last)) if first != last => format!("{first}-{last}"),
                (Some(port), _) => port.to_string(),
            },
        };
        bindings.entry(ports::key(port.container_port, port.protocol)).or_default().push(binding);
    }
    bindings
}

fn bind(mount: &MountRequest) -> Option<String> {
    let (source, propagation) = match &mount.kind {
        MountKind::Bind { source, propagation, .. } => {
            (source.display().to_string(), propagation.as_deref())
        }
        MountKind::Volume(volume) if !volume.anonymous => (volume.name.clone(), None),
        MountKind::Volume(_) | MountKind::Tmpfs { .. } => return None,
    };
    let mut options: Vec<&str> = Vec::new();
    if mount.read_only {
        options.push("ro");
    }
    options.extend(propagation);
    let bind = format!("{source}:{}", mount.target.display());
    Some(if options.is_empty() { bind } else { format!("{bind}:{}", options.join(",")) })
}

fn tmpfs(mount: &MountRequest) -> Option<(String, String)> {
    let MountKind::Tmpfs { size, mode, options } = &mount.kind else { return None };
    let mut words = Vec::new();
    if mount.read_only {
        words.push("ro".to_owned());
    }
    words.extend(size.map(|size| format!("size={}", size.bytes())));
    words.extend(mode.map(|mode| format!("mode={mode:o}")));
    words.extend(options.iter().cloned());
    Some((mount.target.display().to_string(), words.join(",")))
}

fn security_opt(security: &SecurityOptions) -> Vec<String> {
    let mut options = Vec::new();
    if security.no_new_privileges {
        options.push("no-new-privileges".to_owned());
    }
    options.extend(security.seccomp.as_ref().map(|profile| format!("seccomp={profile}")));
    options.extend(security.apparmor.as_ref().map(|profile| format!("apparmor={profile}")));
    options.extend(security.selinux.as_ref().map(|label| format!("label={label}")));
    if security.unmasked {
        options.push("systempaths=unconfined".to_owned());
    }
    options
}

fn device_path(rate: &BlockRate) -> String {
    format!("/dev/block/{}:{}", rate.major, rate.minor)
}

fn weights(rates: &[BlockRate]) -> Vec<WeightDevice> {
    let weight = |rate: &BlockRate| {
        rate.weight.map(|weight| WeightDevice { path: device_path(rate), weight })
    };
    rates.iter().filter_map(weight).collect()
}

fn throttle(rates: &[BlockRate], of: fn(&BlockRate) -> Option<u64>) -> Vec<ThrottleDevice> {
    let device = |rate: &BlockRate| {
        of(rate).map(|value| ThrottleDevice { path: device_path(rate), rate: value })
    };
    rates.iter().filter_map(device).collect()
}

fn devices(create: &Create) -> Vec<Device> {
    let device = |device: &engine::DeviceRequest| Device {
        path_on_host: device.host.display().to_string(),
        path_in_container: device.container.display().to_string(),
        cgroup_permissions: device.permissions.clone(),
    };
    create.devices.iter().map(device).collect()
}

fn ulimits(create: &Create) -> Vec<Ulimit> {
    // Unlimited is -1, as Docker writes it.
    let limit = |value: u64| i64::try_from(value).unwrap_or(-1);
    let ulimit = |one: &engine::UlimitRequest| Ulimit {
        name: one.name.clone(),
        hard: limit(one.hard),
        soft: limit(one.soft),
    };
    create.ulimits.iter().map(ulimit).collect()
}

/// Docker's word for it where Docker has one: clients take no other.
fn isolation(isolation: Isolation) -> String {
    match isolation {
        Isolation::Container => String::new(),
        Isolation::Vm => "hyperv".to_owned(),
        Isolation::Wasm | Isolation::Host => isolation.to_string(),
    }
}
