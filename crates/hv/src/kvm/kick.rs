//! Kicks: a signal to the thread that runs a processor, and a word that it finds if it comes late.
#![allow(unsafe_code, reason = "signals, and a word of memory that the kernel reads")]

use std::{
    io,
    sync::{Mutex, MutexGuard, Once, PoisonError},
    thread::ThreadId,
};

use kvm_ioctls::VcpuFd;

use crate::Kick;

/// Which signal: one of those that nobody uses.
fn signal() -> i32 {
    libc::SIGRTMIN() + 3
}

/// What makes one processor's run end.
#[derive(Debug, Default)]
pub(super) struct Kicker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// A kick that no run has ended for.
    kicked: bool,
    /// Where the processor runs, while it does.
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    thread: libc::pid_t,
    /// `kvm_run.immediate_exit`.
    exit: *mut u8,
}

// SAFETY: the pointer is used under the lock and while the processor runs, that is while its
// mapping is there; a byte may be written by any thread.
unsafe impl Send for Running {}

impl Kicker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The processor is about to run in this thread. With a kick that came before, the kernel ends
    /// what was begun (a read that the caller has answered) and comes back at once.
    ///
    /// Source: KVM API, `immediate_exit`.
    pub(super) fn enter(&self, fd: &mut VcpuFd, thread: Thread) {
        let mut state = self.state();
        let run = fd.get_kvm_run();
        run.immediate_exit = state.kicked.into();
        let Thread { thread, .. } = thread;
        state.running = Some(Running { thread, exit: &raw mut run.immediate_exit });
    }

    /// It has come back; whether somebody kicked it.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state();
        state.running = None;
        state.kicked
    }

    /// A run has ended for it.
    pub(super) fn done(&self) {
        self.state().kicked = false;
    }
}

impl Kick for Kicker {
    fn kick(&self) {
        let mut state = self.state();
        // One signal for a run is enough. Signals of this kind wait in a queue, and who has to take in
        // more than come meanwhile would never get to the end of it.
        if std::mem::replace(&mut state.kicked, true) {
            return;
        }
        if let Some(Running { thread, exit }) = &state.running {
            // SAFETY: the mapping is there as long as the processor runs, and it does: it takes
            // itself out of `running` under the lock that is held here.
            unsafe { exit.write_volatile(1) };
            // SAFETY: getpid only asks for a number.
            let process = unsafe { libc::getpid() };
            // SAFETY: the thread is this process's own and still there, as above. What it gets is
            // handled by `nothing`.
            unsafe { libc::syscall(libc::SYS_tgkill, process, *thread, signal()) };
        }
    }
}

/// What the signal does: end a call of the kernel's.
extern "C" fn nothing(_signal: i32) {}

/// A thread that can be kicked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Thread {
    id: ThreadId,
    thread: libc::pid_t,
}

impl Thread {
    /// Whether it is this one.
    pub(super) fn is_current(&self) -> bool {
        self.id == std::thread::current().id()
    }
}

/// Makes this thread one that can be kicked: the signal has a handler, and is not blocked.
///
/// # Errors
/// Those of sigaction(2) and sigprocmask(2).
pub(super) fn prepare_thread() -> io::Result<Thread> {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // SAFETY: all zeros are a legal action: no flags, so that calls end with EINTR.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        // SAFETY: the handler does nothing, in which nothing can go wrong.
        let failed = unsafe { libc::sigaction(signal(), &raw const action, std::ptr::null_mut()) };
        debug_assert_eq!(failed, 0, "a real-time signal can have a handler");
    });
    // SAFETY: all zeros are a set of signals, the empty one.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is this function's own.
    unsafe { libc::sigaddset(&raw mut set, signal()) };
    let (set, old) = (&raw const set, std::ptr::null_mut());
    // SAFETY: the set is read only; the old one is not asked for.
    let error = unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set, old) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error));
    }
    // SAFETY: asks for a number.
    let thread = unsafe { libc::gettid() };
    Ok(Thread { id: std::thread::current().id(), thread })
}
