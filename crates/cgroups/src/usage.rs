//! Counters, read from the files of whichever version has them.
//!
//! What a host does not count is left out, never guessed.

mod v1;
mod v2;

use std::collections::HashMap;

use workload::{BlockUsage, Usage};

use crate::{CgroupError, GroupName, Hierarchy, controller::Controller, files, hierarchy::Slot};

/// Reads one file of a group; `None` if it is not there.
type Read<'a> = dyn Fn(&str) -> Result<Option<String>, CgroupError> + 'a;

/// The counters of a group. Controllers that have no group of this name count nothing.
pub(crate) fn usage(hierarchy: &Hierarchy, name: &GroupName) -> Result<Usage, CgroupError> {
    let mut usage = Usage::default();
    let homes = Controller::ALL.into_iter().filter_map(|c| Some((c, hierarchy.home(c)?)));
    for (controller, slot) in homes {
        let read = |file: &str| files::read(slot, &format!("{name}/{file}", name = name.as_str()));
        count(controller, slot, &read, &mut usage)?;
    }
    Ok(usage)
}

fn count(
    controller: Controller,
    slot: &Slot,
    read: &Read<'_>,
    usage: &mut Usage,
) -> Result<(), CgroupError> {
    match (controller, slot.is_v2()) {
        (Controller::Cpu, false) => v1::throttling(read, &mut usage.cpu),
        (Controller::Cpuacct, false) => v1::cpu(read, &mut usage.cpu),
        (Controller::Memory, false) => v1::memory(read, &mut usage.memory),
        (Controller::Block, false) => v1::block(read, &mut usage.block),
        // `cpu.stat` is there without the controller, and has it all.
        (Controller::Cpuacct, true) => v2::cpu(read, &mut usage.cpu),
        (Controller::Memory, true) => v2::memory(read, &mut usage.memory),
        (Controller::Block, true) => v2::block(read, &mut usage.block),
        (Controller::Pids, _) => {
            usage.pids = read("pids.current")?.as_deref().and_then(number);
            usage.pids_limit = read("pids.max")?.as_deref().and_then(number);
            Ok(())
        }
        (
            Controller::Cpu
            | Controller::Cpuset
            | Controller::Devices
            | Controller::Freezer
            | Controller::Hugetlb,
            _,
        ) => Ok(()),
    }
}

/// A number alone in a file. `max` and nonsense are none.
pub(crate) fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

/// Lines of a key and a number, as `memory.stat` has them.
pub(crate) fn flat(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.split_once(' ')?;
        Some((key, number(value)?))
    })
}

/// The number of one key.
pub(crate) fn value_of(text: &str, key: &str) -> Option<u64> {
    flat(text).find(|(known, _)| *known == key).map(|(_, value)| value)
}

/// `8:0`.
fn device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Counters by device, in the order in which devices were first seen.
#[derive(Default)]
struct Blocks {
    found: Vec<BlockUsage>,
    index: HashMap<(u32, u32), usize>,
}

impl Blocks {
    fn entry(&mut self, (major, minor): (u32, u32)) -> &mut BlockUsage {
        let at = *self.index.entry((major, minor)).or_insert_with(|| {
            self.found.push(BlockUsage { major, minor, ..BlockUsage::default() });
            self.found.len() - 1
        });
        &mut self.found[at]
    }

    /// Devices that did anything.
    fn used(self) -> Vec<BlockUsage> {
        let idle = |block: &BlockUsage| {
            block.read_bytes | block.write_bytes | block.read_operations | block.write_operations
                == 0
        };
        self.found.into_iter().filter(|block| !idle(block)).collect()
    }
}
