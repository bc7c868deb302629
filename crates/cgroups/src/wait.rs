//! Waiting for a group: on version 2 for an event, on version 1 by asking again.

use std::{os::fd::OwnedFd, time::Duration};

use base::Deadline;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::OFlags,
};

use crate::{CgroupError, files, hierarchy::Slot, making::file_of, usage};

/// Waits until `key` of `cgroup.events` has this value. Says whether it came to that; a group
/// that is gone has no more events.
pub(crate) fn for_event(
    slot: &Slot,
    group: &str,
    key: &str,
    value: u64,
    by: Deadline,
) -> Result<bool, CgroupError> {
    let path = file_of(group, "cgroup.events");
    let Some(fd) = files::open(slot, &path, OFlags::RDONLY)? else { return Ok(true) };
    loop {
        // Reading is what arms the next event, so it comes first.
        let text = match files::read_open(&fd) {
            Ok(text) => text,
            Err(rustix::io::Errno::NODEV) => return Ok(true),
            Err(error) => return Err(files::failed(slot, "read", &path, error)),
        };
        if usage::value_of(&text, key) == Some(value) {
            return Ok(true);
        }
        if by.passed() {
            return Ok(false);
        }
        poll_change(&fd, by).map_err(|error| files::failed(slot, "poll", &path, error))?;
    }
}

fn poll_change(fd: &OwnedFd, by: Deadline) -> Result<(), rustix::io::Errno> {
    // A remaining time beyond what the kernel counts is cut down and asked for again.
    let remaining = by.remaining().min(Duration::from_secs(3600));
    let timeout = Timespec::try_from(remaining).expect("an hour fits");
    match poll(&mut [PollFd::new(fd, PollFlags::PRI)], Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Pauses between two looks at what cannot be waited for: 100 µs, doubling to 20 ms.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff { next: Duration::from_micros(100) }
    }

    /// Sleeps; says whether there is time for another look.
    pub(crate) fn pause(&mut self, by: Deadline) -> bool {
        if by.passed() {
            return false;
        }
        std::thread::sleep(self.next.min(by.remaining()));
        self.next = (self.next * 2).min(Duration::from_millis(20));
        true
    }
}
