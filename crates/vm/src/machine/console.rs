//! The serial port's other end: descriptors of the host.
//!
//! Output is written when the host takes it. The first byte wakes the thread; after that it looks
//! by itself every [`LULL`] until there is nothing, so that a kernel that talks a lot does not
//! wake it for every letter.

use std::{os::fd::OwnedFd, time::Duration};

use base::Deadline;
use rustix::{
    event::{PollFd, PollFlags, Timespec, epoll::EventFlags, poll},
    io::Errno,
};

use super::{
    events::{Token, watch},
    ports::Ports,
};

/// How long output waits for more, in nanoseconds.
const LULL: i64 = 2_000_000;

/// Most bytes of one write: what a pipe takes at once if it takes anything.
const WRITE: usize = 4096;

/// How long the last words of a machine may take.
const DRAIN: Duration = Duration::from_secs(1);

/// Where the serial port's bytes come from and go to.
#[derive(Debug, Default)]
pub struct Console {
    /// What the guest reads; nothing if there is none.
    pub input: Option<OwnedFd>,
    /// What it writes; nowhere if there is none. It may block: it is asked before it is written
    /// to.
    pub output: Option<OwnedFd>,
}

/// The console as the devices' thread has it.
#[derive(Debug)]
pub(super) struct Port {
    console: Console,
    /// Whether epoll says when there is input, or when output is taken again.
    input_awaited: bool,
    output_awaited: bool,
}

/// What the devices' thread is to do after the console was served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Served {
    /// Wait for as long as it takes.
    Idle,
    /// Come back after so many nanoseconds.
    Soon(i64),
}

impl Port {
    pub(super) fn new(console: Console) -> Port {
        Port { console, input_awaited: false, output_awaited: false }
    }

    /// There is input.
    pub(super) fn input_ready(&mut self) {
        self.input_awaited = false;
    }

    /// Output is taken again.
    pub(super) fn output_ready(&mut self) {
        self.output_awaited = false;
    }

    /// Moves what can be moved.
    pub(super) fn serve(&mut self, ports: &Ports, epoll: &OwnedFd) -> Served {
        self.input(ports, epoll);
        if self.output_awaited {
            return Served::Idle;
        }
        match self.output(ports) {
            Output::Nothing if ports.unattended() => Served::Soon(0),
            Output::Nothing => Served::Idle,
            Output::Some => Served::Soon(LULL),
            Output::Full => {
                let fd = self.console.output.as_ref();
                self.output_awaited =
                    fd.is_some_and(|fd| watch(epoll, fd, Token::Output, EventFlags::OUT));
                if self.output_awaited { Served::Idle } else { Served::Soon(LULL) }
            }
        }
    }

    fn output(&mut self, ports: &Ports) -> Output {
        let mut wire = ports.wire();
        if wire.is_empty() {
            return Output::Nothing;
        }
        let Some(fd) = &self.console.output else {
            ports.board(|board| board.serial.sent(wire.len()));
            return Output::Some;
        };
        if !ready(fd, PollFlags::OUT, Duration::ZERO) {
            return Output::Full;
        }
        let bytes = wire.make_contiguous();
        match rustix::io::write(fd, &bytes[..bytes.len().min(WRITE)]) {
            Ok(count) => ports.board(|board| board.serial.sent(count)),
            Err(Errno::AGAIN) => return Output::Full,
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "nobody takes the console's output");
                self.console.output = None;
            }
        }
        Output::Some
    }

    fn input(&mut self, ports: &Ports, epoll: &OwnedFd) {
        while !self.input_awaited {
            let Some(fd) = &self.console.input else { return };
            let mut bytes = [0; 16];
            let room = ports.room().min(bytes.len());
            if room == 0 {
                return;
            }
            let read = match ready(fd, PollFlags::IN, Duration::ZERO) {
                true => rustix::io::read(fd, &mut bytes[..room]),
                false => Err(Errno::AGAIN),
            };
            match read {
                Ok(count) if count > 0 => ports.board(|board| board.serial.input(&bytes[..count])),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if watch(epoll, fd, Token::Input, EventFlags::IN) => {
                    self.input_awaited = true;
                }
                // Its end, or nothing that can be waited for.
                Ok(_) | Err(_) => self.console.input = None,
            }
        }
    }

    /// Writes what is left, as far as anybody takes it.
    pub(super) fn drain(&mut self, ports: &Ports) {
        let by = Deadline::after(DRAIN);
        while !by.passed() {
            match self.output(ports) {
                Output::Nothing => return,
                Output::Some => {}
                Output::Full => match &self.console.output {
                    Some(fd) if ready(fd, PollFlags::OUT, by.remaining()) => {}
                    _ => return,
                },
            }
        }
    }
}

enum Output {
    Nothing,
    Some,
    Full,
}

/// Whether a descriptor is ready within this time, a second at most. One that is broken is: the
/// next call says how.
fn ready(fd: &OwnedFd, flags: PollFlags, within: Duration) -> bool {
    let timeout = match within.as_secs() {
        0 => Timespec { tv_sec: 0, tv_nsec: within.subsec_nanos().into() },
        _ => Timespec { tv_sec: 1, tv_nsec: 0 },
    };
    loop {
        match poll(&mut [PollFd::new(fd, flags)], Some(&timeout)) {
            Err(Errno::INTR) => {}
            ready => return matches!(ready, Ok(1..)),
        }
    }
}
