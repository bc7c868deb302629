//! Paging: from linear to guest-physical addresses.
//!
//! Source: Intel SDM volume 3, chapter 4.

use hv::{GuestMemory, memory::PAGE};

use crate::{
    control::{self, Control},
    cpu::Cpu,
    fault::{Did, Exception, Stop},
    tlb::Fill,
};

/// What an access wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
    Execute,
}

/// Where an address leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To guest memory, at this offset.
    Ram(usize),
    /// To this guest-physical address, where no memory is.
    Device(u64),
}

/// Bits of page-fault error codes.
const PRESENT: u32 = 1;
const WRITE: u32 = 2;
const USER: u32 = 4;
const RESERVED: u32 = 8;
const FETCH: u32 = 16;

/// Bits of page-table entries.
const P: u64 = 1;
const RW: u64 = 2;
const US: u64 = 4;
const A: u64 = 1 << 5;
const D: u64 = 1 << 6;
const PS: u64 = 1 << 7;
const G: u64 = 1 << 8;
const NX: u64 = 1 << 63;

/// Physical addresses have 40 bits, as `cpuid` says.
const ADDRESS: u64 = (1 << 40) - PAGE as u64;

/// Bits of an entry that an address would have beyond those.
const BEYOND: u64 = 0x000f_ff00_0000_0000;

/// A translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leaf {
    physical: u64,
    write: bool,
    execute: bool,
    global: bool,
    large: bool,
}

/// An entry that a walk has come by.
#[derive(Clone, Copy, Debug, Default)]
struct Step {
    at: u64,
    entry: u64,
}

impl Cpu {
    /// Where an address leads for this access, and takes note of it in the TLB.
    pub(crate) fn translate(&mut self, linear: u64, access: Access, user: bool) -> Did<Place> {
        let page = linear & !(PAGE as u64 - 1);
        let leaf = if self.control.paging() {
            if self.control.long() && !canonical(linear) {
                return Err(self.raise(Exception::non_canonical(linear)));
            }
            match walk(&self.memory, &self.control, linear, access, user) {
                Ok(leaf) => leaf,
                Err(code) => return Err(self.raise(Exception::page(linear, code))),
            }
        } else {
            Leaf { physical: page, write: true, execute: true, global: true, large: false }
        };
        let Some(offset) = self.memory.offset(leaf.physical, PAGE) else {
            return Ok(Place::Device(leaf.physical | linear & (PAGE as u64 - 1)));
        };
        let mut write = false;
        if access == Access::Write && !self.memory.dirty().is_watched(offset / PAGE) {
            self.memory.dirty().mark(offset, 1);
            write = true;
        }
        let fill = Fill {
            page,
            offset: offset as u64,
            write,
            execute: access == Access::Execute,
            global: leaf.global,
            large: leaf.large,
        };
        self.tlb_of(user).fill(&fill);
        let within = usize::try_from(linear - page).unwrap_or_default();
        Ok(Place::Ram(offset + within))
    }

    /// Notes why it stops.
    #[cold]
    pub(crate) fn raise(&mut self, exception: Exception) -> crate::fault::Stopped {
        self.stop = Stop::Exception(exception);
        crate::fault::Stopped
    }
}

/// Whether bits 47 and above are all the same.
#[inline(always)]
pub(crate) fn canonical(linear: u64) -> bool {
    linear.wrapping_add(1 << 47) >> 48 == 0
}

/// Goes through the page tables, sets the accessed and dirty bits, and gives where the page is or
/// a page fault's error code.
fn walk(
    memory: &GuestMemory,
    control: &Control,
    linear: u64,
    access: Access,
    user: bool,
) -> Result<Leaf, u32> {
    loop {
        let walked = if control.cr4 & control::PAE == 0 {
            walk_narrow(memory, control, linear, access, user)?
        } else {
            walk_wide(memory, control, linear, access, user)?
        };
        // Another processor may have changed an entry meanwhile; then all of it is looked at again.
        if let Some(leaf) = walked {
            return Ok(leaf);
        }
    }
}

/// The error code's bits that say what was wanted.
fn wanted(control: &Control, access: Access, user: bool) -> u32 {
    let fetch = access == Access::Execute && control.no_execute();
    (if access == Access::Write { WRITE } else { 0 })
        | (if user { USER } else { 0 })
        | (if fetch { FETCH } else { 0 })
}

/// Whether rights that all levels grant are enough.
fn allowed(control: &Control, rights: u64, execute: bool, access: Access, user: bool) -> bool {
    let write = rights & RW != 0 || !user && control.cr0 & control::WP == 0;
    (!user || rights & US != 0)
        && (access != Access::Write || write)
        && (access != Access::Execute || execute)
}

