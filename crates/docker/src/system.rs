//! The daemon itself: who it is, what it has, and what it is not.

mod host;
mod info;
mod usage;

use hyper::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, PRAGMA},
};
use serde_json::{Value, json};

use crate::{
    body::full,
    call::Call,
    error::ApiError,
    reply::{self, Answer},
    route::{NEWEST, OLDEST},
};

pub(crate) use info::info;
pub(crate) use usage::disk_usage;

/// `/_ping`: what a client needs to know before its first request.
pub(crate) fn ping() -> Answer {
    let mut reply = reply::streamed("text/plain; charset=utf-8", full("OK"));
    let headers = reply.headers_mut();
    // Version 1 is the builder that needs no session of BuildKit's.
    headers.insert(HeaderName::from_static("builder-version"), HeaderValue::from_static("1"));
    headers.insert(HeaderName::from_static("swarm"), HeaderValue::from_static("inactive"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, must-revalidate"));
    headers.insert(PRAGMA, HeaderValue::from_static("no-cache"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    Ok(reply)
}

/// The processor's name as Go has it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `/version`.
pub(crate) fn version(call: &Call) -> Answer {
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy();
    let build = call.api.build;
    let (newest, oldest) = (NEWEST.to_string(), OLDEST.to_string());
    reply::json(&json!({
        "Platform": { "Name": "Wythe" },
        "Components": [{
            "Name": "Engine",
            "Version": build,
            "Details": {
                "ApiVersion": newest,
                "Arch": architecture(),
                "BuildTime": "",
                "Experimental": "false",
                "GitCommit": "",
                "GoVersion": "",
                "KernelVersion": kernel,
                "MinAPIVersion": oldest,
                "Os": "linux",
            },
        }],
        "Version": build,
        "ApiVersion": newest,
        "MinAPIVersion": oldest,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture(),
        "KernelVersion": kernel,
        "BuildTime": "",
    }))
}

/// `/build` and what belongs to it.
pub(crate) fn build() -> Answer {
    Err(ApiError::unbuilt("building images"))
}

/// `/build/prune`: nothing is built, so nothing is kept of builds.
pub(crate) fn build_prune() -> Answer {
    reply::json(&json!({ "CachesDeleted": [], "SpaceReclaimed": 0 }))
}

/// `/plugins`: there are none.
pub(crate) fn plugins() -> Answer {
    reply::json(&Value::Array(Vec::new()))
}

/// One plugin: it is not there.
pub(crate) fn plugin(call: &Call) -> Answer {
    Err(ApiError::missing(format!("plugin \"{}\" not found", call.name)))
}

/// Plugins are programs of Docker's own making.
pub(crate) fn plugin_install() -> Answer {
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "plugins are not supported by this engine"))
}

/// Leaving what was never joined.
pub(crate) fn swarm_leave() -> Answer {
    Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "This node is not part of a swarm"))
}

/// There is no Swarm here, and there will be none.
pub(crate) fn swarm_join() -> Answer {
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "swarm mode is not supported by this engine"))
}
