//! A request, as its endpoint gets it.

use std::sync::Arc;

use bytes::Bytes;
use engine::Engine;
use hyper::{HeaderMap, header::CONTENT_TYPE, upgrade::OnUpgrade};
use listen::{Incoming, Limits};
use serde::de::DeserializeOwned;

use crate::{body, error::ApiError, query::Query, route::Version};

/// What every endpoint needs.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) engine: Engine,
    /// Version of this build.
    pub(crate) build: &'static str,
    /// What clients are granted.
    pub(crate) limits: Limits,
}

/// One request.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) api: Arc<Api>,
    /// The version that the client speaks.
    pub(crate) version: Version,
    /// What stands in the path in place of `{}`.
    pub(crate) name: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    /// Gone once it is read.
    pub(crate) body: Option<Incoming>,
    /// The connection itself, for what wants that.
    pub(crate) upgrade: OnUpgrade,
}

impl Call {
    pub(crate) fn engine(&self) -> &Engine {
        &self.api.engine
    }

    /// All of the body.
    ///
    /// # Errors
    /// As [`body::read`].
    pub(crate) async fn bytes(&mut self) -> Result<Bytes, ApiError> {
        match self.body.take() {
            Some(body) => body::read(body, self.api.limits.whole_within).await,
            None => Ok(Bytes::new()),
        }
    }

    /// All of a body that has to be JSON, or nothing.
    ///
    /// # Errors
    /// As [`body::read`]; 400 for a body of another type.
    pub(crate) async fn json_bytes(&mut self) -> Result<Bytes, ApiError> {
        let bytes = self.bytes().await?;
        if !bytes.is_empty() {
            is_json(&self.headers)?;
        }
        Ok(bytes)
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// As [`body::json`] and [`Call::json_bytes`].
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        body::json(&self.json_bytes().await?)
    }
}

/// Refuses what says of itself that it is no JSON.
///
/// Source: moby, `daemon/server/httputils`, `CheckForJSON`.
fn is_json(headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let media_type = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if media_type.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(ApiError::bad(match media_type {
        "" => "malformed Content-Type header (): it must be 'application/json'".to_owned(),
        other => {
            format!("unsupported Content-Type header ({other}): must be 'application/json'")
        }
    }))
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn only_json_is_read_as_json() {
        let read = |text: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(text) = text {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(text));
            }
            is_json(&headers)
        };
        assert_eq!(read(Some("application/json; charset=utf-8")), Ok(()));
        assert_eq!(read(Some("Application/JSON")), Ok(()));
        let refused = read(Some("text/plain")).unwrap_err();
        assert_eq!(
            refused.message,
            "unsupported Content-Type header (text/plain): must be 'application/json'"
        );
        assert_eq!(read(None).unwrap_err().status.as_u16(), 400);
    }
}
