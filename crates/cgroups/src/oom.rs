//! Running out of memory.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{OFlags, inotify},
};

use crate::{
    CgroupError, GroupName, Hierarchy, controller::Controller, files, hierarchy::Slot,
    making::file_of, usage,
};

/// Tells when a group ran out of memory: readable when something happened.
///
/// It wakes for other reasons too (version 1 when the group is removed, version 2 when a limit
/// was only touched); [`crate::Cgroup::oom_kills`] answers whether a process was killed.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl OomWatch {
    /// Takes what is to be read, so that the descriptor waits for the next event.
    pub fn drain(&self) {
        let mut events = [0; 4096];
        // Both kinds are non-blocking: when nothing is left they say so.
        while rustix::io::read(&self.fd, &mut events).is_ok_and(|count| count > 0) {}
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

pub(crate) fn watch(
    hierarchy: &Hierarchy,
    name: &GroupName,
) -> Result<Option<OomWatch>, CgroupError> {
    let Some(slot) = hierarchy.home(Controller::Memory) else { return Ok(None) };
    let fd = if slot.is_v2() { watch_v2(slot, name)? } else { watch_v1(slot, name)? };
    Ok(fd.map(|fd| OomWatch { fd }))
}

/// An eventfd, tied to `memory.oom_control`.
///
/// Source: Linux, Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control".
fn watch_v1(slot: &Slot, name: &GroupName) -> Result<Option<OwnedFd>, CgroupError> {
    let path = file_of(name.as_str(), "memory.oom_control");
    let Some(control) = files::open(slot, &path, OFlags::RDONLY)? else { return Ok(None) };
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
        .map_err(|error| files::failed(slot, "watch", &path, error))?;
    let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    let there = files::write(slot, &file_of(name.as_str(), "cgroup.event_control"), &line)?;
    Ok(there.then_some(fd))
}

/// Version 2 tells inotify(7) that `memory.events` was modified.
fn watch_v2(slot: &Slot, name: &GroupName) -> Result<Option<OwnedFd>, CgroupError> {
    let path = slot.mounted.point.join(name.as_str()).join("memory.events");
    let failed = |error| CgroupError::step(format!("watch {}", path.display()), error);
    let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
    let fd = inotify::init(flags).map_err(failed)?;
    match inotify::add_watch(&fd, &path, inotify::WatchFlags::MODIFY) {
        Ok(_) => Ok(Some(fd)),
        Err(rustix::io::Errno::NOENT) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// How many processes of the group were killed for want of memory.
pub(crate) fn kills(hierarchy: &Hierarchy, name: &GroupName) -> Result<u64, CgroupError> {
    let Some(slot) = hierarchy.home(Controller::Memory) else { return Ok(0) };
    let file = if slot.is_v2() { "memory.events" } else { "memory.oom_control" };
    let text = files::read(slot, &file_of(name.as_str(), file))?.unwrap_or_default();
    Ok(usage::value_of(&text, "oom_kill").unwrap_or(0))
}
