//! Docker's `ContainerCreateRequest` as one complete [`engine::Create`].
//!
//! ```text
//! Config ─▶ this file        HostConfig ─▶ host ─┬▶ limits, security, namespaces
//! NetworkingConfig ─▶ network                    └▶ mounts, ports
//! ```
//!
//! Every field of Docker's is taken: honoured, ignored where Docker ignores it on Linux, or refused
//! by name if it asks for something. `docs/compat/docker-api.toml` says which, and is tested.
//!
//! Source: the Docker Engine API 1.52, `ContainerCreateRequest`; moby, `daemon/create.go`.

mod changes;
mod health;
mod host;
mod limits;
mod mounts;
mod namespaces;
mod network;
mod ports;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use base::ContainerName;
use engine::{Create, Update};
use serde::de::IgnoredAny;
use workload::Signal;

pub(crate) use changes::changes;

use crate::{
    error::ApiError,
    fields::{Asked, Fields},
};

/// What a request asks for, and what is worth a word about it.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) create: Create,
    pub(crate) warnings: Vec<String>,
}

/// What a request means.
///
/// # Errors
/// 400 for what makes no sense, 501 for what cannot be done.
pub(crate) fn request(
    name: Option<&str>,
    platform: Option<&str>,
    bytes: &[u8],
) -> Result<Request, ApiError> {
    let name = name.map(container_name).transpose()?;
    let mut request = read(bytes, None)?;
    request.create.name = name;
    request.create.platform = platform.map(str::to_owned);
    Ok(request)
}

/// A container's name, or Docker's words about what is none.
///
/// # Errors
/// 400.
pub(crate) fn container_name(name: &str) -> Result<ContainerName, ApiError> {
    name.parse().map_err(|error: base::IdError| {
        let known = "[a-zA-Z0-9][a-zA-Z0-9_.-]";
        let name = error.given;
        let rule = error.rule;
        ApiError::bad(format!("Invalid container name ({name}), only {known} are allowed: {rule}"))
    })
}

/// The body of a request; what it asks for is noted in `asked`.
pub(super) fn read(bytes: &[u8], asked: Option<&Asked>) -> Result<Request, ApiError> {
    let mut body = Fields::read(bytes, asked)?;
    if body.is_empty() && asked.is_none() {
        let text = "Config cannot be empty in order to create a container";
        return Err(ApiError::bad(text));
    }
    let mut create = Create::default();
    let mut warnings = Vec::new();
    let mut host = body.object("HostConfig")?;
    let networking = body.object("NetworkingConfig")?;
    // Old clients have it here.
    let runtime = body.text("Runtime")?;
    config(&mut body, &mut create)?;
    create.expose = ports::exposed(&mut body)?;
    let volumes: BTreeMap<String, IgnoredAny> = body.take("Volumes")?;
    let disabled = body.take::<bool>("NetworkDisabled")?;
    host::read(&mut host, &mut create, runtime, &mut warnings)?;
    mounts::anonymous(volumes.into_keys(), &mut create)?;
    let mac = body.text("MacAddress")?;
    warnings.extend(network::read(&mut host, networking, disabled, mac, &mut create)?);
    host.done()?;
    body.done()?;
    Ok(Request { create, warnings })
}

/// Docker's `ContainerConfig`, but for what others read.
fn config(body: &mut Fields<'_>, create: &mut Create) -> Result<(), ApiError> {
    create.image = body.take("Image")?;
    create.hostname = body.text("Hostname")?;
    create.domainname = body.text("Domainname")?;
    create.user = body.text("User")?;
    create.terminal = body.take("Tty")?;
    create.stdin = body.take("OpenStdin")?;
    create.stdin_once = body.take("StdinOnce")?;
    create.env = environment(body)?;
    create.command = body.words("Cmd")?.unwrap_or_default();
    create.entrypoint = body.words("Entrypoint")?;
    create.working_dir = body.text("WorkingDir")?;
    create.labels = labels(body)?;
    create.stop_signal = match body.text("StopSignal")? {
        None => None,
        Some(text) => {
            let invalid = || body.wrong("StopSignal", format!("invalid signal: {text}"));
            Some(Signal::parse(&text).ok_or_else(invalid)?)
        }
    };
    // Below nothing is without end.
    let seconds = body.some::<i64>("StopTimeout")?;
    create.stop_timeout_s = seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX));
    let shell = body.words("Shell")?.filter(|shell| !shell.is_empty());
    create.health = health::read(body, shell)?;
    // Who is attached is told when it attaches; the rest is for builds, and for Windows.
    body.ignore(&["AttachStdin", "AttachStdout", "AttachStderr", "OnBuild", "ArgsEscaped"]);
    Ok(())
}

fn labels(body: &mut Fields<'_>) -> Result<BTreeMap<String, String>, ApiError> {
    let labels: BTreeMap<String, Option<String>> = body.take("Labels")?;
    Ok(labels.into_iter().map(|(key, value)| (key, value.unwrap_or_default())).collect())
}

fn environment(body: &mut Fields<'_>) -> Result<Vec<String>, ApiError> {
    let env: Vec<String> = body.take("Env")?;
    match env.iter().find(|entry| entry.is_empty() || entry.starts_with('=')) {
        Some(bad) => Err(body.wrong("Env", format!("invalid environment variable: {bad}"))),
        None => Ok(env),
    }
}

/// What a request of `POST /containers/{}/update` means.
///
/// # Errors
/// 400 for what makes no sense.
pub(crate) fn update(bytes: &[u8]) -> Result<Update, ApiError> {
    let mut body = Fields::read(bytes, None)?;
    let limits = limits::changed(&mut body)?;
    let restart = match body.object("RestartPolicy")? {
        policy if policy.is_empty() => None,
        policy => host::restart(policy)?,
    };
    limits::fixed(&mut body)?;
    body.done()?;
    Ok(Update { limits, restart })
}
