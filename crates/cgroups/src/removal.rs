//! Removing a group and what was made below it.

use base::Deadline;
use rustix::io::Errno;

use crate::{CgroupError, GroupName, Hierarchy, files, hierarchy::Slot, wait};

/// Removes the group everywhere. Each hierarchy is tried whatever happens to the others, and
/// the first failure is reported.
pub(crate) fn remove(
    hierarchy: &Hierarchy,
    name: &GroupName,
    by: Deadline,
) -> Result<(), CgroupError> {
    let busy: Vec<&Slot> =
        hierarchy.slots().iter().filter(|slot| !try_remove(slot, name.as_str())).collect();
    // Processes that are ending hold it. Version 2 tells when the last is gone, which is within
    // microseconds when version 1 lets go too.
    if let Some(slot) = busy.iter().find(|slot| slot.is_v2()) {
        wait::for_event(slot, name.as_str(), "populated", 0, by)?;
    }
    let mut first = Ok(());
    for slot in busy {
        first = first.and(remove_busy(slot, name, by));
    }
    first
}

fn try_remove(slot: &Slot, path: &str) -> bool {
    files::remove_dir(slot, path).is_ok()
}

/// Removes what is below first, and tries again until the deadline.
fn remove_busy(slot: &Slot, name: &GroupName, by: Deadline) -> Result<(), CgroupError> {
    let mut backoff = wait::Backoff::new();
    loop {
        let mut last = Ok(());
        for path in files::descend(slot, name.as_str())?.iter().rev() {
            last = files::remove_dir(slot, path);
        }
        match last {
            Ok(()) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(error) => return Err(files::failed(slot, "remove", name.as_str(), error)),
        }
        if !backoff.pause(by) {
            let doing = format!("waiting for the processes of cgroup {name} to end");
            return Err(CgroupError::DeadlinePassed { doing });
        }
    }
}
