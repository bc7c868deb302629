//! User namespaces: their maps, and one to map a mount's ids with.
//!
//! Source: user_namespaces(7), mount_setattr(2).

use std::{
    fmt::Write,
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::process::{WaitId, WaitIdOptions, waitid};
use sys::clone::{Child, Namespaces};
use workload::{DriverError, IdMap, UserMap};

use crate::report;

/// Writes the maps of a process that is in a new user namespace.
pub(crate) fn write(pid: u32, map: &UserMap) -> Result<(), DriverError> {
    let put = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(path, text)
            .map_err(|error| DriverError::step(format!("write {file}"), &error))
    };
    // Source: user_namespaces(7), "Interaction with system calls that change process UIDs or
    // GIDs": without privileges groups can only be mapped once setgroups(2) is denied.
    if !rustix::process::geteuid().is_root() {
        put("setgroups", "deny")?;
    }
    put("uid_map", &lines(&map.uids))?;
    put("gid_map", &lines(&map.gids))
}

fn lines(ranges: &[IdMap]) -> String {
    let mut text = String::new();
    for range in ranges {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} {} {}", range.inside, range.outside, range.count);
    }
    text
}

/// A user namespace with these maps: the one that is named, or a new one that nobody lives in.
pub(crate) fn namespace(map: &UserMap) -> Result<OwnedFd, DriverError> {
    if let Some(path) = &map.join {
        let file = File::open(path);
        return file
            .map(OwnedFd::from)
            .map_err(|error| DriverError::step(format!("open {}", path.display()), &error));
    }
    let step = |error: io::Error| DriverError::step("make a user namespace", &error);
    let (parent, child_end) = report::channel().map_err(|error| step(error.into()))?;
    let child = sys::clone::spawn(Namespaces(Namespaces::USER), None, || {
        // It ends when the parent lets go, having been looked at.
        u8::from(report::await_go(child_end.as_fd()).is_err())
    })
    .map_err(step)?;
    let made = write(child.pid, map).and_then(|()| {
        File::open(format!("/proc/{}/ns/user", child.pid)).map(OwnedFd::from).map_err(step)
    });
    end(&child);
    drop(parent);
    made
}

fn end(child: &Child) {
    // It may have ended by itself.
    let _ = sys::process::signal(child.pidfd.as_fd(), 9);
    let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
}
