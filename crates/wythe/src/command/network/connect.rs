//! `network connect` and `network disconnect`.

use std::net::{Ipv4Addr, Ipv6Addr};

use engine::EndpointRequest;

use crate::{connect::Endpoint, error::CliError};

#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// Add network-scoped alias for the container
    #[arg(long, value_name = "strings")]
    alias: Vec<String>,
    /// Highest gw-priority provides the default gateway. Accepts positive and negative values.
    #[arg(long, value_name = "int", default_value_t = 0, allow_hyphen_values = true)]
    gw_priority: i32,
    /// IPv4 address (e.g., "172.30.100.104")
    #[arg(long, value_name = "ip")]
    ip: Option<Ipv4Addr>,
    /// IPv6 address (e.g., "2001:db8::33")
    #[arg(long, value_name = "ip")]
    ip6: Option<Ipv6Addr>,
    /// Which network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl ConnectArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let ConnectArgs { alias, gw_priority, ip, ip6, network, container } = self;
        let endpoint = EndpointRequest {
            aliases: alias,
            ipv4: ip,
            ipv6: ip6,
            mac: None,
            priority: gw_priority,
        };
        to.connect().await?.network_connect(&network, &container, endpoint).await?;
        Ok(0)
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct DisconnectArgs {
    /// Force the container to disconnect from a network
    #[arg(short, long)]
    force: bool,
    /// Which network
    #[arg(value_name = "NETWORK")]
    network: String,
    /// Which container
    #[arg(value_name = "CONTAINER")]
    container: String,
}

impl DisconnectArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        // Nothing would hold it that had to be forced.
        let DisconnectArgs { force: _, network, container } = self;
        to.connect().await?.network_disconnect(&network, &container).await?;
        Ok(0)
    }
}
