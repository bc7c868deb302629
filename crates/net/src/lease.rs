//! Which addresses of a subnet are taken.
//!
//! Pure: the engine's records say which container has which address; this is rebuilt from them.

use std::{collections::BTreeSet, net::Ipv4Addr};

use base::ErrorKind;

use crate::Ipv4Net;

/// The addresses of one subnet, handed out one at a time.
///
/// Next-fit: the search goes on where the last one ended, so that an address just given back
/// comes up again only after all the others. Peers that remember it (ARP caches, connection
/// tracking, open clients) do not meet another container there at once.
#[derive(Clone, Debug)]
pub struct Leases {
    subnet: Ipv4Net,
    taken: BTreeSet<Ipv4Addr>,
    /// Where the next search begins.
    next: u32,
}

/// Why no address was handed out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// All are taken.
    #[error("all addresses of {0} are in use")]
    Exhausted(Ipv4Net),
    /// The one asked for is.
    #[error("address {0} is already in use")]
    Taken(Ipv4Addr),
    /// The one asked for cannot be a container's: it lies outside, or names the network, or is
    /// the gateway's or the broadcast address.
    #[error("address {address} cannot be given to a container of {subnet}")]
    Unusable {
        /// The address.
        address: Ipv4Addr,
        /// The subnet.
        subnet: Ipv4Net,
    },
}

impl LeaseError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            LeaseError::Exhausted(_) => ErrorKind::Exhausted,
            LeaseError::Taken(_) => ErrorKind::Conflict,
            LeaseError::Unusable { .. } => ErrorKind::InvalidInput,
        }
    }
}

impl Leases {
    /// A subnet of which only the gateway's address is taken.
    pub fn new(subnet: Ipv4Net, gateway: Ipv4Addr) -> Leases {
        // The first and the last address name the network and everyone in it.
        let taken = [subnet.address(), subnet.broadcast(), gateway].into();
        Leases { subnet, taken, next: subnet.address().to_bits() }
    }

    /// A subnet of which these are taken, as records say.
    ///
    /// # Errors
    /// As [`Leases::take`], for the first address that cannot be taken.
    pub fn restore(
        subnet: Ipv4Net,
        gateway: Ipv4Addr,
        taken: impl IntoIterator<Item = Ipv4Addr>,
    ) -> Result<Leases, LeaseError> {
        let mut leases = Leases::new(subnet, gateway);
        let mut highest = leases.next;
        for address in taken {
            leases.take(address)?;
            highest = highest.max(address.to_bits());
        }
        leases.next = highest;
        Ok(leases)
    }

    /// Takes the next free address.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`] if there is none.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, LeaseError> {
        self.allocate_in(self.subnet, |_| true)
    }

    /// Takes the next free address of a part of the subnet that is welcome.
    ///
    /// # Errors
    /// [`LeaseError::Exhausted`] if there is none.
    pub fn allocate_in(
        &mut self,
        part: Ipv4Net,
        welcome: impl Fn(Ipv4Addr) -> bool,
    ) -> Result<Ipv4Addr, LeaseError> {
        let (first, last) = (part.address().to_bits(), part.broadcast().to_bits());
        let next = if part.contains(Ipv4Addr::from_bits(self.next)) { self.next } else { first };
        let found = (next..=last)
            .chain(first..next)
            .map(Ipv4Addr::from_bits)
            .find(|address| !self.taken.contains(address) && welcome(*address))
            .ok_or(LeaseError::Exhausted(part))?;
        self.taken.insert(found);
        self.next = found.to_bits();
        Ok(found)
    }

    /// Takes this address.
    ///
    /// # Errors
    /// [`LeaseError::Unusable`] or [`LeaseError::Taken`].
    pub fn take(&mut self, address: Ipv4Addr) -> Result<(), LeaseError> {
        let Leases { subnet, .. } = *self;
        let ends = [subnet.address(), subnet.broadcast()];
        if !subnet.contains(address) || ends.contains(&address) {
            return Err(LeaseError::Unusable { address, subnet });
        }
        if self.taken.insert(address) { Ok(()) } else { Err(LeaseError::Taken(address)) }
    }

    /// The addresses that are taken.
    pub fn taken(&self) -> impl Iterator<Item = Ipv4Addr> {
        self.taken.iter().copied()
    }

    /// Gives an address back. Nothing happens if it was not taken.
    pub fn free(&mut self, address: Ipv4Addr) {
        self.taken.remove(&address);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

    fn small() -> Leases {
        Leases::new("10.0.0.0/29".parse().unwrap(), GATEWAY)
    }

    fn last_bytes(leases: &mut Leases, count: usize) -> Vec<u8> {
        (0..count).map(|_| leases.allocate().unwrap().octets()[3]).collect()
    }

    #[test]
    fn a_freed_address_comes_up_again_only_after_all_others() {
        let mut leases = small();
        assert_eq!(last_bytes(&mut leases, 2), [2, 3]);
        leases.free(Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(last_bytes(&mut leases, 4), [4, 5, 6, 2]);
        assert_eq!(leases.allocate().unwrap_err().kind(), ErrorKind::Exhausted);
    }

    #[test]
    fn an_address_is_not_reused_at_once_after_a_restart_either() {
        let subnet = "10.0.0.0/29".parse().unwrap();
        let taken = [Ipv4Addr::new(10, 0, 0, 4)];
        let mut leases = Leases::restore(subnet, GATEWAY, taken).unwrap();
        assert_eq!(last_bytes(&mut leases, 4), [5, 6, 2, 3]);
    }

    #[test]
    fn an_address_can_be_asked_for() {
        let mut leases = small();
        let asked = Ipv4Addr::new(10, 0, 0, 5);
        assert_eq!(leases.take(asked), Ok(()));
        assert_eq!(leases.take(asked), Err(LeaseError::Taken(asked)));
        assert_eq!(leases.take(GATEWAY), Err(LeaseError::Taken(GATEWAY)));
        for other in [[10, 0, 0, 0], [10, 0, 0, 7], [10, 0, 0, 8]] {
            assert_eq!(leases.take(other.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }

    proptest! {
        #[test]
        fn no_address_is_had_twice_and_all_free_ones_can_be_had(
            steps in prop::collection::vec(prop::option::of(0usize..6), 0..64),
        ) {
            let mut leases = small();
            let mut held = Vec::new();
            for step in steps {
                match step {
                    Some(index) if index < held.len() => leases.free(held.swap_remove(index)),
                    _ => match leases.allocate() {
                        Ok(address) => {
                            prop_assert!(!held.contains(&address) && address != GATEWAY);
                            prop_assert!((2..=6).contains(&address.octets()[3]));
                            held.push(address);
                        }
                        Err(error) => {
                            prop_assert_eq!(error.kind(), ErrorKind::Exhausted);
                            prop_assert_eq!(held.len(), 5);
                        }
                    },
                }
            }
        }
    }
}
