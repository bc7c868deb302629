//! The client's side of what is asked of volumes.

use std::os::fd::{AsFd, BorrowedFd};

use engine::{SnapshotView, VolumeCreate, VolumePrune, VolumeUsage, VolumeView, VolumesPruned};

use super::{Client, ClientError};
use crate::{Reply, Request, VolumeReply, VolumeRequest};

/// Takes the one kind of reply that a request has.
macro_rules! only {
    ($replies:expr, $variant:ident) => {
        $replies
            .into_iter()
            .map(|reply| match reply {
                VolumeReply::$variant(value) => Ok(value),
                _ => Err(ClientError::Unexpected),
            })
            .collect::<Result<Vec<_>, _>>()
    };
}

impl Client {
    async fn volume_call(
        &mut self,
        request: VolumeRequest,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<VolumeReply>, ClientError> {
        self.ask(&Request::Volume(request), fds).await?;
        let mut replies = Vec::new();
        let mut reply = self.hear().await?;
        while let Reply::Volume(one) = reply {
            replies.push(one);
            reply = self.hear().await?;
        }
        if reply == Reply::Done { Ok(replies) } else { Err(ClientError::Unexpected) }
    }

    /// Makes a volume.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_create(&mut self, create: VolumeCreate) -> Result<VolumeView, ClientError> {
        let replies = self.volume_call(VolumeRequest::Create(create), &[]).await?;
        Ok(*one(only!(replies, Volume)?)?)
    }

    /// Every volume, by name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volumes(&mut self) -> Result<Vec<VolumeView>, ClientError> {
        let replies = self.volume_call(VolumeRequest::List, &[]).await?;
        Ok(only!(replies, Volume)?.into_iter().map(|volume| *volume).collect())
    }

    /// One volume.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_inspect(&mut self, name: &str) -> Result<VolumeView, ClientError> {
        let request = VolumeRequest::Inspect { name: name.to_owned() };
        Ok(*one(only!(self.volume_call(request, &[]).await?, Volume)?)?)
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_remove(&mut self, name: &str) -> Result<(), ClientError> {
        let request = VolumeRequest::Remove { name: name.to_owned() };
        self.volume_call(request, &[]).await.map(drop)
    }

    /// Removes volumes that no container has.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_prune(&mut self, prune: VolumePrune) -> Result<VolumesPruned, ClientError> {
        let replies = self.volume_call(VolumeRequest::Prune(prune), &[]).await?;
        one(only!(replies, Pruned)?)
    }

    /// What every volume takes of the disk.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_usage(&mut self) -> Result<Vec<VolumeUsage>, ClientError> {
        only!(self.volume_call(VolumeRequest::Usage, &[]).await?, Usage)
    }

    /// Takes a snapshot of a volume.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_snapshot(
        &mut self,
        name: &str,
        snapshot: Option<String>,
        pause: bool,
    ) -> Result<SnapshotView, ClientError> {
        let request = VolumeRequest::Snapshot { name: name.to_owned(), snapshot, pause };
        one(only!(self.volume_call(request, &[]).await?, Snapshot)?)
    }

    /// A volume's snapshots, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_snapshots(&mut self, name: &str) -> Result<Vec<SnapshotView>, ClientError> {
        let request = VolumeRequest::Snapshots { name: name.to_owned() };
        only!(self.volume_call(request, &[]).await?, Snapshot)
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_remove_snapshot(
        &mut self,
        name: &str,
        snapshot: &str,
    ) -> Result<(), ClientError> {
        let (name, snapshot) = (name.to_owned(), snapshot.to_owned());
        let request = VolumeRequest::RemoveSnapshot { name, snapshot };
        self.volume_call(request, &[]).await.map(drop)
    }

    /// Restores a volume, and answers whether blocks are shared.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_restore(
        &mut self,
        name: &str,
        snapshot: &str,
    ) -> Result<bool, ClientError> {
        let (name, snapshot) = (name.to_owned(), snapshot.to_owned());
        let request = VolumeRequest::Restore { name, snapshot };
        one(only!(self.volume_call(request, &[]).await?, Shared)?)
    }

    /// Clones a volume, and answers whether blocks are shared.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_clone(&mut self, name: &str, new: &str) -> Result<bool, ClientError> {
        let request = VolumeRequest::Clone { name: name.to_owned(), new: new.to_owned() };
        one(only!(self.volume_call(request, &[]).await?, Shared)?)
    }

    /// Writes a volume to an archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_export(&mut self, name: &str, to: impl AsFd) -> Result<(), ClientError> {
        let request = VolumeRequest::Export { name: name.to_owned() };
        self.volume_call(request, &[to.as_fd()]).await.map(drop)
    }

    /// Fills a volume from an archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn volume_import(
        &mut self,
        name: &str,
        from: impl AsFd,
        replace: bool,
    ) -> Result<(), ClientError> {
        let request = VolumeRequest::Import { name: name.to_owned(), replace };
        self.volume_call(request, &[from.as_fd()]).await.map(drop)
    }
}

fn one<T>(list: Vec<T>) -> Result<T, ClientError> {
    list.into_iter().next().ok_or(ClientError::Unexpected)
}
