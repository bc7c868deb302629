//! What every process of a machine stands on: the kernel's file systems and the loopback.

use std::{fs, io, path::Path};

use rustix::{
    mount::{MountFlags, mount, mount_move},
    process::{Resource, Rlimit, setrlimit},
    system::{RebootCommand, reboot},
};

/// File systems in the order in which they are mounted: kind, place, options.
const MOUNTS: [(&str, &str, &str, MountFlags); 7] = [
    ("devtmpfs", "/dev", "mode=0755", MountFlags::NOSUID),
    ("proc", "/proc", "", SAFE),
    ("sysfs", "/sys", "", SAFE),
    ("cgroup2", "/sys/fs/cgroup", "nsdelegate", SAFE),
    ("tmpfs", "/run", "mode=0755", MountFlags::NOSUID),
    ("devpts", "/dev/pts", "mode=0620,gid=5,ptmxmode=0666", MountFlags::NOSUID),
    ("tmpfs", "/dev/shm", "mode=1777", MountFlags::NOSUID),
];

const SAFE: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Links that programs expect in /dev.
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// Descriptors that a process may have: what container engines grant.
const DESCRIPTORS_MAX: u64 = 1 << 20;

/// Why the machine cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing}")]
pub(crate) struct GroundError {
    doing: String,
    #[source]
    source: io::Error,
}

pub(crate) fn failed(doing: impl Into<String>) -> impl FnOnce(io::Error) -> GroundError {
    let doing = doing.into();
    move |source| GroundError { doing, source }
}

/// Whether the kernel counts what programs ask for. Source: proc_sys_vm(5).
const OVERCOMMIT: &str = "/proc/sys/vm/overcommit_memory";

/// Where the root is made that takes the place of the first one.
const ROOT: &str = "/root";

/// What is needed before anything else, to be heard.
pub(crate) fn begin() -> Result<(), GroundError> {
    let (kind, at, options, flags) = MOUNTS[0];
    mount_at(kind, kind, Path::new(at), options, flags)
}

/// Makes a root to stand on, mounts there what belongs to it, and brings the loopback up.
pub(crate) fn prepare() -> Result<(), GroundError> {
    leave_the_first_root().map_err(failed("leave the first file system"))?;
    for (kind, at, options, flags) in MOUNTS {
        mount_at(kind, kind, Path::new(at), options, flags)?;
    }
    for (to, link) in LINKS {
        match std::os::unix::fs::symlink(to, link) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed(format!("make {link}"))(error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    sys::namespace::loopback_up().map_err(failed("bring the loopback up"))?;
    // What a program asks for beyond its limit it gets and is killed for, as on a large host.
    fs::write(OVERCOMMIT, "1").map_err(failed("let programs ask for memory"))?;
    let most = Some(DESCRIPTORS_MAX);
    let limit = Rlimit { current: most, maximum: most };
    setrlimit(Resource::Nofile, limit)
        .map_err(|e| failed("raise the limit of descriptors")(e.into()))
}

/// What the kernel unpacked its archive into cannot be pivoted away from, so that no container
/// could get a root of its own. Source: pivot_root(2).
fn leave_the_first_root() -> io::Result<()> {
    fs::create_dir_all(ROOT)?;
    mount("tmpfs", ROOT, "tmpfs", MountFlags::empty(), c"mode=0755")?;
    std::env::set_current_dir(ROOT)?;
    mount_move(".", "/")?;
    rustix::process::chroot(".")?;
    std::env::set_current_dir("/")
}

/// Mounts a file system where it is not yet.
pub(crate) fn mount_at(
    source: &str,
    kind: &str,
    at: &Path,
    options: &str,
    flags: MountFlags,
) -> Result<(), GroundError> {
    let doing = || format!("mount {kind} at {}", at.display());
    fs::create_dir_all(at).map_err(failed(doing()))?;
    let options = std::ffi::CString::new(options).map_err(|e| failed(doing())(e.into()))?;
    match mount(source, at, kind, flags, options.as_c_str()) {
        Ok(()) | Err(rustix::io::Errno::BUSY) => Ok(()),
        Err(error) => Err(failed(doing())(error.into())),
    }
}

/// Writes out what is to be written and switches the machine off. A machine that cannot be
/// switched off is ended by the host.
pub(crate) fn switch_off() {
    rustix::fs::sync();
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        tracing::error!(%error, "cannot switch off");
    }
}
