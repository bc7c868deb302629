//! The cases.
#![allow(clippy::wildcard_enum_match_arm, reason = "whatever else it did is wrong")]

use std::{
    os::fd::{AsFd as _, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};

use super::{Case, Did, Guest, SEED, load};
use crate::{
    Accel, CpuState, Doorbell, Exit, Hypervisor, Model, Place,
    model::Position,
    state::{Activity, Segment},
};

/// What the guest can be told.
const PORTS: u32 = 0;
const MEMORY: u32 = 1;
const DOORBELLS: u32 = 2;
const LISTEN: u32 = 3;
const WAIT: u32 = 4;
const DIRTY: u32 = 5;
const SPIN: u32 = 6;
const COMPUTE: u32 = 7;
const FAULTS: u32 = 8;
const COUNT: u32 = 9;
const STOP: u32 = 10;
const TRIPLE: u32 = 11;
const CPUID: u32 = 12;
const START_OTHER: u32 = 13;
const PIT: u32 = 14;

pub(super) const ALL: &[Case] = &[
    Case { what: "it goes from real mode to long mode", test: boots, sound: false },
    Case { what: "ports are read and written in every width", test: ports, sound: false },
    Case { what: "memory that is not there is the host's", test: memory, sound: false },
    Case { what: "doorbells are counted without an exit", test: doorbells, sound: false },
    Case { what: "a line's eventfd interrupts", test: line_events, sound: false },
    Case { what: "lines and messages interrupt", test: lines_and_messages, sound: false },
    Case { what: "timers interrupt", test: timers, sound: false },
    Case { what: "pages that were written are logged", test: dirty, sound: false },
    Case { what: "a kick ends a run, whenever it comes", test: kicks, sound: false },
    Case { what: "exceptions arrive with their codes", test: faults, sound: false },
    Case { what: "a guest that stops for ever is seen", test: stops, sound: false },
    Case { what: "a triple fault is seen", test: triple, sound: false },
    Case { what: "cpuid is the model's", test: cpuid, sound: true },
    Case { what: "a second processor starts", test: second, sound: false },
    Case { what: "the state goes in as it came out", test: state, sound: false },
    Case { what: "a move in the middle of a run changes nothing", test: moves, sound: false },
];

/// What Intel's manual says of a processor after a reset (volume 3, table 10-1).
pub(super) fn check_reset(state: &CpuState) {
    let code = state.segments[1];
    assert_eq!((code.selector, code.base, code.limit), (0xf000, 0xffff_0000, 0xffff));
    assert_eq!((state.rip, state.rflags, state.activity), (0xfff0, 2, Activity::Running));
    assert_eq!((state.cr0, state.cr3, state.cr4), (0x6000_0010, 0, 0));
    assert_eq!((state.idt.base, state.idt.limit), (0, 0xffff));
    let Segment { selector, base, limit, .. } = state.segments[3];
    assert_eq!((selector, base, limit), (0, 0, 0xffff));
    assert_eq!((state.debug[4], state.debug[5]), (0xffff_0ff0, 0x400));
    assert!(state.msrs.is_sorted() && state.msrs.contains(&(0xc000_0080, 0)));
}

fn ring() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
}

/// How often it was rung since it was last asked.
fn rung(ring: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(ring, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(_) => 0,
    }
}

fn boots(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::at_reset(hypervisor, 1);
    guest.says(0x500, SEED);
    guest.writes(Place::Port(0x500), 1, 32);
    guest.writes(Place::Port(0x500), 1, 64);
    guest.reads(Place::Port(0x510), 4, PORTS.into());
    guest.writes(Place::Port(0x520), 1, 0x11);
    let state = guest.vcpu.state().expect("its state");
    assert_eq!((state.cr3, state.cr0 & 0x8000_0001), (0x1000, 0x8000_0001));
    assert_eq!(state.msrs.iter().find(|(n, _)| *n == 0xc000_0080), Some(&(0xc000_0080, 0x500)));
    assert_eq!((state.segments[1].selector, state.segments[1].access & 0x2000), (0x18, 0x2000));
    assert_eq!((state.idt.base, state.idt.limit), (0x8000, 0xfff));
}

