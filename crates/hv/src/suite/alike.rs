//! Whether the chips of two hypervisors are alike: the same accesses at random, and what came of
//! them.

use super::{Did, Guest};
use crate::{Hypervisor, Place};

const SCRIPT: u32 = 15;
const STEPS: u64 = 0x20000;
const LOG: u64 = 0x30000;

/// Where it exits while interrupts may come in.
const OPEN: u16 = 0x541;

/// Most steps of a script: they end before the log.
const STEPS_MAX: usize = 0xff0;

/// One step of the guest's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Write(u32, u32),
    Read(u32),
    Out(u16, u8),
    In(u16),
    /// Interrupts come in for an instant.
    Open,
}

impl Step {
    fn words(self) -> [u32; 4] {
        match self {
            Step::Write(at, value) => [1, at, value, 0],
            Step::Read(at) => [2, at, 0, 0],
            Step::Out(port, value) => [3, port.into(), value.into(), 0],
            Step::In(port) => [4, port.into(), 0, 0],
            Step::Open => [5, 0, 0, 0],
        }
    }
}

impl Step {
    /// Which bits of what came of it have to be the same. The request of the second PIC at the
    /// first is a level with us, as in the chip; KVM keeps it when the second's is gone.
    fn counts(self) -> u32 {
        match self {
            Step::In(0x20) => !(1 << 2),
            Step::In(_) | Step::Out(..) | Step::Read(_) | Step::Write(..) | Step::Open => u32::MAX,
        }
    }
}

const LOCAL: u32 = 0xfee0_0000;
const IOAPIC: u32 = 0xfec0_0000;

/// Numbers that look random (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, most: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        let z = (z ^ z >> 31) >> 33;
        u32::try_from(z % u64::from(most)).unwrap_or(0)
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(u32::try_from(of.len()).unwrap_or(1)) as usize]
    }

    /// A vector that is no exception's, of few, so that they meet.
    fn vector(&mut self) -> u32 {
        0x40 + self.below(8) * 0x10 + self.below(3)
    }
}

/// What the host does between scripts.
#[derive(Clone, Copy, Debug)]
enum Line {
    Raise(u32),
    Lower(u32),
    Message(u32),
}

/// Registers of local APICs that are shown: those of interrupts, priorities, entries.
const SHOWN: &[u32] = &[
    0x20, 0x30, 0x80, 0xa0, 0xd0, 0xe0, 0xf0, 0x120, 0x130, 0x140, 0x150, 0x220, 0x230, 0x240,
    0x250, 0x1a0, 0x1b0, 0x300, 0x310, 0x320, 0x350, 0x360, 0x370, 0x380, 0x390, 0x3e0,
];

fn local(random: &mut Random) -> Step {
    match random.below(12) {
        0 => Step::Write(LOCAL + 0x80, random.below(0x100)),
        1 | 2 => Step::Write(LOCAL + 0xb0, 0),
        3 => Step::Write(LOCAL + 0xd0, random.below(0x100) << 24),
        4 => Step::Write(LOCAL + 0xe0, random.one_of(&[u32::MAX, 0x0fff_ffff])),
        5 => Step::Write(LOCAL + 0xf0, random.one_of(&[0x1ff, 0x1ff, 0x1ff, 0xff])),
        6 | 7 => Step::Write(LOCAL + 0x300, 1 << 18 | 1 << 14 | random.vector()),
        8 => {
            let low = random.one_of(&[0, 1 << 11, 1 << 8, 1 << 11 | 1 << 8, 2 << 18, 3 << 18]);
            Step::Write(LOCAL + 0x300, low | 1 << 14 | random.vector())
        }
        9 => Step::Write(LOCAL + 0x310, random.below(0x100) << 24),
        10 => {
            // Masked, so that none of them interrupts by itself.
            let entry = random.one_of(&[0x330, 0x340, 0x360, 0x370]);
            Step::Write(LOCAL + entry, random.below(1 << 16) & !0x5700 | 1 << 16)
        }
        _ => Step::Read(LOCAL + random.one_of(SHOWN)),
    }
}

/// Two steps: which register, and what with it.
fn ioapic(random: &mut Random) -> [Step; 2] {
    let register = 0x10 + 2 * random.one_of(&[5, 6, 20]) + random.below(2);
    let select = Step::Write(IOAPIC, random.one_of(&[register, register, register, 0, 1, 0x40]));
    let low = random.one_of(&[0, 1 << 15, 1 << 15, 1 << 16, 1 << 11]) | random.vector();
    let value = if register & 1 == 0 { low } else { random.below(4) << 24 };
    [
        select,
        if random.below(2) == 0 {
            Step::Read(IOAPIC + 0x10)
        } else {
            Step::Write(IOAPIC + 0x10, value)
        },
    ]
}

