//! Ports of the host's that lead to the guest.
//!
//! The guest sees a connection from the gateway. The host's client is connected at once, and reset
//! if the guest then does not want it.

use std::net::{SocketAddrV4, TcpListener};

use rustix::{
    event::epoll::{self, EventData, EventFlags},
    io::Errno,
};
use smoltcp::wire::EthernetAddress;

use super::{Stack, StackError};
use crate::{
    flow::{Key, Kind, Protocol},
    tcp::{Connection, Wire},
};

/// Most published ports of a stack.
pub const PUBLISHED_MAX: usize = 256;

/// The events of published ports, which no flow's token reaches.
pub(super) const TOKENS: std::ops::Range<u64> = u64::MAX - 1 - PUBLISHED_MAX as u64..u64::MAX - 1;

/// Connections that are taken at a time; then others have their turn.
const BURST: usize = 16;

/// First port of the gateway's from which connections come (RFC 6335, dynamic ports).
const FIRST: u16 = 49_152;

/// A published port.
#[derive(Debug)]
pub(super) struct Published {
    listener: TcpListener,
    guest: SocketAddrV4,
    mac: EthernetAddress,
}

impl Stack {
    /// Carries what connects to a listener to an address and port of the guest's, whose card has
    /// this hardware address.
    ///
    /// # Errors
    /// [`StackError::Start`], also if there are [`PUBLISHED_MAX`] of them.
    pub fn publish(
        &mut self,
        listener: TcpListener,
        guest: SocketAddrV4,
        mac: [u8; 6],
    ) -> Result<(), StackError> {
        listener.set_nonblocking(true).map_err(StackError::Start)?;
        let token = TOKENS.start + self.published.len() as u64;
        if !TOKENS.contains(&token) {
            return Err(StackError::Start(Errno::NOSPC.into()));
        }
        epoll::add(&self.epoll, &listener, EventData::new_u64(token), EventFlags::IN)
            .map_err(|error| StackError::Start(error.into()))?;
        self.published.push(Published { listener, guest, mac: EthernetAddress(mac) });
        Ok(())
    }

    /// Takes connections of a published port.
    pub(super) fn accept(&mut self, token: u64) {
        let index = usize::try_from(token - TOKENS.start).unwrap_or(usize::MAX);
        for _ in 0..BURST {
            let Some(Published { listener, guest, mac }) = self.published.get(index) else {
                return;
            };
            let (guest, mac) = (*guest, *mac);
            match listener.accept() {
                Ok((socket, _)) => self.lead_in(socket.into(), guest, mac),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // There are no more, or no descriptors for them: who waits goes on waiting.
                Err(_) => return,
            }
        }
    }

    /// Connects a client of the host's with the guest; he is sent away if that cannot be.
    fn lead_in(&mut self, socket: std::os::fd::OwnedFd, guest: SocketAddrV4, mac: EthernetAddress) {
        if !self.flows.has_room(Protocol::Tcp) {
            return;
        }
        let Some(key) = self.free_key(guest) else { return };
        let now = self.instant();
        let mut wire = Wire { interface: &mut self.interface, out: &mut self.out, now, mac };
        if let Ok(connection) = Connection::inward(socket, &key, self.memory, &mut wire) {
            self.memory += connection.memory();
            if let Ok(slot) = self.insert(key, mac, Kind::Tcp(connection)) {
                self.enlist(slot);
            }
        }
    }

    /// A port of the gateway's that has no connection with the guest's yet.
    fn free_key(&mut self, guest: SocketAddrV4) -> Option<Key> {
        let gateway = self.config.addresses.gateway();
        // As many as there may be connections, so that one is free, if any.
        for _ in FIRST..=u16::MAX {
            self.last_port = self.last_port.checked_add(1).unwrap_or(FIRST).max(FIRST);
            let remote = SocketAddrV4::new(gateway, self.last_port);
            let key = Key { protocol: Protocol::Tcp, guest, remote };
            if self.flows.find(&key).is_none() {
                return Some(key);
            }
        }
        None
    }
}
