//! What can go wrong between the daemon and the process on the host.

use std::io;

use serde::{Deserialize, Serialize};

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{why}")]
pub(crate) struct Refused {
    /// The kernel's number, where it was the kernel.
    pub(crate) errno: Option<i32>,
    /// In words.
    pub(crate) why: String,
}

impl Refused {
    pub(super) fn io(doing: &str, error: &io::Error) -> Refused {
        Refused { errno: error.raw_os_error(), why: format!("cannot {doing}: {error}") }
    }
}

/// Why the process on the host did not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutsideError {
    /// It could not be started.
    #[error("cannot start the process that stays on the host")]
    Start(#[source] io::Error),
    /// It is gone.
    #[error("the process that stays on the host does not answer")]
    Lost(#[source] io::Error),
    /// It could not do it.
    #[error(transparent)]
    Refused(Refused),
}
