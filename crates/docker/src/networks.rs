//! What is asked of networks.

use serde_json::json;

use crate::{
    call::Call,
    error::ApiError,
    reply::{self, Answer},
};

/// `GET /networks`.
pub(crate) fn list(call: &Call) -> Answer {
    call.query.filters()?;
    Err(ApiError::unbuilt("GET /networks"))
}

/// `GET /networks/{}`.
pub(crate) fn inspect(call: &Call) -> Answer {
    Err(ApiError::missing(format!("network {} not found", call.name)))
}

/// `POST /networks/create`.
pub(crate) async fn create(call: Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("making networks"))
}

/// `DELETE /networks/{}`.
pub(crate) fn remove(call: &Call) -> Answer {
    Err(ApiError::missing(format!("network {} not found", call.name)))
}

/// `POST /networks/{}/connect`.
pub(crate) async fn connect(call: Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("connecting containers to networks"))
}

/// `POST /networks/{}/disconnect`.
pub(crate) async fn disconnect(call: Call) -> Answer {
    let _ = call;
    Err(ApiError::unbuilt("disconnecting containers from networks"))
}

/// `POST /networks/prune`.
pub(crate) fn prune(call: &Call) -> Answer {
    call.query.filters()?;
    reply::json(&json!({ "NetworksDeleted": [] }))
}
