//! A blob on its way from the upstream: one download, however many wait for it. Each reads what is
//! in the file already; nobody gets the end before the whole is verified.

use std::{fs::File, io::Write as _, sync::Arc};

use base::{Digest, chain};
use bytes::Bytes;
use image::GrowingBlob;
use listen::Body;
use registry::Repository;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::{blobs, error::Refusal, name::Name, server::Registry, store::Store};

/// Parts that wait for the disk.
const PARTS_WAITING: usize = 8;
/// Read at a time, in bytes.
const PART_BYTES: u64 = 128 << 10;

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// So many bytes are there.
    Growing(u64),
    /// It is whole, verified, and in the store.
    Whole,
    /// It will not come.
    Broken(Arc<str>),
}

/// What those hold who wait.
#[derive(Debug)]
pub(crate) struct Flight {
    file: Arc<File>,
    pub(crate) bytes: u64,
    state: watch::Receiver<State>,
}

/// What brings it.
#[derive(Debug)]
pub(crate) struct Bring {
    repository: Arc<Repository>,
    digest: Digest,
    bytes: u64,
    blob: GrowingBlob,
    state: watch::Sender<State>,
}

impl Flight {
    /// What those hold who wait, and what has to run.
    pub(crate) fn prepare(
        repository: Arc<Repository>,
        digest: Digest,
        bytes: u64,
        blob: GrowingBlob,
    ) -> Result<(Flight, Bring), Refusal> {
        let (sender, state) = watch::channel(State::Growing(0));
        let file = Arc::new(blob.watch()?);
        let bring = Bring { repository, digest, bytes, blob, state: sender };
        Ok((Flight { file, bytes, state }, bring))
    }

    /// Waits for its end. Whether it is here.
    pub(crate) async fn landed(&self) -> bool {
        let mut state = self.state.clone();
        let ended = state.wait_for(|state| !matches!(state, State::Growing(_))).await;
        ended.is_ok_and(|state| *state == State::Whole)
    }

    /// Its bytes as they come.
    pub(crate) fn body(&self) -> Body {
        let start = (Arc::clone(&self.file), self.state.clone(), 0);
        let bytes = self.bytes;
        listen::parts(start, move |(file, mut state, at)| async move {
            loop {
                let now = state.borrow_and_update().clone();
                let there = match now {
                    // The last byte only when all of them are known to be right.
                    State::Growing(there) => there.min(bytes.saturating_sub(1)),
                    State::Whole if at == bytes => return None,
                    State::Whole => bytes,
                    State::Broken(why) => {
                        return Some((Err(why.to_string().into()), (file, state, at)));
                    }
                };
                if at < there {
                    let length = PART_BYTES.min(there - at);
                    let part = blobs::read(Arc::clone(&file), at, length).await;
                    return Some((part, (file, state, at + length)));
                }
                if state.changed().await.is_err() {
                    let why = "the registry ends".into();
                    return Some((Err(why), (file, state, at)));
                }
            }
        })
    }
}

impl Bring {
    /// Brings it, and tells those who wait.
    pub(crate) async fn run(self, registry: &Arc<Registry>, name: &Name) {
        let Bring { repository, digest, bytes, blob, state } = self;
        let (parts, waiting) = mpsc::channel(PARTS_WAITING);
        let told = state.clone();
        let writing = tokio::task::spawn_blocking(move || pour(blob, waiting, &told));
        let come = download(&repository, digest, bytes, &parts).await;
        drop(parts);
        let written = writing.await.map_err(|error| error.to_string());
        let done = match (come, written) {
            (Err(why), _) | (Ok(()), Err(why)) => Err(why),
            (Ok(()), Ok(Err(error))) => Err(format!("it cannot be kept: {error}")),
            (Ok(()), Ok(Ok(blob))) => {
                let of = name.clone();
                let keep = move |store: &Store| store.add_blob(&of, blob, &digest);
                match registry.on_store(keep).await {
                    Ok(true) => Ok(()),
                    Ok(false) => Err("its digest is another one".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        let end = match done {
            Ok(()) => State::Whole,
            Err(why) => {
                warn!(%digest, why, "a blob did not come from the upstream");
                State::Broken(why.into())
            }
        };
        state.send_replace(end);
    }
}

async fn download(
    repository: &Repository,
    digest: Digest,
    bytes: u64,
    parts: &mpsc::Sender<Bytes>,
) -> Result<(), String> {
    let mut download = repository.blob(digest, bytes);
    loop {
        match download.next().await {
            Ok(None) => return Ok(()),
            Err(error) => return Err(chain(&error)),
            Ok(Some(part)) => {
                if parts.send(part).await.is_err() {
                    // The other end says why.
                    return Ok(());
                }
            }
        }
    }
}

fn pour(
    mut blob: GrowingBlob,
    mut parts: mpsc::Receiver<Bytes>,
    state: &watch::Sender<State>,
) -> std::io::Result<GrowingBlob> {
    while let Some(part) = parts.blocking_recv() {
        blob.write_all(&part)?;
        state.send_replace(State::Growing(blob.bytes()));
    }
    Ok(blob)
}
