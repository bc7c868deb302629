//! Making a group's directories and writing its limits.

use std::os::fd::OwnedFd;

use rustix::{fs::OFlags, io::Errno};
use workload::Limits;

use crate::{
    CgroupError, GroupName, controller::Controller, device_filter, files, hierarchy::Slot,
    placement::Place, plan::Write,
};

/// Directories that were made, so that a failure can take them back.
#[derive(Debug, Default)]
pub(crate) struct Made<'h>(Vec<(&'h Slot, String)>);

impl Made<'_> {
    /// Removes them again, last first. Whatever does not go is in use by somebody else by now.
    pub(crate) fn undo(self) {
        for (slot, path) in self.0.into_iter().rev() {
            let _ = files::remove_dir(slot, &path);
        }
    }
}

/// Makes the group in one hierarchy, and its parents. Says whether it is new.
pub(crate) fn make<'h>(
    place: &Place<'h>,
    name: &GroupName,
    made: &mut Made<'h>,
) -> Result<bool, CgroupError> {
    /// Another group's removal may take an empty parent away between two steps.
    const ATTEMPTS_MAX: usize = 8;
    let slot = place.slot;
    let mut last = Errno::NOENT;
    for _ in 0..ATTEMPTS_MAX {
        match make_level(slot, name.as_str(), made) {
            Ok(new) => {
                hand_down(place, name)?;
                if slot.v1_controllers().contains(&Controller::Cpuset) {
                    inherit_cpuset(slot, name)?;
                }
                return Ok(new);
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(files::failed(slot, "make", name.as_str(), error)),
        }
        for parent in name.ancestors() {
            match make_level(slot, parent, made) {
                Ok(_) | Err(Errno::NOENT) => {}
                Err(error) => last = error,
            }
        }
    }
    Err(files::failed(slot, "make", name.as_str(), last))
}

fn make_level<'h>(slot: &'h Slot, path: &str, made: &mut Made<'h>) -> Result<bool, Errno> {
    let new = files::make_dir(slot, path)?;
    if new {
        made.0.push((slot, path.to_owned()));
    }
    Ok(new)
}

/// Version 2: has every group above hand the controllers down.
fn hand_down(place: &Place<'_>, name: &GroupName) -> Result<(), CgroupError> {
    let slot = place.slot;
    let wished = place.wished.iter().filter(|name| slot.available.contains(name));
    let asked: Vec<&str> = place.needed.iter().chain(wished).map(String::as_str).collect();
    if asked.is_empty() {
        return Ok(());
    }
    // The groups above mostly hand them down already.
    let have = files::read(slot, &format!("{}/cgroup.controllers", name.as_str()))?;
    if missing(&asked, &have.unwrap_or_default()).is_empty() {
        return Ok(());
    }
    for parent in std::iter::once("").chain(name.ancestors()) {
        enable(place, &file_of(parent, "cgroup.subtree_control"), &asked)?;
    }
    Ok(())
}

fn enable(place: &Place<'_>, file: &str, asked: &[&str]) -> Result<(), CgroupError> {
    let have = files::read(place.slot, file)?.unwrap_or_default();
    let missing = missing(asked, &have);
    let line =
        |names: &[&str]| names.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
    if missing.is_empty() || files::write(place.slot, file, &line(&missing)).is_ok() {
        return Ok(());
    }
    // One that cannot be had must not keep the others back.
    for name in missing {
        let done = files::write(place.slot, file, &line(&[name]));
        if let Err(error) = done
            && place.needed.iter().any(|needed| needed == name)
        {
            return Err(explain_busy(error, name));
        }
    }
    Ok(())
}

/// `EBUSY` has one meaning here, which its text does not tell.
fn explain_busy(error: CgroupError, controller: &str) -> CgroupError {
    if error.errno() != Some(Errno::BUSY) {
        return error;
    }
    CgroupError::Unsupported {
        what: format!("the {controller} controller"),
        why: format!(
            "{error}: that group has processes of its own, so it cannot hand controllers down \
             (move them to a group below first)"
        ),
    }
}

fn missing<'a>(asked: &[&'a str], have: &str) -> Vec<&'a str> {
    asked.iter().copied().filter(|name| !have.split_whitespace().any(|h| h == *name)).collect()
}

/// Version 1: an empty cpuset takes no process, so every level gets what the one above has.
///
/// Source: cpuset(7).
fn inherit_cpuset(slot: &Slot, name: &GroupName) -> Result<(), CgroupError> {
    let levels: Vec<&str> = name.ancestors().chain([name.as_str()]).collect();
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let mut above = files::read(slot, file)?.unwrap_or_default();
        for level in &levels {
            let path = file_of(level, file);
            let own = files::read(slot, &path)?.unwrap_or_default();
            if own.trim().is_empty() {
                files::write(slot, &path, above.trim())?;
            } else {
                above = own;
            }
        }
    }
    Ok(())
}

/// Writes the limits of one hierarchy. What the kernel refuses with `EINVAL` because of a value
/// that a later write changes is written again at the end.
pub(crate) fn apply(
    place: &Place<'_>,
    name: &GroupName,
    limits: &Limits,
) -> Result<(), CgroupError> {
    let slot = place.slot;
    let mut writer = Writer { slot, name, last: None };
    let mut again = Vec::new();
    for write in &place.writes {
        match writer.write(write) {
            Err(error) if error.errno() == Some(Errno::INVAL) => again.push(write),
            done => done?,
        }
    }
    for write in again {
        writer.write(write)?;
    }
    if let (true, Some(rules)) = (place.filters_devices, &limits.devices) {
        device_filter::replace(slot, name, rules)?;
    }
    Ok(())
}

/// Writes to files of one group, keeping the last one open: device rules are a dozen lines for
/// one file.
struct Writer<'a> {
    slot: &'a Slot,
    name: &'a GroupName,
    last: Option<(&'a str, OwnedFd)>,
}

impl<'a> Writer<'a> {
    fn write(&mut self, write: &'a Write) -> Result<(), CgroupError> {
        for (file, value) in &write.choices {
            let path = file_of(self.name.as_str(), file);
            if self.last.as_ref().is_none_or(|(name, _)| name != file) {
                self.last =
                    files::open(self.slot, &path, OFlags::WRONLY)?.map(|fd| (file.as_ref(), fd));
            }
            if let Some((_, fd)) = &self.last {
                let failed = |error| {
                    files::failed(self.slot, &format!("write \"{value}\" to"), &path, error)
                };
                return files::write_open(fd, value).map_err(failed);
            }
        }
        if write.optional {
            return Ok(());
        }
        let names: Vec<&str> = write.choices.iter().map(|(file, _)| file.as_ref()).collect();
        let what = write.what.clone().into_owned();
        Err(CgroupError::Unsupported { what, why: format!("it has no {}", names.join(" or ")) })
    }
}

/// A file of a group; the top group is the empty path.
pub(crate) fn file_of(group: &str, file: &str) -> String {
    if group.is_empty() { file.to_owned() } else { format!("{group}/{file}") }
}
