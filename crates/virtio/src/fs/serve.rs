//! Who answers a device's requests: a server here, or one in a process of its own.
//!
//! ```text
//! device ── Remote ══ socket ══ run ── Server ── the directory
//!                                └─ watch ══ socket ══▶ events, to whoever replays them
//! ```
//!
//! What goes over the first socket is a frame: its kind, how much room there is for the answer, and
//! its length, four bytes each, and so many bytes; behind that of a [`GRAFT`] comes one byte more,
//! with a descriptor. The answer is a length, which is [`NOTHING`] if there is none, and its bytes.
//! Both ends are ours, and yet each checks the other's lengths: the server's end is read
//! by the process that faces the guest, and the other way round.

use std::{
    ffi::CStr,
    fmt::Debug,
    io::{self, IoSlice, IoSliceMut, Read as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Mutex, MutexGuard, PoisonError},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, send, sendmsg,
    },
};

use super::{IO_BYTES_MAX, REQUEST_BYTES_MAX, Server, State};

/// Bytes of an answer that is an error and nothing else.
const ERROR_BYTES: usize = 16;

/// The length of no answer.
const NOTHING: u32 = u32::MAX;

/// Longest saved state.
const STATE_BYTES_MAX: usize = 64 << 20;

/// What is kept of a buffer when there are no requests.
const KEPT_BYTES: usize = 16 << 10;

/// Kinds of frames.
const HANDLE: u32 = 0;
const RESET: u32 = 1;
const SAVE: u32 = 2;
const RESTORE: u32 = 3;
const GRAFT: u32 = 4;
const PRUNE: u32 = 5;

/// Answers requests.
pub trait Serve: Debug + Send {
    /// As [`Server::handle`].
    fn handle(&mut self, request: &[u8], room: usize) -> Option<&[u8]>;

    /// As [`Server::reset`].
    fn reset(&mut self);

    /// As [`Server::save`].
    fn save(&self) -> State;

    /// As [`Server::restore`].
    fn restore(&mut self, state: &State);

    /// As [`Server::graft`].
    ///
    /// # Errors
    /// Those of [`Server::graft`], and of the way to the server.
    fn graft(&mut self, name: &CStr, what: OwnedFd) -> io::Result<()>;

    /// As [`Server::prune`].
    ///
    /// # Errors
    /// Those of [`Server::prune`], and of the way to the server.
    fn prune(&mut self, name: &CStr) -> io::Result<()>;

    /// There are no requests at the moment: buffers can go.
    fn rest(&mut self);
}

impl Serve for Server {
    fn handle(&mut self, request: &[u8], room: usize) -> Option<&[u8]> {
        Server::handle(self, request, room)
    }

    fn reset(&mut self) {
        Server::reset(self);
    }

    fn save(&self) -> State {
        Server::save(self)
    }

    fn restore(&mut self, state: &State) {
        Server::restore(self, state);
    }

    fn graft(&mut self, name: &CStr, what: OwnedFd) -> io::Result<()> {
        Ok(Server::graft(self, name.to_owned(), what)?)
    }

    fn prune(&mut self, name: &CStr) -> io::Result<()> {
        Ok(Server::prune(self, name)?)
    }

    fn rest(&mut self) {
        Server::rest(self);
    }
}

/// A server in another process, at the other end of a socket. When that process is gone, every
/// request is answered with an I/O error, and the guest goes on without the directory.
#[derive(Debug)]
pub struct Remote {
    socket: Mutex<UnixStream>,
    answer: Vec<u8>,
}

impl Remote {
    /// The server that has the other end of this stream socket, and [`run`]s there.
    pub fn new(socket: UnixStream) -> Remote {
        Remote { socket: Mutex::new(socket), answer: Vec::new() }
    }

    fn socket(&self) -> MutexGuard<'_, UnixStream> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame and reads the answer to it; gives whether there is one.
    fn call(&self, kind: u32, room: usize, bytes: &[u8], answer: &mut Vec<u8>) -> io::Result<bool> {
        self.call_with(kind, room, bytes, None, answer)
    }

