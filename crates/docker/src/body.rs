//! Bodies of requests and of answers.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, LengthLimitError, Limited, StreamBody};
use hyper::body::Frame;
use listen::Incoming;
use serde::de::DeserializeOwned;

use crate::error::ApiError;

pub(crate) use listen::{Body, Broken, full, parts};

/// Largest JSON body of a request, in bytes. Docker's own is as large.
pub(crate) const JSON_MAX: usize = 4 << 20;

/// A body of one part that comes later. The head of the answer goes out at once.
pub(crate) fn later(part: impl Future<Output = Bytes> + Send + 'static) -> Body {
    let one = async move { Ok::<_, Broken>(Frame::data(part.await)) };
    StreamBody::new(stream::once(one)).boxed_unsync()
}

/// All of a request's body.
///
/// # Errors
/// 413 if it is larger than [`JSON_MAX`], 408 if it takes longer than this, 400 if it breaks off.
pub(crate) async fn read(body: Incoming, within: Duration) -> Result<Bytes, ApiError> {
    let whole = Limited::new(body, JSON_MAX).collect();
    let Ok(whole) = tokio::time::timeout(within, whole).await else {
        return Err(ApiError::new(
            hyper::StatusCode::REQUEST_TIMEOUT,
            format!("the body of the request took longer than {} s", within.as_secs()),
        ));
    };
    whole.map(http_body_util::Collected::to_bytes).map_err(|error| {
        match error.downcast_ref::<LengthLimitError>() {
            Some(_) => ApiError::new(
                hyper::StatusCode::PAYLOAD_TOO_LARGE,
                format!("the request is larger than {JSON_MAX} bytes"),
            ),
            None => ApiError::bad(format!("the request broke off: {error}")),
        }
    })
}

/// A request's JSON; nothing is as good as `{}`.
///
/// # Errors
/// 400 if it is none, or not of this form.
pub(crate) fn json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad(format!("invalid JSON in the request: {error}")))
}
