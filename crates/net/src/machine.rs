//! Interfaces of a namespace that become those of a machine, and the same seen from inside it.
//!
//! ```text
//! namespace:  eth0 ── switch0 ── tap0 ══ device        machine:  eth0
//!             (no address)                                       (its addresses)
//! ```
//!
//! The machine has the hardware address, the addresses and the routes that the interface had, so
//! that its neighbours see what they would see of a container there.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sys::{
    netlink::{Batch, Family, NetlinkError, Socket},
    netns, tap,
};

use crate::{
    InterfaceName, Mac, NetworkError,
    error::wrong,
    host::find,
    link::{self, Families, Reach},
};

/// Most interfaces of one machine.
pub const INTERFACES_MAX: usize = 8;

/// An interface, as a machine has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// What it is called.
    pub name: InterfaceName,
    /// Its hardware address.
    pub mac: [u8; 6],
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Its addresses, with the lengths of their networks' prefixes.
    pub addresses: Vec<(IpAddr, u8)>,
    /// By whom everything goes that has no better way.
    pub gateways: Vec<IpAddr>,
}

/// Makes the ends of a namespace's cables those of a machine: each with the tap device behind
/// which it is to be. They are gone with the namespace.
///
/// # Errors
/// [`NetworkError::NotForMachines`] for an interface that is no end of a cable, or what the kernel
/// refused.
pub fn hand_over(namespace: BorrowedFd<'_>) -> Result<Vec<(Interface, OwnedFd)>, NetworkError> {
    netns::run(namespace, || Ok(hand_over_here())).map_err(NetworkError::Namespace)?
}

fn hand_over_here() -> Result<Vec<(Interface, OwnedFd)>, NetworkError> {
    let mut socket = Socket::open(Family::Route).map_err(|e| NetworkError::Open(e.into()))?;
    let mut found =
        interfaces(&mut socket).map_err(wrong("list the interfaces of", "a namespace"))?;
    if found.len() > INTERFACES_MAX {
        return Err(NetworkError::NotForMachines {
            name: found.swap_remove(INTERFACES_MAX).1.name,
        });
    }
    if let Some((_, interface, _)) = found.iter().find(|(_, _, is_cable)| !is_cable) {
        return Err(NetworkError::NotForMachines { name: interface.name.clone() });
    }
    let mut taps = Vec::new();
    for (n, (index, interface, _)) in found.into_iter().enumerate() {
        let name = numbered("tap", n);
        let tap = tap::open(name.as_str()).map_err(NetworkError::Namespace)?;
        switch(&mut socket, n, (index, &interface), &name)
            .map_err(wrong("lead to a machine", interface.name.as_str()))?;
        taps.push((interface, tap));
    }
    Ok(taps)
}

fn numbered(word: &str, n: usize) -> InterfaceName {
    format!("{word}{n}").parse().expect("a word and a small number make an interface's name")
}

/// Everything but the loopback, by index: what it is like, and whether it is a cable's end.
fn interfaces(socket: &mut Socket) -> Result<Vec<(u32, Interface, bool)>, NetlinkError> {
    let mut all = BTreeMap::new();
    let mut batch = Batch::default();
    link::get_all(&mut batch);
    socket.query(batch, |_, body| {
        if let Some(Reach { index, name, mac, mtu, is_cable }) = Reach::read(body)
            && index != link::LOOPBACK
            && let Ok(name) = name.parse()
        {
            let (addresses, gateways) = (Vec::new(), Vec::new());
            let interface = Interface { name, mac: mac.0, mtu, addresses, gateways };
            all.insert(index, (interface, is_cable));
        }
    })?;
    let mut batch = Batch::default();
    link::get_addresses(&mut batch);
    socket.query(batch, |_, body| {
        if let Some((index, address, prefix)) = link::read_address(body)
            && let Some((interface, _)) = all.get_mut(&index)
        {
            interface.addresses.push((address, prefix));
        }
    })?;
    let mut batch = Batch::default();
    link::get_all_routes(&mut batch);
    socket.query(batch, |_, body| {
        if let Some((index, gateway)) = link::read_gateway(body)
            && let Some((interface, _)) = all.get_mut(&index)
        {
            interface.gateways.push(gateway);
        }
    })?;
    Ok(all.into_iter().map(|(index, (interface, cable))| (index, interface, cable)).collect())
}