    /// The same with a descriptor behind the frame.
    fn call_with(
        &self,
        kind: u32,
        room: usize,
        bytes: &[u8],
        descriptor: Option<BorrowedFd<'_>>,
        answer: &mut Vec<u8>,
    ) -> io::Result<bool> {
        let mut socket = self.socket();
        write_frame(&mut socket, kind, room, bytes)?;
        if let Some(descriptor) = descriptor {
            send_descriptor(&socket, descriptor)?;
        }
        let mut length = [0; 4];
        socket.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length);
        if length == NOTHING {
            return Ok(false);
        }
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > room {
            return Err(io::ErrorKind::InvalidData.into());
        }
        answer.resize(length, 0);
        socket.read_exact(answer)?;
        Ok(true)
    }
}

impl Serve for Remote {
    fn handle(&mut self, request: &[u8], room: usize) -> Option<&[u8]> {
        let room = room.min(answer_bytes_max());
        let mut answer = std::mem::take(&mut self.answer);
        let answered = self.call(HANDLE, room, request, &mut answer);
        self.answer = answer;
        match answered {
            Ok(true) => Some(&self.answer),
            Ok(false) => None,
            Err(_) => {
                self.answer.clear();
                self.answer.extend(io_error(request)?);
                (room >= ERROR_BYTES).then_some(&*self.answer)
            }
        }
    }

    fn reset(&mut self) {
        // A process that is gone has nothing to forget.
        let _ = self.call(RESET, 0, &[], &mut Vec::new());
    }

    fn save(&self) -> State {
        let mut saved = Vec::new();
        let answered = self.call(SAVE, STATE_BYTES_MAX, &[], &mut saved);
        let state = answered.ok().and_then(|_| serde_json::from_slice(&saved).ok());
        // Of a process that is gone the guest knows nothing that would be worth keeping.
        state.unwrap_or_default()
    }

    fn restore(&mut self, state: &State) {
        let state = serde_json::to_vec(state).expect("a saved state is plain data");
        let _ = self.call(RESTORE, 0, &state, &mut Vec::new());
    }

    fn graft(&mut self, name: &CStr, what: OwnedFd) -> io::Result<()> {
        let mut answer = Vec::new();
        let what = Some(what.as_fd());
        self.call_with(GRAFT, ERROR_BYTES, name.to_bytes_with_nul(), what, &mut answer)?;
        outcome(&answer)
    }

    fn prune(&mut self, name: &CStr) -> io::Result<()> {
        let mut answer = Vec::new();
        self.call(PRUNE, ERROR_BYTES, name.to_bytes_with_nul(), &mut answer)?;
        outcome(&answer)
    }

    fn rest(&mut self) {
        self.answer.truncate(KEPT_BYTES);
        self.answer.shrink_to(KEPT_BYTES);
    }
}

