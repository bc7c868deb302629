//! A container as `inspect` shows it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use engine::{
    Container, ContainerSize, ContainerState, EndpointRequest, MountKind, MountRequest, NetworkMode,
};
use serde::Serialize;

use super::{
    health,
    host_config::{HostConfig, network_name},
    ports::{self, Binding},
    status,
};
use crate::time;

/// Docker's `ContainerJSON`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ContainerJson {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: State,
    image: String,
    resolv_conf_path: &'static str,
    hostname_path: &'static str,
    hosts_path: &'static str,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: &'static str,
    mount_label: &'static str,
    process_label: String,
    app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: HostConfig,
    graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<Mount>,
    config: Config,
    network_settings: NetworkSettings,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: u32,
    exit_code: u8,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<health::Health>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Option<()>,
    name: &'static str,
}

/// Docker's `MountPoint`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Mount {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    source: String,
    destination: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    driver: Option<&'static str>,
    mode: String,
    #[serde(rename = "RW")]
    rw: bool,
    propagation: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    hostname: String,
    domainname: String,
    user: String,
    attach_stdin: bool,
    attach_stdout: bool,
    attach_stderr: bool,
    exposed_ports: BTreeMap<String, Empty>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    env: Vec<String>,
    cmd: Option<Vec<String>>,
    image: String,
    volumes: Option<BTreeMap<String, Empty>>,
    working_dir: String,
    entrypoint: Option<Vec<String>>,
    on_build: Option<()>,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    healthcheck: Option<health::Check>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_timeout: Option<u32>,
}

/// Go's `struct{}`: `{}`.
#[derive(Debug, Serialize)]
struct Empty {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    bridge: &'static str,
    #[serde(rename = "SandboxID")]
    sandbox_id: String,
    sandbox_key: String,
    ports: BTreeMap<String, Option<Vec<Binding>>>,
    hairpin_mode: bool,
    #[serde(rename = "LinkLocalIPv6Address")]
    link_local_ipv6_address: &'static str,
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    link_local_ipv6_prefix_len: u8,
    #[serde(rename = "SecondaryIPAddresses")]
    secondary_ip_addresses: Option<()>,
    #[serde(rename = "SecondaryIPv6Addresses")]
    secondary_ipv6_addresses: Option<()>,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    mac_address: String,
    networks: BTreeMap<String, Endpoint>,
}

/// Docker's `EndpointSettings`: a container in one network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Endpoint {
    #[serde(rename = "IPAMConfig")]
    ipam_config: Option<BTreeMap<String, String>>,
    links: Option<()>,
    aliases: Option<Vec<String>>,
    driver_opts: Option<()>,
    gw_priority: i32,
    #[serde(rename = "NetworkID")]
    network_id: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    gateway: String,
    #[serde(rename = "IPAddress")]
    ip_address: String,
    #[serde(rename = "IPPrefixLen")]
    ip_prefix_len: u8,
    #[serde(rename = "IPv6Gateway")]
    ipv6_gateway: String,
    #[serde(rename = "GlobalIPv6Address")]
    global_ipv6_address: String,
    #[serde(rename = "GlobalIPv6PrefixLen")]
    global_ipv6_prefix_len: u8,
    #[serde(rename = "DNSNames")]
    dns_names: Option<Vec<String>>,
}

impl ContainerJson {
    /// The container in Docker's words.
    pub fn of(container: &Container) -> ContainerJson {
        let config = &container.config;
        let words: Vec<String> =
            config.entrypoint.iter().flatten().chain(&config.command).cloned().collect();
        let (path, args) = match words.split_first() {
            Some((path, args)) => (path.clone(), args.to_vec()),
            None => (String::new(), Vec::new()),
        };
        let execs = container.execs.clone();
        ContainerJson {
            id: container.id.as_str().to_owned(),
            created: time::rfc3339(Some(container.created)),
            path,
            args,
            state: state(container),
            image: container.image_id.clone(),
            resolv_conf_path: "",
            hostname_path: "",
            hosts_path: "",
            log_path: container.log_path.clone().unwrap_or_default(),
            name: format!("/{}", container.name),
            restart_count: container.state.restarts,
            driver: "erofs",
            platform: "linux",
            mount_label: "",
            process_label: config.security.selinux.clone().unwrap_or_default(),
            app_armor_profile: config.security.apparmor.clone().unwrap_or_default(),
            exec_ids: if execs.is_empty() { None } else { Some(execs) },
            host_config: HostConfig::of(config),
            graph_driver: GraphDriver { data: None, name: "erofs" },
            size_rw: None,
            size_root_fs: None,
            mounts: config.mounts.iter().map(mount).collect(),
            config: self::config(container),
            network_settings: network(container),
        }
    }

