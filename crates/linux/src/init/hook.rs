//! Hooks that run inside, on the way.
//!
//! Source: OCI runtime-spec, config.md, "POSIX-platform Hooks".

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, Result},
    pipe::{PipeFlags, pipe_with},
    process::{WaitId, WaitIdOptions, waitid},
};
use sys::{
    clone::{Child, Namespaces},
    process,
};

use crate::op::Hook;

/// Error number for a hook that ended with a code other than 0 or by a signal.
const UNSUCCESSFUL: Errno = Errno::CANCELED;

/// Runs a hook with the state on its standard input, and waits for it.
pub(super) fn run(hook: &Hook) -> Result<()> {
    let (input, output) = pipe_with(PipeFlags::CLOEXEC)?;
    let spawned = sys::clone::spawn(Namespaces::default(), None, || become_hook(hook, &input));
    let child = spawned.map_err(|error| super::to_errno(&error))?;
    drop(input);
    let told = tell_state(hook, &output);
    drop(output);
    let ended = wait(&child, hook.timeout_ms);
    if ended.is_err() {
        // It may have ended by itself in between.
        let _ = process::signal(child.pidfd.as_fd(), 9);
        let _ = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    }
    ended.and(told)
}

fn become_hook(hook: &Hook, input: &OwnedFd) -> u8 {
    let ready = process::place(input.as_fd(), 0, false).and_then(|()| process::default_signals());
    match ready {
        Ok(()) => {
            sys::exec::execve(&hook.path, &hook.args, &hook.env);
            127
        }
        Err(_) => 126,
    }
}

/// The state with this process's number in its namespace, as runc tells it to such hooks.
fn tell_state(hook: &Hook, output: &OwnedFd) -> Result<()> {
    let mut digits = [0; 10];
    let pid = rustix::process::getpid().as_raw_nonzero().get().unsigned_abs();
    for part in [&hook.state.0, decimal(pid, &mut digits), &hook.state.1] {
        let mut rest = part;
        while !rest.is_empty() {
            match rustix::io::write(output, rest) {
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
                // It need not read it.
                Err(Errno::PIPE) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Ok(())
}

/// A number in decimal, without allocating.
fn decimal(mut number: u32, digits: &mut [u8; 10]) -> &[u8] {
    let mut first = digits.len();
    for (at, digit) in digits.iter_mut().enumerate().rev() {
        let last = u8::try_from(number % 10).expect("a remainder of 10 is below 10");
        *digit = b'0' + last;
        number /= 10;
        first = at;
        if number == 0 {
            break;
        }
    }
    digits.get(first..).unwrap_or_default()
}

fn wait(child: &Child, timeout_ms: Option<u32>) -> Result<()> {
    let timeout = timeout_ms.map(|ms| Timespec {
        tv_sec: i64::from(ms / 1000),
        tv_nsec: i64::from(ms % 1000) * 1_000_000,
    });
    let mut fds = [PollFd::new(&child.pidfd, PollFlags::IN)];
    loop {
        match poll(&mut fds, timeout.as_ref()) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) => break,
            Err(Errno::INTR) => {}
            Err(other) => return Err(other),
        }
    }
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED)?;
    match status.and_then(|status| status.exit_status()) {
        Some(0) => Ok(()),
        _ => Err(UNSUCCESSFUL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_decimal() {
        let mut digits = [0; 10];
        for number in [0, 7, 10, 4_294_967_295] {
            assert_eq!(decimal(number, &mut digits), number.to_string().as_bytes());
        }
    }
}
