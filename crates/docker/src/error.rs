//! What a client is told that did not get what it asked for.

use base::{ErrorKind, chain};
use engine::EngineError;
use hyper::StatusCode;
use serde::Serialize;

/// A refusal: a status, and the text that clients print.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

/// Docker's body of an error.
#[derive(Debug, Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) message: &'a str,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> ApiError {
        ApiError { status, message: message.into() }
    }

    /// The request makes no sense.
    pub(crate) fn bad(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// There is no such thing.
    pub(crate) fn missing(message: impl Into<String>) -> ApiError {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// Docker has it and this build does not.
    pub(crate) fn unbuilt(what: impl std::fmt::Display) -> ApiError {
        ApiError::new(StatusCode::NOT_IMPLEMENTED, format!("{what} is not built yet"))
    }
}

/// The status of each kind of failure, as Docker has them.
///
/// Source: moby, `daemon/server/httpstatus`.
fn status(kind: ErrorKind) -> StatusCode {
    match kind {
        ErrorKind::InvalidInput | ErrorKind::CommandNotFound | ErrorKind::CommandNotRunnable => {
            StatusCode::BAD_REQUEST
        }
        ErrorKind::NotFound => StatusCode::NOT_FOUND,
        ErrorKind::Conflict => StatusCode::CONFLICT,
        ErrorKind::Unsupported => StatusCode::NOT_IMPLEMENTED,
        ErrorKind::PermissionDenied => StatusCode::FORBIDDEN,
        ErrorKind::Unavailable | ErrorKind::Exhausted => StatusCode::SERVICE_UNAVAILABLE,
        ErrorKind::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        ErrorKind::Corrupt | ErrorKind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<EngineError> for ApiError {
    fn from(error: EngineError) -> ApiError {
        ApiError::new(status(error.kind()), chain(&error))
    }
}
