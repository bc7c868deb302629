//! The default container profile: what a container gets when nobody says otherwise.
//!
//! Capabilities, masked and read-only paths, default mounts and devices are Docker's, which are
//! also the OCI runtime specification's.

use std::path::PathBuf;

use base::ByteSize;

use crate::{
    CapabilitySets, DeviceKind, DeviceRule, Filesystem, Mount, MountFlags, MountSource, Tmpfs,
};

/// Capabilities by kernel number, as linux/capability.h counts them.
pub const CAPABILITY_NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's fourteen default capabilities.
pub const DEFAULT_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Paths that read as empty.
pub const MASKED_PATHS: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// Paths that cannot be written.
pub const READ_ONLY_PATHS: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The kernel's number of a capability, by name with or without `CAP_`, in either case.
pub fn capability(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let at = CAPABILITY_NAMES.iter().position(|known| *known == name)?;
    u8::try_from(at).ok()
}

/// The five sets of a process that runs as root with these capabilities, as Docker fills them:
/// inheritable and ambient stay empty.
pub fn capability_sets(of: impl IntoIterator<Item = u8>) -> CapabilitySets {
    let set: std::collections::BTreeSet<u8> = of.into_iter().collect();
    CapabilitySets {
        bounding: set.clone(),
        effective: set.clone(),
        permitted: set,
        ..CapabilitySets::default()
    }
}

/// The mounts every container has, in order: proc, dev, devpts, sysfs, cgroup, mqueue, shm.
pub fn mounts(shm: ByteSize, privileged: bool) -> Vec<Mount> {
    let safe = MountFlags { nosuid: true, noexec: true, nodev: true, ..MountFlags::default() };
    let kernel = |target: &str, fs, flags| Mount {
        target: target.into(),
        source: MountSource::Kernel(fs),
        flags,
        propagation: None,
    };
    let tmpfs = |target: &str, tmpfs, flags| Mount {
        target: target.into(),
        source: MountSource::Tmpfs(tmpfs),
        flags,
        propagation: None,
    };
    let guarded = MountFlags { read_only: !privileged, ..safe };
    let dev = Tmpfs { size: Some(ByteSize(64 << 20)), mode: Some(0o755), options: Vec::new() };
    let shm = Tmpfs { size: Some(shm), mode: Some(0o1777), options: Vec::new() };
    let dev_flags = MountFlags { nosuid: true, strictatime: true, ..MountFlags::default() };
    vec![
        kernel("/proc", Filesystem::Proc, safe),
        tmpfs("/dev", dev, dev_flags),
        kernel("/dev/pts", Filesystem::Devpts, MountFlags { nodev: false, ..safe }),
        kernel("/sys", Filesystem::Sysfs, guarded),
        kernel("/sys/fs/cgroup", Filesystem::Cgroup, guarded),
        kernel("/dev/mqueue", Filesystem::Mqueue, safe),
        tmpfs("/dev/shm", shm, safe),
    ]
}

/// [`MASKED_PATHS`] as paths.
pub fn masked_paths() -> Vec<PathBuf> {
    MASKED_PATHS.iter().map(PathBuf::from).collect()
}

/// [`READ_ONLY_PATHS`] as paths.
pub fn read_only_paths() -> Vec<PathBuf> {
    READ_ONLY_PATHS.iter().map(PathBuf::from).collect()
}

/// The device allow-list: everything may be made, and only these may be opened: null, zero,
/// full, tty, random, urandom, ptmx and the pseudo-terminals.
///
/// Docker lets containers open the system console (5:1) as well, where they could read what is
/// typed on the host. Nothing needs it: a container's `/dev/console` is its own terminal.
pub fn device_rules() -> Vec<DeviceRule> {
    use DeviceKind::{Block, Character};
    let rule = |allow, kind, major, minor, open| DeviceRule {
        allow,
        kind,
        major,
        minor,
        read: open,
        write: open,
        mknod: true,
    };
    let mut rules = vec![
        rule(false, None, None, None, true),
        rule(true, Some(Character), None, None, false),
        rule(true, Some(Block), None, None, false),
    ];
    let open = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
    rules.extend(
        open.map(|(major, minor)| rule(true, Some(Character), Some(major), Some(minor), true)),
    );
    rules.push(rule(true, Some(Character), Some(136), None, true));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_the_kernels_numbers() {
        let cases =
            [("CAP_CHOWN", 0), ("sys_admin", 21), ("SETFCAP", 31), ("CHECKPOINT_RESTORE", 40)];
        for (name, number) in cases {
            assert_eq!(capability(name), Some(number), "{name}");
        }
        assert!(DEFAULT_CAPABILITIES.iter().all(|name| capability(name).is_some()));
        assert_eq!(capability("CAP_NOPE"), None);
    }
}
