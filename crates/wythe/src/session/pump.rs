//! The threads that carry bytes between our descriptors and the session's socket.

use std::{
    io::{self, Read as _, Write as _},
    net::Shutdown,
    os::{fd::BorrowedFd, unix::net::UnixStream},
    thread,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use tokio::sync::oneshot;

use super::{
    Plan,
    demux::{Demux, Stream},
    detach::{DetachKeys, Watch},
};

/// Bytes carried at once.
const PIECE_BYTES: usize = 64 << 10;

/// How carrying the output ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// All of it is written.
    Through,
    /// The socket failed.
    Unreadable(io::Error),
    /// Nobody takes it.
    Unwritable(io::Error),
}

impl From<String> for Ended {
    fn from(damage: String) -> Ended {
        Ended::Unreadable(io::Error::new(io::ErrorKind::InvalidData, damage))
    }
}

/// Carries standard input to the socket until it ends, and says through `left` when the keys that
/// leave the session were typed.
pub(super) fn input(mut socket: UnixStream, detach: Option<DetachKeys>, left: oneshot::Sender<()>) {
    let mut watch = detach.map(Watch::new);
    thread::spawn(move || {
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let typed = match read(&mut piece) {
                Ok([]) | Err(_) => break,
                Ok(typed) => typed,
            };
            let (passed, leave) = match &mut watch {
                Some(watch) => watch.pass(typed),
                None => (typed.to_vec(), false),
            };
            if socket.write_all(&passed).is_err() {
                break;
            }
            if leave {
                let _ = left.send(());
                return;
            }
        }
        let _ = socket.shutdown(Shutdown::Write);
    });
}

/// Carries the socket to standard output and error until it ends.
pub(super) fn output(socket: UnixStream, plan: &Plan) -> oneshot::Receiver<Ended> {
    let (sender, ended) = oneshot::channel();
    let plan = plan.clone();
    thread::spawn(move || {
        let _ = sender.send(carry(socket, &plan).err().unwrap_or(Ended::Through));
    });
    ended
}

fn carry(mut socket: UnixStream, plan: &Plan) -> Result<(), Ended> {
    let mut demux = Demux::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let bytes = match socket.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => piece.get(..length).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Ended::Unreadable(error)),
        };
        if plan.terminal {
            write(rustix::stdio::stdout(), bytes)?;
            continue;
        }
        demux.take(bytes, |stream, payload| match stream {
            Stream::Output if plan.stdout => write(rustix::stdio::stdout(), payload),
            Stream::Error if plan.stderr => write(rustix::stdio::stderr(), payload),
            Stream::Output | Stream::Error => Ok(()),
        })?;
    }
}

/// Reads standard input, which may have been left non-blocking by somebody before us.
fn read(piece: &mut [u8]) -> io::Result<&[u8]> {
    let stdin = rustix::stdio::stdin();
    loop {
        match rustix::io::read(stdin, &mut *piece) {
            Ok(length) => return Ok(piece.get(..length).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(stdin, PollFlags::IN)?,
            Err(error) => return Err(error.into()),
        }
    }
}

fn write(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Ended> {
    while !bytes.is_empty() {
        match rustix::io::write(to, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT).map_err(Ended::Unwritable)?,
            Err(error) => return Err(Ended::Unwritable(error.into())),
        }
    }
    Ok(())
}

fn wait(fd: BorrowedFd<'_>, flags: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(fd, flags)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
