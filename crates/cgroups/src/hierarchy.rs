//! What this host has.
use crate::CgroupError;
use workload::Finding;

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
pub struct Hierarchy {}

impl Hierarchy {
    /// Looks at the host.
    pub fn detect() -> Result<Hierarchy, CgroupError> {
        Err(CgroupError::NoHierarchy { why: "not looked for".into() })
    }
    /// How the host's controllers are arranged.
    pub fn layout(&self) -> Layout {
        Layout::V1
    }
    /// What was found, for people to read.
    pub fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }
    /// Removes groups of this name (a shared parent such as `/wythe`) where they are empty.
    pub fn prune(&self, _name: &crate::GroupName) {}
}