/// Entries of 8 bytes: four levels in long mode, three with PAE.
fn walk_wide(
    memory: &GuestMemory,
    control: &Control,
    linear: u64,
    access: Access,
    user: bool,
) -> Result<Option<Leaf>, u32> {
    let code = wanted(control, access, user);
    let long = control.long();
    let levels = if long { 4 } else { 3 };
    let mut table = if long { control.cr3 & ADDRESS } else { control.cr3 & 0xffff_ffe0 };
    let (mut rights, mut execute) = (RW | US, true);
    let mut steps = [Step::default(); 4];
    for level in (0..levels).rev() {
        let shift = 12 + 9 * level;
        let at = table + (linear >> shift & 0x1ff) * 8;
        // Where no memory is, the bus reads as ones.
        let entry: u64 = memory.load(at).unwrap_or(u64::MAX);
        if entry & P == 0 {
            return Err(code);
        }
        let leaf = level == 0 || entry & PS != 0;
        let pointer = !long && level == 2;
        let below = if level > 0 && leaf { (1u64 << shift) - (1 << 13) } else { 0 };
        let reserved = BEYOND
            | below
            | if control.no_execute() && !pointer { 0 } else { NX }
            // No level above that of 2 MiB has pages.
            | if level >= 2 { PS } else { 0 };
        if entry & reserved != 0 {
            return Err(code | RESERVED | PRESENT);
        }
        if !pointer {
            rights &= entry;
            execute &= entry & NX == 0;
            steps[level] = Step { at, entry };
        }
        if !leaf {
            table = entry & ADDRESS;
            continue;
        }
        if !allowed(control, rights, execute, access, user) {
            return Err(code | PRESENT);
        }
        if !mark(memory, &steps[level..], access, store_wide) {
            return Ok(None);
        }
        let inside = (1u64 << shift) - 1;
        let physical = entry & ADDRESS & !inside | linear & inside & ADDRESS;
        let global = entry & G != 0 && control.cr4 & control::PGE != 0;
        let large = level > 0;
        return Ok(Some(Leaf { physical, write: rights & RW != 0, execute, global, large }));
    }
    Err(code)
}

/// Entries of 4 bytes, two levels, pages of 4 MiB where cr4 allows them.
fn walk_narrow(
    memory: &GuestMemory,
    control: &Control,
    linear: u64,
    access: Access,
    user: bool,
) -> Result<Option<Leaf>, u32> {
    let code = wanted(control, access, user);
    let mut table = control.cr3 & 0xffff_f000;
    let mut rights = RW | US;
    let mut steps = [Step::default(); 2];
    for level in (0..2).rev() {
        let shift = 12 + 10 * level;
        let at = table + (linear >> shift & 0x3ff) * 4;
        let entry = u64::from(memory.load::<u32>(at).unwrap_or(u32::MAX));
        if entry & P == 0 {
            return Err(code);
        }
        let large = level == 1 && entry & PS != 0 && control.cr4 & control::PSE != 0;
        rights &= entry;
        steps[level] = Step { at, entry };
        if level > 0 && !large {
            table = entry & 0xffff_f000;
            continue;
        }
        if large && entry & 1 << 21 != 0 {
            return Err(code | RESERVED | PRESENT);
        }
        if !allowed(control, rights, true, access, user) {
            return Err(code | PRESENT);
        }
        if !mark(memory, &steps[level..], access, store_narrow) {
            return Ok(None);
        }
        let physical = if large {
            entry & 0xffc0_0000 | (entry >> 13 & 0xff) << 32 | linear & 0x003f_f000
        } else {
            entry & 0xffff_f000
        };
        let global = entry & G != 0 && control.cr4 & control::PGE != 0;
        return Ok(Some(Leaf { physical, write: rights & RW != 0, execute: true, global, large }));
    }
    Err(code)
}

/// Sets the accessed bit of every entry and the dirty bit of the first, the leaf; gives whether
/// none had changed.
fn mark(
    memory: &GuestMemory,
    steps: &[Step],
    access: Access,
    store: fn(&GuestMemory, Step, u64) -> bool,
) -> bool {
    steps.iter().enumerate().filter(|(_, step)| step.at != 0 || step.entry != 0).all(|(n, step)| {
        let dirty = if n == 0 && access == Access::Write { D } else { 0 };
        let marked = step.entry | A | dirty;
        marked == step.entry || store(memory, *step, marked)
    })
}

fn store_wide(memory: &GuestMemory, step: Step, new: u64) -> bool {
    let Some(offset) = memory.offset(step.at, 8) else { return true };
    let stored = memory.compare_exchange(offset, step.entry, new) == step.entry;
    memory.dirty().mark(offset, 8);
    stored
}

fn store_narrow(memory: &GuestMemory, step: Step, new: u64) -> bool {
    let Some(offset) = memory.offset(step.at, 4) else { return true };
    let cut = |wide: u64| <u32 as crate::word::Word>::cut(wide);
    let stored = memory.compare_exchange(offset, cut(step.entry), cut(new)) == cut(step.entry);
    memory.dirty().mark(offset, 4);
    stored
}
