//! IPv4 subnets: what one is, and which one to take on a host that has routes already.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// An IPv4 network in CIDR notation, such as `172.27.0.0/16`.
///
/// Invariant: `prefix <= 32`, and the bits of `address` behind the prefix are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Ipv4Net {
    address: Ipv4Addr,
    prefix: u8,
}

/// Why a string is not a subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "subnet \"{given}\" is not valid: write a network address and its prefix length, such as 172.27.0.0/16"
)]
pub struct SubnetError {
    /// What was given.
    pub given: String,
}

impl Ipv4Net {
    /// The network of this prefix length that an address lies in; nothing above 32.
    pub fn containing(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Net> {
        let bits = address.to_bits() & mask(prefix)?;
        Some(Ipv4Net { address: Ipv4Addr::from_bits(bits), prefix })
    }

    /// The first address, which names the network.
    pub fn address(self) -> Ipv4Addr {
        self.address
    }

    /// How many leading bits all its addresses share.
    pub fn prefix(self) -> u8 {
        self.prefix
    }

    /// The last address, which is the broadcast address.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !mask(self.prefix).unwrap_or(u32::MAX))
    }

    /// Whether an address lies in it.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        (self.address..=self.broadcast()).contains(&address)
    }

    /// Whether some address lies in both.
    pub fn overlaps(self, other: Ipv4Net) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

fn mask(prefix: u8) -> Option<u32> {
    match prefix {
        0 => Some(0),
        1..=32 => Some(u32::MAX << (32 - prefix)),
        _ => None,
    }
}

impl FromStr for Ipv4Net {
    type Err = SubnetError;
    fn from_str(text: &str) -> Result<Ipv4Net, SubnetError> {
        let parsed = text.split_once('/').and_then(|(address, prefix)| {
            let address = address.parse().ok()?;
            let net = Ipv4Net::containing(address, prefix.parse().ok()?)?;
            (net.address == address && net.to_string() == text).then_some(net)
        });
        parsed.ok_or_else(|| SubnetError { given: text.chars().take(64).collect() })
    }
}

impl TryFrom<String> for Ipv4Net {
    type Error = SubnetError;
    fn try_from(text: String) -> Result<Ipv4Net, SubnetError> {
        text.parse()
    }
}

impl From<Ipv4Net> for String {
    fn from(net: Ipv4Net) -> String {
        net.to_string()
    }
}

impl fmt::Display for Ipv4Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Routes this wide are the Internet, not a network to keep clear of: the default route, and the
/// two halves of it by which VPN clients override the default route.
const WIDE_PREFIX_MAX: u8 = 7;

/// The first private `/16` that overlaps none of the networks a host has routes to.
///
/// 172.27.0.0/16 where it can be had; Docker's own choices (172.17, 172.18, …) come last of
/// theirs, so that both can live on one host; then 10.0.0.0/8 from above.
pub(crate) fn choose(taken: &[Ipv4Net]) -> Option<Ipv4Net> {
    let taken: Vec<_> = taken.iter().filter(|net| net.prefix > WIDE_PREFIX_MAX).collect();
    let of_172 = (27..=31).chain((16..=26).rev()).map(|second| [172, second, 0, 0]);
    let of_10 = (0..=255).rev().map(|second| [10, second, 0, 0]);
    of_172
        .chain(of_10)
        .filter_map(|address| Ipv4Net::containing(address.into(), 16))
        .find(|net| !taken.iter().any(|other| net.overlaps(**other)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    #[test]
    fn only_canonical_subnets_are_taken() {
        for bad in
            ["", "10.0.0.0", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "::/0"]
        {
            assert!(bad.parse::<Ipv4Net>().is_err(), "{bad}");
        }
        assert_eq!(net("0.0.0.0/0").broadcast(), Ipv4Addr::BROADCAST);
        assert_eq!(net("10.1.2.3/32").broadcast(), Ipv4Addr::new(10, 1, 2, 3));
    }

    #[test]
    fn the_chosen_subnet_keeps_clear_of_routes_but_not_of_default_routes() {
        assert_eq!(choose(&[]), Some(net("172.27.0.0/16")));
        assert_eq!(choose(&[net("0.0.0.0/0"), net("128.0.0.0/1")]), Some(net("172.27.0.0/16")));
        assert_eq!(
            choose(&[net("172.27.4.0/24"), net("172.28.0.0/15")]),
            Some(net("172.30.0.0/16"))
        );
        assert_eq!(choose(&[net("172.16.0.0/12")]), Some(net("10.255.0.0/16")));
        assert_eq!(choose(&[net("172.16.0.0/12"), net("10.0.0.0/8")]), None);
    }

    proptest! {
        #[test]
        fn a_subnet_reads_as_it_is_written(address: [u8; 4], prefix in 0u8..=32) {
            let net = Ipv4Net::containing(address.into(), prefix).unwrap();
            prop_assert_eq!(net.to_string().parse(), Ok(net));
            prop_assert!(net.contains(address.into()));
        }

        #[test]
        fn overlap_is_having_an_address_in_common(
            a in 0u32..64, b in 0u32..64, p in 26u8..=32, q in 26u8..=32,
        ) {
            let one = Ipv4Net::containing(Ipv4Addr::from_bits(a), p).unwrap();
            let other = Ipv4Net::containing(Ipv4Addr::from_bits(b), q).unwrap();
            let shared = (0..64).map(Ipv4Addr::from_bits)
                .any(|x| one.contains(x) && other.contains(x));
            prop_assert_eq!(one.overlaps(other), shared);
        }
    }
}
