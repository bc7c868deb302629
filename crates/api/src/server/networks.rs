//! One request about networks, one engine call, its replies.

use engine::{Engine, EngineError};
use wire::Writer;

use super::answer::Broken;
use crate::{NetworkReply, NetworkRequest, Reply};

/// Carries a request out and sends its replies, all but the last, which is "done".
pub(super) async fn carry_out(
    engine: &Engine,
    request: NetworkRequest,
    to: &mut Writer,
) -> Result<(), Broken> {
    for reply in replies(engine, request).await? {
        to.send(&Reply::Network(reply), &[]).await?;
    }
    Ok(())
}

async fn replies(
    engine: &Engine,
    request: NetworkRequest,
) -> Result<Vec<NetworkReply>, EngineError> {
    let network = |info| NetworkReply::Network(Box::new(info));
    Ok(match request {
        NetworkRequest::Create(create) => vec![network(engine.network_create(create).await?)],
        NetworkRequest::List => engine.networks().await?.into_iter().map(network).collect(),
        NetworkRequest::Inspect { network: who } => {
            vec![network(engine.network_inspect(&who).await?)]
        }
        NetworkRequest::Remove { network } => {
            engine.network_remove(&network).await?;
            Vec::new()
        }
        NetworkRequest::Prune(prune) => {
            vec![NetworkReply::Pruned(engine.network_prune(prune).await?)]
        }
        NetworkRequest::Connect { network, who, endpoint } => {
            engine.network_connect(&network, &who, endpoint).await?;
            Vec::new()
        }
        NetworkRequest::Disconnect { network, who } => {
            engine.network_disconnect(&network, &who).await?;
            Vec::new()
        }
    })
}
