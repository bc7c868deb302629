//! Images from registries and to them.

use std::pin::pin;

use engine::{Engine, EngineError, TransferEvent, TransferNews, TransferRequest};
use tokio::sync::mpsc;
use wire::Writer;

use super::answer::Broken;
use crate::Reply;

/// Pulls, and tells how far it has come.
pub(super) async fn pull(
    engine: &Engine,
    pull: TransferRequest,
    to: &mut Writer,
) -> Result<Reply, Broken> {
    let (news, heard) = TransferNews::channel();
    Ok(Reply::Pulled(told(engine.pull(pull, news), heard, to).await?))
}

/// Pushes, and tells how far it has come.
pub(super) async fn push(
    engine: &Engine,
    push: TransferRequest,
    to: &mut Writer,
) -> Result<(), Broken> {
    let (news, heard) = TransferNews::channel();
    told(engine.push(push, news), heard, to).await
}

/// Does the work and passes every event on; the last ones before its end.
async fn told<T>(
    work: impl Future<Output = Result<T, EngineError>>,
    mut heard: mpsc::Receiver<TransferEvent>,
    to: &mut Writer,
) -> Result<T, Broken> {
    let mut work = pin!(work);
    let done = loop {
        tokio::select! {
            biased;
            Some(event) = heard.recv() => to.send(&Reply::Transfer(event), &[]).await?,
            done = &mut work => break done,
        }
    };
    while let Ok(event) = heard.try_recv() {
        to.send(&Reply::Transfer(event), &[]).await?;
    }
    Ok(done?)
}
