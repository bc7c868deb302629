//! The only place that writes to standard output and standard error.

use std::io::{self, Write as _};

use crate::error::CliError;

pub(crate) mod format;
pub(crate) mod human;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod table;
pub(crate) mod transfer;

/// Writes text to standard output.
///
/// # Errors
/// [`CliError::OutputClosed`] if nobody reads it any more.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    bytes(text.as_bytes())
}

/// Writes a line to standard output.
///
/// # Errors
/// As [`print`].
pub(crate) fn line(text: &str) -> Result<(), CliError> {
    bytes(format!("{text}\n").as_bytes())
}

fn bytes(bytes: &[u8]) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(failed)
}

/// What a failed write to standard output means.
pub(crate) fn failed(error: io::Error) -> CliError {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return CliError::OutputClosed;
    }
    CliError::io("write to standard output", error)
}

/// Writes a line to standard error; if that is not read either, nothing can be said.
pub(crate) fn complain(text: &str) {
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}
