//! A container's terminal: handed to a console socket, or shown on our own.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
    net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix,
        SocketFlags, SocketType, connect, sendmsg, socket_with,
    },
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize},
};
use stdio::read_master;
use workload::TerminalSize;

/// Bytes moved at one time: what a pipe surely takes once it is writable (`PIPE_BUF`).
const CHUNK: usize = 4096;

/// Sends the master of a terminal to whoever listens at a Unix socket, as runc does: with the
/// name of the multiplexer as the message.
pub(super) fn send(master: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(&socket, &[IoSlice::new(b"/dev/ptmx")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The size that a container's terminal begins with: as asked for, or that of ours.
pub(super) fn first_size(asked: TerminalSize) -> TerminalSize {
    match tcgetwinsize(rustix::stdio::stdin()) {
        Ok(own) if asked == TerminalSize::default() => {
            TerminalSize { rows: own.ws_row, columns: own.ws_col }
        }
        _ => asked,
    }
}

/// Our own terminal, passed on byte by byte until this is dropped.
#[derive(Debug)]
struct Raw {
    before: Termios,
}

impl Raw {
    fn new() -> io::Result<Option<Raw>> {
        let Ok(before) = tcgetattr(rustix::stdio::stdin()) else { return Ok(None) };
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)?;
        Ok(Some(Raw { before }))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no restoring.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Flow {
    bytes: Vec<u8>,
    /// Nothing more will come.
    ended: bool,
}

/// Standard input and output, connected to a container's terminal.
#[derive(Debug)]
pub(super) struct Relay {
    master: OwnedFd,
    _raw: Option<Raw>,
    input: Flow,
    output: Flow,
}

impl Relay {
    /// Connects them; our terminal, if standard input is one, lends its size.
    pub(super) fn new(master: OwnedFd) -> io::Result<Relay> {
        rustix::io::ioctl_fionbio(&master, true)?;
        let relay =
            Relay { master, _raw: Raw::new()?, input: Flow::default(), output: Flow::default() };
        relay.resize();
        Ok(relay)
    }

    /// Gives the container's terminal the size of ours.
    pub(super) fn resize(&self) {
        if let Ok(size) = tcgetwinsize(rustix::stdio::stdin()) {
            // A terminal whose other end is gone has no size any more.
            let _ = tcsetwinsize(&self.master, size);
        }
    }

    /// Moves bytes until `signals` is readable.
    pub(super) fn until(&mut self, signals: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            let [told, stdin, stdout, master] = self.poll(Some(signals), true)?;
            self.turn(stdin, stdout, master)?;
            if !told.is_empty() {
                return Ok(());
            }
        }
    }

    /// Moves what the container has printed and nobody has read yet, after its end.
    pub(super) fn drain(&mut self) -> io::Result<()> {
        self.input = Flow { bytes: Vec::new(), ended: true };
        while !(self.output.ended && self.output.bytes.is_empty()) {
            let [_, stdin, stdout, master] = self.poll(None, false)?;
            if (stdin | stdout | master).is_empty() {
                // Another process still has the terminal and prints nothing.
                return Ok(());
            }
            self.turn(stdin, stdout, master)?;
        }
        Ok(())
    }

    /// What is ready of signals, standard input, standard output and the master.
    fn poll(&self, signals: Option<BorrowedFd<'_>>, wait: bool) -> io::Result<[PollFlags; 4]> {
        let when = |wanted, flag| if wanted { flag } else { PollFlags::empty() };
        let reads = self.input.bytes.is_empty() && !self.input.ended;
        let writes = !self.output.bytes.is_empty();
        let from = when(self.output.bytes.is_empty() && !self.output.ended, PollFlags::IN);
        let to = when(!self.input.bytes.is_empty(), PollFlags::OUT);
        let wanted = [
            (signals, PollFlags::IN),
            (reads.then(rustix::stdio::stdin), PollFlags::IN),
            (writes.then(rustix::stdio::stdout), PollFlags::OUT),
            (Some(self.master.as_fd()).filter(|_| !(from | to).is_empty()), from | to),
        ];
        let mut fds = Vec::with_capacity(wanted.len());
        for (fd, flags) in wanted {
            fds.extend(fd.map(|fd| PollFd::from_borrowed_fd(fd, flags)));
        }
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        loop {
            match poll(&mut fds, if wait { None } else { Some(&now) }) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut ready = fds.iter().map(PollFd::revents);
        let mut next = |there: bool| {
            if there { ready.next().unwrap_or(PollFlags::empty()) } else { PollFlags::empty() }
        };
        Ok(wanted.map(|(fd, _)| next(fd.is_some())))
    }

    fn turn(&mut self, stdin: PollFlags, stdout: PollFlags, master: PollFlags) -> io::Result<()> {
        let gone = PollFlags::HUP | PollFlags::ERR;
        if !stdin.is_empty() {
            fill(&mut self.input, rustix::stdio::stdin())?;
            if self.input.ended && self.input.bytes.is_empty() {
                // Control-D: what a terminal's reader takes for the end.
                self.input.bytes.push(4);
            }
        }
        if !(master & (PollFlags::IN | gone)).is_empty() && self.output.bytes.is_empty() {
            fill(&mut self.output, self.master.as_fd())?;
        }
        if master.intersects(gone) && self.output.ended {
            // Nobody inside reads any more.
            self.input.bytes.clear();
        }
        if master.contains(PollFlags::OUT) {
            empty(&mut self.input, self.master.as_fd())?;
        }
        if !stdout.is_empty() {
            empty(&mut self.output, rustix::stdio::stdout())?;
        }
        Ok(())
    }
}

fn fill(flow: &mut Flow, from: BorrowedFd<'_>) -> io::Result<()> {
    let mut buffer = [0; CHUNK];
    match read_master(|| rustix::io::read(from, &mut buffer)) {
        // The master of a terminal that no process has open answers EIO.
        Ok(0) | Err(Errno::IO) => flow.ended = true,
        Ok(count) => flow.bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        Err(Errno::AGAIN | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn empty(flow: &mut Flow, to: BorrowedFd<'_>) -> io::Result<()> {
    match rustix::io::write(to, &flow.bytes) {
        Ok(count) => drop(flow.bytes.drain(..count)),
        Err(Errno::AGAIN | Errno::INTR) => {}
        // Whoever read it has gone, or the terminal has: the container goes on.
        Err(Errno::PIPE | Errno::IO) => flow.bytes.clear(),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