fn ports(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    let at = Place::Port(0x520);
    guest.command(PORTS);
    for (bytes, value) in [(1, 0x11), (2, 0x2211), (4, 0x4433_2211)] {
        guest.writes(at, bytes, value);
    }
    for (bytes, value) in [(1, 0xf1), (2, 0xfff2), (4, 0x1000_0000)] {
        guest.reads(at, bytes, value);
    }
    guest.writes(at, 4, 0x1000_0000 + 0xf1 + 0xfff2);
    for letter in b"wythe" {
        guest.writes(Place::Port(0x522), 1, (*letter).into());
    }
    for value in [0x1122, 0x3344, 0x5566] {
        guest.reads(Place::Port(0x523), 2, value);
    }
    guest.writes(Place::Port(0x523), 4, 0x3344_1122);
    guest.writes(Place::Port(0x523), 2, 0x5566);
    guest.command(PORTS);
}

fn memory(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    let at = |offset: u64| Place::Memory(0xd000_0000 + offset);
    guest.command(MEMORY);
    for (offset, bytes, value) in
        [(0, 1, 0x11), (2, 2, 0x2211), (4, 4, 0x4433_2211), (8, 8, 0x8877_6655_4433_2211)]
    {
        guest.writes(at(offset), bytes, value);
    }
    for (offset, bytes, value) in
        [(0x10, 1, 1), (0x12, 2, 0x200), (0x14, 4, 0x3_0000), (0x18, 8, 4 << 60)]
    {
        guest.reads(at(offset), bytes, value);
    }
    guest.writes(at(0x20), 8, 4 << 60 | 0x3_0201);
    guest.command(MEMORY);
}

fn doorbells(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    let (memory, port, other) = (ring(), ring(), ring());
    let hang = |guest: &Guest, place, bytes, value, ring: &OwnedFd| {
        let ring = ring.try_clone().expect("a descriptor");
        guest.vm.doorbell(Doorbell { place, bytes, value }, ring).expect("a doorbell");
    };
    hang(&guest, Place::Memory(0xd000_1000), 4, Some(7), &memory);
    hang(&guest, Place::Port(0x530), 2, None, &port);
    hang(&guest, Place::Memory(0xd000_1004), 4, Some(8), &other);
    guest.command(DOORBELLS);
    guest.writes(Place::Memory(0xd000_1004), 4, 7);
    assert_eq!([&memory, &port, &other].map(rung), [10, 10, 0]);
}

fn line_events(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    let bell = ring();
    guest.vm.line_event(5, bell.as_fd()).expect("a line's eventfd");
    guest.command(LISTEN);
    for count in 1..=3 {
        guest.command(WAIT);
        let ringer = bell.try_clone().expect("a descriptor");
        let ringer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            rustix::io::write(&ringer, &1u64.to_ne_bytes()).expect("it is rung");
        });
        guest.says(0x525, count);
        ringer.join().expect("it was rung");
    }
}

fn lines_and_messages(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(LISTEN);
    guest.command(WAIT);
    guest.vm.line(5, true).expect("a line");
    guest.vm.line(5, false).expect("a line");
    guest.says(0x525, 1);
    guest.command(WAIT);
    guest.vm.message(0xfed0_0000, 0x41).expect("no message");
    guest.vm.message(0xfee0_0000, 0x41).expect("a message");
    guest.says(0x525, 0x101);
    // While it waits.
    guest.command(WAIT);
    let vm = Arc::clone(&guest.vm);
    let sender = thread::spawn(move || {
        thread::sleep(Duration::from_millis(2));
        vm.message(0xfee0_0000, 0x41).expect("a message");
    });
    guest.says(0x525, 0x201);
    sender.join().expect("it was sent");
}

fn timers(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(LISTEN);
    for count in 1..=3 {
        guest.command(COUNT);
        guest.says(0x525, count << 16);
    }
    guest.command(PIT);
    match guest.run(0) {
        Did::Wrote(Place::Port(0x525), 4, count) => assert!(count > 0x3_0000, "{count:#x}"),
        other => panic!("{other:?} in place of a tick"),
    }
}

fn dirty(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(MEMORY);
    guest.run(0);
    guest.vm.log_dirty().expect("it watches");
    guest.memory.dirty().take();
    while guest.run(0) != Did::Read(Place::Port(0x510), 4) {}
    // The last answer was 0: PORTS.
    while !matches!(guest.run(0), Did::Wrote(Place::Port(0x523), 2, _)) {}
    guest.vm.log_dirty().expect("a log");
    let pages = guest.memory.dirty().take();
    assert!(pages.contains(&9) && !pages.contains(&0x100), "{pages:?}");
    guest.command(DIRTY);
    guest.command(DIRTY);
    guest.vm.log_dirty().expect("a log");
    let pages = guest.memory.dirty().take();
    for page in [0x100, 0x103, 0x146] {
        assert!(pages.contains(&page), "{page:#x} of {pages:x?}");
    }
    assert!(!pages.contains(&0x101) && !pages.contains(&0x200), "{pages:x?}");
    guest.vm.log_dirty().expect("a log");
    assert_eq!(guest.memory.dirty().take(), [0usize; 0], "it stood still");
}

