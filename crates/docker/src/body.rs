//! Bodies of requests and of answers.

use std::{convert::Infallible, error::Error, future::Future, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, StreamBody, combinators};
use hyper::body::{Frame, Incoming};
use serde::de::DeserializeOwned;

use crate::error::ApiError;

/// Why a body broke off. The client sees its connection end.
pub(crate) type Broken = Box<dyn Error + Send + Sync>;

/// The body of an answer.
pub(crate) type Body = combinators::UnsyncBoxBody<Bytes, Broken>;

/// Largest JSON body of a request, in bytes. Docker's own is as large.
pub(crate) const JSON_MAX: usize = 4 << 20;

/// How long a client may take for such a body.
const JSON_WITHIN: Duration = Duration::from_secs(60);

/// A body that is here.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    let never = |never: Infallible| match never {};
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body of parts, each of which is made when the one before it has gone out.
pub(crate) fn parts<S, F, N>(start: S, mut next: F) -> Body
where
    S: Send + 'static,
    F: FnMut(S) -> N + Send + 'static,
    N: Future<Output = Option<(Result<Bytes, Broken>, S)>> + Send + 'static,
{
    let framed = move |state| {
        let part = next(state);
        async move {
            let (part, state) = part.await?;
            Some((part.map(Frame::data), state))
        }
    };
    StreamBody::new(stream::unfold(start, framed)).boxed_unsync()
}

/// A body of one part that comes later. The head of the answer goes out at once.
pub(crate) fn later(part: impl Future<Output = Bytes> + Send + 'static) -> Body {
    let one = async move { Ok::<_, Broken>(Frame::data(part.await)) };
    StreamBody::new(stream::once(one)).boxed_unsync()
}

/// All of a request's body.
///
/// # Errors
/// 413 if it is larger than [`JSON_MAX`], 408 if it takes longer than [`JSON_WITHIN`], 400 if it
/// breaks off.
pub(crate) async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let whole = Limited::new(body, JSON_MAX).collect();
    let Ok(whole) = tokio::time::timeout(JSON_WITHIN, whole).await else {
        return Err(ApiError::new(
            hyper::StatusCode::REQUEST_TIMEOUT,
            format!("the body of the request took longer than {} s", JSON_WITHIN.as_secs()),
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
