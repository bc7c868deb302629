//! Options of a network's driver.
//!
//! Pure. Names of options are Docker's.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use net::{GatewayMode, InterfaceName};

use super::design::{invalid, unsupported};
use crate::EngineError;

/// Smallest and largest packets of a network: the least that IPv4 and IPv6 need, and what an IP
/// header can say (RFC 791, RFC 8200).
const MTU_MIN: u32 = 68;
const MTU_MAX: u32 = 65535;

/// Options of the bridge driver.
pub(super) struct Options {
    pub(super) bridge: Option<InterfaceName>,
    pub(super) icc: bool,
    pub(super) masquerade: bool,
    pub(super) mtu: Option<u32>,
    pub(super) host_ip: Option<IpAddr>,
    pub(super) mode: GatewayMode,
    pub(super) mode6: GatewayMode,
}

impl Options {
    /// Source: moby, `drivers/bridge`, `netlabel`. Options of others are kept and mean nothing.
    pub(super) fn read(given: &BTreeMap<String, String>) -> Result<Options, EngineError> {
        let mode = GatewayMode::Nat;
        let (bridge, mtu, host_ip) = (None, None, None);
        let mut options =
            Options { bridge, icc: true, masquerade: true, mtu, host_ip, mode, mode6: mode };
        for (name, value) in given {
            let wrong = |why: &str| invalid(format!("invalid value {value:?} for {name}: {why}"));
            let truth = || match value.as_str() {
                "1" | "t" | "T" | "true" | "True" | "TRUE" => Ok(true),
                "0" | "f" | "F" | "false" | "False" | "FALSE" => Ok(false),
                _ => Err(wrong("use true or false")),
            };
            match name.strip_prefix("com.docker.network.") {
                None => {}
                Some("bridge.name") => {
                    let name: InterfaceName = value
                        .parse()
                        .map_err(|error: net::InterfaceNameError| wrong(&error.to_string()))?;
                    options.bridge = Some(name);
                }
                Some("bridge.enable_icc") => options.icc = truth()?,
                Some("bridge.enable_ip_masquerade") => options.masquerade = truth()?,
                Some("bridge.host_binding_ipv4") => {
                    let address: Ipv4Addr =
                        value.parse().map_err(|_| wrong("it is not an IPv4 address"))?;
                    options.host_ip = Some(address.into());
                }
                Some("driver.mtu") => {
                    let mtu = value.parse().map_err(|_| wrong("it is not a number"))?;
                    if mtu != 0 && !(MTU_MIN..=MTU_MAX).contains(&mtu) {
                        return Err(wrong("use 68 to 65535"));
                    }
                    options.mtu = Some(mtu).filter(|mtu| *mtu != 0);
                }
                Some("bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6")
                    if value.is_empty() => {}
                Some(family @ ("bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6")) => {
                    let unknown = || wrong("use nat, nat-unprotected, routed or isolated");
                    let mode = GatewayMode::of(value).ok_or_else(unknown)?;
                    match family.ends_with('4') {
                        true => options.mode = mode,
                        false => options.mode6 = mode,
                    }
                }
                Some("bridge.default_bridge" | "bridge.inhibit_ipv4") if !truth()? => {}
                Some(_) => return Err(unsupported(format!("option {name} is not built yet"))),
            }
        }
        Ok(options)
    }
}
