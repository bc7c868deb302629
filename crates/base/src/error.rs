//! What a caller can do about an error.

use serde::{Deserialize, Serialize};

/// The kinds of failure that a client can tell apart and act on.
///
/// Every error enum of the workspace answers `kind()`; each adapter turns the kind into its own
/// protocol's status (HTTP, gRPC, exit code) in exactly one `match`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request is wrong and will be wrong again: mend the request.
    InvalidInput,
    /// What was named does not exist.
    NotFound,
    /// It is in the way of something that exists or of the state it is in.
    Conflict,
    /// This build or this host cannot do it.
    Unsupported,
    /// The caller may not do this.
    PermissionDenied,
    /// A named limit was reached, or the host ran out of something.
    Exhausted,
    /// The deadline passed before it was done.
    DeadlineExceeded,
    /// The other side is not there right now; trying again may help.
    Unavailable,
    /// The command was not found inside the sandbox (shells say 127).
    CommandNotFound,
    /// The command was found but could not be run (shells say 126).
    CommandNotRunnable,
    /// Bytes did not have the form or the digest they must have.
    Corrupt,
    /// Anything else: an unexpected answer of the host.
    Internal,
}

/// An error with all its causes in one line, for texts that travel without them.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
