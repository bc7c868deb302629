//! What holds for every sequence of accesses.

use proptest::prelude::*;

use super::*;

/// What a guest, a device or time does.
#[derive(Clone, Debug)]
enum Step {
    Line(u32, bool),
    Message(u64, u32),
    Page(u8, u16, u32),
    ReadPage(u8, u16),
    IoApic(u8, u32),
    Port(u16, u8),
    ReadPort(u16),
    Msr(u8, u32, u64),
    ReadMsr(u8, u32),
    Cr8(u8, u8),
    Take(u8),
    Pass(u64),
}

const PORTS: [u16; 11] = [0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x61, 0xa0, 0xa1, 0x4d0, 0x4d1];

fn step() -> impl Strategy<Value = Step> {
    let vcpu = || 0..2u8;
    let port = || prop::sample::select(&PORTS[..]);
    let msr = || prop_oneof![Just(0x1bu32), Just(0x6e0), 0x800..0x900u32];
    let base = prop::sample::select(vec![0xfee0_0900u64, 0xfee0_0d00, 0xfee0_0100, 0xfee0_0800]);
    let value = prop_oneof![3 => 0..0x40000u64, 1 => base, 1 => any::<u64>()];
    let word = || prop_oneof![3 => 0..0x80000u32, 1 => any::<u32>()];
    let destination = prop_oneof![Just(0xfee0_0000u64), Just(0xfee0_1000), Just(0xfeef_f00c)];
    prop_oneof![
        (0..26u32, any::<bool>()).prop_map(|(line, raised)| Step::Line(line, raised)),
        (destination, 0..0x10000u32).prop_map(|(to, data)| Step::Message(to, data)),
        (vcpu(), 0..64u16, word()).prop_map(|(n, register, to)| Step::Page(n, register << 4, to)),
        (vcpu(), 0..0x1000u16).prop_map(|(n, offset)| Step::ReadPage(n, offset)),
        (0..0x42u8, word()).prop_map(|(register, to)| Step::IoApic(register, to)),
        (port(), any::<u8>()).prop_map(|(port, value)| Step::Port(port, value)),
        port().prop_map(Step::ReadPort),
        (vcpu(), msr(), value).prop_map(|(n, msr, value)| Step::Msr(n, msr, value)),
        (vcpu(), msr()).prop_map(|(n, msr)| Step::ReadMsr(n, msr)),
        (vcpu(), 0..17u8).prop_map(|(n, value)| Step::Cr8(n, value)),
        vcpu().prop_map(Step::Take),
        // Counts are saved whole: a move comes between two of them.
        prop_oneof![0..20_000u64, Just(1 << 55)].prop_map(|counts| Step::Pass(128 * counts)),
    ]
}

/// Does it; what there was to see.
fn act(chips: &Chips, step: &Step, now: &mut u64) -> String {
    let at = *now;
    let clock = || at;
    match *step {
        Step::Line(line, raised) => chips.line(line, raised),
        Step::Message(to, data) => chips.message(to, data),
        Step::Page(n, offset, to) => {
            chips.memory_write(n, PAGE + u64::from(offset), &to.to_le_bytes(), clock);
        }
        Step::ReadPage(n, offset) => {
            let mut data = [0; 4];
            let known = chips.memory_read(n, PAGE + u64::from(offset), &mut data, clock);
            return format!("{known} {data:?}");
        }
        Step::IoApic(register, to) => set_ioapic(chips, register, to),
        Step::Port(port, value) => {
            chips.port_write(port, value, clock);
        }
        Step::ReadPort(port) => return format!("{:?}", chips.port_read(port, clock)),
        Step::Msr(n, msr, value) => {
            return format!("{:?}", chips.write_msr(n, msr, value, moment_at(at)));
        }
        Step::ReadMsr(n, msr) => return format!("{:?}", chips.read_msr(n, msr, moment_at(at))),
        Step::Cr8(n, value) => return format!("{:?}", chips.set_cr8(n, value.into())),
        Step::Take(n) => return take(chips, n),
        Step::Pass(time) => {
            *now = now.saturating_add(time);
            chips.tick(*now);
        }
    }
    String::new()
}

fn moment_at(nanoseconds: u64) -> Moment {
    Moment { nanoseconds, tsc: nanoseconds.saturating_mul(2) }
}

