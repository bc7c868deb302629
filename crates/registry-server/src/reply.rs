//! Answers.

use hyper::{
    Response, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, WARNING},
};
use listen::Body;

use crate::error::Refusal;

/// An answer on its way.
pub(crate) type Reply = Response<Body>;

/// What a request comes to.
pub(crate) type Answer = Result<Reply, Refusal>;

/// Headers that HTTP has not.
pub(crate) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
pub(crate) const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
pub(crate) const API_VERSION: HeaderName =
    HeaderName::from_static("docker-distribution-api-version");
pub(crate) const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
pub(crate) const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// A status, and headers; the body is empty.
pub(crate) fn reply(status: StatusCode, headers: &[(HeaderName, &str)]) -> Reply {
    with(status, headers, listen::full(""))
}

/// The same with a body.
pub(crate) fn with(status: StatusCode, headers: &[(HeaderName, &str)], body: Body) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    for (name, value) in headers {
        // Every value is a digest, a name or a number; others cannot be sent.
        if let Ok(value) = HeaderValue::from_str(value) {
            reply.headers_mut().insert(name, value);
        }
    }
    reply
}

/// 200 with JSON.
pub(crate) fn json(media_type: &'static str, value: &serde_json::Value) -> Reply {
    let text = value.to_string();
    let length = text.len().to_string();
    let headers = [(CONTENT_TYPE, media_type), (CONTENT_LENGTH, length.as_str())];
    with(StatusCode::OK, &headers, listen::full(text))
}

/// Says that the upstream did not answer, and this is what was known.
///
/// Source: RFC 7234, section 5.5.1.
pub(crate) fn stale(mut reply: Reply) -> Reply {
    let warning = HeaderValue::from_static("110 - \"Response is Stale\"");
    reply.headers_mut().insert(WARNING, warning);
    reply
}
