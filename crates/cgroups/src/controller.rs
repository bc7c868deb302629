//! The controllers that Wythe uses.

/// One thing that a group can limit, count or do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Controller {
    /// Shares, quotas.
    Cpu,
    /// Processor time used. Version 2 counts it in every group.
    Cpuacct,
    /// Placement on processors and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Block I/O: `blkio` in version 1, `io` in version 2.
    Block,
    /// Access to device nodes: an eBPF program in version 2.
    Devices,
    /// Stopping and going on: part of every group in version 2.
    Freezer,
    /// Number of processes.
    Pids,
    /// Huge pages.
    Hugetlb,
}

impl Controller {
    /// All of them.
    pub(crate) const ALL: [Controller; 9] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Block,
        Controller::Devices,
        Controller::Freezer,
        Controller::Pids,
        Controller::Hugetlb,
    ];

    /// Its name in version 1.
    pub(crate) fn v1_name(self) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Block => "blkio",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::Pids => "pids",
            Controller::Hugetlb => "hugetlb",
        }
    }

    /// Its name in `cgroup.controllers` of version 2; `None` if every group has it.
    pub(crate) fn v2_name(self) -> Option<&'static str> {
        match self {
            Controller::Cpu => Some("cpu"),
            Controller::Cpuset => Some("cpuset"),
            Controller::Memory => Some("memory"),
            Controller::Block => Some("io"),
            Controller::Pids => Some("pids"),
            Controller::Hugetlb => Some("hugetlb"),
            Controller::Cpuacct | Controller::Devices | Controller::Freezer => None,
        }
    }

    /// The controller of this version 1 name.
    pub(crate) fn from_v1_name(name: &str) -> Option<Controller> {
        Controller::ALL.into_iter().find(|controller| controller.v1_name() == name)
    }
}
