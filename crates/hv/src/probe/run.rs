//! Runs the probe's guest, in a thread of its own: a KVM that is broken may hang on anything.

use std::{
    arch::x86_64::__cpuid,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{
    Measured, Outcome, Run, Trial,
    guest::{self, Entry, ROUND},
};
use crate::{Exit, GuestMemory, HvError, Kick, Model, Vcpu, kvm::Kvm, model::Position};

/// How long one step may take before it hangs. A machine takes up to 40 ms to be made where KVM is
/// emulated.
const PATIENCE: Duration = Duration::from_millis(500);

/// Rounds of the loop: first so many, and where that was too quick to measure, so many more.
const ROUNDS: u64 = 2_000;
const MORE_ROUNDS: u64 = 400_000;
const QUICK: Duration = Duration::from_millis(1);

/// Exits that are measured.
const EXITS: u32 = 64;

/// What is tried, and the lowest model without which it is not: what level 2 has is tried anyway,
/// as it is what guests are given if nobody asks for another.
const TRIALS: &[(Trial, Model)] = &[
    (Trial::Sse, Model::V1),
    (Trial::Int3, Model::V1),
    (Trial::Syscall, Model::V1),
    (Trial::Cpuid, Model::V1),
    (Trial::Popcnt, Model::V1),
    (Trial::Cmpxchg16b, Model::V1),
    (Trial::Xsave, Model::V3),
];

/// Bits of leaf 1's ecx that follow from the host or from switches: x2apic, the deadline timer,
/// osxsave.
const ASIDE: u32 = 1 << 21 | 1 << 24 | 1 << 27;

/// What comes from the thread that runs the guest, one after the other.
enum Report {
    Made(Model, Arc<dyn Kick>),
    Rate(Option<u64>),
    Exit(Option<u64>),
    Tried(Trial, Outcome),
    Failed(HvError),
}

/// Measures the host's KVM; takes some milliseconds, and no more than a few seconds of a KVM that
/// hangs. A thread that does not come back even then is left behind.
pub fn measure() -> Measured {
    let kvm = match Kvm::open() {
        Ok(kvm) => kvm,
        Err(HvError::Host { source, .. }) => return Measured::Closed(source.kind()),
        Err(error) => return Measured::Failed(error.to_string()),
    };
    let (send, reports) = mpsc::channel();
    let spawned = thread::Builder::new().name("kvm-probe".to_owned()).spawn(move || {
        if let Err(error) = run(&kvm, &send) {
            let _gone = send.send(Report::Failed(error));
        }
    });
    match spawned {
        Ok(_left_alone) => collect(&reports),
        Err(error) => Measured::Failed(error.to_string()),
    }
}

fn collect(reports: &mpsc::Receiver<Report>) -> Measured {
    let (model, kick) = match reports.recv_timeout(PATIENCE) {
        Ok(Report::Made(model, kick)) => (model, kick),
        Ok(Report::Failed(error)) => return Measured::Failed(words(&error)),
        Ok(_) | Err(_) => return Measured::Failed("making a guest does not end".to_owned()),
    };
    let mut run = Run { nested: is_nested(), model, rate: None, exit_ns: None, trials: Vec::new() };
    loop {
        let report = reports.recv_timeout(PATIENCE).or_else(|error| {
            if error == mpsc::RecvTimeoutError::Timeout {
                kick.kick();
            }
            reports.recv_timeout(PATIENCE)
        });
        match report {
            Ok(Report::Rate(rate)) => run.rate = rate,
            Ok(Report::Exit(exit_ns)) => run.exit_ns = exit_ns,
            Ok(Report::Tried(trial, outcome)) => run.trials.push((trial, outcome)),
            Ok(Report::Failed(error)) => return Measured::Failed(words(&error)),
            Ok(Report::Made(..)) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return Measured::Ran(run),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Not even a kick brings it back: what it was about to try is what hangs.
                let next = trials(model).nth(run.trials.len());
                run.trials.extend(next.map(|trial| (trial, Outcome::Hangs)));
                return Measured::Ran(run);
            }
        }
    }
}

/// An error with its cause.
fn words(error: &HvError) -> String {
    match error {
        HvError::Host { step, source } => format!("{step}: {source}"),
        HvError::Invalid(why) => why.clone(),
    }
}

/// Source: Intel SDM volume 2, `CPUID`: leaf 1, ecx, bit 31 is for hypervisors.
fn is_nested() -> bool {
    __cpuid(1).ecx & 1 << 31 != 0
}

