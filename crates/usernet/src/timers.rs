//! When to look at which flow again.

use std::collections::BTreeSet;

/// A time on the stack's clock, in milliseconds since it was made.
pub(crate) type Millis = i64;

/// Deadlines of flows, each by its slot.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeSet<(Millis, usize)>,
}

impl Timers {
    /// Moves a flow's deadline. One that is later leaves the earlier in place, at which the flow is
    /// looked at in vain: nearly every packet moves a deadline, and nearly none is reached.
    pub(crate) fn set(&mut self, slot: usize, deadline: &mut Option<Millis>, to: Option<Millis>) {
        let Some(to) = to else { return };
        if deadline.is_some_and(|old| old <= to) {
            return;
        }
        self.clear(slot, deadline);
        *deadline = Some(to);
        self.set.insert((to, slot));
    }

    /// Forgets a flow's deadline.
    pub(crate) fn clear(&mut self, slot: usize, deadline: &mut Option<Millis>) {
        if let Some(old) = deadline.take() {
            self.set.remove(&(old, slot));
        }
    }

    /// The flow whose deadline is the next, if it is not after `now`.
    pub(crate) fn due(&self, now: Millis) -> Option<usize> {
        self.set.first().filter(|(at, _)| *at <= now).map(|(_, slot)| *slot)
    }

    /// The next deadline.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.set.first().map(|(at, _)| *at)
    }

    /// The flow with the first deadline.
    pub(crate) fn first(&self) -> Option<usize> {
        self.set.first().map(|(_, slot)| *slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_moves_forward_only() {
        let mut timers = Timers::default();
        let (mut one, mut two) = (None, None);
        timers.set(1, &mut one, Some(100));
        timers.set(2, &mut two, Some(50));
        timers.set(2, &mut two, Some(70));
        assert_eq!((timers.due(49), timers.due(50), timers.next()), (None, Some(2), Some(50)));
        timers.set(1, &mut one, Some(20));
        assert_eq!(timers.first(), Some(1));
        timers.clear(1, &mut one);
        timers.clear(1, &mut one);
        assert_eq!(timers.due(1000), Some(2));
        timers.clear(2, &mut two);
        assert_eq!(timers.next(), None);
    }
}
