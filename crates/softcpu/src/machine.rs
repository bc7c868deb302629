//! What the processors of one machine share.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use hv::{Doorbell, GuestMemory, Kick, Place, memory::Watcher};
use rustix::time::{ClockId, clock_gettime};

use crate::{
    chips::{Chips, Wake},
    exclusion::{Alone, Exclusion},
};

/// The time stamp counter's rate: it counts nanoseconds.
pub(crate) const TSC_KHZ: u32 = 1_000_000;

/// Pages that a processor is told of one by one; beyond that it is told "all of them".
const PAGES_MAX: usize = 1024;

/// The machine.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) memory: GuestMemory,
    pub(crate) chips: Chips,
    pub(crate) seats: Arc<Seats>,
    pub(crate) exclusion: Exclusion,
    pub(crate) doorbells: RwLock<Vec<(Doorbell, OwnedFd)>>,
    /// Where the machine's clock stands at zero, in nanoseconds of the host's.
    origin: AtomicU64,
    /// Grows when the clock is set.
    pub(crate) clock_set: AtomicU64,
    /// Grows when writes are to be noticed anew.
    pub(crate) dirty_asked: AtomicU64,
    /// Which processors sleep and cannot be woken by an interrupt, one bit each.
    pub(crate) deaf: AtomicU64,
    pub(crate) vcpus: u8,
}

impl Machine {
    pub(crate) fn new(memory: GuestMemory, vcpus: u8) -> Result<Arc<Machine>, hv::HvError> {
        let seats = Arc::new(Seats((0..vcpus).map(|_| Seat::default()).collect()));
        let wake = Box::new(Waker(Arc::clone(&seats)));
        let chips = Chips::new(vcpus, TSC_KHZ, wake)?;
        memory.dirty().set_watcher(Arc::<Seats>::clone(&seats));
        Ok(Arc::new(Machine {
            memory,
            chips,
            seats,
            exclusion: Exclusion::new(vcpus),
            doorbells: RwLock::default(),
            origin: AtomicU64::new(host_now()),
            clock_set: AtomicU64::new(0),
            dirty_asked: AtomicU64::new(0),
            deaf: AtomicU64::new(0),
            vcpus,
        }))
    }

    /// Nanoseconds of the machine's clock.
    pub(crate) fn now(&self) -> u64 {
        host_now().wrapping_sub(self.origin.load(Ordering::Relaxed))
    }

    /// Sets the machine's clock.
    pub(crate) fn set_now(&self, nanoseconds: u64) {
        self.origin.store(host_now().wrapping_sub(nanoseconds), Ordering::Relaxed);
        self.clock_set.fetch_add(1, Ordering::Relaxed);
    }

    /// Rings the doorbell of a write, if there is one.
    pub(crate) fn ring(&self, place: Place, bytes: u64, value: u64) -> bool {
        let doorbells = self.doorbells.read().unwrap_or_else(PoisonError::into_inner);
        let found = doorbells.iter().find(|(bell, _)| {
            bell.place == place
                && u64::from(bell.bytes) == bytes
                && bell.value.is_none_or(|wanted| wanted == value)
        });
        let Some((_, descriptor)) = found else { return false };
        // An eventfd that is full has been rung already.
        let _full = rustix::io::write(descriptor, &1u64.to_ne_bytes());
        true
    }

    /// Lets the other processors stand still.
    pub(crate) fn alone(&self, vcpu: u8) -> Alone<'_> {
        self.exclusion.alone(vcpu, || {
            for seat in &self.seats.0 {
                seat.post(|_| ());
            }
        })
    }

    /// Tells all processors but this one that a page has instructions.
    pub(crate) fn protect(&self, page: usize, but: u8) {
        for (n, seat) in self.seats.0.iter().enumerate() {
            if n != usize::from(but) {
                seat.post(|mail| mail.protect.push(page));
            }
        }
    }
}

/// Nanoseconds of the host's clock, which never goes back.
pub(crate) fn host_now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Nanoseconds since 1970.
pub(crate) fn host_time() -> u64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}

/// Where each processor's thread is told of things.
#[derive(Debug)]
pub(crate) struct Seats(Box<[Seat]>);

/// One of them.
#[derive(Debug, Default)]
pub(crate) struct Seat {
    /// Whether there is something to look at; looked at between blocks.
    pub(crate) attention: AtomicBool,
    mail: Mutex<Mail>,
    bell: Condvar,
}

/// What a processor is told.
#[derive(Debug, Default)]
pub(crate) struct Mail {
    /// Its caller wants it back.
    pub(crate) kicked: bool,
    /// Pages with instructions that were written.
    pub(crate) written: Vec<usize>,
    /// Pages that have instructions from now on, with another processor.
    pub(crate) protect: Vec<usize>,
}

impl Mail {
    /// Whether there were more pages than are told one by one.
    pub(crate) fn too_many(&self) -> bool {
        self.written.len().max(self.protect.len()) >= PAGES_MAX
    }
}

impl Seat {
    fn post(&self, note: impl FnOnce(&mut Mail)) {
        let mut mail = self.lock();
        if !mail.too_many() {
            note(&mut mail);
        }
        self.attention.store(true, Ordering::Release);
        drop(mail);
        self.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Mail> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came since the last time.
    pub(crate) fn take(&self) -> Mail {
        let mut mail = self.lock();
        self.attention.store(false, Ordering::Relaxed);
        std::mem::take(&mut mail)
    }

    /// Sleeps until something comes, or for so long.
    pub(crate) fn sleep(&self, nanoseconds: Option<u64>) {
        let mail = self.lock();
        if self.attention.load(Ordering::Relaxed) {
            return;
        }
        match nanoseconds {
            Some(left) => drop(self.bell.wait_timeout(mail, Duration::from_nanos(left))),
            None => drop(self.bell.wait(mail)),
        }
    }
}

impl Seats {
    pub(crate) fn get(&self, vcpu: u8) -> Option<&Seat> {
        self.0.get(usize::from(vcpu))
    }
}

impl Watcher for Seats {
    fn written(&self, page: usize) {
        for seat in &self.0 {
            seat.post(|mail| mail.written.push(page));
        }
    }
}

/// Lets the chips wake processors.
#[derive(Debug)]
struct Waker(Arc<Seats>);

impl Wake for Waker {
    fn wake(&self, vcpu: u8) {
        if let Some(seat) = self.0.get(vcpu) {
            seat.post(|_| ());
        }
    }
}

/// Ends a processor's run.
#[derive(Debug)]
pub(crate) struct Kicker {
    pub(crate) seats: Arc<Seats>,
    pub(crate) vcpu: u8,
}

impl Kick for Kicker {
    fn kick(&self) {
        if let Some(seat) = self.seats.get(self.vcpu) {
            // A kick is never left out, however much else there is.
            seat.lock().kicked = true;
            seat.post(|_| ());
        }
    }
}
