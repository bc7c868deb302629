//! Whether the host's KVM is worth using.
//!
//! That `/dev/kvm` is there proves nothing: nested hypervisors can be a hundred times slower than
//! emulation, or break ordinary instructions. So a guest of a few milliseconds measures how fast it
//! runs and what an exit costs, and tries what they break. [`measure`] does that; [`judge`] decides,
//! and knows nothing but the measurements.

mod guest;
mod run;

use std::{fmt, io};

pub use run::measure;

use crate::Model;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measured {
    /// `/dev/kvm` could not be opened, for this reason.
    Closed(io::ErrorKind),
    /// It could, but no guest could be made, for this reason.
    Failed(String),
    /// A guest ran.
    Ran(Run),
}

/// How a guest ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whether the host is a guest itself.
    pub nested: bool,
    /// The highest model that the host says it can be.
    pub model: Model,
    /// Instructions a second, in a loop of integers; none, if it did not come to its end.
    pub rate: Option<u64>,
    /// Nanoseconds of an exit and a return; none, as above.
    pub exit_ns: Option<u64>,
    /// What was tried, and how it went.
    pub trials: Vec<(Trial, Outcome)>,
}

/// What is tried: what nested hypervisors are known to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Counts bits (level 2).
    Popcnt,
    /// Exchanges 16 bytes (level 2).
    Cmpxchg16b,
    /// Arithmetic of SSE2.
    Sse,
    /// A breakpoint arrives at its vector.
    Int3,
    /// Saves and restores floating point (level 3).
    Xsave,
    /// A system call from ring 3 arrives in ring 0.
    Syscall,
    /// `cpuid` says what was arranged.
    Cpuid,
}

/// How a trial went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As a processor does it.
    Works,
    /// It did something else.
    Wrong,
    /// This exception came.
    Faults(u8),
    /// KVM could not go on.
    Dies,
    /// It did not come to an end in time.
    Hangs,
}

/// Slowest that is worth using, in instructions a second: what the software processor does.
pub const RATE_MIN: u64 = 200_000_000;

/// Dearest exit that is worth using. Nested hypervisors on real hardware need some 20 µs.
pub const EXIT_NS_MAX: u64 = 200_000;

/// The verdict, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Use it.
    Usable {
        /// Highest model that it can be.
        model: Model,
        /// Instructions a second.
        rate: u64,
        /// Nanoseconds of an exit.
        exit_ns: u64,
    },
    /// There is none.
    Absent,
    /// There is one, and this process may not open it.
    Forbidden,
    /// It could not be opened, or made no guest.
    Failed(String),
    /// It makes guests that do not run well enough.
    Poor(Poor),
}

/// What is wrong with a KVM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Poor {
    /// Whether the host is a guest itself.
    pub nested: bool,
    /// What did not work.
    pub broken: Vec<(Trial, Outcome)>,
    /// Instructions a second, if it is too slow; 0 if it did not come to an end.
    pub slow: Option<u64>,
    /// Nanoseconds of an exit, if that is too dear; 0 if there was none.
    pub dear: Option<u64>,
}

/// Measures and judges.
pub fn probe() -> Finding {
    judge(&measure())
}

/// The verdict. A function of the measurements alone.
pub fn judge(measured: &Measured) -> Finding {
    let run = match measured {
        Measured::Closed(io::ErrorKind::NotFound) => return Finding::Absent,
        Measured::Closed(io::ErrorKind::PermissionDenied) => return Finding::Forbidden,
        Measured::Closed(kind) => return Finding::Failed(kind.to_string()),
        Measured::Failed(why) => return Finding::Failed(why.clone()),
        Measured::Ran(run) => run,
    };
    let (rate, exit_ns) = (run.rate.unwrap_or(0), run.exit_ns.unwrap_or(0));
    let broken: Vec<_> =
        run.trials.iter().copied().filter(|(_, outcome)| *outcome != Outcome::Works).collect();
    let slow = (rate < RATE_MIN).then_some(rate);
    let dear = (exit_ns == 0 || exit_ns > EXIT_NS_MAX).then_some(exit_ns);
    if broken.is_empty() && slow.is_none() && dear.is_none() {
        return Finding::Usable { model: run.model, rate, exit_ns };
    }
    Finding::Poor(Poor { nested: run.nested, broken, slow, dear })
}

impl Finding {
    /// Whether to use it.
    pub fn is_usable(&self) -> bool {
        matches!(self, Finding::Usable { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Usable { model, rate, exit_ns } => write!(
                f,
                "/dev/kvm is usable: {model}, {} instructions a second, {} µs an exit",
                Rate(*rate),
                Micro(*exit_ns)
            ),
            Finding::Absent => f.write_str("there is no /dev/kvm"),
            Finding::Forbidden => f.write_str(
                "/dev/kvm is there, but this user may not open it (is it in the group kvm?)",
            ),
            Finding::Failed(why) => write!(f, "/dev/kvm is there, but makes no guest: {why}"),
            Finding::Poor(poor) => write!(f, "/dev/kvm is there, but {poor}"),
        }
    }
}

impl fmt::Display for Poor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let named = |of: &dyn Fn(Outcome) -> bool| -> Vec<String> {
            let those = self.broken.iter().filter(|(_, outcome)| of(*outcome));
            those.map(|(trial, _)| trial.to_string()).collect()
        };
        let missing = |outcome| matches!(outcome, Outcome::Faults(_) | Outcome::Dies);
        for (names, singular, plural) in [
            (named(&missing), "does not work", "do not work"),
            (named(&|outcome| outcome == Outcome::Wrong), "goes wrong", "go wrong"),
            (named(&|outcome| outcome == Outcome::Hangs), "hangs", "hang"),
        ] {
            if !names.is_empty() {
                let verb = if names.len() == 1 { singular } else { plural };
                parts.push(format!("{} {verb}", join(&names)));
            }
        }
        match self.slow {
            Some(0) => parts.push("a loop does not end".to_owned()),
            Some(rate) => {
                parts.push(format!("it carries out {} instructions a second", Rate(rate)));
            }
            None => {}
        }
        match self.dear {
            Some(0) => parts.push("it never comes back".to_owned()),
            Some(exit_ns) => parts.push(format!("an exit takes {} µs", Micro(exit_ns))),
            None => {}
        }
        let what = if self.nested {
            "it is a nested hypervisor that cannot be used"
        } else {
            "it cannot be used"
        };
        write!(f, "{what}: {}", parts.join("; "))
    }
}

/// "a, b and c".
fn join(names: &[String]) -> String {
    match names {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// A number of instructions in words.
struct Rate(u64);

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            rate @ 10_000_000.. => write!(f, "{} million", rate / 1_000_000),
            rate @ 1_000_000.. => {
                write!(f, "{}.{} million", rate / 1_000_000, rate % 1_000_000 / 100_000)
            }
            rate => write!(f, "{rate}"),
        }
    }
}

/// Nanoseconds as microseconds.
struct Micro(u64);

impl fmt::Display for Micro {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, self.0 % 1000 / 100)
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Trial::Popcnt => "popcnt",
            Trial::Cmpxchg16b => "cmpxchg16b",
            Trial::Sse => "SSE",
            Trial::Int3 => "int3",
            Trial::Xsave => "xsave",
            Trial::Syscall => "a system call from ring 3",
            Trial::Cpuid => "cpuid",
        })
    }
}

#[cfg(test)]
mod tests;
