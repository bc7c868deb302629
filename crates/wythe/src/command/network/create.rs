//! `network create`.

use std::net::IpAddr;

use engine::{NetworkCreate, PoolRequest};

use crate::{connect::Endpoint, create::value::pairs, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Enable manual container attachment
    #[arg(long)]
    attachable: bool,
    /// Auxiliary IPv4 or IPv6 addresses used by Network driver
    #[arg(long, value_name = "map")]
    aux_address: Vec<String>,
    /// Driver to manage the Network
    #[arg(short, long, value_name = "string", default_value = "bridge")]
    driver: String,
    /// IPv4 or IPv6 Gateway for the master subnet
    #[arg(long, value_name = "strings")]
    gateway: Vec<IpAddr>,
    /// Restrict external access to the network
    #[arg(long)]
    internal: bool,
    /// Allocate container ip from a sub-range
    #[arg(long, value_name = "strings")]
    ip_range: Vec<String>,
    /// Enable or disable IPv6 address assignment
    #[arg(long)]
    ipv6: bool,
    /// Set metadata on a network
    #[arg(long, value_name = "list")]
    label: Vec<String>,
    /// Set driver specific options
    #[arg(short, long, value_name = "map")]
    opt: Vec<String>,
    /// Subnet in CIDR format that represents a network segment
    #[arg(long, value_name = "strings")]
    subnet: Vec<String>,
    /// Its name
    #[arg(value_name = "NETWORK")]
    network: String,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let create = NetworkCreate {
            pools: pools(&self.subnet, &self.ip_range, &self.gateway, &self.aux_address)?,
            name: self.network,
            driver: Some(self.driver),
            internal: self.internal,
            attachable: self.attachable,
            ipv6: self.ipv6,
            labels: pairs(&self.label),
            options: pairs(&self.opt),
        };
        let network = to.connect().await?.network_create(create).await?;
        output::line(&network.id)?;
        Ok(0)
    }
}

/// Each range, gateway and address with the subnet of its family.
///
/// Source: docker/cli, `consolidateIpam` (behaviour).
fn pools(
    subnets: &[String],
    ranges: &[String],
    gateways: &[IpAddr],
    auxiliary: &[String],
) -> Result<Vec<PoolRequest>, CliError> {
    let pool = |subnet: &String| PoolRequest { subnet: Some(subnet.clone()), ..Default::default() };
    let mut pools: Vec<PoolRequest> = subnets.iter().map(pool).collect();
    if pools.is_empty() && !(ranges.is_empty() && gateways.is_empty() && auxiliary.is_empty()) {
        let text = "every ip-range or gateway must have a corresponding subnet";
        return Err(CliError::Usage(text.to_owned()));
    }
    let of_family = |pools: &mut Vec<PoolRequest>, text: &str| -> Result<usize, CliError> {
        let six = text.contains(':');
        let same =
            |pool: &PoolRequest| pool.subnet.as_ref().is_some_and(|s| s.contains(':') == six);
        pools
            .iter()
            .position(same)
            .ok_or_else(|| CliError::Usage(format!("no matching subnet for {text}")))
    };
    let twice =
        |text: &str| CliError::Usage(format!("cannot configure multiple of {text} on one subnet"));
    for range in ranges {
        let at = of_family(&mut pools, range)?;
        let pool = pools.get_mut(at).ok_or_else(|| twice("ranges"))?;
        if pool.range.replace(range.clone()).is_some() {
            return Err(twice("ranges"));
        }
    }
    for gateway in gateways {
        let text = gateway.to_string();
        let at = of_family(&mut pools, &text)?;
        let pool = pools.get_mut(at).ok_or_else(|| twice("gateways"))?;
        if pool.gateway.replace(text).is_some() {
            return Err(twice("gateways"));
        }
    }
    for (name, address) in pairs(auxiliary) {
        let at = of_family(&mut pools, &address)?;
        if let Some(pool) = pools.get_mut(at) {
            pool.auxiliary.insert(name, address);
        }
    }
    Ok(pools)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_goes_with_the_subnet_of_its_family() {
        let words = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let all = pools(
            &words(&["10.5.0.0/24", "fd00::/64"]),
            &words(&["10.5.0.128/25"]),
            &["fd00::9".parse().unwrap()],
            &words(&["a=10.5.0.7"]),
        );
        let all = all.unwrap();
        assert_eq!(all[0].range.as_deref(), Some("10.5.0.128/25"));
        assert_eq!((all[0].gateway.as_ref(), all[1].gateway.as_deref()), (None, Some("fd00::9")));
        assert_eq!(all[0].auxiliary["a"], "10.5.0.7");
        assert!(pools(&[], &[], &["10.5.0.1".parse().unwrap()], &[]).is_err());
        let subnets = words(&["10.5.0.0/24"]);
        assert!(pools(&subnets, &[], &["fd00::1".parse().unwrap()], &[]).is_err());
    }
}
