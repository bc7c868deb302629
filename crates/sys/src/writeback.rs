//! Data on its way to a disk.
#![expect(unsafe_code, reason = "UNSAFETY: rustix has no sync_file_range")]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Begins to write a stretch of a file to its disk, and does not wait until it is there: an
/// fdatasync(2) that follows has less to do. Nothing else is promised.
///
/// # Errors
/// `ESPIPE` for what is no file, `EIO` if an earlier write failed, `EINVAL` for numbers that no
/// file has.
///
/// Source: sync_file_range(2), Linux 2.6.17.
pub fn begin(file: BorrowedFd<'_>, from: u64, bytes: u64) -> io::Result<()> {
    let number = |value| libc::off64_t::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
    let (from, bytes) = (number(from)?, number(bytes)?);
    let flags = libc::SYNC_FILE_RANGE_WRITE;
    // SAFETY: the arguments are numbers, and the descriptor is open as long as it is borrowed.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), from, bytes, flags) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _, os::fd::AsFd as _};

    use rustix::fs::{MemfdFlags, memfd_create};

    use super::*;

    #[test]
    fn files_are_written_back_and_pipes_are_not() {
        let mut file = File::from(memfd_create("writeback", MemfdFlags::CLOEXEC).unwrap());
        file.write_all(&[7; 10_000]).unwrap();
        begin(file.as_fd(), 0, 10_000).unwrap();
        begin(file.as_fd(), 1 << 40, 1).unwrap();
        let (pipe, _) = io::pipe().unwrap();
        assert_eq!(begin(pipe.as_fd(), 0, 1).unwrap_err().raw_os_error(), Some(libc::ESPIPE));
        assert!(begin(file.as_fd(), u64::MAX, 1).is_err());
    }
}
