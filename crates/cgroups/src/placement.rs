//! Which hierarchies a group needs. Pure.
//!
//! A group costs some 25 to 60 µs to make, 15 to 45 to join and 20 to 45 to remove in each
//! version 1 hierarchy, so it is made only where it does something:
//!
//! * `memory`, `cpu`, `pids`, `blkio`: always. They count what is used, and without a `cpu`
//!   group a container with a hundred threads would weigh a hundred times one with one.
//! * `cpuset`, `devices`, `hugetlb`: when a limit asks for them. [`crate::Cgroup::limit`] makes
//!   them later if it must, and moves the processes there.
//! * version 2 beside version 1: always. It costs next to nothing (`CLONE_INTO_CGROUP`), counts
//!   processor time, freezes without races, kills everything at once, and tells when the last
//!   process is gone.
//! * `cpuacct`, `freezer`: where version 2 does not do their work.
//! * any hierarchy in which this process stands below the top, named ones (`name=systemd`) too:
//!   otherwise its processes would live in our own group, and end with it.
//!
//! Other programs (podman, cAdvisor) look for an OCI container's group in every hierarchy, as
//! runc makes it; [`Reach::All`] is for them.

use workload::Limits;

use crate::{
    CgroupError, Hierarchy, Layout,
    controller::Controller,
    hierarchy::Slot,
    plan::{self, Write},
};

/// One hierarchy in which there shall be a group.
#[derive(Debug)]
pub(crate) struct Place<'h> {
    pub(crate) slot: &'h Slot,
    /// What to write there.
    pub(crate) writes: Vec<Write>,
    /// Whether the device rules are a program attached here.
    pub(crate) filters_devices: bool,
    /// Controllers that version 2 must hand down for the writes to work, and those that it
    /// should for the counters.
    pub(crate) needed: Vec<String>,
    pub(crate) wished: Vec<String>,
}

impl Place<'_> {
    fn limits(&self) -> bool {
        !self.writes.is_empty() || self.filters_devices
    }
}

/// In how many hierarchies a group is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Where it does something.
    Needed,
    /// Everywhere.
    All,
}

/// Counts or limits by being there.
const ALWAYS: [Controller; 6] = [
    Controller::Cpu,
    Controller::Cpuacct,
    Controller::Freezer,
    Controller::Memory,
    Controller::Block,
    Controller::Pids,
];

/// Where a new group is made, in order.
///
/// # Errors
/// `Unsupported` for a limit whose controller is nowhere, `Invalid` for one that makes no sense.
pub(crate) fn places<'h>(
    hierarchy: &'h Hierarchy,
    limits: &Limits,
    reach: Reach,
) -> Result<Vec<Place<'h>>, CgroupError> {
    let mut places = all(hierarchy, limits)?;
    let wanted = |slot| reach == Reach::All || wanted(hierarchy, slot);
    places.retain(|place| place.limits() || wanted(place.slot));
    Ok(places)
}

/// Where an existing group must be for these limits.
///
/// # Errors
/// As [`places`].
pub(crate) fn limited<'h>(
    hierarchy: &'h Hierarchy,
    limits: &Limits,
) -> Result<Vec<Place<'h>>, CgroupError> {
    let mut places = all(hierarchy, limits)?;
    places.retain(Place::limits);
    for place in &mut places {
        place.wished.clear();
    }
    Ok(places)
}

fn wanted(hierarchy: &Hierarchy, slot: &Slot) -> bool {
    let lives_here = |controller: Controller| {
        hierarchy.home(controller).is_some_and(|home| std::ptr::eq(home, slot))
    };
    slot.is_v2() || slot.mounted.own_is_below() || ALWAYS.into_iter().any(lives_here)
}

/// Every hierarchy with what the limits say there.
fn all<'h>(hierarchy: &'h Hierarchy, limits: &Limits) -> Result<Vec<Place<'h>>, CgroupError> {
    let mut places: Vec<Place<'h>> = hierarchy
        .slots()
        .iter()
        .map(|slot| Place {
            slot,
            writes: Vec::new(),
            filters_devices: false,
            needed: Vec::new(),
            wished: Vec::new(),
        })
        .collect();
    for controller in Controller::ALL {
        let Some(home) = hierarchy.home(controller) else {
            refuse_homeless(hierarchy, controller, limits)?;
            continue;
        };
        let place = places
            .iter_mut()
            .find(|place| std::ptr::eq(place.slot, home))
            .expect("a home is one of the slots");
        // A user namespace makes no device nodes, and only the initial one may load the program.
        if !(hierarchy.is_confined() && controller == Controller::Devices) {
            put(place, controller, limits)?;
        }
    }
    put_unified(hierarchy, &mut places, limits)?;
    Ok(places)
}

fn put(place: &mut Place<'_>, controller: Controller, limits: &Limits) -> Result<(), CgroupError> {
    if !place.slot.is_v2() {
        place.writes.extend(plan::v1_writes(controller, limits)?);
        return Ok(());
    }
    let writes = plan::v2_writes(controller, limits)?;
    if let Some(name) = controller.v2_name() {
        if !writes.is_empty() {
            place.needed.push(name.to_owned());
        } else if ALWAYS.contains(&controller) {
            place.wished.push(name.to_owned());
        }
    }
    place.writes.extend(writes);
    place.filters_devices |= controller == Controller::Devices && limits.devices.is_some();
    Ok(())
}

/// A limit without a controller is an error; a count without one is not counted.
fn refuse_homeless(
    hierarchy: &Hierarchy,
    controller: Controller,
    limits: &Limits,
) -> Result<(), CgroupError> {
    if hierarchy.is_confined() && controller == Controller::Devices {
        return Ok(());
    }
    let writes = plan::v1_writes(controller, limits)?;
    match writes.iter().find(|write| !write.optional) {
        None => Ok(()),
        Some(write) => Err(CgroupError::Unsupported {
            what: write.what.clone().into_owned(),
            why: hierarchy.why_not(controller),
        }),
    }
}

