//! Containers that are on their way out of the network: their cables are taken away behind the
//! answers, many at once.
//!
//! The kernel takes ten milliseconds and more to remove a cable, during which nobody else's can be
//! laid. Mostly there is nothing to remove: the cable goes with the container's namespace. Until
//! it is seen to be gone, its address is nobody else's.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use net::Host;
use tracing::warn;

use crate::error::chain;

/// Until a cable is looked for: by then its namespace has mostly ended, and others have come.
const PATIENCE: Duration = Duration::from_millis(50);

/// How long one who wants the address of one who leaves waits for it.
const LONGEST: Duration = Duration::from_secs(5);

/// Those who leave.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaving(Arc<Inner>);

/// What is somebody's until then.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) address: Ipv4Addr,
    /// An IPv6 address that was asked for.
    pub(super) address6: Option<Ipv6Addr>,
    /// The network's id.
    pub(super) network: String,
    /// Of which of the daemon's bridges.
    pub(super) bridge: u64,
}

#[derive(Debug, Default)]
struct Inner {
    list: Mutex<List>,
    /// Some have gone.
    gone: Condvar,
}

#[derive(Debug, Default)]
struct List {
    /// By the ids of endpoints.
    waiting: BTreeMap<String, Seat>,
    /// Their cables are being removed at this moment.
    removing: BTreeMap<String, Seat>,
    /// A thread is at it.
    working: bool,
}

impl Leaving {
    fn lock(&self) -> MutexGuard<'_, List> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody leaves. `free` is told when their address can be another's; it is the
    /// same function every time.
    pub(super) fn add(
        &self,
        id: String,
        seat: Seat,
        host: &Arc<Host>,
        free: impl Fn(&Seat) + Send + 'static,
    ) {
        let mut list = self.lock();
        list.waiting.insert(id, seat);
        if list.working {
            return;
        }
        let (this, host) = (self.clone(), Arc::clone(host));
        let thread = thread::Builder::new().name("unplug".to_owned());
        // Without threads it stays here until the next one leaves, or all do.
        list.working = thread.spawn(move || this.work(&host, &free)).is_ok();
    }

    /// The same endpoint comes back: its cable is not to be removed any more. Answers with the
    /// address that it had.
    pub(super) fn come_back(&self, id: &str) -> Option<Seat> {
        let mut list = self.lock();
        while list.removing.contains_key(id) {
            list = self.0.gone.wait(list).unwrap_or_else(PoisonError::into_inner);
        }
        list.waiting.remove(id)
    }

    /// Waits until nobody who leaves has this address of a network any more.
    pub(super) fn wait_for(&self, network: &str, address: Ipv4Addr) {
        let is = |seat: &Seat| seat.network == network && seat.address == address;
        let mut list = self.lock();
        let by = std::time::Instant::now() + LONGEST;
        while list.waiting.values().chain(list.removing.values()).any(is) {
            let left = by.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.0.gone.wait_timeout(list, left);
            list = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Whether it is on its way.
    pub(super) fn has(&self, is: impl Fn(&String) -> bool) -> bool {
        let list = self.lock();
        list.waiting.keys().chain(list.removing.keys()).any(is)
    }

    /// Nobody is plugged into this network any more, so all cables go with its bridge.
    pub(super) fn forget(&self, network: &str) {
        self.lock().waiting.retain(|_, seat| seat.network != network);
    }

    fn work(&self, host: &Host, free: &impl Fn(&Seat)) {
        loop {
            thread::sleep(PATIENCE);
            let mut list = self.lock();
            if list.waiting.is_empty() {
                list.working = false;
                return;
            }
            let batch = std::mem::take(&mut list.waiting);
            list.removing = batch.clone();
            drop(list);
            let ids: Vec<&str> = batch.keys().map(String::as_str).collect();
            match host.detach_all(&ids) {
                // Before they are seen to be gone, so that the leases know first.
                Ok(()) => batch.values().for_each(free),
                // Their addresses stay theirs for as long as this daemon runs.
                Err(error) => warn!(error = chain(&error), "cables are left to their namespaces"),
            }
            self.lock().removing.clear();
            self.0.gone.notify_all();
        }
    }
}
