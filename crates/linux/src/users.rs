//! As whom a process runs.

use std::os::fd::BorrowedFd;

use files::Identity;
use workload::{DriverError, UserSpec};

/// Looks up a user beneath a container's root.
///
/// # Errors
/// `Invalid` for a name that is nobody's there, or an id that is too large.
pub(crate) fn resolve(root: BorrowedFd<'_>, spec: &UserSpec) -> Result<Identity, DriverError> {
    match spec {
        UserSpec::Ids { uid, gid, groups } => {
            let home = files::home_of(root, *uid);
            Ok(Identity { uid: *uid, gid: *gid, groups: groups.clone(), home })
        }
        UserSpec::Named { name, groups } => files::look_up(root, name, groups)
            .map_err(|none| DriverError::Invalid { what: "user".into(), why: none.to_string() }),
    }
}
