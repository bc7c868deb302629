//! The daemon's mount namespace: its own, and the same as that of the shims that are there.
//!
//! Layers are mounted by the daemon and used by the shims, so both must see them; the host need
//! not. What the host mounts later is seen here (the namespace is a slave), what is mounted here
//! is not seen there. A daemon that follows another joins the shims' namespace through one of
//! them. To be called while the process has one thread.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd as _, AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    net::sockopt::socket_peercred,
    process::{PidfdFlags, pidfd_open},
};
use sys::{clone::Namespaces, namespace};

/// Enters the shims' namespace, or a new one. Whether it was the shims'.
pub(super) fn enter(shims: &Path) -> io::Result<bool> {
    if join(shims, Namespaces(Namespaces::MOUNT)) {
        return Ok(true);
    }
    namespace::leave(Namespaces(Namespaces::MOUNT))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    // Where the host's mounts are private, what is unmounted there would stay here.
    image::detach_image_mounts()?;
    Ok(false)
}

/// Enters these namespaces of the first shim that answers.
pub(super) fn join(shims: &Path, kinds: Namespaces) -> bool {
    processes(shims).any(|process| namespace::enter(process.as_fd(), kinds).is_ok())
}

/// The shims that answer.
pub(crate) fn processes(shims: &Path) -> impl Iterator<Item = OwnedFd> {
    let directory = File::open(shims).ok();
    let entries = fs::read_dir(shims).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    let sockets = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "sock"));
    sockets.filter_map(move |name| process_at(directory.as_ref()?, &name).ok())
}

/// The process that listens at a socket. Its path may be longer than an address may be; through
/// the open directory it is not. Source: unix(7).
fn process_at(directory: &File, name: &OsStr) -> io::Result<OwnedFd> {
    let short = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    // While this connection is open its listener lives, so the process id stays its own.
    let stream = UnixStream::connect(short)?;
    let peer = socket_peercred(&stream)?;
    Ok(pidfd_open(peer.pid, PidfdFlags::NONBLOCK)?)
}
