//! Loads and stores at linear addresses.
//!
//! What hits the TLB is one comparison and one access; everything else (a miss, two pages, a
//! device, a page that holds decoded instructions) goes the long way in this file's lower half.

use std::sync::Arc;

use hv::memory::PAGE;

use crate::{
    cpu::Cpu,
    fault::{Did, Exception, Stop, Stopped},
    mmu::{Access, Place, canonical},
    word::Word,
};

/// The page of an address.
const PAGES: u64 = !(PAGE as u64 - 1);

#[expect(clippy::cast_possible_truncation, reason = "the host has 64 bits, too")]
#[inline(always)]
fn offset(addend: u64, linear: u64) -> usize {
    addend.wrapping_add(linear) as usize
}

impl Cpu {
    /// What is at a linear address, if the TLB says where that is. Handlers that try this first and
    /// leave the rest to another function have nothing to save on their way in.
    #[inline(always)]
    pub(crate) fn quick_load<T: Word>(&self, linear: u64) -> Option<u64> {
        let entry = self.tlb.entry(linear);
        let hit = linear.wrapping_add(T::BYTES - 1) & PAGES == entry.read;
        hit.then(|| self.memory.get::<T>(offset(entry.addend, linear)).wide())
    }

    /// The offset of what is to be written at a linear address, if the TLB knows it.
    #[inline(always)]
    pub(crate) fn quick_place<T: Word>(&self, linear: u64) -> Option<usize> {
        let entry = self.tlb.entry(linear);
        let hit = linear.wrapping_add(T::BYTES - 1) & PAGES == entry.write;
        hit.then(|| offset(entry.addend, linear))
    }

    /// Reads what is at a linear address.
    #[inline(always)]
    pub(crate) fn load<T: Word>(&mut self, linear: u64) -> Did<u64> {
        let entry = self.tlb.entry(linear);
        if linear.wrapping_add(T::BYTES - 1) & PAGES == entry.read {
            return Ok(self.memory.get::<T>(offset(entry.addend, linear)).wide());
        }
        self.load_long::<T>(linear, self.cpl == 3)
    }

    /// Writes to a linear address.
    #[inline(always)]
    pub(crate) fn store<T: Word>(&mut self, linear: u64, value: u64) -> Did {
        let entry = self.tlb.entry(linear);
        if linear.wrapping_add(T::BYTES - 1) & PAGES == entry.write {
            self.memory.set(offset(entry.addend, linear), T::cut(value));
            return Ok(());
        }
        self.store_long::<T>(linear, value, self.cpl == 3)
    }

    /// Replaces what is at a linear address by what `change` makes of it.
    #[inline(always)]
    pub(crate) fn modify<T: Word, R>(
        &mut self,
        linear: u64,
        change: impl FnOnce(u64) -> (u64, R),
    ) -> Did<R> {
        let entry = self.tlb.entry(linear);
        if linear.wrapping_add(T::BYTES - 1) & PAGES == entry.write {
            let at = offset(entry.addend, linear);
            let (new, result) = change(self.memory.get::<T>(at).wide());
            self.memory.set(at, T::cut(new));
            return Ok(result);
        }
        self.check_writable::<T>(linear)?;
        let (new, result) = change(self.load::<T>(linear)?);
        self.store_long::<T>(linear, new, self.cpl == 3)?;
        Ok(result)
    }

    /// The same in one step for all processors.
    #[inline(always)]
    pub(crate) fn modify_locked<T: Word, R>(
        &mut self,
        linear: u64,
        change: impl Fn(u64) -> (u64, R),
    ) -> Did<R> {
        let entry = self.tlb.entry(linear);
        if linear.wrapping_add(T::BYTES - 1) & PAGES == entry.write {
            return Ok(self.exchange::<T, R>(offset(entry.addend, linear), change));
        }
        self.modify_locked_long::<T, R>(linear, change)
    }

    /// Exchanges what is at an offset in guest memory by one instruction of the host.
    #[inline(always)]
    fn exchange<T: Word, R>(&self, at: usize, change: impl Fn(u64) -> (u64, R)) -> R {
        let mut current = self.memory.get::<T>(at);
        loop {
            let (new, result) = change(current.wide());
            let there = self.memory.compare_exchange(at, current, T::cut(new));
            if there == current {
                return result;
            }
            current = there;
        }
    }

