//! What this host has: its cgroup file systems, opened once, and where each controller lives.

mod delegated;
mod mounts;

use std::{collections::BTreeSet, fs, os::fd::OwnedFd, sync::Arc};

use rustix::fs::{Mode, OFlags};
use workload::Finding;

pub use self::delegated::LEAF;
pub(crate) use self::mounts::{Kind, Mounted, own_path};
use crate::{CgroupError, GroupName, controller::Controller, files};

/// How the host's controllers are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One hierarchy per controller.
    V1,
    /// As [`Layout::V1`], with a version 2 hierarchy beside them.
    Hybrid,
    /// One hierarchy for all controllers.
    V2,
}

/// The control group file systems of this host, opened once and shared by all groups.
#[derive(Clone, Debug)]
pub struct Hierarchy(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    slots: Vec<Slot>,
    /// Hierarchies that cannot be used, and why.
    unusable: Vec<Finding>,
    kernel: (u32, u32),
    /// Whether this process is in a user namespace, so that it has only what was granted to it.
    confined: bool,
}

/// One usable hierarchy.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) mounted: Mounted,
    /// Its top directory; everything is opened from here.
    pub(crate) dir: OwnedFd,
    /// Version 2: `cgroup.controllers` of the top.
    pub(crate) available: Vec<String>,
}

impl Slot {
    /// Whether it is version 2.
    pub(crate) fn is_v2(&self) -> bool {
        self.mounted.kind == Kind::Two
    }

    /// The version 1 controllers of it.
    pub(crate) fn v1_controllers(&self) -> &[Controller] {
        match &self.mounted.kind {
            Kind::One(controllers) => controllers,
            Kind::Two => &[],
        }
    }

    /// Whether it is where this controller lives, if no version 1 hierarchy has it.
    fn has_v2(&self, controller: Controller) -> bool {
        let available = |name: &str| self.available.iter().any(|known| known == name);
        self.is_v2() && controller.v2_name().is_none_or(available)
    }
}

impl Hierarchy {
    /// Looks at the host.
    ///
    /// # Errors
    /// If `/proc` cannot be read, or no hierarchy can be used by one who may use all. Whoever is
    /// in a user namespace may have been granted none: there are groups in name only then.
    pub fn detect() -> Result<Hierarchy, CgroupError> {
        let read = |path: &str| {
            fs::read_to_string(path).map_err(|error| step(&format!("read {path}"), error))
        };
        let release = rustix::system::uname();
        let kernel = kernel_version(&release.release().to_string_lossy());
        let mounts = mounts::parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?);
        Hierarchy::from_mounts(mounts, kernel, sys::userns::is_confined())
    }

    fn from_mounts(
        mounts: Vec<Mounted>,
        kernel: (u32, u32),
        confined: bool,
    ) -> Result<Hierarchy, CgroupError> {
        let mut slots = Vec::new();
        let mut unusable = Vec::new();
        for mounted in mounts {
            let subject = format!("cgroup {}", mounted.point.display());
            let opened = open_slot(mounted);
            let opened = if confined { opened.and_then(delegated::granted) } else { opened };
            match opened {
                Ok(slot) => slots.push(slot),
                Err(detail) => unusable.push(Finding { subject, works: false, detail, mend: None }),
            }
        }
        if slots.is_empty() && !confined {
            let why: Vec<String> =
                unusable.iter().map(|f| format!("{}: {}", f.subject, f.detail)).collect();
            let why = if why.is_empty() { "none is mounted".into() } else { why.join("; ") };
            return Err(CgroupError::NoHierarchy { why });
        }
        Ok(Hierarchy(Arc::new(Inner { slots, unusable, kernel, confined })))
    }

    /// How the host's controllers are arranged.
    pub fn layout(&self) -> Layout {
        let has_v1 = self.slots().iter().any(|slot| !slot.v1_controllers().is_empty());
        match (has_v1, self.v2().is_some()) {
            (false, true) => Layout::V2,
            (true, true) => Layout::Hybrid,
            (_, false) => Layout::V1,
        }
    }

    /// What was found, for people to read.
    pub fn findings(&self) -> Vec<Finding> {
        let place = |controller: Controller| match self.home(controller) {
            Some(slot) => (true, slot.mounted.point.display().to_string()),
            None => (false, "no hierarchy has it".to_owned()),
        };
        let layout = Finding {
            subject: "cgroup layout".into(),
            works: self.has_any(),
            detail: match self.has_any() {
                true => format!("{:?}", self.layout()).to_lowercase(),
                false => delegated::UNGRANTED.to_owned(),
            },
            mend: None,
        };
        let controllers = Controller::ALL.into_iter().map(|controller| {
            let (works, detail) = place(controller);
            let mend = (!works && !self.0.confined).then(|| {
                format!(
                    "boot without cgroup_disable={} and with its hierarchy mounted",
                    controller.v1_name()
                )
            });
            let subject = format!("cgroup controller {}", controller.v1_name());
            Finding { subject, works, detail, mend }
        });
        std::iter::once(layout).chain(controllers).chain(self.0.unusable.iter().cloned()).collect()
    }

    /// The groups directly below this one, by their last names, in any hierarchy.
    ///
    /// # Errors
    /// If a hierarchy cannot be read.
    pub fn below(&self, name: &GroupName) -> Result<BTreeSet<String>, CgroupError> {
        let mut names = BTreeSet::new();
        for slot in self.slots() {
            names.extend(files::directories(slot, name.as_str())?);
        }
        Ok(names)
    }

    /// Whether there is one at all. Without, a group limits nothing and knows no processes.
    pub fn has_any(&self) -> bool {
        !self.slots().is_empty()
    }

    /// Whether this process has only what was granted to it.
    pub(crate) fn is_confined(&self) -> bool {
        self.0.confined
    }

    /// Why a controller that no hierarchy has is not there.
    pub(crate) fn why_not(&self, controller: Controller) -> String {
        let name = controller.v1_name();
        match self.0.confined {
            false => format!("no cgroup hierarchy has the {name} controller"),
            true if self.has_any() => format!(
                "the control group that was delegated to this user has no {name} controller: add \
                 it to Delegate= of user@.service"
            ),
            true => delegated::UNGRANTED.to_owned(),
        }
    }

    /// Removes groups of this name (a shared parent such as `/wythe`) wherever they are empty.
    pub fn prune(&self, name: &GroupName) {
        for slot in self.slots() {
            // A parent that is still in use, or was never made, is as it should be.
            let _ = files::remove_dir(slot, name.as_str());
        }
    }

    pub(crate) fn slots(&self) -> &[Slot] {
        &self.0.slots
    }

    /// The version 2 hierarchy.
    pub(crate) fn v2(&self) -> Option<&Slot> {
        self.slots().iter().find(|slot| slot.is_v2())
    }

    /// The hierarchy in which a controller lives. The kernel gives a controller to one only,
    /// but counts processor time in every version 2 group (Linux 4.15) and freezes every one
    /// (5.2), which is as good and costs no group of version 1.
    pub(crate) fn home(&self, controller: Controller) -> Option<&Slot> {
        let v1 = self.slots().iter().find(|slot| slot.v1_controllers().contains(&controller));
        let v2 = self.v2().filter(|slot| slot.has_v2(controller));
        let native = matches!(controller, Controller::Cpuacct | Controller::Freezer);
        if native && self.kernel_since(5, 2) { v2.or(v1) } else { v1.or(v2) }
    }

    /// Whether the kernel is at least this new.
    pub(crate) fn kernel_since(&self, major: u32, minor: u32) -> bool {
        self.0.kernel >= (major, minor)
    }
}

