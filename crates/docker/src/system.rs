//! The daemon itself: who it is, what it has, and what it is not.

use base::clock::Timestamp;
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
    time,
};

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

/// `/info`.
pub(crate) fn info(call: &Call) -> Answer {
    let info = call.engine().info();
    let (running, paused, stopped) = info.containers;
    let uname = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let unified = std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let mut security = vec!["name=seccomp,profile=builtin", "name=cgroupns"];
    security.extend(info.rootless.then_some("name=rootless"));
    let runtimes = info.isolations.iter().map(|of| (of.to_string(), json!({ "path": "wythe" })));
    reply::json(&json!({
        "ID": uname.nodename().to_string_lossy(),
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": info.images,
        "Driver": if info.rootless { "directory" } else { "erofs" },
        "DriverStatus": [],
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["json-file", "local", "none", "syslog"],
        },
        "MemoryLimit": true,
        "SwapLimit": true,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "OomKillDisable": !unified,
        "IPv4Forwarding": true,
        "Debug": false,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "SystemTime": time::rfc3339(Some(Timestamp::now())),
        "LoggingDriver": "local",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if unified { "2" } else { "1" },
        "KernelVersion": uname.release().to_string_lossy(),
        "OperatingSystem": os_release("PRETTY_NAME").unwrap_or_else(|| "Linux".to_owned()),
        "OSVersion": os_release("VERSION_ID").unwrap_or_default(),
        "OSType": "linux",
        "Architecture": uname.machine().to_string_lossy(),
        "IndexServerAddress": "https://index.docker.io/v1/",
        "RegistryConfig": {
            "InsecureRegistryCIDRs": ["::1/128", "127.0.0.0/8"],
            "IndexConfigs": {},
            "Mirrors": [],
        },
        "NCPU": std::thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": memory.totalram.saturating_mul(u64::from(memory.mem_unit.max(1))),
        "GenericResources": null,
        "DockerRootDir": info.data_root,
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Name": uname.nodename().to_string_lossy(),
        "Labels": [],
        "ExperimentalBuild": false,
        "ServerVersion": info.version,
        "Runtimes": runtimes.collect::<serde_json::Map<_, _>>(),
        "DefaultRuntime": "container",
        "Swarm": {
            "NodeID": "",
            "NodeAddr": "",
            "LocalNodeState": "inactive",
            "ControlAvailable": false,
            "Error": "",
            "RemoteManagers": null,
        },
        "LiveRestoreEnabled": true,
        "Isolation": "",
        "InitBinary": "wythe",
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": security,
        "Warnings": info.lacks,
    }))
}

/// A value of os-release(5).
fn os_release(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}

/// `/auth`: registries come later.
pub(crate) fn auth() -> Answer {
    Err(ApiError::unbuilt("logging in to a registry"))
}

/// `/build` and what belongs to it.
pub(crate) fn build() -> Answer {
    Err(ApiError::unbuilt("building images"))
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

/// There is no Swarm here, and there will be none.
pub(crate) fn swarm_join() -> Answer {
    Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, "swarm mode is not supported by this engine"))
}

/// `/system/df`.
pub(crate) async fn disk_usage(call: &Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("GET /system/df"))
}
