//! The processes of a group: listed, moved, killed.

use std::{collections::BTreeSet, time::Duration};

use base::Deadline;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    CgroupError, GroupName, Hierarchy, controller::Controller, files, freezer, hierarchy::Slot,
    making::file_of, wait::Backoff,
};

/// All processes of a group, as the hierarchy tells that every process of it is in.
pub(crate) fn pids(hierarchy: &Hierarchy, name: &GroupName) -> Result<Vec<u32>, CgroupError> {
    match everyone(hierarchy, name) {
        Some(slot) => below(slot, name.as_str()),
        None => Ok(Vec::new()),
    }
}

/// A hierarchy in which the group exists: version 2 before `memory` and `pids`.
fn everyone<'h>(hierarchy: &'h Hierarchy, name: &GroupName) -> Option<&'h Slot> {
    let preferred = [Controller::Memory, Controller::Pids].map(|c| hierarchy.home(c));
    let first = hierarchy.v2().into_iter().chain(preferred.into_iter().flatten());
    first.chain(hierarchy.slots()).find(|slot| files::exists(slot, name.as_str()))
}

/// All processes of a group and the groups below it in one hierarchy.
pub(crate) fn below(slot: &Slot, group: &str) -> Result<Vec<u32>, CgroupError> {
    let mut found = BTreeSet::new();
    for path in files::descend(slot, group)? {
        let file = file_of(&path, "cgroup.procs");
        let text = match files::read(slot, &file) {
            Ok(text) => text.unwrap_or_default(),
            // A threaded group: its processes are listed in the domain above.
            Err(error) if error.errno() == Some(Errno::OPNOTSUPP) => continue,
            Err(error) => return Err(error),
        };
        // Processes of other PID namespaces read as 0.
        found.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()).filter(|pid| *pid != 0));
    }
    Ok(found.into_iter().collect())
}

/// Rounds of listing after which processes that still appear are given up on: each round takes
/// in what was forked during the one before.
const MOVE_ROUNDS_MAX: usize = 64;

/// Moves every process of the group into its directory in another hierarchy, until no more
/// appear: children of processes that have moved are born there.
pub(crate) fn move_into(
    hierarchy: &Hierarchy,
    slot: &Slot,
    name: &GroupName,
) -> Result<(), CgroupError> {
    let Some(source) = everyone(hierarchy, name).filter(|source| !std::ptr::eq(*source, slot))
    else {
        return Ok(());
    };
    let file = file_of(name.as_str(), "cgroup.procs");
    let mut moved = BTreeSet::new();
    for _ in 0..MOVE_ROUNDS_MAX {
        let mut pids = below(source, name.as_str())?;
        pids.retain(|pid| !moved.contains(pid));
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            match files::write(slot, &file, &pid.to_string()) {
                Ok(_) => {}
                // It has ended.
                Err(error) if error.errno() == Some(Errno::SRCH) => {}
                Err(error) => return Err(error),
            }
            moved.insert(pid);
        }
    }
    Err(CgroupError::Unsupported {
        what: "changing limits".into(),
        why: format!("cgroup {name} makes processes faster than they can be moved"),
    })
}

/// Sends `SIGKILL` to all.
pub(crate) fn kill(
    hierarchy: &Hierarchy,
    name: &GroupName,
    by: Deadline,
) -> Result<(), CgroupError> {
    // `cgroup.kill` (Linux 5.14) takes all at once, those below too, frozen or not.
    if let Some(slot) = hierarchy.v2()
        && files::write(slot, &file_of(name.as_str(), "cgroup.kill"), "1")?
    {
        return Ok(());
    }
    // A frozen group forks nothing, so one round is enough; killed processes end when thawed.
    // Without it rounds go on until nothing appears.
    let soon = Deadline::after(Duration::from_millis(200)).min(by);
    let frozen = freezer::freeze(hierarchy, name, soon).is_ok();
    let killed = kill_rounds(hierarchy, name, by);
    if frozen {
        freezer::thaw(hierarchy, name, by)?;
    }
    killed
}

fn kill_rounds(hierarchy: &Hierarchy, name: &GroupName, by: Deadline) -> Result<(), CgroupError> {
    let Some(slot) = everyone(hierarchy, name) else { return Ok(()) };
    let mut killed = BTreeSet::new();
    let mut backoff = Backoff::new();
    loop {
        let mut pids = below(slot, name.as_str())?;
        pids.retain(|pid| !killed.contains(pid));
        if pids.is_empty() {
            return Ok(());
        }
        kill_listed(slot, name, &pids)?;
        killed.extend(pids);
        if !backoff.pause(by) {
            return Err(CgroupError::DeadlinePassed { doing: format!("killing cgroup {name}") });
        }
    }
}

/// Kills these processes, and surely no others that got their numbers: whoever is still listed
/// after its pidfd was opened is who was meant, or the signal meets nobody.
fn kill_listed(slot: &Slot, name: &GroupName, pids: &[u32]) -> Result<(), CgroupError> {
    /// Descriptors open at one time.
    const BATCH: usize = 128;
    for batch in pids.chunks(BATCH) {
        let open = |pid: &u32| {
            let number = Pid::from_raw(i32::try_from(*pid).ok()?)?;
            Some((*pid, pidfd_open(number, PidfdFlags::empty()).ok()?))
        };
        let opened: Vec<_> = batch.iter().filter_map(open).collect();
        let still: BTreeSet<u32> = below(slot, name.as_str())?.into_iter().collect();
        for (pid, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            match pidfd_send_signal(pidfd, Signal::KILL) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(CgroupError::step(format!("kill {pid}"), error)),
            }
        }
    }
    Ok(())
}
