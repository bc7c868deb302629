//! Kernel errors in the words of the contract.

use rustix::io::Errno;
use workload::FileFault;

/// Names what was being done to what.
pub(crate) fn kernel(doing: &str, path: &[u8]) -> impl Fn(Errno) -> FileFault + use<> {
    let (doing, path) = (doing.to_owned(), text(path));
    move |errno| FileFault::Kernel {
        doing: doing.clone(),
        path: path.clone(),
        errno: errno.raw_os_error(),
    }
}

/// As [`kernel`], for errors of the standard library.
pub(crate) fn io(doing: &str, path: &[u8]) -> impl Fn(std::io::Error) -> FileFault + use<> {
    let kernel = kernel(doing, path);
    move |error| kernel(Errno::from_io_error(&error).unwrap_or(Errno::IO))
}

/// The archive could not be written.
pub(crate) fn stream(error: &std::io::Error) -> FileFault {
    let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
    FileFault::Stream { errno }
}

/// A path for people.
pub(crate) fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