    #[cold]
    #[inline(never)]
    fn modify_locked_long<T: Word, R>(
        &mut self,
        linear: u64,
        change: impl Fn(u64) -> (u64, R),
    ) -> Did<R> {
        let last = self.linear(linear.wrapping_add(T::BYTES - 1));
        if last & PAGES == linear & PAGES {
            if let Place::Ram(at) = self.writable(linear, self.cpl == 3)? {
                let result = self.exchange::<T, R>(at, change);
                self.memory.dirty().mark(at, 1);
                return Ok(result);
            }
            return self.modify::<T, R>(linear, change);
        }
        if self.machine.vcpus == 1 {
            return self.modify::<T, R>(linear, change);
        }
        let machine = Arc::clone(&self.machine);
        let _alone = machine.alone(self.index);
        self.modify::<T, R>(linear, change)
    }

    /// Fails as a store would, and writes nothing.
    #[cold]
    pub(crate) fn check_writable<T: Word>(&mut self, linear: u64) -> Did {
        let (user, last) = (self.cpl == 3, self.linear(linear.wrapping_add(T::BYTES - 1)));
        self.check_end(last)?;
        self.writable(linear, user)?;
        if last & PAGES != linear & PAGES {
            self.writable(last & PAGES, user)?;
        }
        Ok(())
    }

    /// An operand whose end has no address is none, whatever page its beginning is in.
    fn check_end(&mut self, last: u64) -> Did {
        let fine = !self.control.long() || canonical(last);
        if fine { Ok(()) } else { Err(self.raise(Exception::non_canonical(last))) }
    }

    /// The place of one byte that is to be written; only alone, if it is not plain memory.
    fn writable(&mut self, linear: u64, user: bool) -> Did<Place> {
        let place = self.translate(linear, Access::Write, user)?;
        let plain = match place {
            Place::Ram(at) => !self.memory.dirty().is_watched(at / PAGE),
            Place::Device(_) => false,
        };
        if plain || self.alone { Ok(place) } else { Err(self.stopped(Stop::Alone)) }
    }

    /// Linear addresses outside of 64-bit mode have 32 bits.
    #[inline(always)]
    pub(crate) fn linear(&self, address: u64) -> u64 {
        if self.mode.code == 64 { address } else { address & 0xffff_ffff }
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn load_long<T: Word>(&mut self, linear: u64, user: bool) -> Did<u64> {
        let last = self.linear(linear.wrapping_add(T::BYTES - 1));
        if last & PAGES == linear & PAGES {
            return match self.translate(linear, Access::Read, user)? {
                Place::Ram(at) => Ok(self.memory.get::<T>(at).wide()),
                Place::Device(at) => self.device_read(at, T::BYTES),
            };
        }
        self.check_end(last)?;
        self.translate(linear, Access::Read, user)?;
        self.translate(last & PAGES, Access::Read, user)?;
        let mut value = 0;
        for n in 0..T::BYTES {
            let byte =
                match self.translate(self.linear(linear.wrapping_add(n)), Access::Read, user)? {
                    Place::Ram(at) => self.memory.get::<u8>(at).wide(),
                    Place::Device(at) => self.device_read(at, 1)?,
                };
            value |= byte << (8 * n);
        }
        Ok(value)
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn store_long<T: Word>(&mut self, linear: u64, value: u64, user: bool) -> Did {
        let last = self.linear(linear.wrapping_add(T::BYTES - 1));
        if last & PAGES == linear & PAGES {
            match self.writable(linear, user)? {
                Place::Ram(at) => {
                    self.memory.set(at, T::cut(value));
                    self.memory.dirty().mark(at, 1);
                }
                Place::Device(at) => self.device_write(at, T::BYTES, value),
            }
            return Ok(());
        }
        self.check_end(last)?;
        self.writable(linear, user)?;
        self.writable(last & PAGES, user)?;
        for n in 0..T::BYTES {
            let byte = value >> (8 * n);
            match self.writable(self.linear(linear.wrapping_add(n)), user)? {
                Place::Ram(at) => {
                    self.memory.set(at, <u8 as Word>::cut(byte));
                    self.memory.dirty().mark(at, 1);
                }
                Place::Device(at) => self.device_write(at, 1, byte),
            }
        }
        Ok(())
    }

    /// Reads as the processor itself, whatever privilege the program has: descriptors, stacks of
    /// interrupts.
    pub(crate) fn load_system<T: Word>(&mut self, linear: u64) -> Did<u64> {
        self.load_long::<T>(linear, false)
    }

    /// Writes as the processor itself.
    pub(crate) fn store_system<T: Word>(&mut self, linear: u64, value: u64) -> Did {
        self.store_long::<T>(linear, value, false)
    }

    /// Notes why it stops.
    #[cold]
    pub(crate) fn stopped(&mut self, stop: Stop) -> Stopped {
        self.stop = stop;
        Stopped
    }
}
