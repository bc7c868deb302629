//! Interrupt lines that several devices share, and eventfds.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
};

use hv::Vm;
use rustix::event::{EventfdFlags, eventfd};
use virtio::Line;

use super::{
    builder::Announce,
    control::{Control, End},
};

/// Lines of the two PICs that no device of the board has: what a kernel without ACPI can use.
const PIC_LINES: [u32; 8] = [5, 6, 7, 10, 11, 12, 14, 15];

/// Those of the I/O APIC beyond them, which ACPI can name.
const HIGH_LINES: [u32; 8] = [16, 17, 18, 19, 20, 21, 22, 23];

/// The line of the n-th virtio device. When there are more devices than lines, they share.
pub(super) fn line(announce: Announce, n: usize) -> u32 {
    match announce {
        Announce::CommandLine => PIC_LINES[n % 8],
        Announce::Acpi if n % 16 < 8 => HIGH_LINES[n % 8],
        Announce::Acpi => PIC_LINES[n % 8],
    }
}

/// Lines of the PICs that are level-triggered, as firmware sets them: those of virtio devices and
/// of power management.
pub(super) const LEVEL_LINES: [u8; 2] = [0b1110_0000, 0b1101_1110];

/// How many devices raise each line.
#[derive(Debug)]
pub(super) struct Lines {
    vm: Arc<dyn Vm>,
    control: Arc<Control>,
    raised: Mutex<[u32; 24]>,
}

impl Lines {
    pub(super) fn new(vm: Arc<dyn Vm>, control: Arc<Control>) -> Lines {
        Lines { vm, control, raised: Mutex::new([0; 24]) }
    }

    /// One device more raises a line, or one less does.
    fn change(&self, line: u32, raised: bool) {
        let mut all = self.raised.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(count) = all.get_mut(line as usize) else { return };
        let before = *count;
        *count = if raised { before + 1 } else { before.saturating_sub(1) };
        // Under the lock, so that what the chips hear last is what is true.
        match (before, *count) {
            (0, 1) => self.tell(line, true),
            (1, 0) => self.tell(line, false),
            // A kernel without ACPI may take the line for one whose rise alone counts.
            (before, after) if after > before => {
                self.tell(line, false);
                self.tell(line, true);
            }
            _ => {}
        }
    }

    fn tell(&self, line: u32, raised: bool) {
        if let Err(error) = self.vm.line(line, raised) {
            let why = format!("interrupt line {line}: {error}");
            self.control.finish(End::Failed { why });
        }
    }
}

/// A line as one device has it.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) lines: Arc<Lines>,
    pub(super) line: u32,
}

impl Line for Share {
    fn set(&self, raised: bool) {
        self.lines.change(self.line, raised);
    }
}

/// An eventfd that nobody waits for in a read.
pub(super) fn bell() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// Rings it.
pub(super) fn ring(bell: impl AsFd) {
    // It fails only when it has been rung 2^64 times and nobody heard; then it rings still.
    let _ = rustix::io::write(bell, &1u64.to_le_bytes());
}

/// Silences it.
pub(super) fn silence(bell: impl AsFd) {
    // It fails only when it was silent.
    let _ = rustix::io::read(bell, &mut [0u8; 8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_get_lines_of_their_own_as_long_as_there_are_any() {
        let lines = |announce, count| -> std::collections::BTreeSet<u32> {
            (0..count).map(|n| line(announce, n)).collect()
        };
        assert_eq!(lines(Announce::Acpi, 16).len(), 16);
        assert_eq!(lines(Announce::CommandLine, 8).len(), 8);
        assert!(lines(Announce::CommandLine, 100).iter().all(|line| *line < 16));
        let board = [0, 1, 2, 4, 8, 9, 13];
        assert!(lines(Announce::Acpi, 100).iter().all(|line| !board.contains(line)));
    }

    #[test]
    fn level_lines_are_those_of_the_devices() {
        let level = |line: u32| LEVEL_LINES[line as usize / 8] >> (line % 8) & 1 == 1;
        let all: Vec<u32> = (0..16).filter(|line| level(*line)).collect();
        assert_eq!(all, [5, 6, 7, 9, 10, 11, 12, 14, 15]);
    }
}
