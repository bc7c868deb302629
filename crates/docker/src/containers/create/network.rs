//! `NetworkMode`, `NetworkingConfig`, and `MacAddress`.

use std::collections::BTreeMap;

use engine::{Create, EndpointRequest, NetworkMode};

use crate::{endpoint, error::ApiError, fields::Fields};

/// Reads them, and says what is worth a word about them. `mac`: the container's own hardware
/// address, which is that of its first network.
pub(super) fn read(
    host: &mut Fields<'_>,
    mut networking: Fields<'_>,
    disabled: bool,
    mac: Option<String>,
    create: &mut Create,
) -> Result<Option<String>, ApiError> {
    let mode = host.text("NetworkMode")?;
    create.network = match mode.as_deref() {
        None if disabled => NetworkMode::None,
        None => NetworkMode::Bridge,
        Some(text) => named(host, text)?,
    };
    let mut endpoints = BTreeMap::new();
    for (name, given) in networking.named("EndpointsConfig")? {
        let of = named(&networking, &name)?;
        let request = endpoint::read(given)?;
        match of.name().filter(|_| create.network.is_plugged()) {
            Some(name) => drop(endpoints.insert(name.to_owned(), request)),
            // What the client says of the mode itself, and nothing besides.
            None if of == create.network && request == EndpointRequest::default() => {}
            None => {
                let why = format!("a container of network mode {mode:?} has no endpoint {name:?}");
                return Err(networking.wrong("EndpointsConfig", why));
            }
        }
    }
    networking.done()?;
    let deprecated = match mac {
        None => None,
        Some(mac) => Some(first(mac, create, &mut endpoints)?),
    };
    // Nothing is said that the mode does not say.
    let plain = |(name, request): (&String, &EndpointRequest)| {
        create.network.name() == Some(name) && *request == EndpointRequest::default()
    };
    let said = !endpoints.iter().all(plain);
    create.endpoints = Some(endpoints).filter(|_| said);
    Ok(deprecated)
}

/// Gives the first network's place a hardware address.
///
/// Source: moby, `handleMACAddressBC` in `daemon/server/router/container`.
fn first(
    mac: String,
    create: &Create,
    endpoints: &mut BTreeMap<String, EndpointRequest>,
) -> Result<String, ApiError> {
    let Some(name) = create.network.name().filter(|_| create.network.is_plugged()) else {
        return Err(ApiError::bad("conflicting options: mac-address and the network mode"));
    };
    let place = endpoints.entry(name.to_owned()).or_default();
    if place.mac.get_or_insert_with(|| mac.clone()) != &mac {
        return Err(ApiError::bad(
            "the container-wide MAC address must match the endpoint-specific MAC address for the \
             main network, or be left empty",
        ));
    }
    let text = "The container-wide MacAddress field is now deprecated. It should be specified in \
                EndpointsConfig instead.";
    Ok(text.to_owned())
}

/// The network of this name.
///
/// # Errors
/// 400 for a container that has no name.
fn named(given: &Fields<'_>, name: &str) -> Result<NetworkMode, ApiError> {
    match (name, name.split_once(':')) {
        ("default" | "bridge", _) => Ok(NetworkMode::Bridge),
        ("none", _) => Ok(NetworkMode::None),
        ("host", _) => Ok(NetworkMode::Host),
        (_, Some(("container", ""))) => {
            Err(given.wrong("NetworkMode", "invalid container format container:<name|id>"))
        }
        (_, Some(("container", who))) => Ok(NetworkMode::Container(who.to_owned())),
        _ => Ok(NetworkMode::Named(name.to_owned())),
    }
}
