//! `NetworkMode` and `NetworkingConfig`.

use std::collections::BTreeMap;

use engine::{Create, EndpointRequest, NetworkMode};

use crate::{endpoint, error::ApiError, fields::Fields};

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
    // Nothing is said that the mode does not say.
    let plain = |(name, request): (&String, &EndpointRequest)| {
        create.network.name() == Some(name) && *request == EndpointRequest::default()
    };
    let said = !endpoints.iter().all(plain);
    create.endpoints = Some(endpoints).filter(|_| said);
    Ok(())
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
