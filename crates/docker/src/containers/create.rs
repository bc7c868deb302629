//! Docker's `ContainerCreateRequest` as one complete [`engine::Create`].

use engine::{Create, NetworkMode, Update};
use serde::Deserialize;

use crate::{body, error::ApiError};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Body {
    image: String,
    cmd: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    env: Option<Vec<String>>,
    tty: bool,
    open_stdin: bool,
    stdin_once: bool,
    host_config: Option<HostConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostConfig {
    auto_remove: bool,
    network_mode: String,
}

/// What a request means.
///
/// # Errors
/// 400 for what makes no sense.
pub(crate) fn request(
    name: Option<&str>,
    platform: Option<&str>,
    bytes: &[u8],
) -> Result<Create, ApiError> {
    let given: Body = body::json(bytes)?;
    let host = given.host_config.unwrap_or_default();
    let name =
        name.map(|name| name.parse().map_err(|e: base::IdError| ApiError::bad(e.to_string())));
    Ok(Create {
        name: name.transpose()?,
        image: given.image,
        platform: platform.map(str::to_owned),
        entrypoint: given.entrypoint,
        command: given.cmd.unwrap_or_default(),
        env: given.env.unwrap_or_default(),
        terminal: given.tty,
        stdin: given.open_stdin,
        stdin_once: given.stdin_once,
        auto_remove: host.auto_remove,
        network: match host.network_mode.as_str() {
            "none" => NetworkMode::None,
            "host" => NetworkMode::Host,
            _ => NetworkMode::Bridge,
        },
        ..Create::default()
    })
}

/// What a request of `POST /containers/{}/update` means.
///
/// # Errors
/// 400 for what makes no sense.
pub(crate) fn update(_bytes: &[u8]) -> Result<Update, ApiError> {
    Err(ApiError::unbuilt("POST /containers/{}/update"))
}

/// A configuration that comes with a commit.
///
/// # Errors
/// 501: it is given as changes instead.
pub(crate) fn no_config(_bytes: &[u8]) -> Result<(), ApiError> {
    Err(ApiError::unbuilt("a configuration in the body of a commit"))
}