fn trials(model: Model) -> impl Iterator<Item = Trial> {
    TRIALS.iter().filter(move |(_, least)| model >= *least).map(|(trial, _)| *trial)
}

/// The highest model that the host says it can be.
fn model(kvm: &Kvm) -> Result<Model, HvError> {
    for model in [Model::V3, Model::V2] {
        if kvm.lacks(model)?.is_empty() {
            return Ok(model);
        }
    }
    Ok(Model::V1)
}

fn run(kvm: &Kvm, send: &mpsc::Sender<Report>) -> Result<(), HvError> {
    let model = model(kvm)?;
    let memory = GuestMemory::new(guest::MEMORY)
        .map_err(|source| HvError::Host { step: "make memory", source })?;
    guest::load(&memory).map_err(|error| HvError::Invalid(error.to_string()))?;
    let mut guest = Guest { vcpu: kvm.bare(memory, model)?, xsave: model >= Model::V3 };
    // Whoever asked has given up, if nobody hears.
    let _gone = send.send(Report::Made(model, guest.vcpu.kick()));
    let _gone = send.send(Report::Rate(guest.rate()?));
    let _gone = send.send(Report::Exit(guest.exit_ns()?));
    for trial in trials(model) {
        let outcome = guest.attempt(trial, model)?;
        let _gone = send.send(Report::Tried(trial, outcome));
    }
    Ok(())
}

struct Guest {
    vcpu: Box<dyn Vcpu>,
    xsave: bool,
}

impl Guest {
    fn begin(&mut self, entry: Entry) -> Result<(), HvError> {
        self.vcpu.set_state(&guest::state(entry, self.xsave))
    }

    /// Runs once, and says how that went.
    fn outcome(&mut self) -> Outcome {
        match self.vcpu.run() {
            Ok(Exit::PortWrite { port: 0x601, data: [1] }) => Outcome::Works,
            Ok(Exit::PortWrite { port: 0x602, data: [vector, ..] }) => Outcome::Faults(*vector),
            Ok(Exit::Kicked) => Outcome::Hangs,
            Ok(Exit::TripleFault) | Err(_) => Outcome::Dies,
            Ok(
                Exit::PortWrite { .. }
                | Exit::PortRead { .. }
                | Exit::MmioRead { .. }
                | Exit::MmioWrite { .. }
                | Exit::Stuck,
            ) => Outcome::Wrong,
        }
    }

    fn rate(&mut self) -> Result<Option<u64>, HvError> {
        let Some(quick) = self.time(ROUNDS)? else { return Ok(None) };
        if quick >= QUICK {
            return Ok(Some(per_second(ROUNDS * ROUND, quick)));
        }
        let longer = self.time(MORE_ROUNDS)?;
        Ok(longer.map(|took| per_second(MORE_ROUNDS * ROUND, took)))
    }

    fn time(&mut self, rounds: u64) -> Result<Option<Duration>, HvError> {
        self.begin(Entry::Rate(rounds))?;
        let started = Instant::now();
        let outcome = self.outcome();
        Ok((outcome == Outcome::Works).then(|| started.elapsed()))
    }

    fn exit_ns(&mut self) -> Result<Option<u64>, HvError> {
        self.begin(Entry::Exits)?;
        let is_exit = |vcpu: &mut Box<dyn Vcpu>| {
            matches!(vcpu.run(), Ok(Exit::PortWrite { port: 0x600, .. }))
        };
        // The first brings everything in.
        if !is_exit(&mut self.vcpu) {
            return Ok(None);
        }
        let started = Instant::now();
        for _ in 0..EXITS {
            if !is_exit(&mut self.vcpu) {
                return Ok(None);
            }
        }
        let each = started.elapsed() / EXITS;
        Ok(Some(u64::try_from(each.as_nanos()).unwrap_or(u64::MAX).max(1)))
    }

    fn attempt(&mut self, trial: Trial, model: Model) -> Result<Outcome, HvError> {
        let at = Position { apic_id: 0, vcpus: 1, apic: true, osxsave: self.xsave, xcr0: 1 };
        let mask = !ASIDE;
        let [_, _, expected, _] = model.cpuid(1, 0, &at);
        self.begin(Entry::Trial(trial, mask, expected & mask))?;
        Ok(match (trial, self.outcome()) {
            (Trial::Int3, Outcome::Faults(3)) => Outcome::Works,
            (_, outcome) => outcome,
        })
    }
}

fn per_second(instructions: u64, took: Duration) -> u64 {
    let nanoseconds = took.as_nanos().max(1);
    u64::try_from(u128::from(instructions) * 1_000_000_000 / nanoseconds).unwrap_or(u64::MAX)
}
