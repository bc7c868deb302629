//! What this host has.

use std::{fs, path::Path};

use sys::userns::Ids;
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
            confined: Ids::own().ok().filter(|ids| !ids.is_initial()),
            ground: false,
        }
    }
}

/// What works on this host and what does not, for people to read; control groups have findings of
/// their own.
pub fn findings() -> Vec<Finding> {
    let facts = Facts::read();
    let mut all = vec![
        finding("mount API and idmapped mounts", mount_api(), MINIMUM, Some("run Linux 5.12")),
        finding("overlayfs", overlay(), "it can be opened", Some("load the module overlay")),
        seccomp(),
        user_namespaces(),
        finding("AppArmor", facts.apparmor, "profiles are applied, if in force", None),
        finding("SELinux", facts.selinux, "labels are applied, if in force", None),
    ];
    let missing: Vec<_> = NAMESPACES.into_iter().filter(|name| !namespace(name)).collect();
    all.push(Finding {
        subject: "namespaces".into(),
        works: missing.is_empty(),
        detail: match missing.as_slice() {
            [] => NAMESPACES.join(" "),
            some => format!("the kernel has none for {}", some.join(", ")),
        },
        mend: (!missing.is_empty()).then(|| "run a kernel that is built with them".into()),
    });
    all
}

/// All there are. Source: namespaces(7).
const NAMESPACES: [&str; 8] = ["mnt", "pid", "net", "uts", "ipc", "user", "cgroup", "time"];

fn namespace(name: &str) -> bool {
    Path::new("/proc/self/ns").join(name).exists()
}

fn finding(subject: &str, works: bool, detail: &str, mend: Option<&str>) -> Finding {
    let detail = if works { detail.to_owned() } else { format!("not here: {detail}") };
    let mend = mend.filter(|_| !works).map(str::to_owned);
    Finding { subject: subject.into(), works, detail, mend }
}

/// Whether an overlay could be mounted. Asking loads the module where there is one.
fn overlay() -> bool {
    rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

/// Source: seccomp(2), `/proc/sys/kernel/seccomp/actions_avail`, Linux 4.14.
fn seccomp() -> Finding {
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").ok();
    let detail = match &actions {
        Some(actions) => format!("actions: {}", actions.trim()),
        None => "no system call filters, so containers can ask the kernel for anything".into(),
    };
    let mend = actions.is_none().then(|| "run a kernel built with CONFIG_SECCOMP_FILTER".into());
    Finding { subject: "seccomp".into(), works: actions.is_some(), detail, mend }
}

/// Source: namespaces(7), `/proc/sys/user`; Debian's `kernel.unprivileged_userns_clone`.
fn user_namespaces() -> Finding {
    const MOST: &str = "/proc/sys/user/max_user_namespaces";
    const DEBIAN: &str = "/proc/sys/kernel/unprivileged_userns_clone";
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let (works, detail, mend) = match (number(MOST), number(DEBIAN)) {
        (None, _) => (false, "the kernel has none".to_owned(), None),
        (Some(0), _) => (
            false,
            "none may be made, so daemons of ordinary users and --userns cannot work".to_owned(),
            Some("sysctl user.max_user_namespaces=10000"),
        ),
        (Some(_), Some(0)) => (
            false,
            "only root may make them, so daemons of ordinary users cannot work".to_owned(),
            Some("sysctl kernel.unprivileged_userns_clone=1"),
        ),
        (Some(most), _) => (true, format!("{most} may be made"), None),
    };
    let mend = mend.map(str::to_owned);
    Finding { subject: "user namespaces".into(), works, detail, mend }
}

/// Whether there is any control group that this process may make groups in. For a process that
/// is in its user namespace already.
pub fn has_control_groups() -> bool {
    cgroups::Hierarchy::detect().is_ok_and(|hierarchy| hierarchy.has_any())
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