/// Puts a switch between the cable's end and the tap device. The end gives its addresses away; the
/// kernel here answers for nothing that the machine has.
fn switch(
    socket: &mut Socket,
    n: usize,
    (index, interface): (u32, &Interface),
    tap: &InterfaceName,
) -> Result<(), NetlinkError> {
    let families = Families { ipv6: interface.addresses.iter().any(|(a, _)| a.is_ipv6()) };
    let name = numbered("switch", n);
    let [first, rest @ ..] = interface.mac;
    let besides = |bits: u8| {
        let [b, c, d, e, f] = rest;
        // Still one that somebody gave out locally, and no group's.
        Mac([first ^ bits, b, c, d, e, f])
    };
    let mut batch = Batch::default();
    for (address, prefix) in &interface.addresses {
        link::remove_address(&mut batch, index, *address, *prefix);
    }
    // A switch leads nothing to a port that has the machine's address itself.
    link::bring_up_as(&mut batch, index, besides(0x04));
    link::add_bridge(&mut batch, &name, besides(0x08));
    socket.execute(batch)?;
    let switch = find(socket, &name)?.ok_or(Errno::NODEV)?.index;
    let mut batch = Batch::default();
    for port in [&interface.name, tap] {
        link::set_mtu(&mut batch, port, interface.mtu);
        link::plug_wire_in(&mut batch, port, switch, families);
    }
    link::bring_switch_up(&mut batch, switch, Some(interface.mtu), families);
    socket.execute(batch)
}

/// Whether anything passes between a machine and its cables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cables {
    /// All of it.
    Connected,
    /// Nothing: on the wire, a machine that was copied is the other one until it has an address of
    /// its own.
    Cut,
}

/// Connects a machine with the cables that [`hand_over`] gave it, as many as these, or cuts them.
///
/// # Errors
/// What the kernel refused.
pub fn set_cables(
    namespace: BorrowedFd<'_>,
    count: usize,
    cables: Cables,
) -> Result<(), NetworkError> {
    let set = || {
        let mut socket = Socket::open(Family::Route).map_err(|e| NetworkError::Open(e.into()))?;
        let mut batch = Batch::default();
        for tap in (0..count).map(|n| numbered("tap", n)) {
            match cables {
                Cables::Connected => link::bring_up_named(&mut batch, &tap),
                Cables::Cut => link::take_down(&mut batch, &tap),
            }
        }
        socket.execute(batch).map_err(wrong("set", "a machine's cables"))
    };
    netns::run(namespace, || Ok(set())).map_err(NetworkError::Namespace)?
}

/// Sets up the interface of a machine, from inside it: the `n`th that the kernel found. What a
/// machine that was copied had there is taken off first.
///
/// # Errors
/// What the kernel refused; `ENODEV` if there are not as many.
pub fn take_over(n: usize, interface: &Interface) -> Result<(), NetworkError> {
    let mut socket = Socket::open(Family::Route).map_err(|e| NetworkError::Open(e.into()))?;
    let mut set = || {
        let index = bared(&mut socket, n, interface)?;
        let mut batch = Batch::default();
        link::rename(&mut batch, index, &interface.name);
        link::set_mtu(&mut batch, &interface.name, interface.mtu);
        link::bring_up_as(&mut batch, index, Mac(interface.mac));
        for (address, prefix) in &interface.addresses {
            link::add_address(&mut batch, index, *address, *prefix);
        }
        for gateway in &interface.gateways {
            link::add_default_route(&mut batch, index, *gateway);
        }
        socket.execute(batch)
    };
    set().map_err(wrong("set up", interface.name.as_str()))
}

/// The index of an interface that is down and has no addresses.
fn bared(socket: &mut Socket, n: usize, interface: &Interface) -> Result<u32, NetlinkError> {
    let found = match find(socket, &numbered("eth", n))? {
        Some(found) => found,
        // It was taken over before, under this name.
        None => find(socket, &interface.name)?.ok_or(Errno::NODEV)?,
    };
    let Ok(name) = found.name.parse() else { return Err(Errno::NODEV.into()) };
    if !found.is_up {
        return Ok(found.index);
    }
    let mut addresses = Vec::new();
    let mut batch = Batch::default();
    link::get_addresses(&mut batch);
    socket.query(batch, |_, body| {
        let of_it = link::read_address(body).filter(|(index, ..)| *index == found.index);
        addresses.extend(of_it);
    })?;
    let mut batch = Batch::default();
    for (index, address, prefix) in addresses {
        link::remove_address(&mut batch, index, address, prefix);
    }
    link::take_down(&mut batch, &name);
    socket.execute(batch)?;
    Ok(found.index)
}
