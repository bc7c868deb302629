//! The chips as a machine sees them, after their data sheets.

mod ioapic;
mod lapic;
mod pic;
mod pit;
mod random;
mod save;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::{Chips, Moment, Wake};

/// Frequency of the time stamp counter here: two ticks a nanosecond.
const TSC_KHZ: u32 = 2_000_000;

/// Counts who was woken.
#[derive(Clone, Debug, Default)]
struct Woken(Arc<AtomicU64>);

impl Wake for Woken {
    fn wake(&self, vcpu: u8) {
        self.0.fetch_or(1 << vcpu, Ordering::Relaxed);
    }
}

impl Woken {
    fn take(&self) -> u64 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

fn moment(nanoseconds: u64) -> Moment {
    Moment { nanoseconds, tsc: 2 * nanoseconds }
}

/// Chips for so many processors.
fn chips(vcpus: u8) -> (Chips, Woken) {
    let woken = Woken::default();
    (Chips::new(vcpus, TSC_KHZ, Box::new(woken.clone())).unwrap(), woken)
}

/// The same with every local APIC switched on, as kernels do.
fn enabled(vcpus: u8) -> (Chips, Woken) {
    let (chips, woken) = chips(vcpus);
    for vcpu in 0..vcpus {
        write(&chips, vcpu, 0xf0, 0x1ff);
    }
    woken.take();
    (chips, woken)
}

const PAGE: u64 = 0xfee0_0000;
const IOAPIC: u64 = 0xfec0_0000;

fn write_at(chips: &Chips, vcpu: u8, offset: u64, value: u32, now: u64) {
    assert!(chips.memory_write(vcpu, PAGE + offset, &value.to_le_bytes(), || now));
}

fn write(chips: &Chips, vcpu: u8, offset: u64, value: u32) {
    write_at(chips, vcpu, offset, value, 0);
}

fn read_at(chips: &Chips, vcpu: u8, offset: u64, now: u64) -> u32 {
    let mut word = [0; 4];
    assert!(chips.memory_read(vcpu, PAGE + offset, &mut word, || now));
    u32::from_le_bytes(word)
}

fn read(chips: &Chips, vcpu: u8, offset: u64) -> u32 {
    read_at(chips, vcpu, offset, 0)
}

fn end(chips: &Chips, vcpu: u8) {
    write(chips, vcpu, 0xb0, 0);
}

/// Sets a register of the I/O APIC.
fn set_ioapic(chips: &Chips, register: u8, value: u32) {
    assert!(chips.memory_write(0, IOAPIC, &u32::from(register).to_le_bytes(), || 0));
    assert!(chips.memory_write(0, IOAPIC + 0x10, &value.to_le_bytes(), || 0));
}

fn get_ioapic(chips: &Chips, register: u8) -> u32 {
    assert!(chips.memory_write(0, IOAPIC, &[register], || 0));
    let mut word = [0; 4];
    assert!(chips.memory_read(0, IOAPIC + 0x10, &mut word, || 0));
    u32::from_le_bytes(word)
}

/// Sets a line's entry.
fn entry(chips: &Chips, pin: u8, low: u32, destination: u8) {
    set_ioapic(chips, 0x11 + 2 * pin, u32::from(destination) << 24);
    set_ioapic(chips, 0x10 + 2 * pin, low);
}

fn out(chips: &Chips, port: u16, value: u8) {
    assert!(chips.port_write(port, value, || 0));
}

fn input(chips: &Chips, port: u16) -> u8 {
    chips.port_read(port, || 0).unwrap()
}

/// The PICs as kernels set them up: vectors from 0x30 on, nothing masked.
fn start_pics(chips: &Chips) {
    for (port, words) in [(0x20, [0x11, 0x30, 0x04, 0x01]), (0xa0, [0x11, 0x38, 0x02, 0x01])] {
        out(chips, port, words[0]);
        words[1..].iter().for_each(|word| out(chips, port + 1, *word));
        out(chips, port + 1, 0);
    }
}

#[test]
fn a_machine_has_1_to_64_processors() {
    for (vcpus, fine) in [(0, false), (1, true), (64, true), (65, false)] {
        assert_eq!(Chips::new(vcpus, TSC_KHZ, Box::new(Woken::default())).is_ok(), fine);
    }
    let (chips, _) = chips(1);
    assert!(!chips.pending(1).any(), "a processor that is not there has nothing");
    assert_eq!((chips.take_interrupt(9), chips.next_deadline(9)), (None, None));
    assert!(chips.read_msr(9, 0x1b, moment(0)).is_err());
}

#[test]
fn only_the_chips_places_answer() {
    let (chips, _) = chips(2);
    let places = [PAGE - 1, PAGE, PAGE + 0xfff, PAGE + 0x1000, IOAPIC - 1, IOAPIC, IOAPIC + 0x1000];
    let answers = places.map(|at| chips.answers(1, at));
    assert_eq!(answers, [false, true, true, false, false, true, false]);
    assert_eq!(chips.port_read(0x60, || 0), None);
    assert!(!chips.port_write(0x80, 1, || 0));
    assert!(!chips.memory_write(0, 0, &[0; 4], || 0));
    assert!(Chips::is_msr(0x1b) && Chips::is_msr(0x8ff) && !Chips::is_msr(0x10));
}
