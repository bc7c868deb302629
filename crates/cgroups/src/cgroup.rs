//! One group: made, changed, looked at. The verbs have files of their own.

use base::Deadline;
use workload::{Limits, Usage};

use crate::{
    CgroupError, GroupName, Hierarchy, Join, MountView, OomWatch, files, freezer, join,
    making::{self, Made},
    oom,
    placement::{self, Place, Reach},
    processes, removal, usage, view,
};

/// One control group: the same name in every hierarchy that it needs.
///
/// It holds no descriptors of its own and remembers nothing; dropping it leaves the group as it
/// is, and [`Cgroup::open`] finds it again.
#[derive(Clone, Debug)]
pub struct Cgroup {
    hierarchy: Hierarchy,
    name: GroupName,
}

impl Cgroup {
    /// Makes the group and applies the limits. On failure everything it made is removed.
    ///
    /// A group of this name that holds no process is taken over.
    ///
    /// # Errors
    /// `Name` for a name that cannot be one; `Busy` if such a group holds processes; `Invalid`
    /// or `Unsupported` for a limit, naming it; `Step` if the kernel refuses.
    pub fn create(
        hierarchy: &Hierarchy,
        name: &str,
        limits: &Limits,
    ) -> Result<Cgroup, CgroupError> {
        Cgroup::create_within(hierarchy, name, limits, Reach::Needed)
    }

    /// As [`Cgroup::create`], but in every hierarchy that is there, needed or not: for groups
    /// that other programs read, as they read those of runc.
    ///
    /// # Errors
    /// As [`Cgroup::create`].
    pub fn create_in_all(
        hierarchy: &Hierarchy,
        name: &str,
        limits: &Limits,
    ) -> Result<Cgroup, CgroupError> {
        Cgroup::create_within(hierarchy, name, limits, Reach::All)
    }

    fn create_within(
        hierarchy: &Hierarchy,
        name: &str,
        limits: &Limits,
        reach: Reach,
    ) -> Result<Cgroup, CgroupError> {
        let group = Cgroup { hierarchy: hierarchy.clone(), name: name.parse()? };
        let places = placement::places(hierarchy, limits, reach)?;
        let mut made = Made::default();
        match group.build(&places, limits, &mut made) {
            Ok(()) => Ok(group),
            Err(error) => {
                made.undo();
                Err(error)
            }
        }
    }

    fn build<'h>(
        &self,
        places: &[Place<'h>],
        limits: &Limits,
        made: &mut Made<'h>,
    ) -> Result<(), CgroupError> {
        for place in places {
            if !making::make(place, &self.name, made)?
                && !processes::below(place.slot, self.name.as_str())?.is_empty()
            {
                return Err(CgroupError::Busy { name: self.name.to_string() });
            }
            making::apply(place, &self.name, limits)?;
        }
        Ok(())
    }

    /// The group of this name, if it exists in any hierarchy.
    ///
    /// # Errors
    /// `Name` for a name that cannot be one.
    pub fn open(hierarchy: &Hierarchy, name: &str) -> Result<Option<Cgroup>, CgroupError> {
        let group = Cgroup { hierarchy: hierarchy.clone(), name: name.parse()? };
        let there = hierarchy.slots().iter().any(|slot| files::exists(slot, group.name.as_str()));
        Ok(there.then_some(group))
    }

    /// Its name.
    pub fn name(&self) -> &GroupName {
        &self.name
    }

    /// The hierarchies it is in.
    pub fn hierarchy(&self) -> &Hierarchy {
        &self.hierarchy
    }

    /// What a new process needs to get in.
    ///
    /// # Errors
    /// `Step` if a directory or file of the group cannot be opened.
    pub fn join(&self) -> Result<Join, CgroupError> {
        join::join(&self.hierarchy, &self.name)
    }

