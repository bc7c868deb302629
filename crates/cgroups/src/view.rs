//! What a process in a group should see at `/sys/fs/cgroup`.

use std::path::PathBuf;

use crate::{GroupName, Hierarchy, Layout, controller::Controller, files, hierarchy::Slot};

/// What a process in a group should see at `/sys/fs/cgroup`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountView {
    /// A tmpfs with one directory per entry, to which the entry's `host` is bound, and its links.
    V1(Vec<ViewEntry>),
    /// This directory itself.
    V2(PathBuf),
}

/// One directory below `/sys/fs/cgroup` in a version 1 or hybrid layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewEntry {
    /// Its name: `memory`, `cpu,cpuacct`, `unified`.
    pub name: String,
    /// Other names for it, as symbolic links to it: `cpu` and `cpuacct`.
    pub links: Vec<&'static str>,
    /// The group's directory on the host.
    pub host: PathBuf,
}

pub(crate) fn view(hierarchy: &Hierarchy, name: &GroupName) -> MountView {
    let there = |slot: &&Slot| files::exists(slot, name.as_str());
    let slots = hierarchy.slots().iter().filter(there);
    match (hierarchy.layout(), hierarchy.v2()) {
        (Layout::V2, Some(slot)) => MountView::V2(host(slot, name)),
        (_, _) => MountView::V1(slots.map(|slot| entry(slot, name)).collect()),
    }
}

fn host(slot: &Slot, name: &GroupName) -> PathBuf {
    slot.mounted.point.join(name.as_str())
}

fn entry(slot: &Slot, name: &GroupName) -> ViewEntry {
    let own = slot.mounted.point.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let controllers = slot.v1_controllers();
    let links = controllers.iter().copied().map(Controller::v1_name).filter(|link| *link != own);
    ViewEntry { links: links.collect(), host: host(slot, name), name: own }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comounted_controllers_get_links() {
        let host = Hierarchy::recorded(
            "1 0 0:1 / /c/cpu,cpuacct rw - cgroup none rw,cpu,cpuacct\n\
             2 0 0:2 / /c/pids rw - cgroup none rw,pids\n",
            "",
            "",
        );
        let name = "x".parse().unwrap();
        let entries: Vec<ViewEntry> = host.slots().iter().map(|slot| entry(slot, &name)).collect();
        assert_eq!(entries[0].links, ["cpu", "cpuacct"]);
        assert_eq!(entries[0].host, PathBuf::from("/c/cpu,cpuacct/x"));
        assert_eq!((entries[1].name.as_str(), entries[1].links.len()), ("pids", 0));
    }
}
