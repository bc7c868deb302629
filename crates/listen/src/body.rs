//! Bodies of answers.

use std::{convert::Infallible, error::Error, future::Future};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt as _, Full, StreamBody, combinators};
use hyper::body::Frame;

/// Why a body broke off. The client sees its connection end.
pub type Broken = Box<dyn Error + Send + Sync>;

/// The body of an answer.
pub type Body = combinators::UnsyncBoxBody<Bytes, Broken>;

/// A body that is here.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    let never = |never: Infallible| match never {};
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body of parts, each of which is made when the one before it has gone out.
pub fn parts<S, F, N>(start: S, mut next: F) -> Body
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
