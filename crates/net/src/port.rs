//! Published ports, and the words of `-p` that ask for them.
//!
//! Pure. Grammar and error texts are Docker's: `[ip:][host[-host]:]port[-port][/protocol]`.
//!
//! Source: docker/go-connections, `nat.ParsePortSpec`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

/// A transport protocol whose ports can be published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl Protocol {
    /// Its number in an IP header (IANA, "Assigned Internet Protocol Numbers").
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        })
    }
}

impl FromStr for Protocol {
    type Err = PortError;
    fn from_str(text: &str) -> Result<Protocol, PortError> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Err(PortError::Sctp),
            _ => Err(PortError::Protocol(short(text))),
        }
    }
}

/// Some ports next to each other.
///
/// Invariant: `first <= last`, and `first` is not 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// The ports from `first` to `last`; nothing if that is none, or one of them is 0.
    pub fn new(first: u16, last: u16) -> Option<PortRange> {
        (first != 0 && first <= last).then_some(PortRange { first, last })
    }

    /// The lowest.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest.
    pub fn last(self) -> u16 {
        self.last
    }

    /// All of them.
    pub fn ports(self) -> impl ExactSizeIterator<Item = u16> {
        // `RangeInclusive<u16>` does not know its own length.
        let first = self.first;
        (0..self.len()).map(move |offset| first + offset)
    }

    /// How many they are. Without port 0 that is at most 65,535.
    fn len(self) -> u16 {
        self.last - self.first + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// A container's port as it was asked to be published.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address to publish on; none for all of them.
    pub host_ip: Option<IpAddr>,
    /// The host's port, or ports of which a free one is taken; none for any that is free.
    pub host_ports: Option<PortRange>,
    /// The container's port.
    pub container_port: u16,
    /// The protocol of both.
    pub protocol: Protocol,
}

/// A host's address and port that lead to a container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Forward {
    /// Where it is reached: one of the host's addresses, or 0.0.0.0 or [::] for all of a family.
    /// Its port is 0 where it is reached by the container's own address and port alone.
    pub host: SocketAddr,
    /// The protocol of both.
    pub protocol: Protocol,
    /// Where that leads, of the same family.
    pub container: SocketAddr,
}

impl Forward {
    /// Whether no port of the host leads there.
    pub(crate) fn is_direct(&self) -> bool {
        self.host.port() == 0
    }
}

/// Why a `-p` was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The container's port is missing.
    #[error("no port specified: {0}<empty>")]
    NoPort(String),
    /// The container's port is not a port or a range of them.
    #[error("invalid containerPort: {0}")]
    ContainerPort(String),
    /// The host's port is not a port or a range of them.
    #[error("invalid hostPort: {0}")]
    HostPort(String),
    /// The host's address is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// Neither tcp nor udp.
    #[error("invalid proto: {0}")]
    Protocol(String),
    /// A protocol Docker knows and this does not.
    #[error("publishing sctp ports is not supported: use tcp or udp")]
    Sctp,
    /// Two ranges of different lengths.
    #[error("invalid ranges specified for container and host Ports: {container} and {host}")]
    Ranges {
        /// The container's.
        container: String,
        /// The host's.
        host: String,
    },
}

impl PortError {
    /// What the caller can do.
    pub fn kind(&self) -> base::ErrorKind {
        match self {
            PortError::Sctp => base::ErrorKind::Unsupported,
            PortError::NoPort(_)
            | PortError::ContainerPort(_)
            | PortError::HostPort(_)
            | PortError::Address(_)
            | PortError::Protocol(_)
            | PortError::Ranges { .. } => base::ErrorKind::InvalidInput,
        }
    }
}

/// The ports that one `-p` asks for.
///
/// A range of the container's ports goes to a range of the host's, one to one. A range of the
/// host's for one of the container's means: any of these that is free.
///
/// # Errors
/// In Docker's words. Port 0 is an ephemeral one on the host's side, as in Docker, and refused on
/// the container's.
pub fn parse_published(spec: &str) -> Result<Vec<PublishedPort>, PortError> {
    let (host_ip, host, container) = split(spec);
    let (container, protocol) = container.split_once('/').unwrap_or((container, ""));
    if container.is_empty() {
        return Err(PortError::NoPort(short(spec)));
    }
    let protocol = if protocol.is_empty() { "tcp" } else { protocol }.parse()?;
    let host_ip = address(host_ip)?;
    let inside = range(container).ok_or_else(|| PortError::ContainerPort(short(container)))?;
    let outside = match host {
        "" | "0" => None,
        _ => Some(range(host).ok_or_else(|| PortError::HostPort(short(host)))?),
    };
    let one = |container_port, host_ports| PublishedPort {
        host_ip,
        host_ports,
        container_port,
        protocol,
    };
    let alone = |port| PortRange { first: port, last: port };
    match outside {
        None => Ok(inside.ports().map(|port| one(port, None)).collect()),
        Some(outside) if inside.len() == outside.len() => {
            let pairs = inside.ports().zip(outside.ports());
            Ok(pairs.map(|(port, host)| one(port, Some(alone(host)))).collect())
        }
        Some(outside) if inside.len() == 1 => Ok(vec![one(inside.first, Some(outside))]),
        Some(_) => Err(PortError::Ranges { container: short(container), host: short(host) }),
    }
}

/// Address, host port and container port: the last two colons part them, since an IPv6 address
/// has colons of its own.
fn split(spec: &str) -> (&str, &str, &str) {
    match spec.rsplit_once(':') {
        None => ("", "", spec),
        Some((rest, container)) => match rest.rsplit_once(':') {
            None => ("", rest, container),
            Some((address, host)) => (address, host, container),
        },
    }
}

fn address(text: &str) -> Result<Option<IpAddr>, PortError> {
    if text.is_empty() {
        return Ok(None);
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    bare.parse().map(Some).map_err(|_| PortError::Address(short(text)))
}

fn range(text: &str) -> Option<PortRange> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    PortRange::new(number(first)?, number(last)?)
}

/// Digits only; `parse` alone would take a sign.
fn number(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// What an error repeats of its input.
fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

#[cfg(test)]
mod tests;
