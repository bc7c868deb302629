//! Uploads under way: each a file without a name, hashed as it grows.
//!
//! They live as long as this process. What nobody goes on with is dropped after a while, and what
//! a kill leaves is removed when the store is opened.

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use base::clock::monotonic;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use image::GrowingBlob;
use listen::Incoming;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard, mpsc};

use crate::{
    error::{Code, Refusal},
    name::{Name, UploadId},
};

/// Uploads at once.
pub(crate) const UPLOADS_MAX: usize = 1_000;
/// An upload that nobody goes on with is dropped after this.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(3600);
/// How long a client may be silent in the middle of a body.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest blob, in bytes.
pub(crate) const BLOB_BYTES_MAX: u64 = 1 << 40;
/// Parts of a body that wait for the disk.
const PARTS_WAITING: usize = 8;

/// One upload.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) id: UploadId,
    pub(crate) repository: Name,
    /// Taken when it is whole.
    blob: Arc<AsyncMutex<Option<GrowingBlob>>>,
    /// Bytes that are there, for those who ask while more are coming.
    bytes: Arc<AtomicU64>,
    touched: Mutex<Instant>,
}

/// What holds an upload for one request.
type Held = OwnedMutexGuard<Option<GrowingBlob>>;

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Uploads(Mutex<HashMap<UploadId, Arc<Upload>>>);

impl Uploads {
    /// Begins one.
    pub(crate) fn begin(&self, name: &Name, blob: GrowingBlob) -> Result<Arc<Upload>, Refusal> {
        let mut random = [0; 16];
        let filled = rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty());
        filled.map_err(std::io::Error::from)?;
        let upload = Arc::new(Upload {
            id: UploadId::new(random),
            repository: name.clone(),
            blob: Arc::new(AsyncMutex::new(Some(blob))),
            bytes: Arc::default(),
            touched: Mutex::new(monotonic()),
        });
        let mut all = self.all();
        if all.len() >= UPLOADS_MAX {
            let why = format!("there are {UPLOADS_MAX} uploads under way already");
            return Err(Refusal::new(429, Code::TooManyRequests, why));
        }
        all.insert(upload.id.clone(), Arc::clone(&upload));
        Ok(upload)
    }

    /// The upload of this name to this repository.
    pub(crate) fn get(&self, name: &Name, id: &UploadId) -> Result<Arc<Upload>, Refusal> {
        let found = self.all().get(id).filter(|upload| upload.repository == *name).cloned();
        let upload = found.ok_or_else(Refusal::no_upload)?;
        upload.touch();
        Ok(upload)
    }

    /// Forgets one. What it has brought goes with the last who uses it.
    pub(crate) fn remove(&self, id: &UploadId) {
        self.all().remove(id);
    }

    /// Forgets those that nobody goes on with.
    pub(crate) fn expire(&self, now: Instant) {
        // One that is being written to is held by whoever does that.
        self.all().retain(|_, upload| {
            let idle = now.saturating_duration_since(*upload.touched());
            idle < IDLE_MAX || upload.blob.try_lock().is_err()
        });
    }

    fn all(&self) -> MutexGuard<'_, HashMap<UploadId, Arc<Upload>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Upload {
    /// How many bytes are there.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn touch(&self) {
        *self.touched() = monotonic();
    }

    fn touched(&self) -> MutexGuard<'_, Instant> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what a request brings: with a range, at its beginning and as much as it says. What has
    /// come stays when the rest does not.
    pub(crate) async fn append(
        &self,
        body: Incoming,
        range: Option<(u64, u64)>,
    ) -> Result<(), Refusal> {
        let held = Arc::clone(&self.blob).lock_owned().await;
        let there = held.as_ref().ok_or_else(Refusal::no_upload)?.bytes();
        if range.is_some_and(|(first, _)| first != there) {
            let why = format!("the upload goes on at byte {there}");
            return Err(Refusal::new(416, Code::BlobUploadInvalid, why));
        }
        let most = range.map_or(BLOB_BYTES_MAX, |(_, last)| last.saturating_add(1));
        let pour = Pour { held, bytes: Arc::clone(&self.bytes), most: most.min(BLOB_BYTES_MAX) };
        let (parts, waiting) = mpsc::channel(PARTS_WAITING);
        // A thread of its own, which ends with the body; whoever leaves leaves it what it needs.
        let writing = tokio::task::spawn_blocking(move || pour.run(waiting));
        let sent = send(body, &parts).await;
        drop(parts);
        let written = writing.await;
        self.touch();
        let total = written.map_err(|_| Refusal::broken(500, "the upload cannot be written"))??;
        sent?;
        match range {
            Some((_, last)) if total != last.saturating_add(1) => {
                let why = "the body is shorter than its Content-Range";
                Err(Refusal::new(400, Code::SizeInvalid, why))
            }
            _ => Ok(()),
        }
    }

    /// What has come, for whoever ends it.
    pub(crate) async fn take(&self) -> Result<GrowingBlob, Refusal> {
        self.blob.lock().await.take().ok_or_else(Refusal::no_upload)
    }
}

/// Hands the parts of a body on.
async fn send(mut body: Incoming, parts: &mpsc::Sender<Bytes>) -> Result<(), Refusal> {
    loop {
        let next = tokio::time::timeout(SILENCE_MAX, body.frame()).await;
        let frame = match next {
            Err(_) => return Err(Refusal::broken(408, "nothing more of the body came")),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                return Err(Refusal::broken(400, format!("the body broke off: {error}")));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(part) = frame.into_data() else { continue };
        if parts.send(part).await.is_err() {
            // The other end says why.
            return Ok(());
        }
    }
}

/// Writes parts as they come.
struct Pour {
    held: Held,
    bytes: Arc<AtomicU64>,
    most: u64,
}

impl Pour {
    fn run(mut self, mut parts: mpsc::Receiver<Bytes>) -> Result<u64, Refusal> {
        let blob = self.held.as_mut().ok_or_else(Refusal::no_upload)?;
        while let Some(part) = parts.blocking_recv() {
            if blob.bytes() + part.len() as u64 > self.most {
                let why = format!("the upload would be longer than {} bytes", self.most);
                let status = if self.most == BLOB_BYTES_MAX { 413 } else { 400 };
                return Err(Refusal::new(status, Code::SizeInvalid, why));
            }
            let written = blob.write_all(&part);
            self.bytes.store(blob.bytes(), Ordering::Release);
            written?;
        }
        Ok(blob.bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn what_nobody_goes_on_with_goes_and_what_is_written_to_stays() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), Vec::new()).unwrap();
        let uploads = Uploads::default();
        let name = "a".parse().unwrap();
        let idle = uploads.begin(&name, store.begin().unwrap()).unwrap().id.clone();
        let busy = uploads.begin(&name, store.begin().unwrap()).unwrap();
        let writing = Arc::clone(&busy.blob).lock_owned().await;
        let files = || std::fs::read_dir(dir.path().join("tmp")).unwrap().count();
        assert_eq!(files(), 2);
        uploads.expire(monotonic());
        assert_eq!(files(), 2);
        let later = monotonic() + IDLE_MAX;
        uploads.expire(later);
        assert_eq!((files(), uploads.get(&name, &idle).unwrap_err().status), (1, 404));
        assert!(uploads.get(&"b".parse().unwrap(), &busy.id).is_err(), "it is another's");
        drop(writing);
        let id = busy.id.clone();
        drop(busy);
        uploads.expire(later + IDLE_MAX);
        assert_eq!((files(), uploads.get(&name, &id).is_err()), (0, true));
    }
}
