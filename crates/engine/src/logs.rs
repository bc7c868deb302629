//! A container's log, read as it is asked for.

use std::{path::PathBuf, sync::Arc};

use base::clock::Timestamp;
use stdio::log::{Content, Follower, Form, LogError, Query, Reader, Record, Stream};
use tokio::sync::watch;

use crate::{EngineError, LogEntry, LogQuery, LogSource, pool, registry::Snapshot};

/// Records read at once where nothing is waited for.
const BATCH: usize = 256;

/// A container's log, record by record.
#[derive(Debug)]
pub struct LogStream {
    source: Source,
    stdout: bool,
    stderr: bool,
}

#[derive(Debug)]
enum Source {
    /// What there is, read ahead in batches, the next record last.
    Whole { reader: Option<Box<Reader>>, batch: Vec<Record> },
    /// What there is and what comes, until the container ends and is not started again at once.
    Follow { follower: Box<Follower>, snapshots: watch::Receiver<Snapshot>, ended: bool },
}

impl LogStream {
    pub(crate) async fn open(
        path: PathBuf,
        form: Form,
        query: LogQuery,
        snapshots: watch::Receiver<Snapshot>,
    ) -> Result<LogStream, EngineError> {
        let wanted = Query {
            tail: query.tail,
            since: query.since.map(Timestamp),
            until: query.until.map(Timestamp),
        };
        let source = if query.follow {
            let follower = Box::new(Follower::open_as(&path, form, wanted)?);
            Source::Follow { follower, snapshots, ended: false }
        } else {
            let reader = Some(Box::new(Reader::open_as(&path, form, wanted)?));
            Source::Whole { reader, batch: Vec::new() }
        };
        Ok(LogStream { source, stdout: query.stdout, stderr: query.stderr })
    }

    /// The next record; `None` when there are no more and none will come.
    ///
    /// # Errors
    /// [`EngineError::Log`] if the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, EngineError> {
        loop {
            let Some(record) = self.source.next().await? else { return Ok(None) };
            let entry = entry(record);
            let wanted = match entry.stream {
                LogSource::Stdout => self.stdout,
                LogSource::Stderr => self.stderr,
            };
            if wanted {
                return Ok(Some(entry));
            }
        }
    }
}

impl Source {
    async fn next(&mut self) -> Result<Option<Record>, EngineError> {
        match self {
            Source::Whole { reader, batch } => {
                if batch.is_empty() {
                    *batch = read_batch(reader).await?;
                }
                Ok(batch.pop())
            }
            Source::Follow { follower, snapshots, ended } => {
                if !*ended {
                    tokio::select! {
                        biased;
                        record = follower.next() => return Ok(record?),
                        // Without a sender the engine is gone, and nobody knows of an end.
                        _ = snapshots.wait_for(|s| !s.logs || s.gone) => *ended = true,
                    }
                }
                // All it wrote was in the log before it was known to have ended.
                Ok(follower.reader().next()?)
            }
        }
    }
}

/// Reads on, where blocking does no harm; in the order in which records are popped.
async fn read_batch(reader: &mut Option<Box<Reader>>) -> Result<Vec<Record>, EngineError> {
    let Some(mut taken) = reader.take() else { return Ok(Vec::new()) };
    let read = pool::run(move || {
        let mut batch = Vec::new();
        while batch.len() < BATCH {
            match taken.next()? {
                Some(record) => batch.push(record),
                None => break,
            }
        }
        batch.reverse();
        Ok::<_, LogError>((taken, batch))
    });
    let failed = EngineError::Failed { doing: "reading the log" };
    let (taken, batch) = read.await.ok_or(failed)??;
    *reader = Some(taken);
    Ok(batch)
}

fn entry(record: Record) -> LogEntry {
    let (stream, bytes) = match record.content {
        Content::Bytes { stream: Stream::Output, bytes } => (LogSource::Stdout, bytes),
        Content::Bytes { stream: Stream::Error, bytes } => (LogSource::Stderr, bytes),
        // A hole in the log is no secret.
        Content::Lost { bytes } => {
            let text = format!("[{bytes} bytes of output could not be recorded]\n");
            (LogSource::Stderr, text.into_bytes())
        }
    };
    LogEntry { at: record.at, stream, bytes }
}

impl From<LogError> for EngineError {
    fn from(error: LogError) -> EngineError {
        EngineError::Log(Arc::new(error))
    }
}
