//! What can go wrong with a control group.

use std::io;

use base::ErrorKind;
use rustix::io::Errno;
use workload::DriverError;

/// Why something was not done to a control group.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// The name is not one a group can have.
    #[error("cgroup name \"{given}\" is not valid: {rule}")]
    Name {
        /// What was given, shortened.
        given: String,
        /// The rule it breaks.
        rule: &'static str,
    },
    /// There is no cgroup file system to work with.
    #[error("no usable cgroup hierarchy: {why}")]
    NoHierarchy {
        /// What was found instead.
        why: String,
    },
    /// A group of this name holds processes already.
    #[error("cgroup {name} exists already and holds processes")]
    Busy {
        /// The group's name.
        name: String,
    },
    /// A limit makes no sense.
    #[error("{what}: {why}")]
    Invalid {
        /// Which limit, as the contract names it.
        what: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// This host cannot do it.
    #[error("this host cannot do it: {what}: {why}")]
    Unsupported {
        /// Which limit or verb.
        what: String,
        /// What the host lacks.
        why: String,
    },
    /// The kernel refused a step.
    #[error("{step}")]
    Step {
        /// What was being done, with its subject: "write 5 to pids/wythe/a/pids.max".
        step: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The deadline passed.
    #[error("the deadline passed while {doing}")]
    DeadlinePassed {
        /// What was not finished.
        doing: String,
    },
}

impl CgroupError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            CgroupError::Name { .. } | CgroupError::Invalid { .. } => ErrorKind::InvalidInput,
            CgroupError::NoHierarchy { .. } | CgroupError::Unsupported { .. } => {
                ErrorKind::Unsupported
            }
            CgroupError::Busy { .. } => ErrorKind::Conflict,
            CgroupError::Step { .. } => match self.errno() {
                Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => ErrorKind::PermissionDenied,
                _ => ErrorKind::Internal,
            },
            CgroupError::DeadlinePassed { .. } => ErrorKind::DeadlineExceeded,
        }
    }

    /// The kernel's answer, if this is one.
    pub(crate) fn errno(&self) -> Option<Errno> {
        if let CgroupError::Step { source, .. } = self {
            return Errno::from_io_error(source);
        }
        None
    }

    /// A failed step, from the kernel's answer.
    pub(crate) fn step(step: impl Into<String>, error: impl Into<io::Error>) -> CgroupError {
        CgroupError::Step { step: step.into(), source: error.into() }
    }
}

impl From<CgroupError> for DriverError {
    fn from(error: CgroupError) -> DriverError {
        match error {
            CgroupError::Name { .. } => {
                DriverError::Invalid { what: "cgroup".into(), why: error.to_string() }
            }
            CgroupError::NoHierarchy { why } => {
                DriverError::Unsupported { what: "cgroup".into(), why }
            }
            CgroupError::Busy { name } => DriverError::Exists { what: format!("cgroup {name}") },
            CgroupError::Invalid { what, why } => DriverError::Invalid { what, why },
            CgroupError::Unsupported { what, why } => DriverError::Unsupported { what, why },
            CgroupError::Step { step, source } => DriverError::step(step, &source),
            CgroupError::DeadlinePassed { doing } => DriverError::DeadlinePassed { doing },
        }
    }
}
