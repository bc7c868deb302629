//! The thread of the devices: it waits for doorbells, for the devices' own descriptors, and for
//! the console.

use std::{
    collections::VecDeque,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use hv::Vm;
use rustix::{
    buffer::spare_capacity,
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
};
use virtio::{
    Device, Mmio, QueueError,
    device::{Again, Wake},
};

use super::{
    Shared, bus,
    console::{Console, Port, Served},
    control::{LastWords, Watch},
    lines,
};

/// Most events that are taken at once.
const EVENTS: usize = 64;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// Somebody wants to be heard: the control, the board.
    Control,
    /// The console's input or output.
    Input,
    Output,
    /// A doorbell, by its place in the list.
    Bell(u32),
    /// A descriptor of a device.
    Source {
        device: u16,
        token: u32,
    },
}

/// Somebody did what no driver does.
pub(super) fn broken(mmio: &Mmio<dyn Device>, error: &QueueError) {
    tracing::warn!(device = ?mmio.kind(), %error, "the guest broke a device");
}

impl Token {
    pub(super) fn data(self) -> EventData {
        EventData::new_u64(match self {
            Token::Control => 0,
            Token::Input => 1 << 60,
            Token::Output => 2 << 60,
            Token::Bell(n) => 3 << 60 | u64::from(n),
            Token::Source { device, token } => 4 << 60 | u64::from(device) << 32 | u64::from(token),
        })
    }

    fn of(event: &Event) -> Token {
        let data = event.data.u64();
        let [a, b, c, d, e, f, ..] = data.to_le_bytes();
        let token = u32::from_le_bytes([a, b, c, d]);
        match data >> 60 {
            0 => Token::Control,
            1 => Token::Input,
            2 => Token::Output,
            3 => Token::Bell(token),
            _ => Token::Source { device: u16::from_le_bytes([e, f]), token },
        }
    }
}

/// A doorbell: the queue of a device.
#[derive(Debug)]
struct Bell {
    device: usize,
    queue: u16,
    fd: OwnedFd,
}

/// All doorbells.
#[derive(Debug)]
pub(super) struct Bells(Vec<Bell>);

impl Bells {
    /// Hangs up a bell for every queue. One that is awaited is for the processor to answer, which
    /// an eventfd would keep it from.
    pub(super) fn new(devices: &[Arc<Mmio<dyn Device>>], vm: &dyn Vm) -> Result<Bells, BellError> {
        let mut bells = Vec::new();
        for (device, mmio) in devices.iter().enumerate() {
            for (queue, doorbell) in mmio.doorbells(bus::address(device)) {
                let fd = lines::bell()?;
                if !mmio.is_awaited(queue) {
                    vm.doorbell(doorbell, fd.try_clone()?)?;
                }
                bells.push(Bell { device, queue, fd });
            }
        }
        Ok(Bells(bells))
    }

    /// Rings for a queue.
    pub(super) fn ring(&self, device: usize, queue: u16) {
        let bell = self.0.iter().find(|bell| bell.device == device && bell.queue == queue);
        if let Some(bell) = bell {
            lines::ring(&bell.fd);
        }
    }
}

