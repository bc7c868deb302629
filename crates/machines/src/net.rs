//! A machine's network: none, or one of its own whose packets this process carries to ordinary
//! sockets. Pure.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::FromStr,
};

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

/// The guest's address on its own network, as users of slirp know it.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);

/// Most published ports of a machine.
pub const PORTS_MAX: usize = 256;

/// What a machine is connected with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "mode")]
pub enum Network {
    /// Nothing.
    None,
    /// A network of its own that leads to the world, for which no privileges are needed.
    User {
        /// The address of its card.
        mac: Mac,
        /// Ports of the host's that lead to it.
        ports: Vec<Port>,
    },
}

/// The address of a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

/// Why a text is no address of a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address of a card: six pairs of digits such as 02:00:00:00:00:01, of one card"
)]
pub struct MacError(String);

impl Mac {
    /// A random one that no maker of cards gives away (IEEE 802, locally administered).
    ///
    /// # Errors
    /// If the kernel has no random bytes.
    pub fn random() -> std::io::Result<Mac> {
        let mut bytes = [0; 6];
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        bytes[0] = bytes[0] & 0xfc | 2;
        Ok(Mac(bytes))
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Mac, MacError> {
        let bad = || MacError(text.chars().take(32).collect());
        let digits = |pair: &str| pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
        let byte = |pair: &str| u8::from_str_radix(pair, 16).ok().filter(|_| digits(pair));
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        let bytes: [u8; 6] = bytes.and_then(|all| all.try_into().ok()).ok_or_else(bad)?;
        // One that is sent to many is nobody's.
        if bytes[0] & 1 == 1 || bytes == [0; 6] { Err(bad()) } else { Ok(Mac(bytes)) }
    }
}

impl TryFrom<String> for Mac {
    type Error = MacError;

    fn try_from(text: String) -> Result<Mac, MacError> {
        text.parse()
    }
}

impl From<Mac> for String {
    fn from(mac: Mac) -> String {
        mac.to_string()
    }
}

/// A port of the host's that leads to one of the machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Where on the host.
    pub host: SocketAddr,
    /// Which of the machine's.
    pub guest: u16,
}

/// Why a text publishes no port.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} publishes no port: write [ADDRESS:]HOST:GUEST, such as 127.0.0.1:2222:22; TCP alone"
)]
pub struct PortError(String);

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}->{}/tcp", self.host, self.guest)
    }
}

impl FromStr for Port {
    type Err = PortError;

    /// `[ADDRESS:]HOST:GUEST[/tcp]`; without an address, all of the host's.
    fn from_str(text: &str) -> Result<Port, PortError> {
        let bad = || PortError(text.chars().take(64).collect());
        let number =
            |text: &str| text.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(bad);
        let (rest, guest) =
            text.strip_suffix("/tcp").unwrap_or(text).rsplit_once(':').ok_or_else(bad)?;
        let (address, host) = match rest.rsplit_once(':') {
            None => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), rest),
            Some((address, host)) => {
                let plain = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
                (plain.unwrap_or(address).parse().map_err(|_| bad())?, host)
            }
        };
        Ok(Port { host: SocketAddr::new(address, number(host)?), guest: number(guest)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_cards_are_read_as_they_are_written() {
        let mac = Mac::random().unwrap();
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!(mac.0[0] & 3, 2);
        for bad in ["", "02:00:00:00:00", "01:00:00:00:00:00", "02:00:00:00:00:+1", "2:0:0:0:0:1"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_read_as_docker_writes_them() {
        let port = |text: &str| text.parse::<Port>().map(|port| port.to_string());
        assert_eq!(port("2222:22"), Ok("0.0.0.0:2222->22/tcp".to_owned()));
        assert_eq!(port("127.0.0.1:80:8080/tcp"), Ok("127.0.0.1:80->8080/tcp".to_owned()));
        assert_eq!(port("[::1]:80:80"), Ok("[::1]:80->80/tcp".to_owned()));
        for bad in ["", "22", "0:22", "1:0", "a:1:2", "1:2/udp", "65536:1", "1:-1"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }
}
