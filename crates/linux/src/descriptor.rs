//! Descriptors that the runtime waits for.

use std::{io, os::fd::OwnedFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Lets the current runtime wait until this descriptor is readable.
#[expect(
    deprecated,
    reason = "the safe constructor is unsound for types that change their descriptor, which an \
              OwnedFd never does (tokio#8587); the one in its place is unsafe for all types"
)]
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}
