//! The flows of a stack: what talks to what, each with a place and a token of its own.

use std::{collections::HashMap, net::SocketAddrV4};

use smoltcp::wire::EthernetAddress;

use crate::{datagram::Exchange, tcp::Connection, timers::Millis};

/// TCP connections at a time; more are refused by silence, and the guest tries again.
pub(crate) const CONNECTIONS_MAX: usize = 4096;
/// UDP flows, names that are being resolved and echoes at a time; one more ends the one that has
/// been idle for longest.
pub(crate) const EXCHANGES_MAX: usize = 4096;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
    /// The guest's port is the identifier, the other's is 0.
    Echo,
}

/// What a flow is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) protocol: Protocol,
    pub(crate) guest: SocketAddrV4,
    /// As the guest addresses it.
    pub(crate) remote: SocketAddrV4,
}

#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) key: Key,
    pub(crate) mac: EthernetAddress,
    pub(crate) deadline: Option<Millis>,
    /// Whether it is on the list of those to be carried.
    pub(crate) listed: bool,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Tcp(Connection),
    Datagrams(Exchange),
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Flows {
    slots: Vec<Slot>,
    free: Vec<usize>,
    index: HashMap<Key, usize>,
    /// How many are connections.
    connections: usize,
}

#[derive(Debug, Default)]
struct Slot {
    /// How many flows have had it: an event may be meant for one that is gone.
    generation: u32,
    flow: Option<Flow>,
}

impl Flows {
    pub(crate) fn find(&self, key: &Key) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// Whether there is room for one more.
    pub(crate) fn has_room(&self, protocol: Protocol) -> bool {
        match protocol {
            Protocol::Tcp => self.connections < CONNECTIONS_MAX,
            Protocol::Udp | Protocol::Echo => self.index.len() - self.connections < EXCHANGES_MAX,
        }
    }

    /// Puts a flow, whose key no other has, into a slot.
    pub(crate) fn insert(&mut self, flow: Flow) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.index.insert(flow.key, slot);
        self.connections += usize::from(flow.key.protocol == Protocol::Tcp);
        if let Some(place) = self.slots.get_mut(slot) {
            place.flow = Some(flow);
        }
        slot
    }

    pub(crate) fn get(&mut self, slot: usize) -> Option<&mut Flow> {
        self.slots.get_mut(slot)?.flow.as_mut()
    }

    pub(crate) fn remove(&mut self, slot: usize) -> Option<Flow> {
        let place = self.slots.get_mut(slot)?;
        let flow = place.flow.take()?;
        place.generation = place.generation.wrapping_add(1);
        self.free.push(slot);
        self.index.remove(&flow.key);
        self.connections -= usize::from(flow.key.protocol == Protocol::Tcp);
        Some(flow)
    }

    /// What events of the flow in a slot carry.
    pub(crate) fn token(&self, slot: usize) -> u64 {
        let generation = self.slots.get(slot).map_or(0, |slot| slot.generation);
        let slot = u32::try_from(slot).expect("there are fewer flows than the limits allow");
        u64::from(generation) << 32 | u64::from(slot)
    }

    /// The slot that a token means, if its flow is still there.
    pub(crate) fn by_token(&self, token: u64) -> Option<usize> {
        let slot = usize::try_from(token & u64::from(u32::MAX)).ok()?;
        let place = self.slots.get(slot)?;
        (place.flow.is_some() && u64::from(place.generation) == token >> 32).then_some(slot)
    }

    /// Every slot that has a flow.
    pub(crate) fn all(&self) -> impl Iterator<Item = usize> {
        self.slots.iter().enumerate().filter(|(_, slot)| slot.flow.is_some()).map(|(at, _)| at)
    }
}
