//! The stack of our own that carries the daemon's network out, in a process of its own:
//! `wythe outside-network`. It reads what containers send; nothing else of the host's is in it.

use std::{
    fs::File,
    io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use net::{Uplink, raise_uplink};
use rustix::{
    io::Errno,
    process::{Resource, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
};
use sys::tap;
use usernet::{Addresses, Config, Framing, Link, Stack};

/// The device in the daemon's network.
const NAME: &str = "tap0";
/// The daemon's address there.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 100);
/// Largest packet there: no bridge behind it has a larger one, and a frame with all headers stays
/// below 64 KiB. Source: slirp4netns(1).
const MTU: u16 = 65_520;
/// How long the device of an earlier process may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(1);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(2);

/// Who resolves names there.
pub(super) fn resolver() -> Ipv4Addr {
    Addresses::default().resolver()
}

/// Makes the device in this thread's network, and leads everything out by it.
pub(super) fn device() -> io::Result<OwnedFd> {
    let until = Instant::now() + GONE_WITHIN;
    let device = loop {
        match tap::open(NAME) {
            Err(error)
                if error.raw_os_error() == Some(Errno::BUSY.raw_os_error())
                    && Instant::now() < until =>
            {
                thread::sleep(LOOK);
            }
            made => break made?,
        }
    };
    let addresses = Addresses::default();
    let (prefix, gateway) = (addresses.prefix(), addresses.gateway());
    let uplink = Uplink { name: NAME, address: ADDRESS, prefix, gateway, mtu: MTU.into() };
    raise_uplink(&uplink).map_err(|error| io::Error::from(error.errno))?;
    Ok(device)
}

/// Carries between the device that is standard input and this process's network, until the device
/// or its parent is gone.
pub(super) fn run() -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let device = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
    // It is only for `ps`.
    let _ = rustix::thread::set_name(c"wythe-network");
    // Each flow takes a descriptor. Fewer carry fewer.
    let limit = getrlimit(Resource::Nofile);
    let _ =
        setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit });
    let config = Config {
        addresses: Addresses::default(),
        mtu: MTU,
        host_loopback: false,
        resolv_conf: Path::new("/etc/resolv.conf").to_owned(),
    };
    let stack =
        Stack::new(Link::new(device, Framing::Virtio)?, config).map_err(io::Error::other)?;
    stack.run(None).map(drop).map_err(io::Error::other)
}
