//! The size of a terminal.

use std::os::fd::OwnedFd;

use rustix::termios::{Winsize, tcsetwinsize};
use workload::{DriverError, TerminalSize};

/// Gives a terminal another size; nothing happens where none is meant.
pub(crate) fn resize(master: &OwnedFd, size: TerminalSize) -> Result<(), DriverError> {
    if size == TerminalSize::default() {
        return Ok(());
    }
    tcsetwinsize(master, window(size))
        .map_err(|error| DriverError::step("resize the terminal", &error.into()))
}

/// The kernel's form of a size.
pub(crate) fn window(size: TerminalSize) -> Winsize {
    Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 }
}
