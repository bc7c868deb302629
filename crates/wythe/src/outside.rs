//! The process that stays on the host when an ordinary user's daemon moves into namespaces of its
//! own: `wythe outside`.
//!
//! It does what only the host's network and the host's ids allow: it has the set-user-id helpers
//! write id maps, holds published ports and carries what arrives there to containers, and keeps
//! the process that carries their packets out. It outlives the daemon as the shims do, and ends
//! when the last of them has ended and no daemon is there.
//!
//! ```text
//!   client ──▶ port on the host ─┐
//!                                ├ wythe outside ──▶ socket inside ──▶ container
//!   wythe outside inside PID ────┘ (made by a second process, in the daemon's network)
//! ```
//!
//! Requests are lines of JSON over a unix socket in the run root, each answered by one.

mod error;
mod factory;
mod network;
mod ports;
mod serve;
mod way_out;

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    os::{
        fd::OwnedFd,
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt as _,
        },
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Mutex, PoisonError},
};

use net::{Forward, Protocol};
use serde::{Deserialize, Serialize};

pub(crate) use error::{OutsideError, Refused};
pub(crate) use way_out::{Router, resolver};

use crate::{error::chain, output};

/// Inside, outside, how many.
pub(crate) type IdRange = (u32, u32, u32);

/// What is asked of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Request {
    /// Write the maps of a process that is in a new user namespace.
    Identify {
        /// The process.
        pid: u32,
        /// Its users.
        uids: Vec<IdRange>,
        /// Its groups.
        gids: Vec<IdRange>,
    },
    /// The network of this process is the one to serve from now on. What was held for another is
    /// let go.
    Settle {
        /// The process.
        pid: u32,
        /// What shall carry its packets out; none for the first that can.
        #[serde(default)]
        router: Option<Router>,
    },
    /// Hold a port of the host's; port 0 is any that is free.
    Hold {
        /// Its protocol.
        protocol: Protocol,
        /// Its address.
        address: SocketAddr,
    },
    /// Let it go.
    Release {
        /// Its protocol.
        protocol: Protocol,
        /// Its address.
        address: SocketAddr,
    },
    /// The ways from held ports to containers, all of them.
    Lead(Vec<Forward>),
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// It is done.
    Done,
    /// The network is served; what carries packets out of it, or why nothing does.
    Settled(Result<String, String>),
    /// The port is held under this address.
    Held(SocketAddr),
    /// It was refused.
    Refused(Refused),
}

/// A connection to it. Every method may block.
#[derive(Debug)]
pub(crate) struct Outside {
    stream: Mutex<BufReader<UnixStream>>,
}

impl Outside {
    /// Connects to the one of this run root, or starts it. To be called where it shall live: on
    /// the host.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn open(run: &Path, shims: &Path) -> Result<Outside, OutsideError> {
        let socket = socket(run);
        let stream = match UnixStream::connect(&socket) {
            Ok(stream) => stream,
            Err(_) => {
                start(&socket, shims).map_err(OutsideError::Start)?;
                UnixStream::connect(&socket).map_err(OutsideError::Start)?
            }
        };
        Ok(Outside { stream: Mutex::new(BufReader::new(stream)) })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`OutsideError::Refused`], or [`OutsideError::Lost`] if it is gone.
    pub(crate) fn ask(&self, request: &Request) -> Result<Answer, OutsideError> {
        let mut line = serde_json::to_vec(request).map_err(|e| OutsideError::Lost(e.into()))?;
        line.push(b'\n');
        let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        stream.get_mut().write_all(&line).map_err(OutsideError::Lost)?;
        let mut answer = String::new();
        stream.read_line(&mut answer).map_err(OutsideError::Lost)?;
        match serde_json::from_str(&answer).map_err(|e| OutsideError::Lost(e.into()))? {
            Answer::Refused(refused) => Err(OutsideError::Refused(refused)),
            answer @ (Answer::Done | Answer::Settled(_) | Answer::Held(_)) => Ok(answer),
        }
    }
}

fn socket(run: &Path) -> PathBuf {
    run.join("outside.sock")
}

/// Starts it. It has its own session and keeps nothing of ours but standard error.
fn start(socket: &Path, shims: &Path) -> std::io::Result<()> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(socket)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wythe").args([SERVE.as_ref(), socket.as_os_str(), shims.as_os_str()]);
    command.current_dir("/").stdin(Stdio::from(OwnedFd::from(listener))).stdout(Stdio::null());
    // Of a group of its own, so that what ends the daemon in a terminal leaves it alone.
    command.process_group(0).spawn().map(drop)
}

/// First words of this program's processes here.
pub(crate) const SERVE: &str = "outside";
/// See [`SERVE`].
pub(crate) const FACTORY: &str = "outside-sockets";
/// See [`SERVE`].
pub(crate) const NETWORK: &str = "outside-network";

/// `wythe outside SOCKET SHIMS`.
pub(crate) fn serve(args: &[OsString]) -> ExitCode {
    let [socket, shims] = args else {
        output::complain("wythe: outside is started by the daemon");
        return ExitCode::from(125);
    };
    ended(serve::run(Path::new(socket), Path::new(shims)))
}

/// `wythe outside-sockets PID`.
pub(crate) fn factory(args: &[OsString]) -> ExitCode {
    let pid = args.first().and_then(|word| word.to_str()?.parse().ok());
    let Some(pid) = pid else {
        output::complain("wythe: outside-sockets is started by wythe outside");
        return ExitCode::from(125);
    };
    ended(factory::run(pid))
}

/// `wythe outside-network`, with a tap device as standard input.
pub(crate) fn network() -> ExitCode {
    ended(network::run())
}

fn ended(result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("wythe: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}
