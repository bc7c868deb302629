//! How a process gets into a group.

use std::os::fd::OwnedFd;

use rustix::fs::OFlags;

use crate::{
    CgroupError, GroupName, Hierarchy, files,
    hierarchy::{Kind, Slot, own_path},
    making::file_of,
};

/// How a new process gets into a group.
///
/// The maker hands `into` to clone3(2) with `CLONE_INTO_CGROUP`, and the child, while it has a
/// single thread and before it unshares its cgroup namespace, writes `0` to each of `files`. On
/// version 2 alone there are none; on version 1 alone there is no `into`.
///
/// Version 1 files are `tasks`, not `cgroup.procs`: for a process of one thread they mean the
/// same, and a thread that moves itself takes no lock over all processes of the host, which can
/// cost an RCU grace period (Linux 5.16, "cgroup: Optimize single thread migration").
#[derive(Debug)]
pub struct Join {
    /// Version 2: the directory for `CLONE_INTO_CGROUP` (Linux 5.7).
    pub into: Option<OwnedFd>,
    /// Files to which the child writes `0`.
    pub files: Vec<OwnedFd>,
}

pub(crate) fn join(hierarchy: &Hierarchy, name: &GroupName) -> Result<Join, CgroupError> {
    let mut join = Join { into: None, files: Vec::new() };
    for slot in hierarchy.slots() {
        add(hierarchy, slot, name.as_str(), &mut join)?;
    }
    Ok(join)
}

pub(crate) fn join_beside(
    hierarchy: &Hierarchy,
    name: &GroupName,
    pid: u32,
) -> Result<Join, CgroupError> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| CgroupError::step(format!("read {path}"), error))?;
    let mut join = Join { into: None, files: Vec::new() };
    for slot in hierarchy.slots() {
        let stands = own_path(&text, &slot.mounted.identity);
        let below = stands
            .as_deref()
            .and_then(|path| slot.mounted.relative(path))
            .filter(|path| is_below(path, name.as_str()));
        add(hierarchy, slot, below.unwrap_or(name.as_str()), &mut join)?;
    }
    Ok(join)
}

/// Whether a path is a group or below it. Paths from the kernel have no `..` below a mount's top.
fn is_below(path: &str, group: &str) -> bool {
    let rest = path.strip_prefix(group);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && path.split('/').all(|level| !matches!(level, "" | "." | ".."))
}

fn add(
    hierarchy: &Hierarchy,
    slot: &Slot,
    group: &str,
    join: &mut Join,
) -> Result<(), CgroupError> {
    let write = |file: &str| files::open(slot, &file_of(group, file), OFlags::WRONLY);
    if slot.mounted.kind != Kind::Two {
        join.files.extend(write("tasks")?);
    } else if hierarchy.kernel_since(5, 7) {
        join.into = files::open(slot, group, OFlags::PATH | OFlags::DIRECTORY)?;
    } else {
        join.files.extend(write("cgroup.procs")?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_below_are_below() {
        for (path, below) in
            [("a/b", true), ("a/b/c", true), ("a/bc", false), ("a", false), ("a/b/../c", false)]
        {
            assert_eq!(is_below(path, "a/b"), below, "{path}");
        }
    }
}
