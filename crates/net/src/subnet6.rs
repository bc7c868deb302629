//! IPv6 subnets, and the one a host has to itself.

use std::{fmt, net::Ipv6Addr, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::SubnetError;

/// An IPv6 network in CIDR notation, such as `fd12:3456:789a::/64`.
///
/// Invariant: `prefix <= 128`, and the bits of `address` behind the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv6Net {
    address: Ipv6Addr,
    prefix: u8,
}

impl Ipv6Net {
    /// The network of this prefix length that an address lies in; nothing above 128.
    pub fn containing(address: Ipv6Addr, prefix: u8) -> Option<Ipv6Net> {
        let bits = address.to_bits() & mask(prefix)?;
        Some(Ipv6Net { address: Ipv6Addr::from_bits(bits), prefix })
    }

    /// A unique local `/64` that is the same whenever the seed is, such as a host's id and the
    /// name of a bridge: `fd`, 40 bits of the seed's FNV-1a hash, subnet 0.
    ///
    /// Source: RFC 4193, section 3.
    pub fn unique_local(seed: &[u8]) -> Ipv6Net {
        const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
        const PRIME: u64 = 0x0100_0000_01b3;
        const UNIQUE_LOCAL: u128 = 0xfd << 120;
        let hash = seed.iter().fold(OFFSET, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(PRIME));
        let address = UNIQUE_LOCAL | u128::from(hash >> 24) << 80;
        Ipv6Net { address: Ipv6Addr::from_bits(address), prefix: 64 }
    }

    /// The first address, which names the network.
    pub fn address(self) -> Ipv6Addr {
        self.address
    }

    /// How many leading bits all its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The address this far from the first.
    pub fn nth(self, offset: u32) -> Ipv6Addr {
        Ipv6Addr::from_bits(self.address.to_bits() | u128::from(offset))
    }

    /// The address behind the last; `::` if the last is the last of all.
    pub(crate) fn end(self) -> Ipv6Addr {
        let last = self.address.to_bits() | !mask(self.prefix).unwrap_or(u128::MAX);
        Ipv6Addr::from_bits(last.wrapping_add(1))
    }

    /// Whether an address lies in it.
    pub fn contains(self, address: Ipv6Addr) -> bool {
        Ipv6Net::containing(address, self.prefix) == Some(self)
    }
}

fn mask(prefix: u8) -> Option<u128> {
    match prefix {
        0 => Some(0),
        1..=128 => Some(u128::MAX << (128 - prefix)),
        _ => None,
    }
}

impl FromStr for Ipv6Net {
    type Err = SubnetError;
    fn from_str(text: &str) -> Result<Ipv6Net, SubnetError> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address = address.parse().ok()?;
            let net = Ipv6Net::containing(address, prefix.parse().ok()?)?;
            (net.address == address).then_some(net)
        });
        parsed.ok_or_else(|| SubnetError { given: text.chars().take(64).collect() })
    }
}

impl TryFrom<String> for Ipv6Net {
    type Error = SubnetError;
    fn try_from(text: String) -> Result<Ipv6Net, SubnetError> {
        text.parse()
    }
}

impl From<Ipv6Net> for String {
    fn from(net: Ipv6Net) -> String {
        net.to_string()
    }
}

impl fmt::Display for Ipv6Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_has_one_unique_local_subnet() {
        let of = |seed: &str| Ipv6Net::unique_local(seed.as_bytes());
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        let net = of("a");
        let [first, .., last] = net.address().octets();
        assert_eq!((first, net.address().segments()[3], last, net.prefix()), (0xfd, 0, 0, 64));
    }

    #[test]
    fn only_network_addresses_are_subnets() {
        for bad in ["", "fd00::", "fd00::1/64", "fd00::/129", "10.0.0.0/8", "fd00::/x"] {
            assert!(bad.parse::<Ipv6Net>().is_err(), "{bad}");
        }
        let all: Ipv6Net = "::/0".parse().unwrap();
        assert_eq!(all.end(), Ipv6Addr::UNSPECIFIED);
    }

    proptest! {
        #[test]
        fn a_subnet_reads_as_it_is_written(address: u128, prefix in 0u8..=128) {
            let address = Ipv6Addr::from_bits(address);
            let net = Ipv6Net::containing(address, prefix).unwrap();
            prop_assert_eq!(net.to_string().parse(), Ok(net));
            prop_assert!(net.contains(address));
        }
    }
}
