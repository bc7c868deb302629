//! Interrupt lines that eventfds raise: a thread that waits for them.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Weak},
    thread,
};

use hv::HvError;
use rustix::{
    event::{
        EventfdFlags,
        epoll::{self, CreateFlags, EventData, EventFlags},
        eventfd,
    },
    io::{Errno, read},
};

use crate::machine::Machine;

/// What stands for the end among the lines' numbers.
const END: u64 = u64::MAX;

/// The thread, which ends with this value.
#[derive(Debug)]
pub(crate) struct Lines {
    epoll: Arc<OwnedFd>,
    end: OwnedFd,
    thread: Option<thread::JoinHandle<()>>,
}

fn host(step: &'static str) -> impl FnOnce(Errno) -> HvError {
    move |errno| HvError::Host { step, source: io::Error::from(errno) }
}

impl Lines {
    pub(crate) fn new(machine: Weak<Machine>) -> Result<Lines, HvError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(host("epoll_create1"))?;
        let epoll = Arc::new(epoll);
        let end = eventfd(0, EventfdFlags::CLOEXEC).map_err(host("eventfd"))?;
        epoll::add(&epoll, &end, EventData::new_u64(END), EventFlags::IN)
            .map_err(host("epoll_ctl"))?;
        let waits = Arc::clone(&epoll);
        let thread = thread::Builder::new()
            .name("lines".to_owned())
            .spawn(move || wait(&waits, &machine))
            .map_err(|source| HvError::Host { step: "a thread for interrupt lines", source })?;
        Ok(Lines { epoll, end, thread: Some(thread) })
    }

    /// From now on this eventfd raises this line for an instant.
    pub(crate) fn add(&self, line: u32, ring: BorrowedFd<'_>) -> Result<(), HvError> {
        // Each write is an edge, so the counter does not have to be read before the next.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&self.epoll, ring, EventData::new_u64(line.into()), flags)
            .map_err(host("epoll_ctl"))
    }
}

fn wait(epoll: &OwnedFd, machine: &Weak<Machine>) {
    let mut events = Vec::with_capacity(32);
    loop {
        events.clear();
        match epoll::wait(epoll.as_fd(), rustix::buffer::spare_capacity(&mut events), None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return,
        }
        let Some(machine) = machine.upgrade() else { return };
        for event in &events {
            let line = event.data.u64();
            if line == END {
                return;
            }
            if let Ok(line) = u32::try_from(line) {
                machine.chips.line(line, true);
                machine.chips.line(line, false);
            }
        }
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        // An eventfd whose counter is full has been written already.
        let _full = rustix::io::write(&self.end, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take()
            && thread.thread().id() != thread::current().id()
        {
            // A thread that panicked has nothing left to end.
            let _panicked = thread.join();
        }
        let mut counter = [0; 8];
        let _empty = read(&self.end, &mut counter);
    }
}
