//! `init COMMAND [ARG…]`: process 1 of a container whose command is not written to be one.
//!
//! Passes every signal on to the command, reaps whatever is orphaned to it, and leaves with the
//! command's exit code once that has ended.

use std::{io::IsTerminal as _, os::unix::process::CommandExt as _, process::Command};

use crate::os;

/// Source: signal(7).
const SIGCHLD: i32 = 17;

pub(crate) fn run(args: &[String]) -> u8 {
    let args = if args.first().is_some_and(|a| a == "--") {
        args.get(1..).unwrap_or_default()
    } else {
        args
    };
    let Some((command, rest)) = args.split_first() else {
        return crate::fail("init", "no command is given: init COMMAND [ARG…]");
    };
    // Before the command starts: a signal that comes in between waits instead of killing us.
    let set = match os::block_signals() {
        Ok(set) => set,
        Err(error) => return crate::fail("init", error),
    };
    // Its own process group keeps what the terminal sends (^C) from reaching it twice, from the
    // terminal and from us.
    let mut command_line = Command::new(command);
    let child = match os::spawn_unblocked(command_line.args(rest).process_group(0)) {
        Ok(child) => i32::try_from(child.id()).unwrap_or(i32::MAX),
        Err(error) => {
            crate::fail("init", format_args!("exec: \"{command}\": {error}"));
            return if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        }
    };
    if std::io::stdin().is_terminal() {
        // Refused where the terminal is not ours to give; then the command goes without.
        let _ = os::foreground(child);
    }
    serve(child, &set)
}

/// Passes signals and reaps until the command has ended.
fn serve(child: i32, set: &os::SignalSet) -> u8 {
    loop {
        match os::next_signal(set) {
            Ok(SIGCHLD) => {
                while let Some((pid, status)) = os::reap() {
                    if pid == child {
                        return code(status);
                    }
                }
            }
            // Gone already: the SIGCHLD that says so is on its way.
            Ok(signal) => drop(os::send(child, signal)),
            Err(error) => return crate::fail("init", error),
        }
    }
}

/// What a shell would report for a wait status.
fn code(status: i32) -> u8 {
    let low = u8::try_from(status & 0x7f).unwrap_or(0);
    if low == 0 { u8::try_from((status >> 8) & 0xff).unwrap_or(255) } else { 128 + low }
}

#[cfg(test)]
mod tests {
    use super::code;

    #[test]
    fn exit_codes_and_signals_are_reported_as_shells_do() {
        assert_eq!((code(0), code(7 << 8), code(9)), (0, 7, 137));
    }
}
