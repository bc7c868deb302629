//! Answers.

use bytes::Bytes;
use hyper::{
    Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderValue, UPGRADE},
};
use serde::Serialize;

use crate::{
    body::{self, Body},
    error::{ApiError, Message},
};

/// An answer on its way.
pub(crate) type Reply = Response<Body>;

/// What an endpoint comes to.
pub(crate) type Answer = Result<Reply, ApiError>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// 200 with JSON.
///
/// # Errors
/// 500 if it cannot be written as JSON, which is a bug.
pub(crate) fn json(value: &impl Serialize) -> Answer {
    json_with(StatusCode::OK, value)
}

/// JSON with another status.
///
/// # Errors
/// As [`json`].
pub(crate) fn json_with(status: StatusCode, value: &impl Serialize) -> Answer {
    let mut reply = with(status, body::full(line(value)?));
    reply.headers_mut().insert(CONTENT_TYPE, JSON);
    Ok(reply)
}

/// A line of JSON.
///
/// # Errors
/// As [`json`].
pub(crate) fn line(value: &impl Serialize) -> Result<Bytes, ApiError> {
    let mut text = serde_json::to_vec(value).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("cannot write JSON: {error}"))
    })?;
    text.push(b'\n');
    Ok(text.into())
}

/// A status and nothing more.
pub(crate) fn empty(status: StatusCode) -> Reply {
    with(status, body::full(Bytes::new()))
}

/// 204.
pub(crate) fn done() -> Answer {
    Ok(empty(StatusCode::NO_CONTENT))
}

/// 200 with a body of this type.
pub(crate) fn streamed(content_type: &'static str, body: Body) -> Reply {
    let mut reply = with(StatusCode::OK, body);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// 200 with lines of JSON as they come.
pub(crate) fn json_stream(body: Body) -> Reply {
    streamed("application/json", body)
}

/// 101: the connection speaks another protocol from here on.
///
/// # Errors
/// 500 for a header that cannot be one.
pub(crate) fn switched(to: &'static str, headers: &[(&'static str, &str)]) -> Answer {
    let mut reply = empty(StatusCode::SWITCHING_PROTOCOLS);
    let map = reply.headers_mut();
    map.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    map.insert(UPGRADE, HeaderValue::from_static(to));
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).map_err(|error| {
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("{name}: {error}"))
        })?;
        map.insert(*name, value);
    }
    Ok(reply)
}

/// An error in Docker's form.
pub(crate) fn refusal(error: &ApiError) -> Reply {
    let message = Message { message: &error.message };
    json_with(error.status, &message).unwrap_or_else(|_| empty(error.status))
}

fn with(status: StatusCode, body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply
}
