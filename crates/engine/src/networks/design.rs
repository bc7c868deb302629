//! What a request for a network means: addresses, bridge, rules.
//!
//! Pure. Names of options and error texts are Docker's.

use std::{collections::BTreeMap, net::IpAddr};

use base::{ErrorKind, clock::Timestamp};
use net::{GatewayMode, InterfaceName, Ipv4Net, Ipv6Net, Macvlan, Network};
use serde::{Deserialize, Serialize};

use super::{
    macvlan,
    options::Options,
    pools::{address4, pools, range4, six_into, subnet4},
    request::{NetworkCreate, NetworkInfo, Pool},
};
use crate::EngineError;

/// A network that its user made, as it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) created: Timestamp,
    pub(crate) network: Network,
    /// Part of the subnet from which containers have addresses.
    #[serde(default)]
    pub(crate) range: Option<Ipv4Net>,
    /// Part of the IPv6 subnet from which containers have addresses, where those do not go with
    /// their IPv4 ones.
    #[serde(default)]
    pub(crate) range6: Option<Ipv6Net>,
    /// Addresses that no container gets.
    #[serde(default)]
    pub(crate) auxiliary: BTreeMap<String, IpAddr>,
    /// Where ports are published that do not say.
    #[serde(default)]
    pub(crate) host_ip: Option<IpAddr>,
    #[serde(default)]
    pub(crate) attachable: bool,
    #[serde(default)]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

/// Names that stand for networks which are there always.
pub(crate) const BUILTIN: [&str; 3] = ["bridge", "host", "none"];
/// Longest name in bytes.
const NAME_MAX: usize = 255;
/// Smallest packets of a network with IPv6 (RFC 8200).
const MTU6_MIN: u32 = 1280;

pub(super) fn refused(kind: ErrorKind, text: impl Into<String>) -> EngineError {
    EngineError::Networking { kind, text: text.into() }
}

pub(super) fn invalid(text: impl Into<String>) -> EngineError {
    refused(ErrorKind::InvalidInput, text)
}

pub(super) fn unsupported(text: impl Into<String>) -> EngineError {
    refused(ErrorKind::Unsupported, text)
}

/// What is needed of the host for it.
pub(super) struct Around<'a> {
    /// Subnets of other networks.
    pub(super) taken: &'a [Ipv4Net],
    /// The same of IPv6.
    pub(super) taken6: &'a [Ipv6Net],
    /// A subnet that is free.
    pub(super) choose: &'a dyn Fn() -> Result<Ipv4Net, EngineError>,
    /// Whether the host has IPv6.
    pub(super) ipv6: bool,
    /// Other networks that lie on links of the host, by name.
    pub(super) macvlans: &'a [(String, Macvlan)],
}

/// Refuses what cannot be a network's name.
pub(super) fn check_name(name: &str) -> Result<(), EngineError> {
    let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    let first = name.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if BUILTIN.contains(&name) || name == "default" {
        let text = format!("operation is not permitted on predefined {name} network");
        return Err(refused(ErrorKind::PermissionDenied, text));
    }
    if !first || name.len() > NAME_MAX || !name.bytes().all(word) {
        return Err(invalid(format!(
            "invalid network name {name:?}: only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
        )));
    }
    Ok(())
}

/// What can be asked to make a network.
enum Driver {
    Bridge,
    Macvlan,
}

impl Driver {
    fn read(name: Option<&str>) -> Result<Driver, EngineError> {
        match name {
            None | Some("" | "bridge" | "default") => Ok(Driver::Bridge),
            Some("macvlan") => Ok(Driver::Macvlan),
            // There is no test that could show that it works on a kernel without it.
            Some("ipvlan") => Err(unsupported(
                "networks of driver \"ipvlan\" are not built; macvlan does the same with hardware \
                 addresses of the containers' own",
            )),
            Some("overlay") => Err(unsupported(
                "networks of driver \"overlay\" are for swarms, which there are not",
            )),
            Some(driver @ ("host" | "null")) => {
                let text = format!("only one instance of {driver:?} network is allowed");
                Err(refused(ErrorKind::PermissionDenied, text))
            }
            Some(driver) => {
                let text = format!("could not find plugin {driver} in v1 plugin registry");
                Err(refused(ErrorKind::NotFound, text))
            }
        }
    }
}