/// A processor takes whatever waits for it.
fn take(chips: &Chips, vcpu: u8) -> String {
    let pending = chips.pending(vcpu);
    let init = chips.take_init(vcpu);
    let startup = chips.take_startup(vcpu);
    let nmi = chips.take_nmi(vcpu);
    let interrupt = if init { None } else { chips.take_interrupt(vcpu) };
    assert!(init || pending.interrupt == interrupt.is_some(), "what waits can be taken");
    format!("{init} {startup:?} {nmi} {interrupt:?}")
}

/// The same chips, saved and restored, with what a processor keeps of them.
fn moved(chips: &Chips, now: u64) -> Chips {
    let other = super::chips(2).0;
    other.set_state(&chips.state(now), now);
    for vcpu in 0..2 {
        let [base, deadline] =
            [0x1b, 0x6e0].map(|msr| chips.read_msr(vcpu, msr, moment_at(now)).unwrap());
        other.set_apic(vcpu, &chips.apic(vcpu, now), base, now).unwrap();
        other.write_msr(vcpu, 0x6e0, deadline, moment_at(now)).unwrap();
        if chips.pending(vcpu).nmi {
            other.nmi(vcpu);
        }
    }
    other
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_sequence_panics_and_a_move_in_the_middle_changes_nothing(
        before in prop::collection::vec(step(), 0..60),
        after in prop::collection::vec(step(), 0..40),
    ) {
        let one = enabled(2).0;
        let mut now = 1024;
        for step in &before {
            act(&one, step, &mut now);
        }
        for vcpu in 0..2 {
            one.take_init(vcpu);
            one.take_startup(vcpu);
        }
        let other = moved(&one, now);
        let mut then = now;
        for step in &after {
            let (a, b) = (act(&one, step, &mut now), act(&other, step, &mut then));
            prop_assert_eq!(a, b, "{:?}", step);
            prop_assert_eq!(one.state(now), other.state(now));
            prop_assert_eq!(one.next_deadline(0), other.next_deadline(0));
        }
    }

    /// What the fuzzer does, without its patience.
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..2400)) {
        crate::chips::fuzzing::accesses(&bytes);
    }

    /// Vectors are sent by messages and IPIs in any order and taken in any order; each is taken
    /// exactly as often as it was sent while it was not waiting.
    #[test]
    fn each_interrupt_comes_exactly_once(steps in prop::collection::vec((0..3u8, 32..=255u8), 1..200)) {
        let (chips, woken) = enabled(1);
        let mut waiting = std::collections::BTreeSet::new();
        let mut service = Vec::new();
        for (what, vector) in steps {
            match what {
                0 => {
                    chips.message(0xfee0_0000, vector.into());
                    waiting.insert(vector);
                    prop_assert_eq!(woken.take(), 1);
                }
                1 => {
                    let floor = service.last().map_or(0, |v: &u8| v >> 4);
                    let expected = waiting.last().copied().filter(|v| v >> 4 > floor);
                    prop_assert_eq!(chips.take_interrupt(0), expected);
                    if let Some(vector) = expected {
                        waiting.remove(&vector);
                        service.push(vector);
                    }
                }
                _ => {
                    end(&chips, 0);
                    service.pop();
                }
            }
        }
        while !service.is_empty() || !waiting.is_empty() {
            service.clear();
            (0..16).for_each(|_| end(&chips, 0));
            if let Some(vector) = chips.take_interrupt(0) {
                prop_assert!(waiting.remove(&vector));
            }
        }
        prop_assert!(!chips.pending(0).any());
    }

    /// A level-triggered line interrupts while it is raised, whatever happens in between.
    #[test]
    fn a_raised_line_is_never_forgotten(steps in prop::collection::vec(0..5u8, 1..60)) {
        let (chips, _) = enabled(1);
        entry(&chips, 10, 0x55 | 1 << 15, 0);
        let mut raised = false;
        for step in steps {
            match step {
                0 | 1 => {
                    raised = step == 0;
                    chips.line(10, raised);
                }
                2 => {
                    chips.take_interrupt(0);
                }
                3 => end(&chips, 0),
                _ => {
                    entry(&chips, 10, 0x55 | 1 << 15 | 1 << 16, 0);
                    entry(&chips, 10, 0x55 | 1 << 15, 0);
                }
            }
        }
        // Whoever has ended everything sees it, if it is there.
        chips.take_interrupt(0);
        end(&chips, 0);
        chips.take_interrupt(0);
        end(&chips, 0);
        prop_assert_eq!(chips.pending(0).interrupt, raised);
    }
}
