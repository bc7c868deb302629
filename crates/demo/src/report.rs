//! The report: what a workload can see of its sandbox, in a screenful. It reads nothing but /proc
//! and /sys, so a container, a machine and the bare host can be compared line by line.

use std::{fmt::Write as _, fs, path::Path};

use crate::{
    ip,
    proc::{field, pids, read},
};

/// Names of the capabilities by number.
///
/// Source: linux/capability.h.
const CAPABILITIES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

pub(crate) fn run(_: &[String]) -> u8 {
    print!("{}", text());
    0
}

/// The report.
pub(crate) fn text() -> String {
    let mut out = String::from("Hello from inside a Wythe sandbox. This is what I can see:\n\n");
    let status = read("/proc/self/status");
    let lines = [
        (
            "kernel",
            format!("Linux {} on {}", read("/proc/sys/kernel/osrelease"), std::env::consts::ARCH),
        ),
        ("host name", read("/proc/sys/kernel/hostname")),
        (
            "I am",
            format!(
                "process {} of {}, user {}, group {}",
                std::process::id(),
                pids().len(),
                first(&status, "Uid"),
                first(&status, "Gid")
            ),
        ),
        ("root", root()),
        ("processors", processors(&status)),
        ("memory", memory()),
        ("network", network()),
        ("capabilities", capabilities(field(&status, "CapEff"))),
        ("seccomp", seccomp(&status).to_owned()),
        ("own namespaces", namespaces()),
        ("clock", format!("up {} s", read("/proc/uptime").split('.').next().unwrap_or("?"))),
    ];
    for (name, value) in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "  {name:<15} {value}");
    }
    out.push_str(
        "\nMore tools are here: try `demo help`, or a shell: `wythe run -it --rm demo sh`\n",
    );
    out
}

fn first<'a>(status: &'a str, name: &str) -> &'a str {
    field(status, name).split_whitespace().next().unwrap_or("?")
}

/// File system type and options of `/`.
fn root() -> String {
    let mounts = read("/proc/self/mounts");
    let all: Vec<Vec<&str>> = mounts.lines().map(|l| l.split(' ').collect()).collect();
    let root = all.iter().rfind(|m| m.get(1) == Some(&"/"));
    let word = |at: usize| root.and_then(|m| m.get(at)).copied().unwrap_or("?");
    let access = if word(3).starts_with("ro") { "read-only" } else { "writable" };
    format!("{}, {access}, {} mounts in all", word(2), all.len())
}

fn processors(status: &str) -> String {
    let cpuinfo = read("/proc/cpuinfo");
    let model =
        cpuinfo.lines().find(|l| l.starts_with("model name")).and_then(|l| l.split_once(": "));
    let model = model.map_or("unknown model", |(_, m)| m);
    let limit = cpu_limit().map_or(String::new(), |cpus| format!(", limited to {cpus:.2}"));
    format!("{}{limit} ({model})", field(status, "Cpus_allowed_list"))
}

/// Processors' worth of time this control group may use (v2, then v1).
fn cpu_limit() -> Option<f64> {
    let v2 = read("/sys/fs/cgroup/cpu.max");
    let (quota, period) = match v2.split_once(' ') {
        Some((quota, period)) => (quota.to_owned(), period.to_owned()),
        None => (
            read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
            read("/sys/fs/cgroup/cpu/cpu.cfs_period_us"),
        ),
    };
    let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

fn memory() -> String {
    let meminfo = read("/proc/meminfo");
    let total =
        field(&meminfo, "MemTotal").trim_end_matches(" kB").parse::<u64>().unwrap_or(0) >> 10;
    let limit = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| read(path).parse::<u64>().ok())
        .map(|bytes| bytes >> 20)
        // "No limit" is a number near 2^63 in v1.
        .filter(|mib| *mib < 1 << 40);
    let limit = limit.map_or(String::new(), |mib| format!(", limited to {mib} MiB"));
    format!("{total} MiB{limit}")
}

fn network() -> String {
    let addresses: Vec<String> = ip::addresses().iter().map(ToString::to_string).collect();
    let addresses =
        if addresses.is_empty() { "no address".to_owned() } else { addresses.join(", ") };
    format!("{}: {addresses}", ip::interfaces().join(", "))
}

fn capabilities(hex: &str) -> String {
    let set = u64::from_str_radix(hex, 16).unwrap_or(0);
    let held = CAPABILITIES.iter().enumerate().filter(|(bit, _)| set >> bit & 1 == 1);
    let names: Vec<&str> = held.map(|(_, name)| *name).collect();
    match names.len() {
        0 => "none".to_owned(),
        n if n >= CAPABILITIES.len() - 1 => format!("{n}: nearly everything"),
        n => format!("{n}: {}", names.join(" ")),
    }
}

fn seccomp(status: &str) -> &'static str {
    match field(status, "Seccomp") {
        "0" => "off",
        "1" => "strict",
        "2" => "filtered",
        _ => "unknown",
    }
}

/// Namespaces that differ from the host's first ones, which have fixed inode numbers.
///
/// Source: linux/proc_ns.h. Mount and network namespaces have none; of these, "own" is told by
/// process 1 being a stranger or ourselves.
fn namespaces() -> String {
    const FIRST: [(&str, u32); 6] = [
        ("time", 0xEFFF_FFFA),
        ("cgroup", 0xEFFF_FFFB),
        ("pid", 0xEFFF_FFFC),
        ("user", 0xEFFF_FFFD),
        ("uts", 0xEFFF_FFFE),
        ("ipc", 0xEFFF_FFFF),
    ];
    let inode = |name: &str| {
        let link = fs::read_link(Path::new("/proc/self/ns").join(name)).ok()?;
        let link = link.to_str()?.to_owned();
        link.split_once('[')?.1.trim_end_matches(']').parse::<u32>().ok()
    };
    let own = FIRST.iter().filter(|(name, first)| inode(name).is_some_and(|i| i != *first));
    let names: Vec<&str> = own.map(|(name, _)| *name).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}
