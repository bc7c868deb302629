//! A socket beside the store, at which whoever owns it asks the registry that serves to collect:
//! one line of JSON there, one back.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::AsRawFd as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixListener,
};
use tracing::{debug, warn};

use crate::{server::Server, store::Collected};

/// Name of the socket.
const FILE: &str = "control.sock";
/// Longest line.
const LINE_BYTES_MAX: u64 = 4 << 10;
/// How long a line may take to come.
const LINE_WITHIN: Duration = Duration::from_secs(10);
/// How long collecting may take.
const DONE_WITHIN: Duration = Duration::from_secs(600);

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// Whether manifests go that no tag leads to.
    pub untagged: bool,
    /// What is younger stays, in seconds.
    pub grace_seconds: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Told {
    Done { manifests: usize, blobs: usize, bytes: u64 },
    Failed(String),
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody serves it who could be asked.
    #[error("cannot ask the registry that serves {}", path.display())]
    Reach {
        /// The store.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It was asked, and could not.
    #[error("{0}")]
    Failed(String),
}

impl Server {
    /// Answers those who ask at the socket beside the store, for as long as it is polled.
    ///
    /// # Errors
    /// When it cannot be made.
    pub async fn control(&self, root: &Path) -> io::Result<()> {
        let listener = {
            let (_root, path) = short(root)?;
            // Whoever holds the store's lock owns the name.
            let _ = std::fs::remove_file(&path);
            UnixListener::bind(&path)?
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = self.answer(stream).await {
                        debug!(%error, "somebody asked and left");
                    }
                }
                Err(error) => {
                    warn!(%error, "cannot be asked");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn answer(&self, stream: tokio::net::UnixStream) -> io::Result<()> {
        let mut reader = tokio::io::BufReader::new(stream);
        let mut line = String::new();
        let mut limited = (&mut reader).take(LINE_BYTES_MAX);
        tokio::time::timeout(LINE_WITHIN, limited.read_line(&mut line)).await??;
        let ask: Ask = serde_json::from_str(&line)?;
        let grace = Duration::from_secs(ask.grace_seconds);
        let told = match self.collect(ask.untagged, grace).await {
            Ok(Collected { manifests, blobs, bytes }) => Told::Done { manifests, blobs, bytes },
            Err(error) => Told::Failed(base::chain(&error)),
        };
        let text = serde_json::to_string(&told)? + "\n";
        reader.get_mut().write_all(text.as_bytes()).await
    }
}

/// Asks the registry that serves this store to collect.
///
/// # Errors
/// When nobody serves it, or it could not.
pub fn ask(root: &Path, ask: Ask) -> Result<Collected, ControlError> {
    let asked = exchange(root, ask);
    let told = asked.map_err(|source| ControlError::Reach { path: root.to_owned(), source })?;
    match told {
        Told::Done { manifests, blobs, bytes } => Ok(Collected { manifests, blobs, bytes }),
        Told::Failed(why) => Err(ControlError::Failed(why)),
    }
}

fn exchange(root: &Path, ask: Ask) -> io::Result<Told> {
    let (_root, path) = short(root)?;
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DONE_WITHIN))?;
    stream.write_all((serde_json::to_string(&ask)? + "\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}

/// The socket by a path that is short enough however long the store's is, as long as the directory
/// is open. Source: unix(7), `sun_path`.
fn short(root: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    let directory = std::fs::File::open(root)?;
    let path = format!("/proc/self/fd/{}/{FILE}", directory.as_raw_fd());
    Ok((directory, path.into()))
}
