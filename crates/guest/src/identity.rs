//! A container of a machine that was copied becomes another one: in what its processes are told of
//! themselves when they ask.

use std::{
    fs::File,
    io::{self, Write as _},
    thread,
};

use rustix::{
    fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2},
    io::Errno,
    system::sethostname,
};
use shim::protocol::Identity;
use sys::{clone::Namespaces, namespace};
use workload::DriverError;

/// Source: machine-id(5).
const MACHINE_ID: &str = "etc/machine-id";

/// Does it.
pub(crate) fn take(identity: &Identity) -> Result<(), DriverError> {
    if let Some(name) = &identity.hostname {
        set_hostname(identity.process, name)
            .map_err(|error| DriverError::step("set the host name", &error))?;
    }
    set_machine_id(identity.process, &identity.machine_id)
        .map_err(|error| DriverError::step("set the machine's id", &error))
}

/// Namespaces belong to threads, so this is the work of one that ends with it.
fn set_hostname(process: u32, name: &str) -> io::Result<()> {
    let namespace = File::open(format!("/proc/{process}/ns/uts"))?;
    let set = move || {
        use std::os::fd::AsFd as _;
        namespace::enter(namespace.as_fd(), Namespaces(Namespaces::UTS))?;
        Ok(sethostname(name.as_bytes())?)
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("host name".to_owned());
        let set = thread.spawn_scoped(scope, set)?;
        set.join().map_err(|_| io::Error::other("a thread panicked"))?
    })
}

/// Writes the id where there is one. What a container may have made of its path is its own affair:
/// nothing outside of its root is reached, and what is no plain file stays as it is.
fn set_machine_id(process: u32, id: &str) -> io::Result<()> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, format!("/proc/{process}/root"), flags, Mode::empty())?;
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let file = match openat2(root, MACHINE_ID, flags, Mode::empty(), resolve) {
        Ok(file) => File::from(file),
        // There is none, or it is not to be written.
        Err(
            Errno::NOENT | Errno::NOTDIR | Errno::ISDIR | Errno::ROFS | Errno::LOOP | Errno::NXIO,
        ) => {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(());
    }
    file.set_len(0)?;
    (&file).write_all(format!("{id}\n").as_bytes())
}
