//! What this host has.

use std::{fs, path::Path};

use workload::Finding;

use crate::plan::Facts;

/// Number of the last capability, where the kernel does not say (Linux 5.9).
const LAST_CAPABILITY: u8 = 40;
/// What a host needs, and since which kernel it has it, for `doctor`.
const MINIMUM: &str = "mount_setattr(2), Linux 5.12";

impl Facts {
    /// Looks at the host.
    pub(crate) fn read() -> Facts {
        let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse().ok();
        let last: Option<u8> = number("/proc/sys/kernel/cap_last_cap");
        Facts {
            last_capability: last.unwrap_or(LAST_CAPABILITY).min(63),
            apparmor: fs::read_to_string("/sys/module/apparmor/parameters/enabled")
                .is_ok_and(|text| text.starts_with('Y')),
            selinux: Path::new("/sys/fs/selinux/enforce").exists(),
        }
    }
}

/// What works on this host and what does not, for people to read.
pub(crate) fn findings() -> Vec<Finding> {
    let facts = Facts::read();
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = |name: &str| filesystems.lines().any(|line| line.split('\t').nth(1) == Some(name));
    let namespace = |name: &str| Path::new("/proc/self/ns").join(name).exists();
    let finding = |subject: &str, works: bool, yes: &str, no: &str| Finding {
        subject: subject.into(),
        works,
        detail: if works { yes } else { no }.into(),
    };
    let mut all = vec![
        finding("mount API", mount_api(), MINIMUM, "the kernel is older than Linux 5.12"),
        finding("overlayfs", has("overlay"), "available", "the kernel has no overlayfs"),
        finding("AppArmor", facts.apparmor, "in force", "not in force; profiles are refused"),
        finding("SELinux", facts.selinux, "in force", "not in force; labels are refused"),
    ];
    for name in ["mnt", "pid", "net", "uts", "ipc", "user", "cgroup", "time"] {
        let subject = format!("{name} namespace");
        all.push(finding(&subject, namespace(name), "available", "the kernel has none"));
    }
    all
}

/// Whether the kernel has the youngest system call without which nothing works.
pub(crate) fn mount_api() -> bool {
    use std::os::fd::AsFd;
    let Ok(file) = fs::File::open("/dev/null") else { return false };
    let change = sys::mount::Change::default();
    // No change asked for: EINVAL from a kernel that knows the call, or success.
    let answer = sys::mount::set_attributes(file.as_fd(), change, None);
    answer.err().and_then(|error| error.raw_os_error())
        != Some(rustix::io::Errno::NOSYS.raw_os_error())
}
