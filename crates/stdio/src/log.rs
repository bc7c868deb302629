//! The record of what a process wrote.
//!
//! A log is a row of files, `path` the youngest, `path.1` the one before it, and so on. Each
//! begins with a header and holds records one after the other (`record.rs` has the layout):
//!
//! ```text
//! header │ record │ record │ record …
//!            └─ length, time, kind, flags, payload, length again
//! ```
//!
//! * Output is cut into records at the ends of lines, and after [`LINE_BYTES_MAX`] bytes. The
//!   payload has its newline, so payloads put together are exactly what was written. A record
//!   that does not end a line is [`Record::partial`]: the line goes on in the next record of the
//!   same stream.
//! * What is read from the process at once is written at once, lines that have no end yet too:
//!   nothing waits in memory, so a killed writer loses nothing it has read.
//! * A record that a kill or a full disk cut short is invisible to [`Reader`] and removed by the
//!   next [`Writer`].
//! * When the disk is full (or fails) the process is neither stopped nor killed. What could not be
//!   written is counted, and the count stands in the log, at the place of the loss, as soon as
//!   writing works again ([`Content::Lost`]).

mod civil;
mod files;
mod follow;
mod gzip;
mod json;
mod json_reader;
mod json_writer;
mod lines;
mod notify;
mod reader;
mod record;
mod writer;

use std::{
    io,
    path::{Path, PathBuf},
};

use base::{ErrorKind, clock::Timestamp};

pub(crate) use civil::Civil;
pub use follow::Follower;
pub(crate) use json_writer::JsonWriter;
pub(crate) use lines::Lines;
pub use reader::{Query, Reader};
pub use record::LINE_BYTES_MAX;
pub use writer::Writer;

/// In which form a log's files are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Our own.
    #[default]
    Local,
    /// Docker's `json-file`.
    Json,
}

/// Which of its two output streams a process wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, and everything written to a terminal.
    Output,
    /// Standard error.
    Error,
}

impl Stream {
    /// Its number in records and in Docker's multiplexed format.
    pub fn number(self) -> u8 {
        match self {
            Stream::Output => 1,
            Stream::Error => 2,
        }
    }
}

/// One record of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was read from the process.
    pub at: Timestamp,
    /// What happened.
    pub content: Content,
}

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// The process wrote this: a line with its newline, or a part of one.
    Bytes {
        /// To which stream.
        stream: Stream,
        /// Exactly what.
        bytes: Vec<u8>,
    },
    /// This many bytes of output could not be recorded.
    Lost {
        /// How many.
        bytes: u64,
    },
}

impl Record {
    /// Whether its line goes on in the next record of the same stream.
    pub fn partial(&self) -> bool {
        match &self.content {
            Content::Bytes { bytes, .. } => !bytes.ends_with(b"\n"),
            Content::Lost { .. } => false,
        }
    }
}

/// Why a log cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The kernel said no.
    #[error("cannot {doing} log {}", .path.display())]
    Io {
        /// What was being done: "open", "read".
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error("{} is not a log of this program", .path.display())]
    NotALog {
        /// Which file.
        path: PathBuf,
    },
    /// The file was written by a later version of this program.
    #[error("log {} has version {version}; this build reads up to {}", .path.display(), record::VERSION)]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// There are bytes that are no record. What follows them in the same file is not read.
    #[error("log {} is damaged at byte {offset}", .path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
}

impl LogError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LogError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            LogError::Io { .. } => ErrorKind::Internal,
            LogError::NotALog { .. } | LogError::Corrupt { .. } => ErrorKind::Corrupt,
            LogError::Version { .. } => ErrorKind::Unsupported,
        }
    }

    fn io(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> LogError {
        LogError::Io { doing, path: path.to_owned(), source: source.into() }
    }
}

#[cfg(test)]
mod tests;
