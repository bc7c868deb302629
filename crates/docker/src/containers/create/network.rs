//! `NetworkMode` and `NetworkingConfig`.

use engine::{Create, NetworkMode};

use crate::{error::ApiError, fields::Fields};

pub(super) fn read(
    host: &mut Fields<'_>,
    mut networking: Fields<'_>,
    disabled: bool,
    create: &mut Create,
) -> Result<(), ApiError> {
    let mode = host.text("NetworkMode")?;
    create.network = match mode.as_deref() {
        None if disabled => NetworkMode::None,
        None => NetworkMode::Bridge,
        Some(text) => named(host, text)?,
    };
    for (name, endpoint) in networking.named("EndpointsConfig")? {
        if named(&networking, &name)? != create.network {
            let why = format!("a container of network mode {:?} has no endpoint {name:?}", mode);
            return Err(networking.wrong("EndpointsConfig", why));
        }
        self::endpoint(endpoint)?;
    }
    networking.done()
}

/// The network of this name.
///
/// # Errors
/// 400, in Docker's words. Not 404: told that of a request to create, its client takes it for the
/// image, which it then pulls.
fn named(given: &Fields<'_>, name: &str) -> Result<NetworkMode, ApiError> {
    match (name, name.split_once(':')) {
        ("default" | "bridge", _) => Ok(NetworkMode::Bridge),
        ("none", _) => Ok(NetworkMode::None),
        ("host", _) => Ok(NetworkMode::Host),
        (_, Some(("container", ""))) => {
            Err(given.wrong("NetworkMode", "invalid container format container:<name|id>"))
        }
        (_, Some(("container", who))) => Ok(NetworkMode::Container(who.to_owned())),
        _ => Err(ApiError::bad(format!("network {name} not found"))),
    }
}

/// What is said of a network that is not the user's own: nothing can be.
fn endpoint(mut given: Fields<'_>) -> Result<(), ApiError> {
    let own = "it is for networks of one's own";
    let mut addresses = given.object("IPAMConfig")?;
    for name in ["IPv4Address", "IPv6Address", "LinkLocalIPs"] {
        addresses
            .refuse(name, "user specified IP address is supported on user defined networks only")?;
    }
    addresses.done()?;
    let aliases = "network-scoped aliases are only supported for user-defined networks";
    given.refuse("Aliases", aliases)?;
    for name in ["Links", "MacAddress", "DriverOpts"] {
        given.refuse(name, own)?;
    }
    // There is one network only, and so but one way out.
    given.ignore(&["GwPriority"]);
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
    given.done()
}
