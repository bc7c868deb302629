//! `/info`: what the daemon is, what it has, and what its host grants.

use std::path::Path;

use base::clock::Timestamp;
use serde_json::{Value, json};

use super::host;
use crate::{
    call::Call,
    reply::{self, Answer},
    time,
};

/// `/info`.
pub(crate) fn info(call: &Call) -> Answer {
    let info = call.engine().info();
    let (running, paused, stopped) = info.containers;
    let uname = rustix::system::uname();
    let memory = rustix::system::sysinfo();
    let limits = host::Limits::read(Path::new("/sys/fs/cgroup"));
    let mut warnings = limits.warnings();
    warnings.extend(info.lacks.iter().cloned());
    let forwarding = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward");
    let mut security = vec!["name=seccomp,profile=builtin", "name=cgroupns"];
    security.extend(info.rootless.then_some("name=rootless"));
    let runtimes = info.isolations.iter().map(|of| (of.to_string(), json!({ "path": "wythe" })));
    reply::json(&json!({
        "ID": identity(&info.data_root),
        "Containers": running + paused + stopped,
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": stopped,
        "Images": info.images,
        "Driver": if info.rootless { "directory" } else { "erofs" },
        "DriverStatus": driver_status(&info),
        "Plugins": {
            "Volume": ["local"],
            "Network": ["bridge", "host", "null"],
            "Authorization": null,
            "Log": ["json-file", "local", "none", "syslog"],
        },
        "MemoryLimit": limits.memory,
        "SwapLimit": limits.swap,
        "CpuCfsPeriod": limits.cpu_quota,
        "CpuCfsQuota": limits.cpu_quota,
        "CPUShares": limits.cpu_shares,
        "CPUSet": limits.cpuset,
        "PidsLimit": limits.pids,
        "OomKillDisable": limits.oom_kill_disable,
        "IPv4Forwarding": forwarding.is_ok_and(|text| text.trim() == "1"),
        "Debug": false,
        "NFd": std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
        "NGoroutines": tokio::runtime::Handle::current().metrics().num_alive_tasks(),
        "NEventsListener": call.engine().listeners(),
        "SystemTime": time::rfc3339(Some(Timestamp::now())),
        "LoggingDriver": "json-file",
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": if limits.unified { "2" } else { "1" },
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
        "CDISpecDirs": [],
        "ContainerdCommit": { "ID": "" },
        "RuncCommit": { "ID": "" },
        "InitCommit": { "ID": "" },
        "SecurityOptions": security,
        "Warnings": warnings,
    }))
}

/// A value of os-release(5).
fn os_release(name: &str) -> Option<String> {
    let text = std::fs::read_to_string("/etc/os-release").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))?;
    Some(line.trim_matches('"').to_owned())
}

/// How layers are kept.
fn driver_status(info: &engine::Info) -> Value {
    let form = if info.rootless { "unpacked directories" } else { "EROFS, mounted once" };
    json!([["Layers", form], ["Writable", "overlayfs"]])
}

/// A name of this daemon's data root that is no other's, and stays.
///
/// Source: machine-id(5), which asks not to be told as it is.
fn identity(data_root: &str) -> String {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    // FNV-1a: it need not be hard to guess, only be the same tomorrow.
    let hash = |seed: u64| {
        let bytes = machine.trim().bytes().chain(data_root.bytes());
        bytes.fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    };
    let (high, low) = (hash(0xcbf2_9ce4_8422_2325), hash(0x8422_2325_cbf2_9ce4));
    let text = format!("{high:016x}{low:016x}");
    let parts =
        [text.get(..8), text.get(8..12), text.get(12..16), text.get(16..20), text.get(20..)];
    parts.into_iter().flatten().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_is_named_by_where_it_keeps_things() {
        let (one, other) = (identity("/a"), identity("/b"));
        assert_eq!(one, identity("/a"));
        assert_ne!(one, other);
        assert_eq!(one.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
    }
}
