//! The clock and a timer for what a device has to come back to.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime,
    timerfd_create, timerfd_settime,
};

/// Now, on the clock that never jumps.
pub(crate) fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = Duration::from_secs(u64::try_from(now.tv_sec).unwrap_or(0));
    seconds + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}

/// A descriptor that is readable when its time has come.
///
/// Source: timerfd_create(2).
#[derive(Debug)]
pub(crate) struct Timer(OwnedFd);

impl Timer {
    pub(crate) fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Timer(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Goes off once, so long from now; a time of zero is the next moment. Fails for no time that
    /// a device of ours asks for; one that did would be waited for without end, which the guest
    /// sees as a slow device.
    pub(crate) fn set(&self, after: Duration) {
        let after = after.max(Duration::from_nanos(1));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = Timespec {
            tv_sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(after.subsec_nanos()),
        };
        let spec = Itimerspec { it_interval: never, it_value: value };
        let set = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &spec);
        debug_assert!(set.is_ok(), "{set:?}");
    }

    /// Makes it unreadable until it goes off again.
    pub(crate) fn clear(&self) {
        let mut count = [0; 8];
        // Nothing to read: it has not gone off, and is unreadable already.
        let _ = rustix::io::read(&self.0, &mut count);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
