//! What is asked of volumes.

use hyper::StatusCode;
use serde_json::json;

use crate::{
    call::Call,
    error::ApiError,
    reply::{self, Answer},
    shape::volume::VolumeJson,
};

/// `GET /volumes`.
pub(crate) async fn list(call: &Call) -> Answer {
    let volumes = call.engine().volumes().await?;
    let shapes: Vec<_> = volumes.iter().map(VolumeJson::of).collect();
    reply::json(&json!({ "Volumes": shapes, "Warnings": null }))
}

/// `GET /volumes/{}`.
pub(crate) async fn inspect(call: &Call) -> Answer {
    let volume = call.engine().volume_inspect(&call.name).await?;
    reply::json(&VolumeJson::of(&volume))
}

/// `POST /volumes/create`.
pub(crate) async fn create(call: Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("POST /volumes/create"))
}

/// `POST /volumes/prune`.
pub(crate) async fn prune(call: &Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("POST /volumes/prune"))
}

/// `PUT /volumes/{}`: only cluster volumes change, which belong to a swarm.
pub(crate) fn update(call: &Call) -> Answer {
    Err(ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("volume {} is no cluster volume: this node is not a swarm manager", call.name),
    ))
}

/// `DELETE /volumes/{}`.
pub(crate) async fn remove(call: &Call) -> Answer {
    call.engine().volume_remove(&call.name).await?;
    reply::done()
}
