//! The addresses that a request for a network says.
//!
//! Pure. Error texts are Docker's.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use base::ErrorKind;
use net::{Ipv4Net, Ipv6Net, Network};

use super::{
    design::{Around, invalid, refused, unsupported},
    request::PoolRequest,
};
use crate::EngineError;

/// The one of each family.
pub(super) fn pools(
    all: &[PoolRequest],
    macvlan: bool,
) -> Result<(Option<&PoolRequest>, Option<&PoolRequest>), EngineError> {
    let (mut four, mut six) = (None, None);
    for pool in all {
        let Some(any) = pool.subnet.as_deref().or(pool.gateway.as_deref()) else {
            if pool.range.is_some() || !pool.auxiliary.is_empty() {
                return Err(invalid("no matching subnet for an address range or address"));
            }
            continue;
        };
        if pool.subnet.is_none() {
            return Err(invalid(format!("no matching subnet for gateway {any}")));
        }
        let place = if any.contains(':') { &mut six } else { &mut four };
        if place.replace(pool).is_some() {
            return Err(match macvlan {
                true => unsupported("several subnets of one family are not built for macvlan"),
                false => {
                    let text = "bridge driver doesn't support multiple subnets";
                    refused(ErrorKind::PermissionDenied, text)
                }
            });
        }
    }
    Ok((four, six))
}

/// Gives a network its IPv6 addresses, and says from which part of them containers have theirs,
/// if they are not as far from the beginning as their IPv4 ones.
pub(super) fn six_into(
    network: &mut Network,
    pool: Option<&PoolRequest>,
    id: &str,
    around: &Around<'_>,
    auxiliary: &mut BTreeMap<String, IpAddr>,
) -> Result<Option<Ipv6Net>, EngineError> {
    if !around.ipv6 {
        return Err(unsupported("this host has IPv6 turned off"));
    }
    let Some(pool) = pool else {
        network.ipv6 = Some(Ipv6Net::unique_local(id.as_bytes()));
        return Ok(None);
    };
    let net = subnet6(pool.subnet.as_deref().unwrap_or_default())?;
    let meets = |other: &&Ipv6Net| net.contains(other.address()) || other.contains(net.address());
    if let Some(other) = around.taken6.iter().find(meets) {
        let text = format!(
            "invalid pool request: Pool overlaps with other one on this address space: {net} and {other}"
        );
        return Err(refused(ErrorKind::PermissionDenied, text));
    }
    network.ipv6 = Some(net);
    if let Some(text) = &pool.gateway {
        network.gateway6 = Some(address6(text, "gateway", net)?);
    }
    // Where they cannot go with the IPv4 ones.
    let few = 128 - net.prefix() < 32 - network.subnet.prefix();
    if few && network.gateway6.is_none() {
        network.gateway6 = Some(net.nth(1));
    }
    for (name, text) in &pool.auxiliary {
        let address = address6(text, "auxiliary address", net)?;
        if Some(address) == network.own6() {
            return Err(invalid(format!("auxiliary address {name} is the gateway's")));
        }
        auxiliary.insert(name.clone(), address.into());
    }
    let Some(text) = &pool.range else { return Ok(few.then_some(net)) };
    let range = subnet6(text)?;
    if range.prefix() < net.prefix() || !net.contains(range.address()) {
        return Err(invalid(format!("invalid ip-range {range}: it is not in {net}")));
    }
    Ok(Some(range))
}

fn subnet6(text: &str) -> Result<Ipv6Net, EngineError> {
    let wrong = || invalid(format!("invalid subnet {text}: it is not an IPv6 network address"));
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
    Ipv6Net::containing(address, prefix.parse().map_err(|_| wrong())?).ok_or_else(wrong)
}

fn address6(text: &str, what: &str, net: Ipv6Net) -> Result<Ipv6Addr, EngineError> {
    let address: Ipv6Addr =
        text.parse().map_err(|_| invalid(format!("invalid {what}: {text:?}")))?;
    if !net.contains(address) || address == net.address() {
        return Err(invalid(format!("invalid {what} {address}: it is not a host's in {net}")));
    }
    Ok(address)
}

pub(super) fn subnet4(text: &str) -> Result<Ipv4Net, EngineError> {
    let wrong = || invalid(format!("invalid CIDR address: {text}"));
    let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
    let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
    let net = Ipv4Net::containing(address, prefix.parse().map_err(|_| wrong())?);
    let net = net.ok_or_else(wrong)?;
    if net.address() != address {
        return Err(invalid(format!("invalid subnet {text}: it should be {net}")));
    }
    Ok(net)
}

pub(super) fn address4(text: &str, what: &str, subnet: Ipv4Net) -> Result<Ipv4Addr, EngineError> {
    let address: Ipv4Addr =
        text.parse().map_err(|_| invalid(format!("invalid {what}: {text:?}")))?;
    if !subnet.contains(address) {
        return Err(invalid(format!("invalid {what} {address}: it is not in {subnet}")));
    }
    Ok(address)
}

pub(super) fn range4(text: &str, subnet: Ipv4Net) -> Result<Ipv4Net, EngineError> {
    let range = subnet4(text)?;
    if !subnet.contains(range.address()) || !subnet.contains(range.broadcast()) {
        return Err(invalid(format!("invalid ip-range {range}: it is not in {subnet}")));
    }
    Ok(range)
}