    /// The same with its sizes, if they could be had.
    pub fn with_size(self, size: Option<&ContainerSize>) -> ContainerJson {
        ContainerJson {
            size_rw: size.map(|size| size.written),
            size_root_fs: size.map(|size| size.root),
            ..self
        }
    }
}

fn state(container: &Container) -> State {
    let view = &container.state;
    let paused = view.state == ContainerState::Paused;
    // Docker: what restarts is running too.
    let restarting = view.state == ContainerState::Restarting;
    State {
        status: status::word(view.state),
        running: paused || restarting || view.state == ContainerState::Running,
        paused,
        restarting,
        oom_killed: view.exit.is_some_and(|exit| exit.out_of_memory),
        dead: view.state == ContainerState::Dead,
        pid: view.pid.unwrap_or(0),
        exit_code: status::exit_code(view),
        error: status::error(view),
        started_at: time::rfc3339(view.started),
        finished_at: time::rfc3339(view.exit.map(|exit| exit.at)),
        health: view.health.as_ref().map(health::Health::of),
    }
}

pub(crate) fn mount(mount: &MountRequest) -> Mount {
    let mode = if mount.read_only { "ro" } else { "" }.to_owned();
    let destination = mount.target.display().to_string();
    let rw = !mount.read_only;
    match &mount.kind {
        MountKind::Bind { source, propagation, .. } => Mount {
            r#type: "bind",
            name: None,
            driver: None,
            source: source.display().to_string(),
            destination,
            mode,
            rw,
            propagation: propagation.clone().unwrap_or_else(|| "rprivate".to_owned()),
        },
        // Docker's mode of a volume that was asked for: a label that all may share.
        MountKind::Volume(volume) => Mount {
            r#type: "volume",
            name: Some(volume.name.clone()),
            source: volume.source.iter().map(|path| path.display().to_string()).collect(),
            destination,
            driver: Some("local"),
            mode: match mount.read_only || volume.anonymous {
                true => mode,
                false => "z".to_owned(),
            },
            rw,
            propagation: String::new(),
        },
        MountKind::Tmpfs { .. } => Mount {
            r#type: "tmpfs",
            name: None,
            driver: None,
            source: String::new(),
            destination,
            mode,
            rw,
            propagation: String::new(),
        },
    }
}

fn config(container: &Container) -> Config {
    let config = &container.config;
    let command = config.command.clone();
    let short = || container.id.short().to_owned();
    Config {
        hostname: config.hostname.clone().unwrap_or_else(short),
        domainname: config.domainname.clone().unwrap_or_default(),
        user: config.user.clone().unwrap_or_default(),
        attach_stdin: config.stdin && config.stdin_once,
        attach_stdout: config.stdin_once,
        attach_stderr: config.stdin_once,
        exposed_ports: config
            .expose
            .iter()
            .map(|(port, protocol)| (ports::key(*port, *protocol), Empty {}))
            .collect(),
        tty: config.terminal,
        open_stdin: config.stdin,
        stdin_once: config.stdin_once,
        env: config.env.clone(),
        cmd: if command.is_empty() { None } else { Some(command) },
        image: super::image::familiar(&config.image).to_owned(),
        volumes: anonymous(config),
        working_dir: config.working_dir.clone().unwrap_or_default(),
        entrypoint: config.entrypoint.clone(),
        on_build: None,
        labels: config.labels.clone(),
        healthcheck: config.health.as_ref().map(health::Check::of),
        stop_signal: config.stop_signal.map(|signal| signal.to_string()),
        stop_timeout: config.stop_timeout_s,
    }
}

/// Paths of anonymous volumes, as Docker has them beside the image's.
fn anonymous(config: &engine::Create) -> Option<BTreeMap<String, Empty>> {
    let paths = config.mounts.iter().filter_map(|mount| match &mount.kind {
        MountKind::Volume(volume) if volume.anonymous => {
            Some((mount.target.display().to_string(), Empty {}))
        }
        MountKind::Volume(_) | MountKind::Bind { .. } | MountKind::Tmpfs { .. } => None,
    });
    let paths: BTreeMap<_, _> = paths.collect();
    if paths.is_empty() { None } else { Some(paths) }
}

