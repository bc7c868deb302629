//! The chips under any sequence of accesses, for the fuzzer.

use std::num::NonZeroU8;

use super::{Chips, Moment, Wake};

/// How many processors there are.
const VCPUS: u8 = 3;

/// Bytes of a step: what, which processor, an offset, a value.
const STEP: usize = 12;

/// Most steps that are carried out.
const STEPS_MAX: usize = 1000;

#[derive(Debug)]
struct Nobody;

impl Wake for Nobody {
    fn wake(&self, vcpu: u8) {
        assert!(vcpu < VCPUS, "a processor that is not there is woken");
    }
}

/// Accesses of guests and devices, and time: each step is a byte that says what, one that says
/// which processor, an offset of two bytes and a value of eight.
///
/// # Panics
/// If chips that were saved and restored are others, or what waits cannot be taken.
pub fn accesses(bytes: &[u8]) {
    let chips = Chips::new(VCPUS, 1_000_000, Box::new(Nobody)).expect("three are not too many");
    let mut now = 0u64;
    for step in bytes.chunks_exact(STEP).take(STEPS_MAX) {
        let vcpu = step[1] % VCPUS;
        let at = u16::from_le_bytes([step[2], step[3]]);
        let value = u64::from_le_bytes(std::array::from_fn(|n| step[4 + n]));
        act(&chips, step[0], (vcpu, at, value), &mut now);
    }
    check(&chips, now);
}

fn act(chips: &Chips, what: u8, (vcpu, at, value): (u8, u16, u64), now: &mut u64) {
    let (time, data) = (*now, value.to_le_bytes());
    let moment = Moment { nanoseconds: time, tsc: time.wrapping_mul(3) };
    let length = NonZeroU8::new(data[7] % 9).map_or(4, |length| usize::from(length.get()));
    let place = |base: u64| base + u64::from(at & 0xfff);
    let mut read = [0; 8];
    match what % 12 {
        0 => chips.line(u32::from(at % 26), value & 1 != 0),
        1 => chips.message(
            0xfee0_0000 + u64::from(at) * 4,
            u32::from_le_bytes([data[0], data[1], data[2], 0]),
        ),
        2 => drop(chips.memory_write(vcpu, place(0xfee0_0000), &data[..4], || time)),
        3 => drop(chips.memory_write(vcpu, place(0xfec0_0000), &data[..length.min(7)], || time)),
        4 => drop(chips.memory_read(vcpu, place(0xfee0_0000), &mut read[..length], || time)),
        5 => drop(chips.memory_read(vcpu, place(0xfec0_0000), &mut read[..length], || time)),
        6 => drop(chips.port_write(at & 0x4ff, data[0], || time)),
        7 => drop(chips.port_read(at & 0x4ff, || time)),
        8 => drop(chips.write_msr(vcpu, msr(at), value, moment)),
        9 => drop(chips.read_msr(vcpu, msr(at), moment)),
        10 => take(chips, vcpu),
        _ => {
            *now = now.saturating_add(value >> (at % 64));
            chips.tick(*now);
        }
    }
}

fn msr(at: u16) -> u32 {
    match at {
        0 => 0x1b,
        1 => 0x6e0,
        _ => 0x800 + u32::from(at % 0x100),
    }
}

fn take(chips: &Chips, vcpu: u8) {
    let pending = chips.pending(vcpu);
    assert_eq!(chips.take_interrupt(vcpu).is_some(), pending.interrupt, "what waits can be taken");
    assert_eq!(chips.take_nmi(vcpu), pending.nmi, "what waits can be taken");
    assert_eq!(chips.take_startup(vcpu).is_some(), pending.startup, "what waits can be taken");
    assert_eq!(chips.take_init(vcpu), pending.init, "what waits can be taken");
}

/// What is saved is what was restored.
fn check(chips: &Chips, now: u64) {
    let other = Chips::new(VCPUS, 1_000_000, Box::new(Nobody)).expect("three are not too many");
    let state = chips.state(now);
    other.set_state(&state, now);
    assert_eq!(other.state(now), state);
    let moment = Moment { nanoseconds: now, tsc: now.wrapping_mul(3) };
    for vcpu in 0..VCPUS {
        let page = chips.apic(vcpu, now);
        let base = chips.read_msr(vcpu, 0x1b, moment).expect("it can be read");
        other.set_apic(vcpu, &page, base, now).expect("it has just been saved");
        assert_eq!(other.apic(vcpu, now), page);
    }
}
