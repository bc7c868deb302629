//! Flags about the network.

use std::net::IpAddr;

use engine::{Create, NetworkMode};

use super::{
    FlagError,
    port::{self, Expose, Publish},
};

#[derive(Debug, clap::Args)]
pub(super) struct NetworkFlags {
    /// Connect a container to a network
    #[arg(long, visible_alias = "net", value_name = "network")]
    network: Vec<String>,
    /// Publish a container's port(s) to the host
    #[arg(short, long, value_name = "list", value_parser = port::publish)]
    publish: Vec<Publish>,
    /// Publish all exposed ports to random ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Expose a port or a range of ports
    #[arg(long, value_name = "list", value_parser = port::expose)]
    expose: Vec<Expose>,
    /// Set custom DNS servers
    #[arg(long, value_name = "list")]
    dns: Vec<IpAddr>,
    /// Set custom DNS search domains
    #[arg(long, value_name = "list")]
    dns_search: Vec<String>,
    /// Set DNS options
    #[arg(long, visible_alias = "dns-opt", value_name = "list")]
    dns_option: Vec<String>,
    /// Add a custom host-to-IP mapping (host:ip)
    #[arg(long, value_name = "list", value_parser = docker::spec::host::mapping)]
    add_host: Vec<(String, String)>,
}

impl NetworkFlags {
    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        create.network = match self.network.as_slice() {
            [] => NetworkMode::Bridge,
            [one] => mode(one)?,
            [_, second, ..] => {
                let flag = format!("--network {second}");
                return Err(FlagError::unbuilt(flag, "a container has one network"));
            }
        };
        create.ports = self.publish.into_iter().flat_map(|Publish(ports)| ports).collect();
        create.publish_all = self.publish_all;
        create.expose = self.expose.into_iter().flat_map(|Expose(ports)| ports).collect();
        create.dns = self.dns;
        create.dns_search = self.dns_search;
        create.dns_options = self.dns_option;
        create.extra_hosts = self.add_host;
        let host = create.network == NetworkMode::Host;
        if host && create.hostname.is_some() && create.uts == engine::NamespaceMode::Host {
            return Err(FlagError::Conflict("--hostname and the host's network".to_owned()));
        }
        Ok(())
    }
}

fn mode(text: &str) -> Result<NetworkMode, FlagError> {
    match text.split_once(':') {
        Some(("container", "")) => {
            let why = "name the container: container:NAME";
            Err(FlagError::invalid("network", text, why))
        }
        Some(("container", who)) => Ok(NetworkMode::Container(who.to_owned())),
        _ => match text {
            "bridge" | "default" | "" => Ok(NetworkMode::Bridge),
            "host" => Ok(NetworkMode::Host),
            "none" => Ok(NetworkMode::None),
            _ => {
                let what = "networks of one's own: use bridge, none, host or container:NAME";
                Err(FlagError::unbuilt(format!("--network {text}"), what))
            }
        },
    }
}
