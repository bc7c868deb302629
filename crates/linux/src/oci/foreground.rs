//! Waiting for a container's process: signals go through, orphans are reaped, a terminal is
//! relayed, and the exit code comes back.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::process::{WaitOptions, WaitStatus};
use sys::signal::Signals;
use workload::Signal;

use super::{console::Relay, error::OciError};

/// Signals of ours that say nothing to the container.
const CHILD: u8 = 17;
const WINDOW: u8 = 28;

/// A process that is waited for.
#[derive(Debug)]
pub(super) struct Foreground {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
    /// The master of its terminal, if it has one and nobody else does.
    pub(super) terminal: Option<OwnedFd>,
}

impl Foreground {
    /// Waits until it has ended. `signals` must have been made before the process was.
    pub(super) fn wait(self, signals: &Signals) -> Result<u8, OciError> {
        self.wait_through(signals).map_err(OciError::io("wait for the container"))
    }

    fn wait_through(mut self, signals: &Signals) -> io::Result<u8> {
        let mut relay = self.terminal.take().map(Relay::new).transpose()?;
        loop {
            if let Some(relay) = &mut relay {
                relay.until(signals.as_fd())?;
            }
            match signals.next()? {
                CHILD => {
                    if let Some(code) = self.reap()? {
                        relay.as_mut().map_or(Ok(()), Relay::drain)?;
                        return Ok(code);
                    }
                }
                WINDOW => {
                    if let Some(relay) = &relay {
                        relay.resize();
                    }
                }
                // One that has just ended is about to be reaped.
                other => drop(sys::process::signal(self.pidfd.as_fd(), other)),
            }
        }
    }

    /// Reaps whoever has ended; answers the code of the process if it is among them.
    fn reap(&self) -> io::Result<Option<u8>> {
        let mut code = None;
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    if pid.as_raw_nonzero().get().unsigned_abs() == self.pid {
                        code = Some(shell_code(status));
                    }
                }
                Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(code),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// What a shell would say: the code, or 128 and the signal.
fn shell_code(status: WaitStatus) -> u8 {
    let signal = status.terminating_signal().and_then(|s| u8::try_from(s).ok());
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    match (code, signal.and_then(Signal::from_number)) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal.number(),
        (None, None) => u8::MAX,
    }
}
