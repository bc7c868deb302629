//! One group.
use crate::{CgroupError, GroupName, Hierarchy};
use base::Deadline;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use workload::{Limits, Usage};

/// One control group: the same name in every hierarchy that it needs.
///
/// It holds no descriptors of its own; dropping it leaves the group as it is.
#[derive(Clone, Debug)]
pub struct Cgroup {
    name: GroupName,
}

/// How a new process gets into a group.
///
/// The maker hands `into` to clone3(2) with `CLONE_INTO_CGROUP`, and the child, still with a
/// single thread and before it unshares its cgroup namespace, writes `0` to each of `files`.
#[derive(Debug)]
pub struct Join {
    /// Version 2: the directory for `CLONE_INTO_CGROUP` (Linux 5.7).
    pub into: Option<OwnedFd>,
    /// Files to which the child writes `0`.
    pub files: Vec<OwnedFd>,
}

/// What a process in the group should see at `/sys/fs/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountView {
    /// A tmpfs with one directory per entry, to which `host` is bound.
    V1(Vec<ViewEntry>),
    /// This directory itself.
    V2(PathBuf),
}

/// One directory below `/sys/fs/cgroup` in a version 1 or hybrid layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEntry {
    /// Its name: `memory`, `cpu,cpuacct`, `unified`.
    pub name: String,
    /// Other names for it, as symbolic links: `cpu` and `cpuacct`.
    pub links: Vec<String>,
    /// The group's directory on the host.
    pub host: PathBuf,
}

/// Tells when a group ran out of memory; readable when something happened.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
}

impl OomWatch {
    /// Takes what is to be read, so that the descriptor waits for the next event. Whether a
    /// process was killed is answered by [`Cgroup::oom_kills`].
    pub fn drain(&self) {}
}
impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Cgroup {
    /// Makes the group and applies the limits. On failure everything it made is removed.
    pub fn create(
        _hierarchy: &Hierarchy,
        name: &str,
        _limits: &Limits,
    ) -> Result<Cgroup, CgroupError> {
        let name = name.parse()?;
        Err(CgroupError::Busy { name: Cgroup { name }.name.to_string() })
    }
    /// The group of this name, if it exists.
    pub fn open(_hierarchy: &Hierarchy, _name: &str) -> Result<Option<Cgroup>, CgroupError> {
        Ok(None)
    }
    /// Its name.
    pub fn name(&self) -> &GroupName {
        &self.name
    }
    /// What a new process needs to get in.
    pub fn join(&self) -> Result<Join, CgroupError> {
        Ok(Join { into: None, files: Vec::new() })
    }
    /// As [`Cgroup::join`], but where process `pid` of this group stands now: it may have moved
    /// to a group below.
    pub fn join_beside(&self, _pid: u32) -> Result<Join, CgroupError> {
        self.join()
    }
    /// Changes limits; what is `None` or empty stays as it is.
    pub fn limit(&self, _limits: &Limits) -> Result<(), CgroupError> {
        Ok(())
    }
    /// Counters; `network` stays empty.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        Ok(Usage::default())
    }
    /// All processes in it and in groups below it.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        Ok(Vec::new())
    }
    /// Stops all processes; returns when they have stopped. A failed attempt thaws again.
    pub fn freeze(&self, _by: Deadline) -> Result<(), CgroupError> {
        Ok(())
    }
    /// Lets them go on.
    pub fn thaw(&self, _by: Deadline) -> Result<(), CgroupError> {
        Ok(())
    }
    /// Whether it is frozen.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        Ok(false)
    }
    /// Sends `SIGKILL` to all processes, those below too; returns when none is left that was
    /// not sent one. Frozen groups are thawed, so that the processes can die.
    pub fn kill(&self, _by: Deadline) -> Result<(), CgroupError> {
        Ok(())
    }
    /// A watch for running out of memory, or `None` where memory is not controlled.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>, CgroupError> {
        Ok(None)
    }
    /// How many processes were killed for want of memory.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        Ok(0)
    }
    /// Removes it and the groups below it; waits for processes that are still ending.
    pub fn remove(&self, _by: Deadline) -> Result<(), CgroupError> {
        Ok(())
    }
    /// What a process in it should see at `/sys/fs/cgroup`.
    pub fn mount_view(&self) -> MountView {
        MountView::V1(Vec::new())
    }
}
