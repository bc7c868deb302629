//! A network in Docker's JSON.

use std::collections::BTreeMap;

use base::clock::Timestamp;
use engine::{NetworkInfo, NetworkUser, Pool};
use serde::Serialize;

use crate::time;

/// Docker's `NetworkResource`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct NetworkJson {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: String,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, User>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: Option<BTreeMap<String, String>>,
    config: Vec<Config>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    subnet: String,
    #[serde(rename = "IPRange", skip_serializing_if = "Option::is_none")]
    range: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    auxiliary_addresses: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct User {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: String,
}

impl NetworkJson {
    /// The network in Docker's words.
    pub fn of(network: &NetworkInfo) -> NetworkJson {
        let users = network.containers.iter();
        NetworkJson {
            containers: users.map(|one| (one.container.to_string(), user(one))).collect(),
            ..NetworkJson::in_list(network)
        }
    }

    /// The same in a list, where nobody is told who is plugged in.
    pub fn in_list(network: &NetworkInfo) -> NetworkJson {
        NetworkJson {
            name: network.name.clone(),
            id: network.id.clone(),
            created: time::rfc3339(Some(network.created.unwrap_or(Timestamp(0)))),
            scope: "local",
            driver: network.driver.clone(),
            enable_ipv4: true,
            enable_ipv6: network.ipv6,
            ipam: Ipam {
                driver: "default",
                options: (!network.builtin).then(BTreeMap::new),
                config: network.pools.iter().map(config).collect(),
            },
            internal: network.internal,
            attachable: network.attachable,
            ingress: false,
            config_from: ConfigFrom { network: "" },
            config_only: false,
            containers: BTreeMap::new(),
            options: network.options.clone(),
            labels: network.labels.clone(),
        }
    }
}

fn config(pool: &Pool) -> Config {
    let auxiliary = pool.auxiliary.iter();
    Config {
        subnet: pool.subnet.clone(),
        range: pool.range.clone(),
        gateway: pool.gateway.map(|gateway| gateway.to_string()),
        auxiliary_addresses: auxiliary.map(|(name, a)| (name.clone(), a.to_string())).collect(),
    }
}

fn user(user: &NetworkUser) -> User {
    let place = &user.endpoint;
    let six = place.address6.map(|six| format!("{six}/{}", place.prefix6));
    User {
        name: user.name.clone(),
        endpoint_id: place.id(&user.container),
        mac_address: place.mac.clone(),
        ipv4_address: format!("{}/{}", place.address, place.prefix),
        ipv6_address: six.unwrap_or_default(),
    }
}
