//! One request about volumes, one engine call, its replies.

use std::{fs::File, os::fd::OwnedFd};

use engine::{Engine, EngineError};
use wire::Writer;

use super::answer::{Broken, given};
use crate::{Reply, VolumeReply, VolumeRequest};

/// Carries a request out and sends its replies, all but the last, which is "done".
pub(super) async fn carry_out(
    engine: &Engine,
    request: VolumeRequest,
    fd: Option<OwnedFd>,
    to: &mut Writer,
) -> Result<(), Broken> {
    for reply in replies(engine, request, fd).await? {
        to.send(&Reply::Volume(reply), &[]).await?;
    }
    Ok(())
}

async fn replies(
    engine: &Engine,
    request: VolumeRequest,
    fd: Option<OwnedFd>,
) -> Result<Vec<VolumeReply>, EngineError> {
    let volume = |view| VolumeReply::Volume(Box::new(view));
    Ok(match request {
        VolumeRequest::Create(create) => vec![volume(engine.volume_create(create).await?)],
        VolumeRequest::List => engine.volumes().await?.into_iter().map(volume).collect(),
        VolumeRequest::Inspect { name } => vec![volume(engine.volume_inspect(&name).await?)],
        VolumeRequest::Remove { name } => {
            engine.volume_remove(&name).await?;
            Vec::new()
        }
        VolumeRequest::Prune(prune) => {
            vec![VolumeReply::Pruned(engine.volume_prune(prune).await?)]
        }
        VolumeRequest::Usage => {
            engine.volume_usage().await?.into_iter().map(VolumeReply::Usage).collect()
        }
        VolumeRequest::Snapshot { name, snapshot, pause } => {
            vec![VolumeReply::Snapshot(engine.volume_snapshot(&name, snapshot, pause).await?)]
        }
        VolumeRequest::Snapshots { name } => {
            let snapshots = engine.volume_snapshots(&name).await?;
            snapshots.into_iter().map(VolumeReply::Snapshot).collect()
        }
        VolumeRequest::RemoveSnapshot { name, snapshot } => {
            engine.volume_remove_snapshot(&name, &snapshot).await?;
            Vec::new()
        }
        VolumeRequest::Restore { name, snapshot } => {
            vec![VolumeReply::Shared(engine.volume_restore(&name, &snapshot).await?)]
        }
        VolumeRequest::Clone { name, new } => {
            vec![VolumeReply::Shared(engine.volume_clone(&name, &new).await?)]
        }
        VolumeRequest::Export { name } => {
            engine.volume_export(&name, File::from(given(fd))).await?;
            Vec::new()
        }
        VolumeRequest::Import { name, replace } => {
            engine.volume_import(&name, File::from(given(fd)), replace).await?;
            Vec::new()
        }
    })
}