/// Opens a hierarchy, or says why it cannot be used.
fn open_slot(mounted: Mounted) -> Result<Slot, String> {
    /// statfs(2): `CGROUP_SUPER_MAGIC`, `CGROUP2_SUPER_MAGIC`.
    const MAGICS: [i64; 2] = [0x0027_e0eb, 0x6367_7270];
    if mounted.read_only {
        return Err("it is mounted read-only".into());
    }
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let dir = rustix::fs::open(&mounted.point, flags, Mode::empty()).map_err(|e| e.to_string())?;
    let magic = rustix::fs::fstatfs(&dir).map_err(|e| e.to_string())?.f_type;
    // Something mounted over it is what a path leads to.
    if !MAGICS.contains(&magic) {
        return Err("another file system is mounted over it".into());
    }
    let mut slot = Slot { mounted, dir, available: Vec::new() };
    if slot.is_v2() {
        let text = files::read(&slot, "cgroup.controllers").map_err(|e| e.to_string())?;
        slot.available = text.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    }
    Ok(slot)
}

/// The first two numbers of `uname -r`; zeros if there are none.
fn kernel_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

fn step(what: &str, error: std::io::Error) -> CgroupError {
    CgroupError::step(what, error)
}

#[cfg(test)]
impl Hierarchy {
    /// A hierarchy over recorded mounts whose directories are never touched.
    pub(crate) fn recorded(mountinfo: &str, own: &str, available: &str) -> Hierarchy {
        let slots = mounts::parse(mountinfo, own)
            .into_iter()
            .map(|mounted| Slot {
                dir: fs::File::open("/").unwrap().into(),
                available: match mounted.kind {
                    Kind::Two => available.split(' ').map(str::to_owned).collect(),
                    Kind::One(_) => Vec::new(),
                },
                mounted,
            })
            .collect();
        Hierarchy(Arc::new(Inner { slots, unusable: Vec::new(), kernel: (6, 1), confined: false }))
    }

    /// Only the version 2 hierarchy of this host, as if it had no other.
    pub(crate) fn only_v2(&self) -> Option<Hierarchy> {
        let mounted = self.v2()?.mounted.clone();
        Hierarchy::from_mounts(vec![mounted], self.0.kernel, false).ok()
    }

    /// Only the version 1 hierarchies of this host, as if it had no other.
    pub(crate) fn only_v1(&self) -> Option<Hierarchy> {
        let v1 = self.slots().iter().filter(|slot| !slot.is_v2());
        Hierarchy::from_mounts(v1.map(|slot| slot.mounted.clone()).collect(), self.0.kernel, false)
            .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_are_read() {
        for (text, version) in [("6.18.44-x", (6, 18)), ("5.2", (5, 2)), ("", (0, 0))] {
            assert_eq!(kernel_version(text), version, "{text:?}");
        }
    }

    #[test]
    fn controllers_of_a_hybrid_host_live_where_the_kernel_put_them() {
        let host = Hierarchy::recorded(
            "1 0 0:1 / /c/memory rw - cgroup none rw,memory\n\
             2 0 0:2 / /c/unified rw - cgroup2 none rw\n",
            "0::/\n",
            "hugetlb",
        );
        assert_eq!(host.layout(), Layout::Hybrid);
        let home = |controller| host.home(controller).map(|slot| slot.is_v2());
        assert_eq!(home(Controller::Memory), Some(false));
        assert_eq!(home(Controller::Hugetlb), Some(true));
        assert_eq!(home(Controller::Freezer), Some(true));
        assert_eq!(home(Controller::Pids), None);
    }
}