fn network(container: &Container) -> NetworkSettings {
    let view = &container.network;
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let of4 = |address: Option<Ipv4Addr>| text(address.map(IpAddr::V4));
    let of6 = |address: Option<Ipv6Addr>| text(address.map(IpAddr::V6));
    let (ip, gateway) = (of4(view.address), of4(view.gateway));
    let (ip6, gateway6) = (of6(view.address6), of6(view.gateway6));
    let mac = view.mac.clone().unwrap_or_default();
    let networks = endpoints(container);
    NetworkSettings {
        bridge: "",
        sandbox_id: container.id.as_str().to_owned(),
        // The network namespace, where it can be entered.
        sandbox_key: match container.state.pid {
            Some(pid) => format!("/proc/{pid}/ns/net"),
            None => String::new(),
        },
        ports: ports::bound(&container.config.expose, &view.ports),
        hairpin_mode: false,
        link_local_ipv6_address: "",
        link_local_ipv6_prefix_len: 0,
        secondary_ip_addresses: None,
        secondary_ipv6_addresses: None,
        endpoint_id: match view.address {
            Some(_) => container.id.as_str().to_owned(),
            None => String::new(),
        },
        gateway,
        ip_address: ip,
        ip_prefix_len: view.prefix,
        ipv6_gateway: gateway6,
        global_ipv6_address: ip6,
        global_ipv6_prefix_len: view.prefix6,
        mac_address: mac,
        networks,
    }
}

/// The networks that a container is in, by name.
pub(crate) fn endpoints(container: &Container) -> BTreeMap<String, Endpoint> {
    let mode = &container.config.network;
    let wanted = match mode {
        NetworkMode::Container(_) => return BTreeMap::new(),
        NetworkMode::None | NetworkMode::Host => {
            [(network_name(mode), EndpointRequest::default())].into()
        }
        NetworkMode::Bridge | NetworkMode::Named(_) => container.config.places(),
    };
    wanted
        .into_iter()
        .map(|(name, request)| (name.clone(), shown(container, &name, request)))
        .collect()
}

/// A container's place on a network, as it is or as it was asked for.
fn shown(container: &Container, name: &str, request: EndpointRequest) -> Endpoint {
    let text = |address: Option<IpAddr>| address.map(|a| a.to_string()).unwrap_or_default();
    let four = |address: Option<Ipv4Addr>| text(address.map(IpAddr::V4));
    let six = |address: Option<Ipv6Addr>| text(address.map(IpAddr::V6));
    let view = &container.network;
    let place = view.places.iter().find(|place| place.network == name);
    let asks = request.ipv4.is_some() || request.ipv6.is_some();
    let mut endpoint = Endpoint {
        ipam_config: asks.then(|| {
            let mut config = BTreeMap::new();
            config.extend(request.ipv4.map(|a| ("IPv4Address".to_owned(), a.to_string())));
            config.extend(request.ipv6.map(|a| ("IPv6Address".to_owned(), a.to_string())));
            config
        }),
        links: None,
        aliases: Some(request.aliases).filter(|aliases| !aliases.is_empty()),
        driver_opts: None,
        gw_priority: request.priority,
        network_id: place.map_or_else(|| name.to_owned(), |place| place.network_id.clone()),
        endpoint_id: place.map(|place| place.id(&container.id)).unwrap_or_default(),
        mac_address: place.map(|place| place.mac.clone()).or(request.mac).unwrap_or_default(),
        gateway: four(place.and_then(|place| place.gateway)),
        ip_address: four(place.map(|place| place.address)),
        ip_prefix_len: place.map_or(0, |place| place.prefix),
        ipv6_gateway: six(place.and_then(|place| place.gateway6)),
        global_ipv6_address: six(place.and_then(|place| place.address6)),
        global_ipv6_prefix_len: place.map_or(0, |place| place.prefix6),
        dns_names: place.filter(|_| name != "bridge").map(|place| {
            let own = std::iter::once(container.name.to_string());
            own.chain(place.names.iter().cloned()).collect()
        }),
    };
    if place.is_none() && view.places.is_empty() && name == "bridge" && view.address.is_some() {
        // A record of an earlier version, which knows of the default network alone.
        endpoint.endpoint_id = container.id.as_str().to_owned();
        endpoint.mac_address = view.mac.clone().unwrap_or_default();
        endpoint.gateway = four(view.gateway);
        endpoint.ip_address = four(view.address);
        endpoint.ip_prefix_len = view.prefix;
        endpoint.ipv6_gateway = six(view.gateway6);
        endpoint.global_ipv6_address = six(view.address6);
        endpoint.global_ipv6_prefix_len = view.prefix6;
    }
    endpoint
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn inspect_shows_dockers_json() {
        let json = serde_json::to_string_pretty(&ContainerJson::of(&fixture::container())).unwrap();
        insta::assert_snapshot!(json);
    }
}