/// Serves the other end of a [`Remote`]'s socket until it is closed. What others change in the
/// directory goes to `events`, a socket of packets, one for each ([`super::Event::decode`]); those that
/// nobody takes in time are dropped.
///
/// # Errors
/// Those of the sockets, but for the end of the first; `InvalidData` if what comes is no frame.
pub fn run(
    mut server: Server,
    mut requests: UnixStream,
    events: Option<&OwnedFd>,
) -> io::Result<()> {
    let mut request = Vec::new();
    loop {
        let (asked, changed) = wait(requests.as_fd(), server.watch_fd())?;
        if changed {
            for event in server.changes() {
                let Some(events) = events else { continue };
                // Whoever replays events is slow, or gone: the files are there all the same.
                let _ = send(events, &event.encode(), SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
        }
        if asked && !serve_one(&mut server, &mut requests, &mut request)? {
            return Ok(());
        }
    }
}

/// Waits for a request or a change; says which there is.
fn wait(requests: BorrowedFd<'_>, watch: Option<BorrowedFd<'_>>) -> io::Result<(bool, bool)> {
    let mut fds = vec![PollFd::from_borrowed_fd(requests, PollFlags::IN)];
    fds.extend(watch.map(|watch| PollFd::from_borrowed_fd(watch, PollFlags::IN)));
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
    Ok((ready.next().unwrap_or(false), ready.next().unwrap_or(false)))
}

/// Answers one frame; false if there are no more.
fn serve_one(
    server: &mut Server,
    socket: &mut UnixStream,
    request: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut head = [0; 12];
    match socket.read_exact(&mut head) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        read => read?,
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (kind, room) = (word(0), usize::try_from(word(4)).unwrap_or(usize::MAX));
    let length = usize::try_from(word(8)).unwrap_or(usize::MAX);
    let most = if kind == RESTORE { STATE_BYTES_MAX } else { REQUEST_BYTES_MAX };
    if length > most {
        return Err(io::ErrorKind::InvalidData.into());
    }
    request.resize(length, 0);
    socket.read_exact(request)?;
    match kind {
        HANDLE => write_answer(socket, server.handle(request, room.min(answer_bytes_max())))?,
        RESET => {
            server.reset();
            write_answer(socket, None)?;
        }
        SAVE => {
            let saved = serde_json::to_vec(&server.save()).expect("a saved state is plain data");
            write_answer(socket, Some(&saved).filter(|saved| saved.len() <= room).map(|it| &**it))?;
        }
        RESTORE => {
            let state = serde_json::from_slice(request).map_err(io::Error::other)?;
            server.restore(&state);
            write_answer(socket, None)?;
        }
        GRAFT => {
            let what = recv_descriptor(socket)?;
            let name = CStr::from_bytes_with_nul(request).map_err(io::Error::other)?;
            write_outcome(socket, server.graft(name.to_owned(), what))?;
        }
        PRUNE => {
            let name = CStr::from_bytes_with_nul(request).map_err(io::Error::other)?;
            write_outcome(socket, server.prune(name))?;
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }
    request.truncate(KEPT_BYTES);
    request.shrink_to(KEPT_BYTES);
    server.rest();
    Ok(true)
}

/// Longest answer: the most that can be read, and its header.
const fn answer_bytes_max() -> usize {
    IO_BYTES_MAX + ERROR_BYTES
}

fn write_frame(socket: &mut UnixStream, kind: u32, room: usize, bytes: &[u8]) -> io::Result<()> {
    let word = |value: usize| u32::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
    let mut head = [0; 12];
    head[..4].copy_from_slice(&kind.to_le_bytes());
    head[4..8].copy_from_slice(&word(room)?.to_le_bytes());
    head[8..].copy_from_slice(&word(bytes.len())?.to_le_bytes());
    socket.write_all(&head)?;
    socket.write_all(bytes)
}

fn write_answer(socket: &mut UnixStream, answer: Option<&[u8]>) -> io::Result<()> {
    let length = answer.map_or(Ok(NOTHING), |answer| u32::try_from(answer.len()));
    let length = length.map_err(|_| io::ErrorKind::InvalidInput)?;
    socket.write_all(&length.to_le_bytes())?;
    socket.write_all(answer.unwrap_or_default())
}

/// What came of a call that wants no more than that: an error's number, or none.
fn write_outcome(socket: &mut UnixStream, outcome: Result<(), Errno>) -> io::Result<()> {
    let number = outcome.err().map_or(0, Errno::raw_os_error);
    write_answer(socket, Some(&number.to_le_bytes()))
}

fn outcome(answer: &[u8]) -> io::Result<()> {
    let number = <[u8; 4]>::try_from(answer).map_err(|_| io::ErrorKind::InvalidData)?;
    match i32::from_le_bytes(number) {
        0 => Ok(()),
        number => Err(io::Error::from_raw_os_error(number)),
    }
}

/// Sends a descriptor with a byte that means nothing. Source: unix(7), `SCM_RIGHTS`.
fn send_descriptor(socket: &UnixStream, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

fn recv_descriptor(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let (mut byte, flags) = ([0], RecvFlags::CMSG_CLOEXEC);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(mut descriptors) = message
            && let Some(descriptor) = descriptors.next()
        {
            return Ok(descriptor);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

/// The answer to a request that nobody answers; nothing, if it wants none.
fn io_error(request: &[u8]) -> Option<[u8; ERROR_BYTES]> {
    use super::wire::{Op, Request};
    let (request, _) = Request::parse(request)?;
    if matches!(Op::from_number(request.number), Some(Op::Forget | Op::BatchForget | Op::Interrupt))
    {
        return None;
    }
    let mut answer = [0; ERROR_BYTES];
    answer[..4].copy_from_slice(&16u32.to_le_bytes());
    answer[4..8].copy_from_slice(&(-rustix::io::Errno::IO.raw_os_error()).to_le_bytes());
    answer[8..].copy_from_slice(&request.unique.to_le_bytes());
    Some(answer)
}

#[cfg(test)]
mod tests;