fn kicks(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    let kick = guest.vcpu.kick();
    kick.kick();
    kick.kick();
    assert_eq!(guest.run(0), Did::Kicked);
    guest.command(SPIN);
    let mut last = 0;
    for _ in 0..5 {
        let kick = guest.vcpu.kick();
        let kicker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(5));
            kick.kick();
        });
        assert_eq!(guest.run(0), Did::Kicked);
        kicker.join().expect("it kicked");
        let count = load(&guest.memory, 0x9100);
        assert!(count > last, "it ran meanwhile");
        last = count;
    }
    // As many as there are, none is lost and none is two.
    let kick = guest.vcpu.kick();
    let stop = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&stop);
    let kicker = thread::spawn(move || {
        while !seen.load(Ordering::Relaxed) {
            kick.kick();
            thread::yield_now();
        }
    });
    for _ in 0..30 {
        assert_eq!(guest.run(0), Did::Kicked);
    }
    stop.store(true, Ordering::Relaxed);
    kicker.join().expect("it kicked");
}

fn faults(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(FAULTS);
    guest.writes(Place::Port(0x502), 1, 6);
    guest.says(0x503, 2);
    guest.says(0x503, 0x5678_9000);
    guest.says(0x503, 0x1234);
    guest.command(FAULTS);
}

fn stops(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(STOP);
    if hypervisor.accel() == Accel::Soft {
        assert_eq!(guest.run(0), Did::Stuck);
        return;
    }
    // KVM's own chips do not say so; but it can be kicked, and seen.
    let kick = guest.vcpu.kick();
    let kicker = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        kick.kick();
    });
    assert_eq!(guest.run(0), Did::Kicked);
    kicker.join().expect("it kicked");
    let state = guest.vcpu.state().expect("its state");
    assert_eq!((state.activity, state.rflags & 0x200), (Activity::Halted, 0));
}

fn triple(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(TRIPLE);
    assert_eq!(guest.run(0), Did::TripleFault);
}

fn cpuid(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(CPUID);
    let at = Position { apic_id: 0, vcpus: 1, apic: true, osxsave: false, xcr0: 1 };
    for leaf in [0, 1, 0x4000_0000, 0x4000_0001, 0x8000_0001, 0x8000_0002, 0x8000_0008] {
        guest.reads(Place::Port(0x526), 4, leaf);
        let leaf = u32::try_from(leaf).expect("a leaf has 32 bits");
        for (register, word) in Model::V1.cpuid(leaf, 0, &at).into_iter().enumerate() {
            let Did::Wrote(_, _, said) = guest.run(0) else { panic!("it says what cpuid says") };
            let extras = extras(leaf, register);
            let (said, word) = (said & !extras, u64::from(word) & !extras);
            assert_eq!(said, word, "leaf {leaf:#x}, register {register}");
        }
    }
    guest.reads(Place::Port(0x526), 4, u32::MAX.into());
    guest.command(CPUID);
}

/// What a guest does without where the host lacks it: x2apic, the deadline timer, KVM's own clock,
/// rdtscp.
fn extras(leaf: u32, register: usize) -> u64 {
    match (leaf, register) {
        (1, 2) => 1 << 21 | 1 << 24,
        (0x4000_0001, 0) => 1 << 1 | 1 << 3 | 1 << 24,
        (0x8000_0001, 3) => 1 << 27,
        _ => 0,
    }
}

fn second(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 2);
    assert!(guest.vm.vcpu(0).is_err(), "it is taken");
    assert!(guest.vm.vcpu(2).is_err(), "there is none");
    let mut other = guest.vm.vcpu(1).expect("the second processor");
    let state = other.state().expect("its state");
    // Intel's wait for a start-up message from the beginning on, KVM's for INIT before it.
    let waits = matches!(state.activity, Activity::WaitForInit | Activity::WaitForStartup);
    assert!(waits, "{:?}", state.activity);
    let kick = other.kick();
    let runner = thread::spawn(move || {
        let first = match other.run().expect("it runs") {
            Exit::PortWrite { port, data } => (port, data.to_vec()),
            exit => panic!("{exit:?} in place of its first words"),
        };
        assert_eq!(other.run().expect("it runs"), Exit::Kicked);
        first
    });
    guest.command(LISTEN);
    guest.command(START_OTHER);
    guest.says(0x527, 0x600d);
    kick.kick();
    let first = runner.join().expect("the second processor ran");
    assert_eq!(first, (0x540, vec![0x00, 0x0a]), "it began at 0xa000");
}

