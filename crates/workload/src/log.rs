//! Where a process's output is recorded. The formats are the `stdio` crate's.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

/// Where and how much of a process's output is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// The current file; older ones are `path.1`, `path.2`, …, oldest last.
    pub path: PathBuf,
    /// The file is rotated when it would grow beyond this many bytes.
    pub bytes_max: u64,
    /// How many files are kept, at least 1.
    pub files_max: u32,
    /// In which form, or to whom.
    #[serde(default)]
    pub driver: LogDriver,
}

/// What becomes of a process's output.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDriver {
    /// Files of our own form.
    #[default]
    Local,
    /// Files of JSON lines, as Docker's `json-file` writes them.
    Json {
        /// Stands in each line as `attrs`.
        attributes: Vec<(String, String)>,
        /// Whether files that were rotated are compressed (`path.1.gz`).
        #[serde(default)]
        compress: bool,
    },
    /// Messages to a syslog server; no files.
    Syslog(SyslogSpec),
}

/// A syslog server, and what it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyslogSpec {
    /// Where it is.
    pub target: SyslogTarget,
    /// Facility's number, 0..=23. Source: RFC 5424, section 6.2.1.
    pub facility: u8,
    /// Form of the messages.
    pub format: SyslogFormat,
    /// Who speaks.
    pub tag: String,
    /// From which machine.
    pub hostname: String,
    /// Bytes that may wait for a server that does not take them. Beyond, messages are lost, and
    /// the next one that goes through is preceded by how many bytes were.
    pub waiting_bytes_max: u64,
}

/// Where a syslog server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogTarget {
    /// A unix socket, of datagrams or a stream, whichever it is.
    Unix(PathBuf),
    /// UDP.
    Udp(SocketAddr),
    /// TCP.
    Tcp(SocketAddr),
}

/// Form of syslog messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SyslogFormat {
    /// As syslog(3) writes to the local socket: RFC 3164 without host name.
    Local,
    /// RFC 3164.
    Rfc3164,
    /// RFC 5424, times in whole seconds.
    Rfc5424,
    /// RFC 5424, times in microseconds.
    Rfc5424Micro,
}
