//! Flags about the network.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use engine::{Create, EndpointRequest, NetworkMode};

use super::{
    FlagError,
    port::{self, Expose, Publish},
};

#[derive(Debug, clap::Args)]
pub(super) struct NetworkFlags {
    /// Connect a container to a network
    #[arg(long, visible_alias = "net", value_name = "network")]
    network: Vec<String>,
    /// Add network-scoped alias for the container
    #[arg(long, visible_alias = "net-alias", value_name = "list")]
    network_alias: Vec<String>,
    /// IPv4 address (e.g., 172.30.100.104)
    #[arg(long, value_name = "ip")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address (e.g., 2001:db8::33)
    #[arg(long, value_name = "ip")]
    ip6: Option<Ipv6Addr>,
    /// Container MAC address (e.g., 92:d0:c6:0a:29:33)
    #[arg(long, value_name = "string")]
    mac_address: Option<String>,
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
    /// Flags of their own are about the first network.
    fn apply_networks(&self, create: &mut Create) -> Result<(), FlagError> {
        let mut places = BTreeMap::new();
        let all = self.network.iter().map(|text| joined(text)).collect::<Result<Vec<_>, _>>()?;
        create.network = all.first().map(|(mode, _)| mode.clone()).unwrap_or_default();
        let own = EndpointRequest {
            aliases: self.network_alias.clone(),
            ipv4: self.ip,
            ipv6: self.ip6,
            mac: self.mac_address.clone(),
            priority: 0,
        };
        let mut all = all;
        if all.is_empty() {
            all.push((NetworkMode::Bridge, EndpointRequest::default()));
        }
        let said = all.len() > 1 || own != EndpointRequest::default();
        let said = said || all.iter().any(|(_, place)| *place != EndpointRequest::default());
        for (at, (mode, mut place)) in all.into_iter().enumerate() {
            if at == 0 {
                merge(&mut place, &own)?;
            }
            let Some(name) = mode.name().filter(|_| create.network.is_plugged()) else {
                if said {
                    let text = "a container on several networks, or with addresses or names of \
                                its own, and the network mode";
                    return Err(FlagError::Conflict(text.to_owned()));
                }
                continue;
            };
            if places.insert(name.to_owned(), place).is_some() {
                return Err(FlagError::Conflict(format!("network {name} is given twice")));
            }
        }
        create.endpoints = Some(places).filter(|_| said);
        Ok(())
    }

    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        self.apply_networks(create)?;
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

/// A network by its name, or as `name=…,alias=…,ip=…,ip6=…,mac-address=…,gw-priority=…`.
///
/// Source: docker/cli, `opts.NetworkOpt`.
fn joined(text: &str) -> Result<(NetworkMode, EndpointRequest), FlagError> {
    let mut place = EndpointRequest::default();
    if !text.contains('=') {
        return Ok((mode(text)?, place));
    }
    let mut name = None;
    for part in text.split(',') {
        let invalid = |why: &str| FlagError::invalid("network", part, why);
        let (key, value) = part.split_once('=').ok_or_else(|| invalid("write key=value"))?;
        match key.to_ascii_lowercase().as_str() {
            "name" => name = Some(value),
            "alias" => place.aliases.push(value.to_owned()),
            "ip" => place.ipv4 = Some(value.parse().map_err(|_| invalid("it is no address"))?),
            "ip6" => place.ipv6 = Some(value.parse().map_err(|_| invalid("it is no address"))?),
            "mac-address" => place.mac = Some(value.to_owned()),
            "gw-priority" => {
                place.priority = value.parse().map_err(|_| invalid("it is no number"))?;
            }
            "link-local-ip" | "driver-opt" => {
                return Err(FlagError::unbuilt(format!("--network {key}"), "endpoints have none"));
            }
            _ => return Err(invalid("use name, alias, ip, ip6, mac-address or gw-priority")),
        }
    }
    let name = name.ok_or_else(|| FlagError::invalid("network", text, "name is missing"))?;
    Ok((mode(name)?, place))
}

/// What flags of their own say, unless the network's flag says something else.
fn merge(place: &mut EndpointRequest, own: &EndpointRequest) -> Result<(), FlagError> {
    let conflict = |flag: &str| {
        let text = format!("cannot specify both --{flag} and per-network {flag}");
        Err(FlagError::Conflict(text))
    };
    if place.ipv4.is_some() && own.ipv4.is_some() {
        return conflict("ip");
    }
    if place.ipv6.is_some() && own.ipv6.is_some() {
        return conflict("ip6");
    }
    if place.mac.is_some() && own.mac.is_some() {
        return conflict("mac-address");
    }
    place.aliases.extend(own.aliases.iter().cloned());
    place.ipv4 = place.ipv4.or(own.ipv4);
    place.ipv6 = place.ipv6.or(own.ipv6);
    if place.mac.is_none() {
        place.mac.clone_from(&own.mac);
    }
    Ok(())
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
            _ => Ok(NetworkMode::Named(text.to_owned())),
        },
    }
}
