//! One archive through one pipe: this machine's end of it, on a thread of its own, while the
//! daemon has the other.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use api::ClientError;
use engine::Progress;
use rustix::fs::{Mode, OFlags};
use workload::{FileFault, FileStat, Unpack};

use super::plan::Plan;
use crate::{connect::Endpoint, error::CliError, output::progress::Bar};

/// How often it is said how far it has come.
const NEWS: Duration = Duration::from_millis(100);

/// What is at a path of this machine.
pub(super) fn stat_local(path: &str) -> Result<FileStat, FileFault> {
    files::stat(root()?.as_fd(), path)
}

/// The path of this machine with a link at its end followed, and what is there.
pub(super) fn followed_local(path: &str) -> (String, Option<FileStat>) {
    let Ok(stat) = stat_local(path) else { return (path.to_owned(), None) };
    match &stat.link_target {
        Some(target) => (target.clone(), stat_local(target).ok()),
        None => (path.to_owned(), Some(stat)),
    }
}

/// A path that cannot be looked at, in Docker's words.
pub(super) fn lstat_failed(path: &str, fault: &FileFault) -> String {
    if matches!(fault, FileFault::NotFound { .. }) {
        return format!("lstat {path}: no such file or directory");
    }
    format!("lstat {path}: {fault}")
}

fn root() -> Result<OwnedFd, FileFault> {
    directory("/")
}

fn directory(path: &str) -> Result<OwnedFd, FileFault> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| FileFault::Kernel {
        doing: "open".to_owned(),
        path: path.to_owned(),
        errno: errno.raw_os_error(),
    })
}

/// Copies out of a container; answers with the bytes of the archive.
pub(super) async fn unpack(
    to: &Endpoint,
    (who, path): (&str, &str),
    plan: &Plan,
    unpack: Unpack,
    quiet: bool,
) -> Result<u64, CliError> {
    let mut client = to.connect().await?;
    let place = directory(&plan.directory).map_err(failed)?;
    let (reader, writer) = io::pipe().map_err(|error| CliError::io("make a pipe", error))?;
    let count = Count::default();
    let mut counted = Counted { inner: reader, count: count.clone() };
    // Whoever made the archive does not choose what is written here.
    let name = (plan.name != ".").then(|| plan.name.clone().into_bytes());
    let work = tokio::task::spawn_blocking(move || {
        let place = files::Place::Directory(place.as_fd());
        let done = files::unpack(place, &mut counted, &unpack, name.as_deref());
        // What comes after the archive's end is read too: its writer is not to be cut off.
        if done.is_ok() {
            let _ = io::copy(&mut counted, &mut io::sink());
        }
        done
    });
    let asked = client.archive_read(who, path, Some(&plan.name), OwnedFd::from(writer));
    let asked = watched(asked, &count, quiet, "Copying from container").await;
    both(asked, work).await?;
    Ok(count.get())
}

/// Copies into a container; answers with the bytes of the archive.
pub(super) async fn pack(
    to: &Endpoint,
    local: &str,
    who: &str,
    plan: &Plan,
    unpack: Unpack,
    quiet: bool,
) -> Result<u64, CliError> {
    let mut client = to.connect().await?;
    let (reader, writer) = io::pipe().map_err(|error| CliError::io("make a pipe", error))?;
    let count = Count::default();
    let counted = Counted { inner: writer, count: count.clone() };
    let (local, name) = (local.to_owned(), plan.name.clone());
    let work = tokio::task::spawn_blocking(move || {
        files::pack(root()?.as_fd(), &local, name.as_bytes(), counted)
    });
    let asked = client.archive_write(who, &plan.directory, OwnedFd::from(reader), unpack);
    let asked = watched(asked, &count, quiet, "Copying to container").await;
    both(asked, work).await?;
    Ok(count.get())
}

/// Waits for the daemon and says how far it has come.
async fn watched(
    asked: impl Future<Output = Result<(), ClientError>>,
    count: &Count,
    quiet: bool,
    doing: &str,
) -> Result<(), ClientError> {
    let bar = Bar::new(quiet, io::stderr());
    let mut news = tokio::time::interval(NEWS);
    tokio::pin!(asked);
    loop {
        tokio::select! {
            biased;
            done = &mut asked => return done,
            _ = news.tick() => {
                bar.show(Progress { doing: doing.to_owned(), done: count.get(), total: None });
            }
        }
    }
}

/// What came of both ends. One that fails cuts the other off, so a broken pipe is nobody's own
/// fault.
async fn both(
    asked: Result<(), ClientError>,
    work: tokio::task::JoinHandle<Result<(), FileFault>>,
) -> Result<(), CliError> {
    let here = work.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    match (asked, here) {
        (Ok(()), Ok(())) => Ok(()),
        (Err(error), Ok(()) | Err(FileFault::Stream { .. })) => Err(error.into()),
        (Err(error @ ClientError::Refused(_)), Err(FileFault::Archive { .. })) => Err(error.into()),
        (_, Err(fault)) => Err(failed(fault)),
    }
}

fn failed(fault: FileFault) -> CliError {
    CliError::Usage(fault.to_string())
}

/// Bytes so far.
#[derive(Clone, Debug, Default)]
struct Count(Arc<AtomicU64>);

impl Count {
    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

/// Counts what is read or written.
struct Counted<T> {
    inner: T,
    count: Count,
}

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.inner.read(into).inspect(|read| self.count.add(*read))
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.inner.write(bytes).inspect(|written| self.count.add(*written))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
