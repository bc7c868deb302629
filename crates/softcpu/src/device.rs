//! What one instruction reads from and writes to devices.
//!
//! A read that nobody has answered ends the instruction; once the answer is there it is carried
//! out again from its beginning and finds it. Writes are posted and go out when the instruction is
//! done, so that one which also faults has written nothing.

use std::collections::VecDeque;

use hv::Place;

use crate::{
    cpu::Cpu,
    fault::{Did, Stop},
};

/// A read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) place: Place,
    /// 1, 2, 4 or 8.
    pub(crate) bytes: u64,
}

/// A write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) place: Place,
    /// 1, 2, 4 or 8.
    pub(crate) bytes: u64,
    pub(crate) value: u64,
}

/// The reads and writes of the current instruction.
#[derive(Debug, Default)]
pub(crate) struct Device {
    /// Answers in the order in which they were asked for; an instruction reads a few times at most.
    pub(crate) answers: Vec<(Query, u64)>,
    /// How many of them it has had.
    used: usize,
    /// What it waits for.
    pub(crate) asked: Option<Query>,
    /// What it has written.
    pub(crate) posted: VecDeque<Post>,
}

impl Device {
    /// The instruction begins, for the first time or again.
    pub(crate) fn begin(&mut self) {
        self.used = 0;
        self.posted.clear();
    }

    /// It is done, or has become another one.
    pub(crate) fn end(&mut self) {
        self.used = 0;
        self.answers.clear();
    }

    fn answer(&mut self, query: Query) -> Option<u64> {
        let (asked, value) = *self.answers.get(self.used)?;
        if asked != query {
            // Another processor changed what this one goes by: the rest is asked again.
            self.answers.truncate(self.used);
            return None;
        }
        self.used += 1;
        Some(value)
    }
}

impl Cpu {
    /// Reads where no memory is.
    pub(crate) fn device_read(&mut self, address: u64, bytes: u64) -> Did<u64> {
        if !self.alone {
            return Err(self.stopped(Stop::Alone));
        }
        let mut data = [0; 8];
        let length = usize::try_from(bytes).unwrap_or(8);
        let machine = &self.machine;
        if machine.chips.memory_read(self.index, address, &mut data[..length], || machine.now()) {
            return Ok(u64::from_le_bytes(data));
        }
        self.query(Query { place: Place::Memory(address), bytes })
    }

    /// Reads a port.
    pub(crate) fn port_read(&mut self, port: u16, bytes: u64) -> Did<u64> {
        if !self.alone {
            return Err(self.stopped(Stop::Alone));
        }
        let machine = &self.machine;
        if bytes == 1
            && let Some(value) = machine.chips.port_read(port, || machine.now())
        {
            return Ok(value.into());
        }
        self.query(Query { place: Place::Port(port), bytes })
    }

    fn query(&mut self, query: Query) -> Did<u64> {
        match self.device.answer(query) {
            Some(value) => Ok(value),
            None => {
                self.device.asked = Some(query);
                Err(self.stopped(Stop::Read))
            }
        }
    }

    /// Writes where no memory is; only alone.
    pub(crate) fn device_write(&mut self, address: u64, bytes: u64, value: u64) {
        self.device.posted.push_back(Post { place: Place::Memory(address), bytes, value });
    }

    /// Writes a port.
    pub(crate) fn port_write(&mut self, port: u16, bytes: u64, value: u64) -> Did {
        if !self.alone {
            return Err(self.stopped(Stop::Alone));
        }
        self.device.posted.push_back(Post { place: Place::Port(port), bytes, value });
        Ok(())
    }

    /// Sends the next write out: to the chips, to a doorbell, or to the caller, who gets it back.
    pub(crate) fn next_post(&mut self) -> Option<Post> {
        while let Some(post) = self.device.posted.pop_front() {
            let machine = &self.machine;
            let data = post.value.to_le_bytes();
            let length = usize::try_from(post.bytes).unwrap_or(8);
            let done = match post.place {
                Place::Memory(address) => {
                    let now = || machine.now();
                    machine.chips.memory_write(self.index, address, &data[..length], now)
                }
                Place::Port(port) => {
                    post.bytes == 1 && machine.chips.port_write(port, data[0], || machine.now())
                }
            };
            if !done && !machine.ring(post.place, post.bytes, mask(post.value, post.bytes)) {
                return Some(post);
            }
        }
        None
    }
}

fn mask(value: u64, bytes: u64) -> u64 {
    if bytes >= 8 { value } else { value & ((1 << (8 * bytes)) - 1) }
}
