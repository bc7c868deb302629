//! Our own terminal: its size, and raw mode that is always left again.

use rustix::termios::{
    LocalModes, OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr,
};
use workload::TerminalSize;

use crate::error::CliError;

/// Whether standard input is a terminal.
pub(super) fn is_terminal() -> bool {
    isatty(rustix::stdio::stdin())
}

/// The size of the terminal at standard output, or input.
pub(super) fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(rustix::stdio::stdout())
        .or_else(|_| tcgetwinsize(rustix::stdio::stdin()))
        .ok()?;
    Some(TerminalSize { rows: size.ws_row, columns: size.ws_col })
}

/// What is typed is not shown, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Silent {
    before: Termios,
}

/// Shows nothing of what is typed at the terminal at standard input.
///
/// # Errors
/// If that cannot be had.
pub(crate) fn without_echo() -> Result<Silent, CliError> {
    let failed = |error| CliError::io("hide what is typed", error);
    let before = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &silent).map_err(failed)?;
    Ok(Silent { before })
}

impl Drop for Silent {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Raw mode of the terminal at standard input, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Raw {
    before: Termios,
}

impl Raw {
    /// Enters raw mode.
    pub(crate) fn enter() -> Result<Raw, CliError> {
        let failed = |error| CliError::io("set the terminal to raw mode", error);
        let before = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        debug_assert!(!raw.local_modes.contains(LocalModes::ISIG), "keys are bytes, not signals");
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw).map_err(failed)?;
        Ok(Raw { before })
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no mode.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &self.before);
    }
}