    /// As [`Cgroup::join`], but where process `pid` stands now, if that is below this group: a
    /// process may have moved itself, and a version 2 group that hands controllers down takes
    /// no processes.
    ///
    /// # Errors
    /// As [`Cgroup::join`]; `Step` if there is no such process.
    pub fn join_beside(&self, pid: u32) -> Result<Join, CgroupError> {
        join::join_beside(&self.hierarchy, &self.name, pid)
    }

    /// Changes limits; what is `None` or empty stays as it is. A controller that nothing was
    /// asked of before gets its group now, and the processes move in.
    ///
    /// # Errors
    /// `Invalid` or `Unsupported` for a limit, naming it; `Step` if the kernel refuses, in which
    /// case limits that were applied before stay.
    pub fn limit(&self, limits: &Limits) -> Result<(), CgroupError> {
        for place in placement::limited(&self.hierarchy, limits)? {
            let mut made = Made::default();
            let new = making::make(&place, &self.name, &mut made)?;
            let applied = making::apply(&place, &self.name, limits);
            if applied.is_err() {
                made.undo();
            }
            applied?;
            if new {
                processes::move_into(&self.hierarchy, place.slot, &self.name)?;
            }
        }
        Ok(())
    }

    /// Counters; `network` stays empty.
    ///
    /// # Errors
    /// `Step` if a file cannot be read. A group that is gone counts nothing.
    pub fn usage(&self) -> Result<Usage, CgroupError> {
        usage::usage(&self.hierarchy, &self.name)
    }

    /// All processes in it and in groups below it.
    ///
    /// # Errors
    /// `Step` if they cannot be listed.
    pub fn pids(&self) -> Result<Vec<u32>, CgroupError> {
        processes::pids(&self.hierarchy, &self.name)
    }

    /// Stops all processes; returns when they have stopped. A failed attempt thaws again.
    ///
    /// # Errors
    /// `Unsupported` where nothing can freeze; `DeadlinePassed` if a process cannot be stopped,
    /// as one in uninterruptible sleep.
    pub fn freeze(&self, by: Deadline) -> Result<(), CgroupError> {
        freezer::freeze(&self.hierarchy, &self.name, by)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// As [`Cgroup::freeze`].
    pub fn thaw(&self, by: Deadline) -> Result<(), CgroupError> {
        freezer::thaw(&self.hierarchy, &self.name, by)
    }

    /// Whether it is frozen.
    ///
    /// # Errors
    /// `Step` if that cannot be read.
    pub fn is_frozen(&self) -> Result<bool, CgroupError> {
        freezer::is_frozen(&self.hierarchy, &self.name)
    }

    /// Sends `SIGKILL` to all processes, those below too; returns when none is left that was
    /// not sent one, which is not yet when they have ended. A frozen group is thawed, so that
    /// they can.
    ///
    /// # Errors
    /// `DeadlinePassed` if processes appear faster than they can be killed, which only version 1
    /// without a freezer allows; `Step` if the kernel refuses.
    pub fn kill(&self, by: Deadline) -> Result<(), CgroupError> {
        processes::kill(&self.hierarchy, &self.name, by)
    }

    /// A watch for running out of memory, or `None` where memory is not controlled.
    ///
    /// # Errors
    /// `Step` if the kernel refuses.
    pub fn oom_watch(&self) -> Result<Option<OomWatch>, CgroupError> {
        oom::watch(&self.hierarchy, &self.name)
    }

    /// How many processes were killed for want of memory.
    ///
    /// # Errors
    /// `Step` if that cannot be read.
    pub fn oom_kills(&self) -> Result<u64, CgroupError> {
        oom::kills(&self.hierarchy, &self.name)
    }

    /// Removes it and the groups below it; waits for processes that are still ending. Parents
    /// stay: [`Hierarchy::prune`].
    ///
    /// # Errors
    /// `DeadlinePassed` if there are processes in it still.
    pub fn remove(&self, by: Deadline) -> Result<(), CgroupError> {
        removal::remove(&self.hierarchy, &self.name, by)
    }

    /// What a process in it should see at `/sys/fs/cgroup`.
    pub fn mount_view(&self) -> MountView {
        view::view(&self.hierarchy, &self.name)
    }
}