fn put_unified(
    hierarchy: &Hierarchy,
    places: &mut [Place<'_>],
    limits: &Limits,
) -> Result<(), CgroupError> {
    let writes = plan::unified(limits)?;
    let Some(first) = writes.first() else { return Ok(()) };
    let Some(place) = places.iter_mut().find(|place| place.slot.is_v2()) else {
        return Err(CgroupError::Unsupported {
            what: first.what.clone().into_owned(),
            why: format!("it is a cgroup v2 file, and this host has {:?}", hierarchy.layout()),
        });
    };
    for (file, _) in &limits.unified {
        let controller = file.split('.').next().unwrap_or_default().to_owned();
        if place.slot.available.contains(&controller) && !place.needed.contains(&controller) {
            place.needed.push(controller);
        } else if controller != "cgroup" && !place.slot.available.contains(&controller) {
            return Err(CgroupError::Unsupported {
                what: format!("unified \"{file}\""),
                why: match hierarchy.layout() {
                    Layout::V2 => format!("cgroup v2 has no {controller} controller here"),
                    Layout::V1 | Layout::Hybrid => {
                        format!("{controller} is controlled by cgroup v1 here")
                    }
                },
            });
        }
    }
    place.writes.extend(writes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use base::ByteSize;
    use workload::{CpuLimits, MemoryLimits};

    use super::*;

    const HYBRID: &str = "\
1 0 0:1 / /c/cpu,cpuacct rw - cgroup none rw,cpu,cpuacct
2 0 0:2 / /c/cpuset rw - cgroup none rw,cpuset
3 0 0:3 / /c/memory rw - cgroup none rw,memory
4 0 0:4 / /c/devices rw - cgroup none rw,devices
5 0 0:5 / /c/freezer rw - cgroup none rw,freezer
6 0 0:6 / /c/net_cls rw - cgroup none rw,net_cls
7 0 0:7 / /c/systemd rw - cgroup none rw,name=systemd
";
    const UNIFIED: &str = "8 0 0:8 / /c/unified rw - cgroup2 none rw\n";

    fn check(mounts: &str, own: &str, limits: &Limits, expected: &str) {
        let hierarchy = Hierarchy::recorded(mounts, own, "cpu memory pids io cpuset hugetlb");
        let text = match places(&hierarchy, limits, Reach::Needed) {
            Err(error) => error.to_string(),
            Ok(places) => places
                .iter()
                .map(|place| {
                    let name = place.slot.mounted.point.display();
                    let (writes, needed, wished) =
                        (place.writes.len(), &place.needed, &place.wished);
                    match place.slot.is_v2() {
                        false => format!("{name} {writes}"),
                        true => format!("{name} {writes} +{needed:?} ?{wished:?}"),
                    }
                })
                .collect::<Vec<_>>()
                .join("\n"),
        };
        assert_eq!(text, expected);
    }

    fn some_limits() -> Limits {
        Limits {
            memory: MemoryLimits { limit: Some(ByteSize(1 << 20)), ..MemoryLimits::default() },
            cpu: CpuLimits { cpus: Some("0".into()), ..CpuLimits::default() },
            ..Limits::default()
        }
    }

    #[test]
    fn a_hybrid_host_gets_groups_that_count_and_the_unified_one() {
        let mounts = [HYBRID, UNIFIED].concat();
        let recorded = "/c/cpu,cpuacct 0\n/c/memory 0\n/c/unified 0 +[] ?[\"io\", \"pids\"]";
        check(&mounts, "3:memory:/\n", &Limits::default(), recorded);
    }

    #[test]
    fn a_limit_brings_its_hierarchy() {
        check(
            &[HYBRID, UNIFIED].concat(),
            "",
            &some_limits(),
            "/c/cpu,cpuacct 0\n/c/cpuset 1\n/c/memory 1\n/c/unified 0 +[] ?[\"io\", \"pids\"]",
        );
    }

    #[test]
    fn without_version_2_there_is_the_freezer() {
        check(HYBRID, "", &Limits::default(), "/c/cpu,cpuacct 0\n/c/memory 0\n/c/freezer 0");
    }

    #[test]
    fn a_hierarchy_in_which_we_are_confined_is_left() {
        check(
            HYBRID,
            "7:name=systemd:/system.slice/wythe.service\n6:net_cls:/\n",
            &Limits::default(),
            "/c/cpu,cpuacct 0\n/c/memory 0\n/c/freezer 0\n/c/systemd 0",
        );
    }

    #[test]
    fn version_2_alone_hands_down_what_is_asked_and_what_counts() {
        check(
            UNIFIED,
            "",
            &some_limits(),
            "/c/unified 2 +[\"cpuset\", \"memory\"] ?[\"cpu\", \"io\", \"pids\"]",
        );
    }

    #[test]
    fn a_limit_without_a_controller_is_refused_by_name() {
        let limits = Limits { pids: Some(5), ..Limits::default() };
        let expected = "this host cannot do it: pids: no cgroup hierarchy has the pids controller";
        check(HYBRID, "", &limits, expected);
    }

    #[test]
    fn raw_version_2_files_are_refused_by_name_where_version_1_controls() {
        let unified = vec![("memory.high".to_owned(), "1".to_owned())];
        let limits = Limits { unified, ..Limits::default() };
        check(
            HYBRID,
            "",
            &limits,
            "this host cannot do it: unified \"memory.high\": it is a cgroup v2 file, and this \
             host has V1",
        );
    }
}
