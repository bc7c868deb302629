//! The last words on a terminal.

use rustix::io::Errno;

/// Reads from the master of a terminal by `read`, so that `EIO` is its end and nothing is behind.
///
/// The kernel looks for data first and for somebody who has the terminal open afterwards: who
/// writes and leaves in between is answered with `EIO`, and what was written comes with the next
/// call. Source: Linux 6.18, drivers/tty/n_tty.c, `n_tty_read`.
///
/// # Errors
/// Those of `read`.
pub fn read_master(mut read: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    match read() {
        Err(Errno::IO) => read(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_while_the_end_was_told_is_read() {
        let mut answers =
            [Ok(3), Err(Errno::IO), Ok(9), Err(Errno::IO), Err(Errno::IO)].into_iter();
        let mut read = || read_master(|| answers.next().unwrap_or(Ok(0)));
        assert_eq!([read(), read(), read()], [Ok(3), Ok(9), Err(Errno::IO)]);
    }
}
