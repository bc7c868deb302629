//! Integer instructions against the host's own processor: every register, flag and byte.
//!
//! `SOFTCPU_CASES` sets how many cases, `SOFTCPU_SEED` where they begin; a failure prints the case
//! as a line for `native/integer.cases`, where the host's answers are kept for machines that
//! cannot be asked. `SOFTCPU_RECORD` names a file to which one case of each kind is written.

#[path = "native/host.rs"]
mod host;
#[path = "native/integer.rs"]
mod integer;
#[path = "native/integer_leeway.rs"]
mod integer_leeway;
#[path = "native/random.rs"]
mod random;
#[path = "native/record.rs"]
mod record;
#[path = "native/soft.rs"]
mod soft;

use std::{collections::BTreeSet, fmt::Write as _, fs};

use host::{Event, Host, Outcome, State};
use iced_x86::{Instruction, Mnemonic, OpKind};
use integer::{Case, FRESH, decode, draw};
use integer_leeway::{Part, Seen, defined, leaves_out};
use random::Random;
use record::Record;
use soft::Soft64;
use testkit::need;

/// How many cases without `SOFTCPU_CASES`.
const CASES: u64 = 20_000;

/// Failures of one instruction that are told.
const TOLD: usize = 3;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn next(random: &mut Random) -> (Case, Instruction) {
    loop {
        if let Some(drawn) = draw(random) {
            return drawn;
        }
    }
}

#[test]
fn integers_do_what_the_host_does() {
    let host = Host::new();
    if !need::ptrace(host.is_ok()) {
        return;
    }
    let mut host = host.expect("a child to trace");
    let (seed, cases) = (setting("SOFTCPU_SEED", 1), setting("SOFTCPU_CASES", CASES));
    let mut random = Random::new(seed);
    let mut soft = Soft64::new();
    let mut kinds = Kinds::default();
    let mut failures: Vec<(Mnemonic, String)> = Vec::new();
    for _ in 0..cases {
        let (case, instruction) = next(&mut random);
        let record = ask(&mut host, &case);
        kinds.note(&record, &instruction);
        if let Err(difference) = compare(&mut soft, &record, &instruction) {
            let known = failures.iter().filter(|(of, _)| *of == instruction.mnemonic()).count();
            if known < TOLD {
                failures.push((instruction.mnemonic(), format!("{difference}{record}\n")));
            }
        }
    }
    if let Ok(path) = std::env::var("SOFTCPU_RECORD") {
        fs::write(path, kinds.text).expect("a file for the records");
    }
    let text: String = failures.into_iter().map(|(_, text)| text).collect();
    assert!(text.is_empty(), "{text}");
}

#[test]
fn what_a_host_once_answered_stays_right() {
    let mut soft = Soft64::new();
    let mut failures = String::new();
    let lines = include_str!("native/integer.cases").lines();
    let records = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut count = 0;
    for line in records {
        let record: Record = line.parse().expect("a record");
        let instruction = decode(&record.case.code);
        if let Err(difference) = compare(&mut soft, &record, &instruction) {
            failures += &difference;
        }
        count += 1;
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(count > 300, "only {count} cases are kept");
}

/// One case of each kind: by instruction, operand and end.
#[derive(Debug, Default)]
struct Kinds {
    known: BTreeSet<String>,
    text: String,
}

impl Kinds {
    fn note(&mut self, record: &Record, instruction: &Instruction) {
        let end = match record.outcome.event {
            Event::Done => 0,
            Event::Signal { number, .. } => number,
        };
        let memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
        let kind = format!("{:?} {memory} {end}", instruction.mnemonic());
        if self.known.insert(kind) {
            let _ = writeln!(self.text, "{record}");
        }
    }
}

/// The host's answer.
fn ask(host: &mut Host, case: &Case) -> Record {
    host.data().fill(0);
    host.data()[FRESH..FRESH + case.data.len()].copy_from_slice(&case.data);
    let outcome = host.run(&case.code, &before(case));
    Record::new(case.clone(), outcome, host.data())
}

fn before(case: &Case) -> State {
    State { gpr: case.gpr, flags: case.flags, bases: case.bases, fpu: None }
}

/// Our answer, and what about it is wrong.
fn compare(soft: &mut Soft64, record: &Record, instruction: &Instruction) -> Result<(), String> {
    let case = &record.case;
    soft.clear_data();
    soft.set_data(FRESH, &case.data);
    let ours = soft.run(&case.code, &before(case));
    let theirs = &record.outcome;
    let seen = Seen { instruction, case, theirs, ours: &ours };
    if leaves_out(Part::Case, &seen) {
        return Ok(());
    }
    let mut text = String::new();
    let end =
        same_end(theirs, &ours) || leaves_out(Part::Fault, &seen) && both_fault(theirs, &ours);
    if !end || theirs.rip != ours.rip {
        let _ = writeln!(
            text,
            "  host {:x?} at {:x}, ours {:x?} at {:x}",
            theirs.event, theirs.rip, ours.event, ours.rip
        );
    }
    let mask = defined(instruction, case);
    if theirs.event == Event::Done && (theirs.state.flags ^ ours.state.flags) & mask != 0 {
        let (theirs, ours) = (theirs.state.flags, ours.state.flags);
        let _ = writeln!(text, "  flags: host {theirs:x}, ours {ours:x}, defined {mask:x}");
    }
    if !leaves_out(Part::Result, &seen) {
        registers(&mut text, &seen);
        let data = soft.data();
        if !leaves_out(Part::Memory, &seen)
            && let Some((at, theirs, ours)) = record.difference(&data)
        {
            let _ = writeln!(text, "  data at {at:x}: host {theirs:02x}, ours {ours:02x}");
        }
    }
    if text.is_empty() {
        return Ok(());
    }
    Err(format!("{:?} {:02x?}\n{text}", instruction.code(), case.code))
}

fn registers(text: &mut String, seen: &Seen<'_>) {
    let mut kept = [u64::MAX; 16];
    if leaves_out(Part::UpperHalf, seen) && seen.instruction.op0_register().is_gpr() {
        kept[seen.instruction.op0_register().full_register().number()] = 0xffff_ffff;
    }
    if leaves_out(Part::UpperCounts, seen) {
        for n in [1, 6, 7] {
            kept[n] = 0xffff_ffff;
        }
    }
    for (n, mask) in kept.into_iter().enumerate() {
        let (a, b) = (seen.theirs.state.gpr[n], seen.ours.state.gpr[n]);
        if (a ^ b) & mask != 0 {
            let _ = writeln!(text, "  register {n}: host {a:x}, ours {b:x}");
        }
    }
}

fn same_end(a: &Outcome, b: &Outcome) -> bool {
    match (a.event, b.event) {
        (Event::Done, Event::Done) => true,
        (
            Event::Signal { number: a, address: at, .. },
            Event::Signal { number: b, address: there, .. },
        ) => a == b && (a != libc::SIGSEGV || at == there),
        _ => false,
    }
}

fn both_fault(a: &Outcome, b: &Outcome) -> bool {
    let fault = |outcome: &Outcome| matches!(outcome.event, Event::Signal { number, .. } if [libc::SIGSEGV, libc::SIGBUS].contains(&number));
    fault(a) && fault(b)
}
