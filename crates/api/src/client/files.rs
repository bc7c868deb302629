//! Files of containers.

use std::os::fd::AsFd;

use engine::{Commit, PathChange};
use workload::{FileStat, Unpack};

use super::{Client, ClientError};
use crate::{Reply, Request};

impl Client {
    /// What is at a path of a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn path_stat(&mut self, who: &str, path: &str) -> Result<FileStat, ClientError> {
        let request = Request::PathStat { who: who.to_owned(), path: path.to_owned() };
        Ok(*expect!(self.call(request, &[]).await?, PathStat)?)
    }

    /// Writes what is at a path of a container as an archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn archive_read(
        &mut self,
        who: &str,
        path: &str,
        name: Option<&str>,
        to: impl AsFd,
    ) -> Result<(), ClientError> {
        let (who, path, name) = (who.to_owned(), path.to_owned(), name.map(str::to_owned));
        self.order(Request::ArchiveRead { who, path, name }, &[to.as_fd()]).await
    }

    /// Unpacks an archive into a directory of a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn archive_write(
        &mut self,
        who: &str,
        path: &str,
        from: impl AsFd,
        unpack: Unpack,
    ) -> Result<(), ClientError> {
        let (who, path) = (who.to_owned(), path.to_owned());
        self.order(Request::ArchiveWrite { who, path, unpack }, &[from.as_fd()]).await
    }

    /// Writes everything in a container's root as an archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn export(&mut self, who: &str, to: impl AsFd) -> Result<(), ClientError> {
        self.order(Request::Export { who: who.to_owned() }, &[to.as_fd()]).await
    }

    /// Writes all files of an image as one archive.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn export_image(
        &mut self,
        image: &str,
        platform: Option<String>,
        to: impl AsFd,
    ) -> Result<(), ClientError> {
        let image = image.to_owned();
        self.order(Request::ExportImage { image, platform }, &[to.as_fd()]).await
    }

    /// What a container changed of its image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn path_changes(&mut self, who: &str) -> Result<Vec<PathChange>, ClientError> {
        self.ask(&Request::PathChanges { who: who.to_owned() }, &[]).await?;
        let mut changes = Vec::new();
        let mut reply = self.hear().await?;
        while let Reply::PathChanges(part) = reply {
            changes.extend(part);
            reply = self.hear().await?;
        }
        if reply == Reply::Done { Ok(changes) } else { Err(ClientError::Unexpected) }
    }

    /// Makes an image of a container, and answers with its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn commit(&mut self, who: &str, commit: Commit) -> Result<String, ClientError> {
        let request = Request::Commit { who: who.to_owned(), commit: Box::new(commit) };
        expect!(self.call(request, &[]).await?, Name)
    }
}
