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

#[cfg(test)]
mod tests {
    use base::ContainerId;

    use super::*;

    /// What Docker answers in the same place: the status, and how its text begins.
    #[test]
    fn failures_have_dockers_status_and_words() {
        let id = ContainerId::from_random([0xc0; 32]);
        let text = |text: &str| text.to_owned();
        let name = || "web".parse().unwrap();
        let table = [
            (EngineError::NoSuchContainer(text("x")), 404, "No such container: x"),
            (EngineError::NoSuchImage(text("x")), 404, "No such image: x"),
            (EngineError::NoSuchExec(text("x")), 404, "No such exec instance: x"),
            (EngineError::AmbiguousId(text("c0")), 400, "Multiple IDs found with provided prefix"),
            (
                EngineError::NameTaken { name: name(), id: id.clone() },
                409,
                "Conflict. The container name \"/web\" is already in use by container",
            ),
            (EngineError::NotRunning(text("x")), 409, "container x is not running"),
            (EngineError::Paused(text("x")), 409, "Container x is paused, unpause the container"),
            (EngineError::AlreadyPaused(text("x")), 409, "Container x is already paused"),
            (EngineError::NotPaused(text("x")), 409, "Container x is not paused"),
            (EngineError::Restarting(text("x")), 409, "Container x is restarting, wait until"),
            (EngineError::RemoveRunning(name()), 409, "cannot remove container \"/web\":"),
            (EngineError::RemoveRestarting(name()), 409, "cannot remove container \"/web\":"),
            (
                EngineError::Removing(text("x")),
                409,
                "removal of container x is already in progress",
            ),
            (EngineError::ExecRan(text("x")), 409, "exec x has already run"),
            (EngineError::JoinsStopped(text("x")), 409, "cannot join namespaces"),
            (EngineError::LogUnreadable, 501, "configured logging driver does not support reading"),
            (EngineError::Closed, 503, "the daemon is shutting down"),
            (EngineError::Failed { doing: "x" }, 500, "a task of the engine failed"),
            (EngineError::DeadlinePassed { doing: "x" }, 504, "the deadline passed"),
            (EngineError::Interrupted { doing: "x" }, 503, "the daemon was killed"),
            (EngineError::TooMany { what: "execs", most: 1 }, 503, "execs: there are 1 already"),
            (EngineError::EventsLost { missed: 1 }, 503, "this listener was too slow"),
            (EngineError::Invalid { what: text("a"), why: text("b") }, 400, "a: b"),
            (
                EngineError::Unsupported { what: text("a"), why: text("b") },
                501,
                "a is not supported",
            ),
            (volume(ErrorKind::NotFound, "get x: no such volume"), 404, "get x: no such volume"),
            (volume(ErrorKind::Conflict, "remove x: volume is in use - []"), 409, "remove x:"),
            (image(ErrorKind::InvalidInput, "invalid reference format"), 400, "invalid reference"),
            (image(ErrorKind::Exhausted, "no space left"), 503, "no space left"),
            (image(ErrorKind::PermissionDenied, "denied"), 403, "denied"),
            (image(ErrorKind::Corrupt, "damaged"), 500, "damaged"),
            (
                EngineError::CannotUpdate {
                    id,
                    source: std::sync::Arc::new(EngineError::NotRunning(text("x"))),
                },
                409,
                "Cannot update container",
            ),
        ];
        for (failure, status, begins) in table {
            let told = ApiError::from(failure);
            assert_eq!(told.status.as_u16(), status, "{told}");
            assert!(told.message.starts_with(begins), "{told}");
        }
    }

    fn volume(kind: ErrorKind, text: &str) -> EngineError {
        EngineError::Volume { kind, text: text.to_owned() }
    }

    fn image(kind: ErrorKind, text: &str) -> EngineError {
        EngineError::Image { kind, text: text.to_owned() }
    }
}
