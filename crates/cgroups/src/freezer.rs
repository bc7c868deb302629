//! Stopping all processes of a group and letting them go on.
//!
//! Version 2 freezes wherever there is such a group, beside version 1 too: it tells when it is
//! done, and lets frozen processes be killed. Version 1's `freezer` is for hosts without.

use base::Deadline;

use crate::{
    CgroupError, GroupName, Hierarchy, controller::Controller, files, hierarchy::Slot,
    making::file_of, usage, wait,
};

/// What freezes a group.
enum Freezer<'h> {
    /// `freezer.state`.
    One(&'h Slot),
    /// `cgroup.freeze`.
    Two(&'h Slot),
}

fn find<'h>(hierarchy: &'h Hierarchy, name: &GroupName) -> Option<Freezer<'h>> {
    let has = |slot: &Slot, file: &str| files::exists(slot, &file_of(name.as_str(), file));
    let two = hierarchy.v2().filter(|slot| has(slot, "cgroup.freeze")).map(Freezer::Two);
    two.or_else(|| {
        let home = hierarchy.home(Controller::Freezer)?;
        has(home, "freezer.state").then_some(Freezer::One(home))
    })
}

fn found<'h>(hierarchy: &'h Hierarchy, name: &GroupName) -> Result<Freezer<'h>, CgroupError> {
    find(hierarchy, name).ok_or_else(|| CgroupError::Unsupported {
        what: "pause".into(),
        why: match hierarchy.has_any() {
            true => format!("cgroup {name} is gone, or in no hierarchy that can freeze"),
            false => hierarchy.why_not(Controller::Freezer),
        },
    })
}

pub(crate) fn freeze(
    hierarchy: &Hierarchy,
    name: &GroupName,
    by: Deadline,
) -> Result<(), CgroupError> {
    let freezer = found(hierarchy, name)?;
    let frozen = match freezer {
        Freezer::One(slot) => freeze_v1(slot, name, by),
        Freezer::Two(slot) => set_v2(slot, name, true, by),
    };
    match frozen {
        Ok(true) => Ok(()),
        Ok(false) => {
            set_thawed(&freezer, name)?;
            Err(CgroupError::DeadlinePassed { doing: format!("freezing cgroup {name}") })
        }
        Err(error) => {
            // The first error is the one that tells why.
            let _ = set_thawed(&freezer, name);
            Err(error)
        }
    }
}

pub(crate) fn thaw(
    hierarchy: &Hierarchy,
    name: &GroupName,
    by: Deadline,
) -> Result<(), CgroupError> {
    let thawed = match found(hierarchy, name)? {
        // Version 1 has thawed when the write returns.
        Freezer::One(slot) => files::write(slot, &state_file(name), "THAWED")?,
        Freezer::Two(slot) => set_v2(slot, name, false, by)?,
    };
    let doing = || format!("thawing cgroup {name}");
    if thawed { Ok(()) } else { Err(CgroupError::DeadlinePassed { doing: doing() }) }
}

pub(crate) fn is_frozen(hierarchy: &Hierarchy, name: &GroupName) -> Result<bool, CgroupError> {
    match find(hierarchy, name) {
        None => Ok(false),
        Some(Freezer::One(slot)) => {
            Ok(files::read(slot, &state_file(name))?.is_some_and(|state| state.trim() == "FROZEN"))
        }
        Some(Freezer::Two(slot)) => {
            let events = files::read(slot, &file_of(name.as_str(), "cgroup.events"))?;
            Ok(events.and_then(|text| usage::value_of(&text, "frozen")) == Some(1))
        }
    }
}

fn set_thawed(freezer: &Freezer<'_>, name: &GroupName) -> Result<(), CgroupError> {
    match freezer {
        Freezer::One(slot) => files::write(slot, &state_file(name), "THAWED")?,
        Freezer::Two(slot) => files::write(slot, &file_of(name.as_str(), "cgroup.freeze"), "0")?,
    };
    Ok(())
}

fn set_v2(slot: &Slot, name: &GroupName, on: bool, by: Deadline) -> Result<bool, CgroupError> {
    let value = if on { "1" } else { "0" };
    files::write(slot, &file_of(name.as_str(), "cgroup.freeze"), value)?;
    wait::for_event(slot, name.as_str(), "frozen", u64::from(on), by)
}

/// A process that forks while it is being frozen leaves the group `FREEZING`; writing again
/// makes the kernel look again.
///
/// Source: Linux, Documentation/admin-guide/cgroup-v1/freezer-subsystem.rst.
fn freeze_v1(slot: &Slot, name: &GroupName, by: Deadline) -> Result<bool, CgroupError> {
    let file = state_file(name);
    let mut backoff = wait::Backoff::new();
    loop {
        files::write(slot, &file, "FROZEN")?;
        let state = files::read(slot, &file)?.unwrap_or_default();
        if state.trim() == "FROZEN" {
            return Ok(true);
        }
        if !backoff.pause(by) {
            return Ok(false);
        }
    }
}

fn state_file(name: &GroupName) -> String {
    file_of(name.as_str(), "freezer.state")
}
