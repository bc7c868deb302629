//! What all threads of a machine are to do: run, stand still, end.
//!
//! ```text
//!            ┌──resume──┐
//! Pause ─────┘          ▼
//!   ▲────────pause──── Run ──finish──▶ Stop, with the reason of whoever was first
//!   └──────────────────────finish──────▲
//! ```

use std::{
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use base::Deadline;
use hv::Kick;

use super::lines;

/// Why a machine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest switched it off.
    PoweredOff,
    /// The guest asked for a reset.
    Reset,
    /// The guest's kernel said that it panicked.
    Panicked,
    /// A processor could not even deliver a double fault; a real machine resets.
    TripleFault,
    /// Every processor waits with interrupts off: nothing can ever happen again.
    Stuck,
    /// Somebody outside stopped it.
    Stopped,
    /// The machine itself could not go on; no fault of the guest.
    Failed {
        /// What happened.
        why: String,
    },
}

/// Why a machine was not paused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PauseError {
    /// It has ended before.
    #[error("the machine has ended")]
    Ended(End),
    /// Something in it did not stop in time.
    #[error("the machine did not come to a stop in time")]
    Late,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Run,
    Pause,
    Stop,
}

#[derive(Debug)]
struct State {
    wish: Wish,
    parked: usize,
    /// How often it was resumed.
    resumed: u64,
    /// Whether the devices' thread has nothing more to do: the console's last words are out.
    silent: bool,
    end: Option<End>,
}

/// The wish of the moment, and ways to have it heard.
#[derive(Debug)]
pub(super) struct Control {
    state: Mutex<State>,
    changed: Condvar,
    kicks: Vec<Arc<dyn Kick>>,
    /// Wakes the thread of the devices.
    wake: OwnedFd,
}

impl Control {
    /// Of a machine that is paused: its processors' kicks, and the eventfd of its devices.
    pub(super) fn new(kicks: Vec<Arc<dyn Kick>>, wake: OwnedFd) -> Control {
        let state = Mutex::new(State {
            wish: Wish::Pause,
            parked: 0,
            resumed: 0,
            silent: false,
            end: None,
        });
        Control { state, changed: Condvar::new(), kicks, wake }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many threads there are to be parked.
    fn threads(&self) -> usize {
        self.kicks.len() + 1
    }

    /// Called by every thread when it was kicked or woken: waits while the machine is paused, and
    /// says whether to go on.
    pub(super) fn pass(&self) -> bool {
        let mut state = self.state();
        if state.wish == Wish::Pause {
            state.parked += 1;
            self.changed.notify_all();
            while state.wish == Wish::Pause {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.parked -= 1;
        }
        state.wish == Wish::Run
    }

    pub(super) fn wake(&self) {
        lines::ring(&self.wake);
    }

    /// The eventfd that [`Control::wake`] writes to.
    pub(super) fn wake_fd(&self) -> &OwnedFd {
        &self.wake
    }

    pub(super) fn kick_all(&self) {
        self.kicks.iter().for_each(|kick| kick.kick());
    }

    pub(super) fn pause(&self, by: Deadline) -> Result<(), PauseError> {
        let mut state = self.state();
        if state.wish == Wish::Run {
            state.wish = Wish::Pause;
            self.kick_all();
            self.wake();
        }
        loop {
            if let Some(end) = &state.end {
                return Err(PauseError::Ended(end.clone()));
            }
            if state.wish == Wish::Pause && state.parked == self.threads() {
                return Ok(());
            }
            if by.passed() {
                state.wish = Wish::Run;
                state.resumed += 1;
                self.changed.notify_all();
                return Err(PauseError::Late);
            }
            let waited = self.changed.wait_timeout(state, by.remaining());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn resume(&self) {
        let mut state = self.state();
        if state.wish == Wish::Pause {
            state.wish = Wish::Run;
            state.resumed += 1;
            self.changed.notify_all();
        }
    }

    pub(super) fn resumed(&self) -> u64 {
        self.state().resumed
    }

    /// Does something while nothing else moves and nobody can resume; `None` if it is not paused.
    pub(super) fn while_paused<R>(&self, act: impl FnOnce() -> R) -> Option<R> {
        let state = self.state();
        (state.wish == Wish::Pause && state.parked == self.threads()).then(act)
    }

    /// Ends the machine, if it has not ended.
    pub(super) fn finish(&self, end: End) {
        let mut state = self.state();
        if state.end.is_none() {
            state.end = Some(end);
            state.wish = Wish::Stop;
            self.changed.notify_all();
        }
        drop(state);
        self.kick_all();
        self.wake();
    }

    /// The console has said all.
    pub(super) fn silent(&self) {
        self.state().silent = true;
        self.changed.notify_all();
    }

    pub(super) fn wait(&self, by: Deadline) -> Option<End> {
        let mut state = self.state();
        while (state.end.is_none() || !state.silent) && !by.passed() {
            let waited = self.changed.wait_timeout(state, by.remaining());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.end.clone()
    }
}

/// Says that the console has said all when the devices' thread ends, however it does.
#[derive(Debug)]
pub(super) struct LastWords<'a>(pub(super) &'a Control);

impl Drop for LastWords<'_> {
    fn drop(&mut self) {
        self.0.silent();
    }
}

/// Ends the machine if the thread that holds it panics, so that nobody waits for ever.
#[derive(Debug)]
pub(super) struct Watch<'a>(pub(super) &'a Control);

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.finish(End::Failed { why: "a thread of the machine panicked".to_owned() });
        }
    }
}
