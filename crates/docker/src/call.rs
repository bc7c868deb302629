//! A request, as its endpoint gets it.

use std::sync::Arc;

use bytes::Bytes;
use engine::Engine;
use hyper::{HeaderMap, body::Incoming, upgrade::OnUpgrade};
use serde::de::DeserializeOwned;

use crate::{body, error::ApiError, query::Query, route::Version};

/// What every endpoint needs.
#[derive(Debug)]
pub(crate) struct Api {
    pub(crate) engine: Engine,
    /// Version of this build.
    pub(crate) build: &'static str,
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
            Some(body) => body::read(body).await,
            None => Ok(Bytes::new()),
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// As [`body::json`].
    pub(crate) async fn json<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        body::json(&self.bytes().await?)
    }
}
