//! Faults: what goes wrong, where, and how often.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use base::Deadline;
use tokio::sync::watch;
use workload::DriverError;

use super::locked;

/// Where something can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// `Driver::create`.
    Create,
    /// `Driver::recover`.
    Recover,
    /// `Sandbox::spawn`.
    Spawn,
    /// `Sandbox::destroy`.
    Destroy,
    /// `Sandbox::limit`.
    Limit,
    /// `Sandbox::usage`.
    Usage,
    /// `Forkable::save`.
    Save,
    /// `Pausable::pause` and `Pausable::resume`.
    Pause,
    /// `Process::signal`.
    Signal,
    /// `Process::wait`: only delays apply, it cannot fail.
    Wait,
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It fails with this, every time.
    Fail(DriverError),
    /// It fails with this once.
    FailOnce(DriverError),
    /// It takes so long more.
    Delay(Duration),
    /// It does not come to an end, but keeps its deadline.
    Hang,
    /// It does not come to an end, whatever the deadline says: what a broken driver does.
    HangForEver,
}

#[derive(Debug)]
pub(crate) struct Faults {
    active: Mutex<BTreeMap<Point, Fault>>,
    healed: watch::Sender<u64>,
}

impl Default for Faults {
    fn default() -> Faults {
        Faults { active: Mutex::default(), healed: watch::Sender::new(0) }
    }
}

impl Faults {
    pub(crate) fn inject(&self, point: Point, fault: Fault) {
        locked(&self.active).insert(point, fault);
    }

    pub(crate) fn heal(&self) {
        locked(&self.active).clear();
        self.healed.send_modify(|times| *times += 1);
    }

    /// Passes this point, well or badly.
    pub(crate) async fn at(
        &self,
        point: Point,
        by: Deadline,
        doing: &str,
    ) -> Result<(), DriverError> {
        let mut healed = self.healed.subscribe();
        healed.mark_unchanged();
        let fault = self.take(point);
        let passed = || DriverError::DeadlinePassed { doing: doing.to_owned() };
        let until = tokio::time::Instant::from_std(by.instant());
        match fault {
            None if by.passed() => Err(passed()),
            None => Ok(()),
            Some(Fault::Fail(error) | Fault::FailOnce(error)) => Err(error),
            Some(Fault::Delay(time)) => {
                tokio::time::timeout_at(until, tokio::time::sleep(time)).await.map_err(|_| passed())
            }
            Some(Fault::Hang) => {
                tokio::time::timeout_at(until, healed.changed()).await.map_err(|_| passed())?.ok();
                Ok(())
            }
            Some(Fault::HangForEver) => {
                healed.changed().await.ok();
                Ok(())
            }
        }
    }

    fn take(&self, point: Point) -> Option<Fault> {
        let mut active = locked(&self.active);
        let fault = active.get(&point).cloned();
        if matches!(fault, Some(Fault::FailOnce(_))) {
            active.remove(&point);
        }
        fault
    }
}