fn pic(random: &mut Random) -> Vec<Step> {
    let command = random.one_of(&[0x20u16, 0xa0]);
    let byte = |random: &mut Random, most| random.below(most).to_le_bytes()[0];
    match random.below(8) {
        0 => vec![Step::In(random.one_of(&[0x4d0, 0x4d1]))],
        1 => vec![Step::Out(random.one_of(&[0x4d0, 0x4d1]), byte(random, 0x100))],
        2 => vec![Step::Out(command + 1, byte(random, 0x100))],
        3 => vec![Step::In(command), Step::In(command + 1)],
        // Ends and rotation.
        4 => vec![Step::Out(command, byte(random, 8) << 5 | byte(random, 8))],
        // What is read, and special mask mode.
        5 => vec![Step::Out(command, random.one_of(&[0x0a, 0x0b, 0x48, 0x68]))],
        6 => vec![Step::Out(command, 0x20)],
        _ => {
            let base = if command == 0x20 { 0xc0 } else { 0xc8 };
            let last = random.one_of(&[1, 1, 3, 0x11]);
            let words = [base, if command == 0x20 { 4 } else { 2 }, last];
            let words = words.map(|word| Step::Out(command + 1, word));
            [vec![Step::Out(command, 0x11)], words.to_vec()].concat()
        }
    }
}

fn script(random: &mut Random, interrupts: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    while steps.len() < 200 {
        match random.below(10) {
            0..5 => steps.push(local(random)),
            5 | 6 => steps.extend(ioapic(random)),
            7 | 8 => steps.extend(pic(random)),
            _ if interrupts => steps.push(Step::Open),
            _ => {}
        }
    }
    steps.truncate(STEPS_MAX);
    steps
}

fn line(random: &mut Random) -> Line {
    let line = random.one_of(&[5, 6, 10, 20]);
    match random.below(5) {
        0 | 1 => Line::Raise(line),
        2 | 3 => Line::Lower(line),
        _ => Line::Message(random.vector() | 1 << 14 | random.one_of(&[0, 1 << 15])),
    }
}

/// What a script came to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Came {
    results: Vec<u32>,
    vectors: Vec<u8>,
}

impl Guest {
    fn carry_out(&mut self, steps: &[Step]) -> Came {
        self.carry_in(steps);
        // It was told so when it asked last; it asks again when it is done.
        while self.run(SCRIPT.into()) == Did::Wrote(Place::Port(OPEN), 1, 0) {}
        let word = |at| self.memory.load::<u32>(at).expect("it is memory");
        let results = (STEPS + 12..).step_by(16).take(steps.len()).map(word).collect();
        let mut vectors = vec![0; word(LOG) as usize];
        self.memory.read(LOG + 4, &mut vectors).expect("it is memory");
        Came { results, vectors }
    }

    fn carry_in(&self, steps: &[Step]) {
        let end = [[0; 4]];
        for (at, words) in
            (STEPS..).step_by(16).zip(steps.iter().map(|step| step.words()).chain(end))
        {
            for (at, word) in (at..).step_by(4).zip(words) {
                self.memory.store(at, word).expect("it is memory");
            }
        }
    }
}

/// The same scripts at random on two hypervisors; with interrupts that are taken, or with
/// interrupts that only wait (nested hypervisors have been seen that forget what is in service).
///
/// # Panics
/// At the first step that did not come to the same.
pub fn chips_alike(
    one: &dyn Hypervisor,
    other: &dyn Hypervisor,
    seed: u64,
    scripts: u32,
    interrupts: bool,
) {
    let mut random = Random(seed);
    let mut guests = [one, other].map(|hypervisor| Guest::started(hypervisor, 1));
    guests.iter_mut().for_each(|guest| guest.command(SCRIPT));
    for n in 0..scripts {
        let (steps, change) = (script(&mut random, interrupts), line(&mut random));
        let [came, here] = guests.each_mut().map(|guest| {
            let done = match change {
                Line::Raise(line) => guest.vm.line(line, true),
                Line::Lower(line) => guest.vm.line(line, false),
                Line::Message(data) => guest.vm.message(0xfee0_0000, data),
            };
            done.expect("the chips take it");
            guest.carry_out(&steps)
        });
        let differs = |step: &Step, one: u32, other: u32| (one ^ other) & step.counts() != 0;
        let both = came.results.iter().zip(&here.results).zip(&steps);
        let odd = both.into_iter().position(|((one, other), step)| differs(step, *one, *other));
        if let Some(odd) = odd {
            let last = steps[odd.saturating_sub(12)..=odd].iter().map(|step| format!("{step:x?}"));
            panic!(
                "seed {seed:#x}, script {n}, step {odd}: {:#x} and {:#x}, after {change:?} and {:#?}",
                came.results[odd],
                here.results[odd],
                last.collect::<Vec<_>>(),
            );
        }
        assert_eq!(came.vectors, here.vectors, "seed {seed:#x}, script {n}, after {change:?}");
    }
}
