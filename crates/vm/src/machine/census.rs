//! Whether anything can ever happen again.
//!
//! A processor that halts with interrupts off is no hang as long as another one runs: that is how
//! a kernel parks the processors it does not want. So when one stops for good, all are asked, and
//! the machine is stuck if in this round nobody moves.
//!
//! Pure: who asks and who kicks stands in `processor.rs`.

use hv::{CpuState, state::Activity};

/// Interrupts on, in rflags.
const INTERRUPTS: u64 = 1 << 9;

/// Who has said in which round that it does not move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Census {
    round: u64,
    said: Vec<u64>,
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Unknown,
    /// The others have to be asked.
    Ask,
    /// Nobody moves.
    Stuck,
}

impl Census {
    pub(super) fn new(vcpus: u8) -> Census {
        Census { round: 0, said: vec![0; vcpus.into()] }
    }

    /// A processor has stopped for good: a new round.
    pub(super) fn stopped(&mut self, index: usize) -> Verdict {
        self.round += 1;
        match self.still(index) {
            Verdict::Stuck => Verdict::Stuck,
            Verdict::Unknown | Verdict::Ask => Verdict::Ask,
        }
    }

    /// A processor that was asked does not move.
    pub(super) fn still(&mut self, index: usize) -> Verdict {
        if let Some(said) = self.said.get_mut(index) {
            *said = self.round;
        }
        let all = self.round > 0 && self.said.iter().all(|said| *said == self.round);
        if all { Verdict::Stuck } else { Verdict::Unknown }
    }

    /// Whether a processor still has to answer in this round.
    pub(super) fn wants(&self, index: usize) -> bool {
        self.said.get(index).is_some_and(|said| *said != self.round)
    }
}

/// Whether a processor in this state can only be moved by another.
pub(super) fn motionless(state: &CpuState) -> bool {
    match state.activity {
        Activity::Running => false,
        Activity::Halted => state.rflags & INTERRUPTS == 0 && !state.events.nmi_pending,
        Activity::WaitForInit | Activity::WaitForStartup => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_alone_that_stops_is_a_machine_that_is_stuck() {
        assert_eq!(Census::new(1).stopped(0), Verdict::Stuck);
    }

    #[test]
    fn all_have_to_stand_still_in_the_same_round() {
        let mut census = Census::new(3);
        assert!(!census.wants(1), "nobody asks while all run");
        assert_eq!(census.stopped(1), Verdict::Ask);
        assert_eq!(census.still(2), Verdict::Unknown);
        assert!(census.wants(0) && !census.wants(1));
        // Processor 0 runs, wakes processor 2, and stops.
        assert_eq!(census.stopped(0), Verdict::Ask);
        assert!(census.wants(1) && census.wants(2));
        assert_eq!(census.still(1), Verdict::Unknown);
        assert_eq!(census.stopped(2), Verdict::Ask);
        assert_eq!(census.still(0), Verdict::Unknown);
        assert_eq!(census.still(1), Verdict::Stuck);
    }
}
