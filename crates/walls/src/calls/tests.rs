use std::os::fd::AsFd as _;

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
    process::{WaitId, WaitIdOptions, waitid},
};
use sys::clone::Namespaces;

use super::*;

/// `SIGSYS`
const BAD_CALL: i32 = 31;

/// What ends a process that loads the filter and then does this; its code, or the signal.
fn end(filter: &[SockFilter], act: impl FnOnce() -> bool) -> Result<i32, i32> {
    let child = sys::clone::spawn(Namespaces::default(), None, || {
        // The child of a process with threads must not allocate.
        let loaded =
            rustix::thread::set_no_new_privs(true).is_ok() && sys::seccomp::load(filter, 0).is_ok();
        if !loaded {
            return 100;
        }
        u8::from(!act())
    })
    .unwrap();
    let status = waitid(WaitId::PidFd(child.pidfd.as_fd()), WaitIdOptions::EXITED);
    let status = status.unwrap().unwrap();
    status.exit_status().ok_or_else(|| status.terminating_signal().unwrap())
}

#[test]
fn what_is_not_listed_ends_the_process() {
    let machine = machine(std::process::id()).unwrap();
    let shares = shares().unwrap();
    let open = || openat(CWD, c"/", OFlags::PATH, Mode::empty());
    assert_eq!(end(&machine, || open().err() == Some(Errno::NOENT)), Ok(0));
    assert_eq!(end(&shares, || open().is_ok()), Ok(0));
    for filter in [&machine, &shares] {
        use rustix::net::{AddressFamily, SocketType, socket};
        assert_eq!(end(filter, || true), Ok(0));
        let stream = || socket(AddressFamily::UNIX, SocketType::STREAM, None).is_ok();
        assert_eq!(end(filter, stream), Err(BAD_CALL));
        assert_eq!(end(filter, || sys::fork::fork().is_ok()), Err(BAD_CALL));
        assert_eq!(end(filter, || rustix::process::chroot(c"/").is_ok()), Err(BAD_CALL));
        let leave = || sys::namespace::leave(Namespaces(Namespaces::USER)).is_ok();
        assert_eq!(end(filter, leave), Err(BAD_CALL));
    }
}

#[test]
fn calls_are_judged_by_their_arguments_too() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let filter = machine(std::process::id()).unwrap();
    let pair = |family| socketpair(family, SocketType::STREAM, SocketFlags::empty(), None).is_ok();
    assert_eq!(end(&filter, || pair(AddressFamily::UNIX)), Ok(0));
    assert_eq!(end(&filter, || pair(AddressFamily::TIPC)), Err(BAD_CALL));
    let named = || rustix::thread::set_name(c"other").is_ok();
    assert_eq!(end(&filter, named), Ok(0));
    assert_eq!(end(&filter, || sys::process::adopt_orphans().is_ok()), Err(BAD_CALL));
    let (here, _there) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(end(&filter, || rustix::io::ioctl_fionbio(&here, true).is_ok()), Ok(0));
    assert_eq!(end(&filter, || rustix::io::ioctl_fionread(&here).is_ok()), Err(BAD_CALL));
    // clone3(2) is not there, and clone(2) makes threads only.
    let spawn = || sys::clone::spawn(Namespaces::default(), None, || 0);
    let refused = || spawn().is_err_and(|error| error.raw_os_error() == Some(NO_CALL.into()));
    assert_eq!(end(&filter, refused), Ok(0));
}
