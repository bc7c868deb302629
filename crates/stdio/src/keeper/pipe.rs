//! The keeper's ends of a process's streams: pipes, or both directions of a terminal.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustix::{
    buffer::spare_capacity,
    fs::{Mode, OFlags},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
};
use tokio::io::unix::AsyncFd;

use crate::{log::Stream, terminal::read_master};

/// Most bytes of a terminal's output that can be waiting when its process has ended: more than
/// any kernel's terminal buffers hold.
const TERMINAL_BYTES_MAX: usize = 256 << 10;

/// A new pipe: our end, which does not block, and the process's, which does.
pub(super) fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&read)?;
    Ok((read, write))
}

/// A new pipe for standard input: our end, and the process's.
pub(super) fn input_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&write)?;
    Ok((write, read))
}

/// A standard input that reads as empty.
pub(super) fn empty_input() -> io::Result<OwnedFd> {
    Ok(rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

pub(super) fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}

/// Tries `call` whenever `fd` is ready for it, until it neither would block nor was interrupted.
pub(super) fn poll_io<T>(
    mut poll_ready: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    loop {
        match ready!(poll_ready(cx)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

/// One operation on a descriptor that has become readable.
pub(super) fn poll_read_with<T>(
    fd: &AsyncFd<OwnedFd>,
    cx: &mut Context<'_>,
    mut call: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
) -> Poll<io::Result<T>> {
    poll_io(
        |cx| {
            let mut guard = ready!(fd.poll_read_ready(cx))?;
            let tried = guard.try_io(|fd| Ok(call(fd.as_fd())?));
            Poll::Ready(tried.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into())))
        },
        cx,
    )
}

/// One operation on a descriptor that has become writable.
pub(super) fn poll_write_with<T>(
    fd: &AsyncFd<OwnedFd>,
    cx: &mut Context<'_>,
    mut call: impl FnMut(BorrowedFd<'_>) -> Result<T, Errno>,
) -> Poll<io::Result<T>> {
    poll_io(
        |cx| {
            let mut guard = ready!(fd.poll_write_ready(cx))?;
            let tried = guard.try_io(|fd| Ok(call(fd.as_fd())?));
            Poll::Ready(tried.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into())))
        },
        cx,
    )
}

/// Where a process's output comes from.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) stream: Stream,
    fd: Arc<AsyncFd<OwnedFd>>,
}

impl Output {
    pub(super) fn new(stream: Stream, fd: Arc<AsyncFd<OwnedFd>>) -> Output {
        Output { stream, fd }
    }

    /// Reads what there is, in place of what is in the buffer and as far as it has room; nothing
    /// at the end. A terminal ends with `EIO`, when nobody has it open any more.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        buffer.clear();
        poll_read_with(&self.fd, cx, |fd| {
            read_master(|| rustix::io::read(fd, spare_capacity(buffer)))
        })
    }

    /// Reads without waiting; nothing if there is nothing at the moment, or no more.
    pub(super) fn read_now(&self, buffer: &mut Vec<u8>) -> usize {
        buffer.clear();
        let mut read = || rustix::io::read(self.fd.as_fd(), spare_capacity(buffer));
        rustix::io::retry_on_intr(|| read_master(&mut read)).unwrap_or(0)
    }

    /// The most bytes that can be waiting in it.
    pub(super) fn capacity(&self) -> usize {
        rustix::pipe::fcntl_getpipe_size(self.fd.as_fd()).unwrap_or(TERMINAL_BYTES_MAX)
    }
}

/// A process's standard input, and what is on its way there.
#[derive(Debug)]
pub(super) struct Input {
    target: Target,
    pending: Vec<u8>,
    written: usize,
    /// Whether it is closed once all that is pending is through.
    ending: bool,
}

#[derive(Debug)]
enum Target {
    /// It is thrown away.
    Nowhere,
    /// The terminal is not there yet.
    Awaited,
    Open(Arc<AsyncFd<OwnedFd>>),
}

impl Input {
    /// One that throws away what it is given.
    pub(super) fn nowhere() -> Input {
        Input { target: Target::Nowhere, pending: Vec::new(), written: 0, ending: false }
    }

    /// One whose descriptor comes later.
    pub(super) fn awaited() -> Input {
        Input { target: Target::Awaited, ..Input::nowhere() }
    }

    /// One that goes to this descriptor.
    pub(super) fn to(fd: Arc<AsyncFd<OwnedFd>>) -> Input {
        Input { target: Target::Open(fd), ..Input::nowhere() }
    }

    /// The descriptor has come.
    pub(super) fn arrived(&mut self, fd: Arc<AsyncFd<OwnedFd>>) {
        if let Target::Awaited = self.target {
            self.target = Target::Open(fd);
        }
    }

    /// Whether more can be given to it.
    pub(super) fn has_room(&self) -> bool {
        match self.target {
            Target::Nowhere => true,
            Target::Awaited => false,
            Target::Open(_) => self.pending.is_empty(),
        }
    }

    /// Takes more, when there is room.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if let Target::Open(_) = self.target
            && !self.ending
        {
            self.pending.extend_from_slice(bytes);
        }
    }

    /// Closes it, after what is pending.
    pub(super) fn end(&mut self) {
        self.ending = true;
    }

    /// Writes on; whether anything came of it. A process that has closed its input loses what is
    /// on its way to it, and all that follows.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        let Target::Open(fd) = &self.target else { return false };
        let mut progress = false;
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            match poll_write_with(fd, cx, |fd| rustix::io::write(fd, rest)) {
                Poll::Pending => return progress,
                Poll::Ready(Ok(count)) => {
                    self.written += count;
                    progress = true;
                }
                Poll::Ready(Err(_)) => {
                    *self = Input::nowhere();
                    return true;
                }
            }
        }
        self.pending.clear();
        self.written = 0;
        if self.ending {
            *self = Input::nowhere();
            progress = true;
        }
        progress
    }
}