/// The network that a request describes.
///
/// # Errors
/// [`EngineError::Networking`], naming what makes no sense or is not built.
pub(super) fn design(
    create: NetworkCreate,
    id: String,
    bridge: InterfaceName,
    around: &Around<'_>,
) -> Result<Made, EngineError> {
    check_name(&create.name)?;
    let (options, macvlan) = match Driver::read(create.driver.as_deref())? {
        Driver::Bridge => (Options::read(&create.options)?, None),
        Driver::Macvlan => {
            let macvlan = macvlan::read(&create.options)?;
            macvlan::check(&macvlan, around.macvlans)?;
            (Options::read(&macvlan::of_all_drivers(&create.options))?, Some(macvlan))
        }
    };
    let (four, six) = pools(&create.pools, macvlan.is_some())?;
    let subnet = match four.and_then(|pool| pool.subnet.as_deref()) {
        Some(text) => subnet4(text)?,
        None => (around.choose)()?,
    };
    if let Some(other) = around.taken.iter().find(|other| other.overlaps(subnet)) {
        let text = format!(
            "invalid pool request: Pool overlaps with other one on this address space: {subnet} and {other}"
        );
        return Err(refused(ErrorKind::PermissionDenied, text));
    }
    let mut network = Network::new(options.bridge.clone().unwrap_or(bridge), subnet);
    let mut auxiliary = BTreeMap::new();
    let mut range = None;
    if let Some(pool) = four {
        if let Some(text) = &pool.gateway {
            network.gateway = address4(text, "gateway", subnet)?;
        }
        range = pool.range.as_deref().map(|text| range4(text, subnet)).transpose()?;
        for (name, text) in &pool.auxiliary {
            let address = address4(text, "auxiliary address", subnet)?;
            if address == network.gateway {
                return Err(invalid(format!("auxiliary address {name} is the gateway's")));
            }
            auxiliary.insert(name.clone(), address.into());
        }
    }
    let range6 = match six {
        None if !create.ipv6 => None,
        six => six_into(&mut network, six, &id, around, &mut auxiliary)?,
    };
    network.internal = create.internal;
    network.apart = !options.icc;
    network.untranslated = !options.masquerade;
    network.mtu = options.mtu;
    (network.mode, network.mode6) = (options.mode, options.mode6);
    if !network.internal && [network.mode, network.mode6].contains(&GatewayMode::Isolated) {
        return Err(invalid("gateway mode 'isolated' can only be used for an internal network"));
    }
    network.macvlan = macvlan;
    if let Some(mtu) = network.mtu.filter(|mtu| network.ipv6.is_some() && *mtu < MTU6_MIN) {
        return Err(invalid(format!("an MTU of {mtu} is too small for IPv6, which needs 1280")));
    }
    if let Some(fault) = network.fault() {
        return Err(invalid(format!("invalid network config: {fault}")));
    }
    let NetworkCreate { name, attachable, labels, options: given, .. } = create;
    let (created, host_ip) = (Timestamp::now(), options.host_ip);
    let options = given;
    Ok(Made {
        id,
        name,
        created,
        network,
        range,
        range6,
        auxiliary,
        host_ip,
        attachable,
        labels,
        options,
    })
}

impl Made {
    /// As it is shown, but for who has it.
    pub(super) fn info(&self) -> NetworkInfo {
        let network = &self.network;
        let four = Pool {
            subnet: network.subnet.to_string(),
            range: self.range.map(|range| range.to_string()),
            gateway: shown(network.mode, network.gateway.into()),
            auxiliary: self.of_family(IpAddr::is_ipv4),
        };
        let six = pool6(network).map(|pool| Pool {
            range: self.range6.filter(|range| network.ipv6 != Some(*range)).map(|r| r.to_string()),
            auxiliary: self.of_family(IpAddr::is_ipv6),
            ..pool
        });
        NetworkInfo {
            id: self.id.clone(),
            name: self.name.clone(),
            created: Some(self.created),
            driver: if network.macvlan.is_some() { "macvlan" } else { "bridge" }.to_owned(),
            internal: network.internal,
            attachable: self.attachable,
            ipv6: network.ipv6.is_some(),
            pools: [Some(four), six].into_iter().flatten().collect(),
            labels: self.labels.clone(),
            options: self.options.clone(),
            builtin: false,
            containers: Vec::new(),
            users: Vec::new(),
        }
    }

