//! Attached clients.

use crate::{call::Call, error::ApiError, hijack, reply::Answer};

/// `POST /containers/{}/attach`. To one that does not run yet, the client is attached from the
/// first byte on.
pub(crate) async fn attach(call: Call) -> Answer {
    let container = call.engine().inspect(&call.name)?;
    let (terminal, query) = (container.config.terminal, &call.query);
    if query.flag("logs") || !query.flag("stream") {
        return Err(ApiError::unbuilt("attaching with logs, or without stream"));
    }
    let both = query.flag("stdout") && query.flag("stderr");
    if !terminal && !both {
        return Err(ApiError::unbuilt("attaching to one of the two output streams"));
    }
    let content_type = hijack::content_type(terminal, call.version);
    let seat = call.engine().seat(&call.name).await?;
    Ok(hijack::hand_over(call, content_type, move |socket| seat.take(socket)))
}

/// `GET /containers/{}/attach/ws`.
pub(crate) async fn websocket(call: Call) -> Answer {
    Err(ApiError::unbuilt(format!("GET /containers/{}/attach/ws", call.name)))
}