fn state(hypervisor: &dyn Hypervisor) {
    let mut guest = Guest::started(hypervisor, 1);
    guest.command(LISTEN);
    guest.command(WAIT);
    guest.settle();
    let (mut state, chips, _) = guest.save();
    state.gpr = std::array::from_fn(|n| 0x1111_1111_1111_1111 * n as u64);
    state.fpu.xmm[3] = [0x33; 16];
    state.fpu.st[1] = [7; 10];
    state.fpu.tags = 0x02;
    state.debug[0] = 0x1234;
    state.segments[4].base = 0xffff_8000_0000_1000;
    state.events.shadow = false;
    for (msr, value) in [(0xc000_0082, 0xffff_8000_0000_2000), (0xc000_0102, 0x77)] {
        let at = state.msrs.iter().position(|(n, _)| *n == msr).expect("every host has it");
        state.msrs[at].1 = value;
    }
    guest.vcpu.set_state(&state).expect("a state that can be");
    let mut back = guest.vcpu.state().expect("its state");
    // Time goes on.
    for each in [&mut state, &mut back] {
        each.msrs.retain(|(msr, _)| *msr != 0x10);
    }
    assert_eq!(back, state);
    guest.vm.set_chips(&chips).expect("the same chips");
    assert_eq!(guest.vm.chips().expect("its chips"), chips);
    let clock = guest.vm.clock().expect("its clock");
    let later = crate::Clock { nanoseconds: clock.nanoseconds + 3_600_000_000_000 };
    guest.vm.set_clock(later).expect("a later clock");
    let now = guest.vm.clock().expect("its clock");
    assert!(now.nanoseconds >= later.nanoseconds);
    assert!(now.nanoseconds < later.nanoseconds + 60_000_000_000, "{now:?}");
}

/// What the guest computes.
fn computed() -> u64 {
    let (mut a, mut sum) = (1u64, 0u64);
    for _ in 0..20_000 {
        a = a.wrapping_mul(0x5851_f42d).wrapping_add(0x1405_7b7f);
        sum = sum.wrapping_add(a >> 33).rotate_left(7);
        a ^= sum;
    }
    a
}

fn moves(hypervisor: &dyn Hypervisor) {
    moves_between(hypervisor, hypervisor);
}

/// A guest that computes moves from one hypervisor to another and back, three times, and comes to
/// the same result; then it moves while it sleeps, and is woken there.
///
/// # Panics
/// If it does not.
pub fn moves_between(first: &dyn Hypervisor, second: &dyn Hypervisor) {
    let mut guest = Guest::started(first, 1);
    let place = |moves: u32| if moves.is_multiple_of(2) { second } else { first };
    guest.command(LISTEN);
    guest.command(COMPUTE);
    // It stands in the middle of it, and goes on elsewhere; three times.
    let mut moves = 0u32;
    let low = loop {
        let kick = guest.vcpu.kick();
        let kicker = thread::spawn(move || {
            thread::sleep(Duration::from_micros(500));
            kick.kick();
        });
        let did = guest.run(0);
        kicker.join().expect("it kicked");
        match did {
            Did::Kicked if moves < 3 => {
                guest = guest.moved(place(moves));
                moves += 1;
            }
            Did::Kicked => {}
            Did::Wrote(Place::Port(0x524), 4, low) => break low,
            other => panic!("{other:?} in place of a result"),
        }
    };
    let high = loop {
        match guest.run(0) {
            Did::Kicked => {}
            Did::Wrote(Place::Port(0x524), 4, high) => break high,
            other => panic!("{other:?} in place of a result"),
        }
    };
    assert_eq!(high << 32 | low, computed());
    // What interrupted before does so here too.
    while guest.run(u64::from(WAIT)) == Did::Kicked {}
    guest.settle_waiting();
    guest = guest.moved(place(moves));
    guest.vm.line(5, true).expect("a line");
    guest.says(0x525, 1);
}

impl Guest {
    /// Kicks it once it sleeps.
    fn settle_waiting(&mut self) {
        let kick = self.vcpu.kick();
        let kicker = thread::spawn(move || {
            thread::sleep(Duration::from_millis(10));
            kick.kick();
        });
        assert_eq!(self.run(0), Did::Kicked);
        kicker.join().expect("it kicked");
    }
}
