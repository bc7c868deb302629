//! execve(2) with prepared argument vectors.

#![expect(unsafe_code, reason = "UNSAFETY: execve(2) takes arrays of pointers")]

use std::{
    ffi::{CStr, CString, c_char},
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// A null-terminated array of C strings, as execve(2) takes it: made before clone(2), used after.
pub struct StringArray {
    pointers: Vec<*const c_char>,
    strings: Vec<CString>,
}

impl StringArray {
    /// An array of these.
    pub fn new(strings: Vec<CString>) -> StringArray {
        let pointers =
            strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(ptr::null())).collect();
        StringArray { pointers, strings }
    }

    /// Its strings.
    pub fn strings(&self) -> &[CString] {
        &self.strings
    }
}

// SAFETY: the pointers lead to strings that this very value owns and never changes.
unsafe impl Send for StringArray {}

// SAFETY: as above; nothing is written through a shared reference.
unsafe impl Sync for StringArray {}

impl std::fmt::Debug for StringArray {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.strings.fmt(f)
    }
}

impl Clone for StringArray {
    fn clone(&self) -> StringArray {
        StringArray::new(self.strings.clone())
    }
}

impl PartialEq for StringArray {
    fn eq(&self, other: &StringArray) -> bool {
        self.strings == other.strings
    }
}

impl Eq for StringArray {}

/// Becomes another program; returns only if that fails. Child-safe.
///
/// Source: execve(2).
pub fn execve(path: &CStr, args: &StringArray, env: &StringArray) -> io::Error {
    // SAFETY: the path ends in a zero, and both arrays hold pointers to strings that `args` and
    // `env` own, with a null pointer at the end.
    unsafe { libc::execve(path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Becomes the program that this descriptor means; returns only if that fails. Child-safe.
///
/// Source: execveat(2), Linux 3.19.
pub fn execveat(program: BorrowedFd<'_>, args: &StringArray, env: &StringArray) -> io::Error {
    // SAFETY: as in `execve`; the empty path with AT_EMPTY_PATH means the descriptor itself.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            args.pointers.as_ptr(),
            env.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
