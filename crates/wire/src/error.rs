//! What can go wrong on a connection.

use std::io;

use base::ErrorKind;

use crate::{FDS_MAX, FRAME_BYTES_MAX};

/// Why a frame was not sent or received.
///
/// After any of these but [`WireError::TooLong`], [`WireError::TooManyDescriptors`] and
/// [`WireError::Json`] the connection is of no further use.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A frame to be sent, or announced by the other side, is too long.
    #[error("a frame of {bytes} bytes is longer than the {FRAME_BYTES_MAX} allowed")]
    TooLong {
        /// Its length.
        bytes: u64,
    },
    /// A frame to be sent carries too many descriptors.
    #[error("{count} descriptors are more than the {FDS_MAX} a frame may carry")]
    TooManyDescriptors {
        /// How many.
        count: usize,
    },
    /// The other side sent more descriptors than a frame may carry, or this process has no room
    /// for them.
    #[error("descriptors were lost: more than {FDS_MAX} came at once, or this process is full")]
    DescriptorsLost,
    /// Descriptors came in the middle of a frame.
    #[error("{count} descriptors came in the middle of a frame")]
    StrayDescriptors {
        /// How many.
        count: usize,
    },
    /// The stream ended within a frame.
    #[error("the stream ended {missing} bytes before the end of a frame")]
    Truncated {
        /// How many bytes were known to be missing.
        missing: usize,
    },
    /// The body is not the message that was expected, or the message is not JSON.
    #[error("the message cannot be read or written")]
    Json(#[source] serde_json::Error),
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
}

impl WireError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            WireError::TooLong { .. } | WireError::TooManyDescriptors { .. } => {
                ErrorKind::InvalidInput
            }
            WireError::DescriptorsLost => ErrorKind::Exhausted,
            WireError::StrayDescriptors { .. } | WireError::Json(_) => ErrorKind::Corrupt,
            WireError::Truncated { .. } | WireError::Io(_) => ErrorKind::Unavailable,
        }
    }
}
