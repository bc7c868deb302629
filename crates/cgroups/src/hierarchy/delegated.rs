//! What of a hierarchy belongs to this process where not all of it does.
//!
//! An ordinary user may make groups below one that was delegated to him: its directory and the
//! files that move processes are his. That is a thing of version 2; in version 1 a user who may
//! write a group may break out of it, so nobody hands one on.
//!
//! Source: Linux, Documentation/admin-guide/cgroup-v2.rst, "Delegation".

use rustix::fs::{Access, AtFlags, Mode, OFlags, accessat};

use super::Slot;

/// The group below a delegated one in which a daemon puts itself: a group that hands controllers
/// down takes no processes ("No Internal Process Constraint").
pub const LEAF: &str = "wythe-daemon";

/// What would have to be granted.
pub(super) const UNGRANTED: &str = "this user has been granted no control group: on a host with \
    cgroup version 2 alone, start the daemon in one that is delegated to him \
    (`systemd-run --user --scope -p Delegate=yes wythe daemon`); version 1 cannot be delegated";

/// The hierarchy, or what of it was delegated to this process, or why nothing of it was.
pub(super) fn granted(mut slot: Slot) -> Result<Slot, String> {
    if is_ours(&slot) {
        return Ok(slot);
    }
    let nothing = || "it is not delegated to this user".to_owned();
    if !slot.is_v2() {
        return Err(nothing());
    }
    let own = slot.mounted.own.clone().ok_or_else(nothing)?;
    let group = without_leaf(&own);
    let below = slot.mounted.relative(group).filter(|path| !path.is_empty()).ok_or_else(nothing)?;
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    slot.dir = rustix::fs::openat(&slot.dir, below, flags, Mode::empty())
        .map_err(|error| error.to_string())?;
    slot.mounted.point = slot.mounted.point.join(below);
    slot.mounted.root = group.to_owned();
    if !is_ours(&slot) {
        return Err(nothing());
    }
    let text = crate::files::read(&slot, "cgroup.controllers").map_err(|e| e.to_string())?;
    slot.available = text.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    Ok(slot)
}

/// The group that holds the one a daemon made for itself.
fn without_leaf(own: &str) -> &str {
    match own.strip_suffix(LEAF).and_then(|above| above.strip_suffix('/')) {
        Some("") => "/",
        Some(above) => above,
        None => own,
    }
}

/// Whether groups can be made in it and processes moved into them.
fn is_ours(slot: &Slot) -> bool {
    let may = |path: &str| accessat(&slot.dir, path, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    may(".") && may("cgroup.procs")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_in_its_leaf_stands_in_the_delegated_group() {
        for (own, group) in [
            ("/user.slice/a.scope/wythe-daemon", "/user.slice/a.scope"),
            ("/user.slice/a.scope", "/user.slice/a.scope"),
            ("/user.slice/not-wythe-daemon", "/user.slice/not-wythe-daemon"),
            ("/wythe-daemon", "/"),
        ] {
            assert_eq!(without_leaf(own), group, "{own}");
        }
    }
}
