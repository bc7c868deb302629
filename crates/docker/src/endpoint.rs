//! Docker's `EndpointSettings`: a container's place on one network.

use engine::EndpointRequest;

use crate::{error::ApiError, fields::Fields};

/// Reads one.
///
/// # Errors
/// 400 for what makes no sense, 501 for what cannot be done.
pub(crate) fn read(mut given: Fields<'_>) -> Result<EndpointRequest, ApiError> {
    let mut addresses = given.object("IPAMConfig")?;
    let ipv4 = address(&mut addresses, "IPv4Address")?;
    let ipv6 = address(&mut addresses, "IPv6Address")?;
    addresses.refuse("LinkLocalIPs", "link-local addresses are the kernel's own")?;
    addresses.done()?;
    given.refuse("Links", "use networks")?;
    given.refuse("DriverOpts", "endpoints have no options")?;
    let request = EndpointRequest {
        aliases: given.some("Aliases")?.unwrap_or_default(),
        ipv4,
        ipv6,
        mac: given.text("MacAddress")?,
        priority: given.take("GwPriority")?,
    };
    // What `inspect` shows, and who copies that sends back: it is settled at each start.
    given.ignore(&[
        "NetworkID",
        "EndpointID",
        "Gateway",
        "IPAddress",
        "IPPrefixLen",
        "IPv6Gateway",
        "GlobalIPv6Address",
        "GlobalIPv6PrefixLen",
        "DNSNames",
    ]);
    given.done()?;
    Ok(request)
}

fn address<T: std::str::FromStr>(
    given: &mut Fields<'_>,
    name: &str,
) -> Result<Option<T>, ApiError> {
    let Some(text) = given.text(name)? else { return Ok(None) };
    let wrong = |_| given.wrong(name, format!("invalid IP address: {text}"));
    text.parse().map(Some).map_err(wrong)
}
