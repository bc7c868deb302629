//! Names and hardware addresses of interfaces.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Name of a network interface.
///
/// Invariant: 1..=15 bytes of ASCII that a file name and nft's own syntax allow, so that it fits
/// `IFNAMSIZ` with its NUL and is safe below `/proc/sys/net`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(Box<str>);

/// Why a string is not an interface's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "interface name \"{given}\" is not valid: it must be 1 to 15 of [A-Za-z0-9_.-], beginning with a letter or a digit"
)]
pub struct InterfaceNameError {
    /// What was given.
    pub given: String,
}

/// Longest name in bytes: `IFNAMSIZ` without its NUL.
const NAME_MAX: usize = 15;

impl InterfaceName {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host's end of an endpoint's cable.
    ///
    /// The same endpoint has the same name after a restart, so that what a killed daemon left can
    /// be found. 48 bits of FNV-1a: ids are random, so a thousand endpoints meet with a chance of
    /// 1 in 5 × 10^8.
    pub fn of_endpoint(id: &str) -> InterfaceName {
        InterfaceName(format!("{ENDPOINT_PREFIX}{:012x}", hash(id) >> 16).into())
    }

    /// A further bridge of a network, or something that belongs to one.
    pub(crate) fn of_branch(what: &str) -> InterfaceName {
        InterfaceName(format!("{BRANCH_PREFIX}{:08x}", hash(what) >> 32).into())
    }

    /// Whether [`InterfaceName::of_endpoint`] could have made this name.
    pub(crate) fn is_of_endpoint(name: &str) -> bool {
        is_hashed(ENDPOINT_PREFIX, 12, name)
    }

    /// Whether [`InterfaceName::of_branch`] could have made this name.
    pub(crate) fn is_of_branch(name: &str) -> bool {
        is_hashed(BRANCH_PREFIX, 8, name)
    }

    /// A hardware address that goes with the name, locally administered.
    pub(crate) fn mac(&self) -> Mac {
        let [a, b, c, d, e, ..] = hash(&self.0).to_be_bytes();
        Mac([0x06, a, b, c, d, e])
    }

    /// As nf_tables compares it: sixteen bytes, filled with zeros.
    pub(crate) fn padded(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (to, from) in bytes.iter_mut().zip(self.0.bytes()) {
            *to = from;
        }
        bytes
    }
}

/// What names of endpoints' cables begin with.
pub(crate) const ENDPOINT_PREFIX: &str = "wy";
/// What names of further bridges begin with, and nothing else on a host.
pub(crate) const BRANCH_PREFIX: &str = "wythe-b";

/// FNV-1a.
fn hash(text: &str) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    text.bytes().fold(OFFSET, |hash, b| (hash ^ u64::from(b)).wrapping_mul(PRIME))
}

fn is_hashed(prefix: &str, digits: usize, name: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == digits && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;
    fn from_str(text: &str) -> Result<InterfaceName, InterfaceNameError> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if first && text.len() <= NAME_MAX && text.bytes().all(word) {
            Ok(InterfaceName(text.into()))
        } else {
            Err(InterfaceNameError { given: text.chars().take(64).collect() })
        }
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InterfaceNameError;
    fn try_from(text: String) -> Result<InterfaceName, InterfaceNameError> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> String {
        name.0.into()
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that goes with an IPv4 address: `02:42` (locally administered) and its bytes,
    /// as Docker derives it. Whoever has the one next has the other too, so neighbours' caches
    /// stay right.
    pub fn of_address(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([0x02, 0x42, a, b, c, d])
    }
}

impl FromStr for Mac {
    type Err = MacError;
    fn from_str(text: &str) -> Result<Mac, MacError> {
        let mut bytes = [0; 6];
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let error = || MacError(text.chars().take(64).collect());
        if parts.len() != bytes.len() {
            return Err(error());
        }
        for (byte, part) in bytes.iter_mut().zip(parts) {
            let two = part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16).ok().filter(|_| two).ok_or_else(error)?;
        }
        // The lowest bit of the first byte is that of groups (IEEE 802), which no interface has.
        if bytes.first().is_some_and(|first| first & 1 == 1) || bytes == [0; 6] {
            return Err(error());
        }
        Ok(Mac(bytes))
    }
}

/// Why a string is not an interface's hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {0}: invalid MAC address")]
pub struct MacError(String);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_do_not_fit_or_leave_a_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "a b", "sixteen-bytes-xx", "ü", "-a", "a\"", "a\0"] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad:?}");
        }
        assert!("wythe0".parse::<InterfaceName>().is_ok());
    }

    #[test]
    fn an_endpoints_name_fits_and_is_its_own() {
        let names: Vec<_> = ["a", "b", "ab"].map(InterfaceName::of_endpoint).into();
        assert!(names.iter().all(|name| name.as_str().parse() == Ok(name.clone())));
        assert!(names.iter().all(|name| InterfaceName::is_of_endpoint(name.as_str())));
        assert!(names[0] != names[1] && names[1] != names[2]);
        assert_eq!(names[0], InterfaceName::of_endpoint("a"));
    }

    #[test]
    fn a_mac_address_reads_as_it_prints() {
        let mac = Mac([0x92, 0xd0, 0xc6, 0x0a, 0x29, 0x33]);
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in
            ["", "92:d0:c6:0a:29", "92:d0:c6:0a:29:3", "93:d0:c6:0a:29:33", "zz:d0:c6:0a:29:33"]
        {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_mac_address_prints_as_docker_derives_it() {
        let mac = Mac::of_address(Ipv4Addr::new(172, 27, 0, 2));
        assert_eq!(mac.to_string(), "02:42:ac:1b:00:02");
    }
}