/// Why there is no doorbell.
#[derive(Debug, thiserror::Error)]
pub(super) enum BellError {
    #[error(transparent)]
    Host(#[from] io::Error),
    #[error(transparent)]
    Backend(#[from] hv::HvError),
}

/// The thread's own.
#[derive(Debug)]
pub(super) struct Events {
    epoll: OwnedFd,
    console: Port,
    /// Queues that are to have another turn.
    again: VecDeque<(usize, u16)>,
    /// Every queue is to have a turn at first: its doorbells were lost with another machine.
    restored: bool,
}

impl Events {
    pub(super) fn new(shared: &Shared, console: Console, restored: bool) -> io::Result<Events> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let add = |fd: &dyn AsFd, token: Token, flags| {
            epoll::add(&epoll, fd.as_fd(), token.data(), flags)
        };
        add(shared.control.wake_fd(), Token::Control, EventFlags::IN)?;
        for (n, bell) in (0..).zip(&shared.bells.0) {
            add(&bell.fd, Token::Bell(n), EventFlags::IN)?;
        }
        for (device, mmio) in (0..).zip(shared.devices()) {
            let mut added = Ok(());
            mmio.sources(|source| {
                let flags = match source.wake {
                    Wake::Level => EventFlags::IN,
                    Wake::Edge => EventFlags::IN | EventFlags::OUT | EventFlags::ET,
                };
                let token = Token::Source { device, token: source.token };
                if added.is_ok() {
                    added = add(&source.fd, token, flags);
                }
            });
            added?;
        }
        Ok(Events { epoll, console: Port::new(console), again: VecDeque::new(), restored })
    }

    /// Serves the devices until the machine ends.
    pub(super) fn run(mut self, shared: &Shared) {
        let _last_words = LastWords(&shared.control);
        let _watch = Watch(&shared.control);
        let mut events = Vec::with_capacity(EVENTS);
        while shared.control.pass() {
            if std::mem::take(&mut self.restored) {
                self.every_queue(shared);
            }
            let served = self.console.serve(&shared.ports, &self.epoll);
            self.another_turn(shared);
            if let Err(error) = self.wait(served, &mut events) {
                let why = format!("cannot wait for devices: {error}");
                shared.control.finish(super::End::Failed { why });
            }
            for event in events.drain(..) {
                self.handle(shared, Token::of(&event));
            }
        }
        self.console.drain(&shared.ports);
    }

    fn wait(&self, served: Served, events: &mut Vec<Event>) -> io::Result<()> {
        let none = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = match served {
            _ if !self.again.is_empty() => Some(none),
            Served::Idle => None,
            Served::Soon(nanoseconds) => Some(Timespec { tv_nsec: nanoseconds, ..none }),
        };
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn handle(&mut self, shared: &Shared, token: Token) {
        match token {
            Token::Control => lines::silence(shared.control.wake_fd()),
            Token::Input => self.console.input_ready(),
            Token::Output => self.console.output_ready(),
            Token::Bell(n) => {
                let Some(bell) = shared.bells.0.get(n as usize) else { return };
                lines::silence(&bell.fd);
                self.process(shared, bell.device, bell.queue);
            }
            Token::Source { device, token } => {
                let device = usize::from(device);
                let Some(mmio) = shared.devices().get(device) else { return };
                self.follow(mmio, device, mmio.ready(token));
            }
        }
    }

    fn process(&mut self, shared: &Shared, device: usize, queue: u16) {
        if let Some(mmio) = shared.devices().get(device) {
            self.follow(mmio, device, mmio.process(queue));
        }
    }

    fn every_queue(&mut self, shared: &Shared) {
        for (device, mmio) in shared.devices().iter().enumerate() {
            self.follow(mmio, device, mmio.process_all());
        }
    }

    /// Each queue that wanted another turn gets one.
    fn another_turn(&mut self, shared: &Shared) {
        for _ in 0..self.again.len() {
            if let Some((device, queue)) = self.again.pop_front() {
                self.process(shared, device, queue);
            }
        }
    }

    fn follow(&mut self, mmio: &Mmio<dyn Device>, device: usize, done: Result<Again, QueueError>) {
        match done {
            Ok(Again(queues)) => {
                for queue in queues.into_iter().map(|queue| (device, queue)) {
                    if !self.again.contains(&queue) {
                        self.again.push_back(queue);
                    }
                }
            }
            Err(error) => broken(mmio, &error),
        }
    }
}

/// Waits for a descriptor of the console, once.
pub(super) fn watch(epoll: &OwnedFd, fd: &OwnedFd, token: Token, flags: EventFlags) -> bool {
    let flags = flags | EventFlags::ONESHOT;
    epoll::modify(epoll, fd, token.data(), flags).is_ok()
        || epoll::add(epoll, fd, token.data(), flags).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_comes_back_as_it_went() {
        for token in [
            Token::Control,
            Token::Input,
            Token::Output,
            Token::Bell(77),
            Token::Source { device: 159, token: u32::MAX },
        ] {
            let event = Event { flags: EventFlags::IN, data: token.data() };
            assert_eq!(Token::of(&event), token);
        }
    }
}
