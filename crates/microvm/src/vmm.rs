//! The process that is a machine: it takes orders from its driver until either of them ends.

use std::{
    io,
    net::Shutdown,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use base::{Deadline, chain};
use hv::{GuestMemory, Hypervisor, Model, Shape};
use virtio::vsock::{Config, Host};
use vm::machine::{Announce, Builder, Cargo, Console, End, Machine};

use crate::{
    READY_PORT,
    control::{Boot, Order, Word},
};

/// The machine's number on its vsock, where it is alone.
const CID: u64 = 3;

/// How long a machine may take to stand still.
const PAUSE_WITHIN: Duration = Duration::from_secs(5);

/// Makes what carries out the guest's instructions.
pub type MakeHypervisor = dyn Fn(hv::Accel) -> Arc<dyn Hypervisor>;

/// Takes orders over this socket until the machine or the driver has ended.
///
/// # Errors
/// If the socket breaks, or orders come that are none.
pub fn run(socket: OwnedFd, hypervisor: &MakeHypervisor) -> io::Result<()> {
    let mut desk = Desk { socket: Arc::new(Mutex::new(socket.try_clone()?)), disks: Vec::new(), running: None };
    while let Some((order, fds)) = wire::blocking::recv::<Order>(&socket).map_err(io::Error::other)? {
        let word = match desk.carry_out(order, fds, hypervisor) {
            Ok(()) => Word::Done,
            Err(why) => Word::Refused(why),
        };
        desk.say(&word)?;
    }
    Ok(())
}
