//! The daemon's mount namespace: its own, and the same as that of the shims that are there.
//!
//! Layers are mounted by the daemon and used by the shims, so both must see them; the host need
//! not. What the host mounts later is seen here (the namespace is a slave), what is mounted here
//! is not seen there. A daemon that follows another joins the shims' namespace through one of
//! them. To be called while the process has one thread.

use std::{fs, io, os::unix::net::UnixStream, path::Path};

use rustix::{
    mount::{MountPropagationFlags, mount_change},
    net::sockopt::socket_peercred,
    process::{PidfdFlags, pidfd_open},
};
use sys::{clone::Namespaces, namespace};

/// Enters the shims' namespace, or a new one. Whether it was the shims'.
pub(super) fn enter(shims: &Path) -> io::Result<bool> {
    if join(shims) {
        return Ok(true);
    }
    namespace::leave(Namespaces(Namespaces::MOUNT))?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    Ok(false)
}

/// Enters the namespace of the first shim that answers.
fn join(shims: &Path) -> bool {
    let Ok(entries) = fs::read_dir(shims) else { return false };
    let sockets = entries.flatten().map(|entry| entry.path());
    sockets
        .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
        .any(|socket| join_one(&socket).is_ok())
}

fn join_one(socket: &Path) -> io::Result<()> {
    // While this connection is open its listener lives, so the process id stays its own.
    let stream = UnixStream::connect(socket)?;
    let peer = socket_peercred(&stream)?;
    let process = pidfd_open(peer.pid, PidfdFlags::empty())?;
    namespace::enter(std::os::fd::AsFd::as_fd(&process), Namespaces(Namespaces::MOUNT))
}
