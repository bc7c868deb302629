//! The host's side of a vsock, for the program that owns the device: from any thread.

use std::{
    collections::HashMap,
    fmt, io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustix::event::{EventfdFlags, eventfd};

/// Most streams that wait to be taken over by the device.
const WAITING_MAX: usize = 64;

/// Takes the host's ends of connections that a guest made.
pub type Listener = Box<dyn FnMut(OwnedFd) + Send>;

/// Makes connections to ports of the guest, and takes those that the guest makes to ports of the
/// host. A clone is the same.
#[derive(Clone, Debug)]
pub struct Host(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    ring: OwnedFd,
}

#[derive(Default)]
struct State {
    waiting: Vec<(u32, OwnedFd)>,
    listeners: HashMap<u32, Listener>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<_> = self.listeners.keys().collect();
        let mut all = f.debug_struct("State");
        all.field("waiting", &self.waiting).field("listeners", &ports).finish()
    }
}

impl Host {
    /// One that nobody serves yet.
    pub(super) fn new() -> io::Result<Host> {
        let ring = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Host(Arc::new(Shared { state: Mutex::default(), ring })))
    }

    /// Has a connected stream socket carried to a port of the guest. Its far end sees it closed
    /// when nobody listens there, or when there are too many connections; what is written to it
    /// before the guest has answered waits, if the far end is still open then. The guest is asked as soon as its driver is there.
    ///
    /// # Errors
    /// `EAGAIN` if 64 streams wait for the device already.
    pub fn connect(&self, port: u32, stream: OwnedFd) -> io::Result<()> {
        let mut state = self.lock();
        if state.waiting.len() >= WAITING_MAX {
            return Err(rustix::io::Errno::AGAIN.into());
        }
        state.waiting.push((port, stream));
        drop(state);
        self.ring();
        Ok(())
    }

    /// Has the device look after everything.
    pub(super) fn ring(&self) {
        // An eventfd refuses to count only when it has counted nearly 2^64 already.
        let _ = rustix::io::write(&self.0.ring, &1u64.to_ne_bytes());
    }

    /// From now on `listener` gets a connected stream socket for each connection that the guest
    /// makes to this port of the host; it takes the place of the one before. It is called by the
    /// thread that runs the device and must not block, nor listen itself.
    pub fn listen(&self, port: u32, listener: Listener) {
        self.lock().listeners.insert(port, listener);
    }

    /// Nobody listens at this port any more.
    pub fn unlisten(&self, port: u32) {
        self.lock().listeners.remove(&port);
    }

    /// The streams that wait.
    pub(super) fn take_waiting(&self) -> Vec<(u32, OwnedFd)> {
        // It is non-blocking, and that nothing was counted is no error.
        let _ = rustix::io::read(&self.0.ring, &mut [0; 8]);
        std::mem::take(&mut self.lock().waiting)
    }

    /// Hands a stream to who listens; back if nobody does.
    pub(super) fn offer(&self, port: u32, make: impl FnOnce() -> io::Result<OwnedFd>) -> Offer {
        let mut state = self.lock();
        let Some(listener) = state.listeners.get_mut(&port) else { return Offer::Nobody };
        match make() {
            Ok(stream) => {
                listener(stream);
                Offer::Taken
            }
            Err(_) => Offer::Failed,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a connection that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// Somebody has it.
    Taken,
    /// Nobody listens in this process.
    Nobody,
    /// Somebody would, and the host has no socket.
    Failed,
}

impl AsFd for Host {
    /// Readable when streams wait.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.ring.as_fd()
    }
}