    /// Addresses that no container gets, of one family.
    fn of_family(&self, is: impl Fn(&IpAddr) -> bool) -> BTreeMap<String, IpAddr> {
        let all = self.auxiliary.iter().filter(|(_, address)| is(address));
        all.map(|(name, address)| (name.clone(), *address)).collect()
    }
}

/// The IPv6 addresses of a network.
pub(super) fn pool6(network: &Network) -> Option<Pool> {
    let (net, gateway) = network.ipv6.zip(network.own6())?;
    let auxiliary = BTreeMap::new();
    let gateway = shown(network.mode6, gateway.into());
    Some(Pool { subnet: net.to_string(), range: None, gateway, auxiliary })
}

/// A gateway, unless nobody has its address.
fn shown(mode: GatewayMode, gateway: IpAddr) -> Option<IpAddr> {
    Some(gateway).filter(|_| mode != GatewayMode::Isolated)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{super::request::PoolRequest, *};

    fn made(create: NetworkCreate) -> Result<Made, EngineError> {
        let choose = || Ok("172.27.0.0/16".parse().unwrap());
        let around = Around {
            taken: &["10.0.0.0/8".parse().unwrap()],
            taken6: &["fd00:1::/64".parse().unwrap()],
            choose: &choose,
            ipv6: true,
            macvlans: &[],
        };
        design(create, "ab".repeat(32), "wyb0".parse().unwrap(), &around)
    }

    fn named() -> NetworkCreate {
        NetworkCreate { name: "mine".to_owned(), ..NetworkCreate::default() }
    }

    fn pool(subnet: &str, gateway: &str, range: &str) -> PoolRequest {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (subnet, gateway, range) = (some(subnet), some(gateway), some(range));
        PoolRequest { subnet, gateway, range, auxiliary: BTreeMap::new() }
    }

    #[test]
    fn what_is_not_said_is_chosen() {
        let plain = made(named()).unwrap();
        assert_eq!(plain.network.gateway, Ipv4Addr::new(172, 27, 0, 1));
        assert!(plain.network.ipv6.is_none() && !plain.network.internal && !plain.network.apart);
        let six = made(NetworkCreate { ipv6: true, ..named() }).unwrap();
        assert!(six.network.own6().is_some());
    }

    #[test]
    fn addresses_are_as_asked_or_refused() {
        let of = |pools: &[PoolRequest]| made(NetworkCreate { pools: pools.to_vec(), ..named() });
        let all = of(&[
            pool("192.168.5.0/24", "192.168.5.254", "192.168.5.128/25"),
            pool("fd00:2::/64", "fd00:2::99", ""),
        ]);
        let all = all.unwrap();
        assert_eq!(all.network.gateway, Ipv4Addr::new(192, 168, 5, 254));
        assert_eq!(all.network.own6(), Some("fd00:2::99".parse().unwrap()));
        assert_eq!(all.range, Some("192.168.5.128/25".parse().unwrap()));
        for (bad, kind) in [
            (pool("10.1.0.0/16", "", ""), ErrorKind::PermissionDenied),
            (pool("192.168.5.1/24", "", ""), ErrorKind::InvalidInput),
            (pool("192.168.5.0/24", "192.168.6.1", ""), ErrorKind::InvalidInput),
            (pool("192.168.5.0/24", "192.168.5.255", ""), ErrorKind::InvalidInput),
            (pool("192.168.5.0/24", "", "192.168.6.0/25"), ErrorKind::InvalidInput),
            (pool("192.168.5.0/31", "", ""), ErrorKind::InvalidInput),
            (pool("", "192.168.5.1", ""), ErrorKind::InvalidInput),
            (pool("fd00:1::/64", "", ""), ErrorKind::PermissionDenied),
            (pool("fd00:2::/64", "fd00:3::1", ""), ErrorKind::InvalidInput),
            (pool("fd00:2::/64", "", "fd00:3::/80"), ErrorKind::InvalidInput),
            (pool("fd00:2::/64", "", "fd00:2::/48"), ErrorKind::InvalidInput),
        ] {
            assert_eq!(of(std::slice::from_ref(&bad)).unwrap_err().kind(), kind, "{bad:?}");
        }
        let two = [pool("192.168.5.0/24", "", ""), pool("192.168.6.0/24", "", "")];
        let text = of(&two).unwrap_err().to_string();
        assert_eq!(text, "bridge driver doesn't support multiple subnets");
        let mut six = pool("fd00:2::/64", "", "fd00:2::8000/113");
        six.auxiliary.insert("printer".to_owned(), "fd00:2::8003".to_owned());
        let six = of(&[six]).unwrap();
        assert_eq!(six.range6, Some("fd00:2::8000/113".parse().unwrap()));
        let shown = six.info().pools.remove(1);
        assert_eq!(shown.range.as_deref(), Some("fd00:2::8000/113"));
        assert_eq!(shown.auxiliary["printer"].to_string(), "fd00:2::8003");
        assert!(six.info().pools[0].auxiliary.is_empty());
        let few = of(&[pool("fd00:2::/120", "", "")]).unwrap();
        assert_eq!(few.network.own6(), Some("fd00:2::1".parse().unwrap()));
        assert_eq!((few.range6, few.info().pools[1].range.as_deref()), (few.network.ipv6, None));
    }

    #[test]
    fn options_are_honoured_or_refused_by_name() {
        let of = |name: &str, value: &str| {
            let options = [(format!("com.docker.network.{name}"), value.to_owned())].into();
            made(NetworkCreate { options, ..named() })
        };
        assert!(of("bridge.enable_icc", "false").unwrap().network.apart);
        assert!(of("bridge.enable_ip_masquerade", "false").unwrap().network.untranslated);
        assert_eq!(of("driver.mtu", "1400").unwrap().network.mtu, Some(1400));
        assert_eq!(of("bridge.name", "br7").unwrap().network.bridge.as_str(), "br7");
        let bound = of("bridge.host_binding_ipv4", "127.0.0.1").unwrap().host_ip;
        assert_eq!(bound, Some(Ipv4Addr::LOCALHOST.into()));
        let routed = of("bridge.gateway_mode_ipv6", "routed").unwrap().network;
        assert_eq!((routed.mode, routed.mode6), (GatewayMode::Nat, GatewayMode::Routed));
        assert!(of("bridge.gateway_mode_ipv4", "isolated").is_err(), "it is not internal");
        assert!(of("bridge.gateway_mode_ipv4", "bridged").is_err());
        assert!(of("driver.mtu", "12").is_err() && of("bridge.enable_icc", "maybe").is_err());
        let text = of("bridge.trusted_host_interfaces", "eth0").unwrap_err().to_string();
        assert!(text.contains("trusted_host_interfaces"), "{text}");
    }

    #[test]
    fn names_and_drivers_that_cannot_be_are_refused() {
        for (name, kind) in [
            ("bridge", ErrorKind::PermissionDenied),
            ("none", ErrorKind::PermissionDenied),
            ("", ErrorKind::InvalidInput),
            ("-x", ErrorKind::InvalidInput),
            ("a b", ErrorKind::InvalidInput),
        ] {
            let create = NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() };
            assert_eq!(made(create).unwrap_err().kind(), kind, "{name}");
        }
        for (driver, kind) in [
            ("overlay", ErrorKind::Unsupported),
            ("ipvlan", ErrorKind::Unsupported),
            ("host", ErrorKind::PermissionDenied),
            ("weave", ErrorKind::NotFound),
        ] {
            let create = NetworkCreate { driver: Some(driver.to_owned()), ..named() };
            assert_eq!(made(create).unwrap_err().kind(), kind, "{driver}");
        }
    }
}
