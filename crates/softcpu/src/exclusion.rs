//! One processor alone with memory: for locked operands in two pages.
//!
//! A locked instruction whose operand lies in one page is one instruction of the host. Two pages
//! may lie anywhere in the host's memory, and no instruction reaches both; so the processor lets
//! the others come to the end of what they are at, and does it while they stand still. Who does
//! not use such operands pays for a flag of his own each time he begins to carry out blocks.
//!
//! A processor is *inside* while it carries out instructions or delivers an exception, and outside
//! while it sleeps, takes messages, or its caller has it.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// Who is inside, and whether somebody wants to be alone there.
#[derive(Debug)]
pub(crate) struct Exclusion {
    inside: Box<[Inside]>,
    wanted: AtomicBool,
    one: Mutex<()>,
}

/// A processor's flag, in a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Inside(AtomicBool);

impl Exclusion {
    /// For so many processors, none of them inside.
    pub(crate) fn new(vcpus: u8) -> Exclusion {
        let inside = (0..vcpus).map(|_| Inside::default()).collect();
        Exclusion { inside, wanted: AtomicBool::new(false), one: Mutex::new(()) }
    }

    fn flag(&self, vcpu: u8) -> &AtomicBool {
        &self.inside.get(usize::from(vcpu)).expect("every processor has its flag").0
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.one.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Goes inside, once nobody is alone there.
    pub(crate) fn enter(&self, vcpu: u8) {
        if self.inside.len() == 1 {
            return;
        }
        loop {
            // Either this flag is seen by who wants to be alone, or his wish is seen here.
            self.flag(vcpu).store(true, Ordering::SeqCst);
            if !self.wanted.load(Ordering::SeqCst) {
                return;
            }
            self.leave(vcpu);
            drop(self.lock());
        }
    }

    /// Goes outside.
    pub(crate) fn leave(&self, vcpu: u8) {
        self.flag(vcpu).store(false, Ordering::Release);
    }

    /// Lets a processor that is inside be alone there, until what it gets is dropped; `call` asks
    /// the others to come out.
    pub(crate) fn alone(&self, vcpu: u8, call: impl FnOnce()) -> Alone<'_> {
        // Two who want it must not wait for each other.
        self.leave(vcpu);
        let lock = self.lock();
        self.wanted.store(true, Ordering::SeqCst);
        call();
        for inside in &self.inside {
            while inside.0.load(Ordering::SeqCst) {
                thread::yield_now();
            }
        }
        Alone { exclusion: self, vcpu, lock: Some(lock) }
    }
}

/// The others stand still.
#[derive(Debug)]
pub(crate) struct Alone<'a> {
    exclusion: &'a Exclusion,
    vcpu: u8,
    lock: Option<MutexGuard<'a, ()>>,
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        self.exclusion.wanted.store(false, Ordering::SeqCst);
        self.lock = None;
        self.exclusion.enter(self.vcpu);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    #[test]
    fn who_is_alone_is_not_disturbed() {
        let exclusion = Exclusion::new(4);
        let (low, high) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for vcpu in 0..4 {
                let (exclusion, low, high) = (&exclusion, &low, &high);
                scope.spawn(move || {
                    for round in 0..200 {
                        exclusion.enter(vcpu);
                        if round % 4 == 0 {
                            let alone = exclusion.alone(vcpu, || ());
                            // Two steps, which nobody may see between.
                            let was = low.load(Ordering::Relaxed);
                            thread::yield_now();
                            low.store(was + 1, Ordering::Relaxed);
                            high.store(was + 1, Ordering::Relaxed);
                            drop(alone);
                        } else {
                            let seen = low.load(Ordering::Relaxed);
                            assert!(high.load(Ordering::Relaxed) >= seen);
                        }
                        exclusion.leave(vcpu);
                    }
                });
            }
        });
        assert_eq!((low.into_inner(), high.into_inner()), (200, 200));
    }
}
