//! Host ports held for containers.
//!
//! Published ports are forwarded before they reach a socket, so the kernel alone would let two
//! programs have one. A socket of ours bound to the port keeps every other program from it, and
//! tells at once when one has it already. Nothing is ever accepted on it.
//!
//! Where the namespace that plays the host has another around it (the network of an ordinary user's
//! daemon), the ports are that one's, held by an [`Outside`].

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
    sync::Arc,
};

use base::ErrorKind;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt,
    },
};

use crate::{Forward, Protocol, PublishedPort, error::kind_of};

/// Whoever holds ports where packets from elsewhere arrive, and carries what arrives there to
/// containers. Every method may block.
pub trait Outside: fmt::Debug + Send + Sync {
    /// Holds a port; port 0 is any that is free. Answers the address with its number.
    ///
    /// # Errors
    /// What the kernel says there, as bind(2) does.
    fn hold(&self, protocol: Protocol, address: SocketAddr) -> io::Result<SocketAddr>;

    /// Lets it go.
    fn release(&self, protocol: Protocol, address: SocketAddr);

    /// Has held ports lead to these containers, and the others nowhere.
    ///
    /// # Errors
    /// If nobody is there to do it.
    fn lead(&self, forwards: &[Forward]) -> io::Result<()>;

    /// Who resolves names for containers, if not those whom the host's own configuration names.
    fn resolver(&self) -> Option<IpAddr>;
}

/// What keeps a port.
#[derive(Debug)]
enum Hold {
    /// Bound and never read.
    Socket {
        _socket: OwnedFd,
    },
    Outside {
        outside: Arc<dyn Outside>,
        protocol: Protocol,
        address: SocketAddr,
    },
    /// No port of the host's leads there.
    Nothing,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Hold::Outside { outside, protocol, address } = self {
            outside.release(*protocol, *address);
        }
    }
}

/// A host's port held for a container's; others can have it when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    hold: Hold,
    host: SocketAddr,
    protocol: Protocol,
    container_port: u16,
}

/// Why a port could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Another container or another program has it.
    #[error("Bind for {address}:{ports} failed: port is already allocated")]
    Allocated {
        /// The host's address, an IPv6 one in brackets.
        address: String,
        /// The port, or the range of which none is free.
        ports: String,
    },
    /// The address is not the host's.
    #[error("Bind for {0} failed: it is not an address of this host")]
    NotLocal(IpAddr),
    /// The port is one of those for which it takes a privilege.
    #[error(
        "Bind for {0} failed: permission denied; publish a higher port, or have root allow this \
         one with `sysctl net.ipv4.ip_unprivileged_port_start={port}`", port = .0.port()
    )]
    Privileged(SocketAddr),
    /// The address is an IPv6 one, and the network or the host has none.
    #[error("Bind for {0} failed: the container has no IPv6 address")]
    Ipv6(IpAddr),
    /// The kernel cannot lead packets from its IPv6 loopback address to another interface.
    #[error(
        "Bind for [::1] failed: the kernel cannot forward from ::1; publish on 127.0.0.1 or on another IPv6 address"
    )]
    Loopback6,
    /// Anything else the host said.
    #[error("Bind for {address} failed")]
    Bind {
        /// The host's address and port.
        address: SocketAddr,
        /// What it said.
        #[source]
        source: Errno,
    },
    /// The host's network namespace could not be entered.
    #[error("cannot enter the host's network namespace")]
    Enter(#[source] io::Error),
}

impl ReserveError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ReserveError::Allocated { .. } => ErrorKind::Conflict,
            ReserveError::NotLocal(_) => ErrorKind::InvalidInput,
            ReserveError::Privileged(_) => ErrorKind::PermissionDenied,
            ReserveError::Ipv6(_) | ReserveError::Loopback6 => ErrorKind::Unsupported,
            ReserveError::Bind { source, .. } => kind_of(*source),
            ReserveError::Enter(_) => ErrorKind::Internal,
        }
    }
}

impl Reservation {
    /// Where the port is reached: the number is known even if any was asked for, and 0 where it is
    /// reached at the container's own address alone.
    pub fn host(&self) -> SocketAddr {
        self.host
    }

    /// Leaves it to whoever carries it outside: whoever holds it here ends, and its container goes
    /// on. What a socket here holds is let go.
    pub fn leave(self) {
        match self.hold {
            hold @ Hold::Outside { .. } => std::mem::forget(hold),
            Hold::Socket { .. } | Hold::Nothing => {}
        }
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The container's port that it is held for.
    pub fn container_port(&self) -> u16 {
        self.container_port
    }

    /// The way from it to a container at these addresses; none if it has none of the family.
    pub fn forward(&self, v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> Option<Forward> {
        let container = match self.host {
            SocketAddr::V4(_) => IpAddr::V4(v4),
            // What is carried by sockets may go on in the family that all have.
            SocketAddr::V6(host) if is_carried(IpAddr::V6(*host.ip())) => IpAddr::V4(v4),
            SocketAddr::V6(_) => IpAddr::V6(v6?),
        };
        Some(Forward {
            host: self.host,
            protocol: self.protocol,
            container: SocketAddr::new(container, self.container_port),
        })
    }
}

/// Who carries what arrives at ports that the kernel cannot lead.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Carriers<'a> {
    /// All ports.
    pub(crate) outside: Option<&'a Arc<dyn Outside>>,
    /// Those of `::1`.
    pub(crate) loopback: Option<&'a Arc<dyn Outside>>,
}

impl<'a> Carriers<'a> {
    fn of(self, address: IpAddr) -> Option<&'a Arc<dyn Outside>> {
        let loopback = self.loopback.filter(|_| is_carried(address));
        self.outside.or(loopback)
    }
}

/// The families whose addresses are reached by routes of others.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Routed {
    pub(crate) four: bool,
    pub(crate) six: bool,
}

impl Routed {
    fn has(self, address: IpAddr) -> bool {
        if address.is_ipv6() { self.six } else { self.four }
    }
}

/// Whether the kernel cannot lead packets from this address to a container: IPv6 has no
/// `route_localnet`.
pub(crate) fn is_carried(address: IpAddr) -> bool {
    address == IpAddr::V6(Ipv6Addr::LOCALHOST)
}

/// How often a free port is sought that is free in both families.
const BOTH_TRIES: usize = 64;

/// Holds the port asked for, or the first free one of those asked for, in the calling thread's
/// network namespace or outside it: on the address asked for, or on all of them, of both families
/// if there are both. Outside there is IPv4 alone.
pub(crate) fn reserve(
    asked: &PublishedPort,
    ipv6: bool,
    carriers: Carriers<'_>,
    routed: Routed,
) -> Result<Vec<Reservation>, ReserveError> {
    let ipv6 = ipv6 && carriers.outside.is_none();
    let addresses: &[IpAddr] = match asked.host_ip {
        None if ipv6 => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)],
        None => &[IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
        Some(IpAddr::V6(Ipv6Addr::LOCALHOST)) if !routed.six => {
            match carriers.loopback.or(carriers.outside) {
                Some(_) => &[IpAddr::V6(Ipv6Addr::LOCALHOST)],
                None => return Err(ReserveError::Loopback6),
            }
        }
        Some(address @ IpAddr::V6(_)) if !ipv6 => return Err(ReserveError::Ipv6(address)),
        Some(address) => &[address],
    };
    let tries: Box<dyn Iterator<Item = u16>> = match asked.host_ports {
        Some(range) => Box::new(range.ports()),
        None => Box::new(std::iter::repeat_n(0, BOTH_TRIES)),
    };
    let mut taken = None;
    for port in tries {
        match hold_all(addresses, port, asked, carriers, routed) {
            Err((address, Errno::ADDRINUSE)) => taken = Some(address),
            Err((address, errno)) => return Err(refused(address, port, errno)),
            Ok(reservations) => return Ok(reservations),
        }
    }
    let address = match taken.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let ports = asked.host_ports.map_or_else(|| "0".to_owned(), |range| range.to_string());
    Err(ReserveError::Allocated { address, ports })
}

/// Holds one port on several addresses: the one asked for, or whichever the first one gives.
fn hold_all(
    addresses: &[IpAddr],
    port: u16,
    asked: &PublishedPort,
    carriers: Carriers<'_>,
    routed: Routed,
) -> Result<Vec<Reservation>, (IpAddr, Errno)> {
    let hold = |address: SocketAddr| match carriers.of(address.ip()) {
        None => hold(address, asked),
        Some(carrier) => hold_outside(carrier, address, asked),
    };
    let mut held: Vec<Reservation> = Vec::with_capacity(addresses.len());
    for address in addresses {
        if routed.has(*address) {
            held.push(direct(*address, asked));
            continue;
        }
        let first = held.iter().map(|first| first.host.port()).find(|port| *port != 0);
        let port = first.unwrap_or(port);
        held.push(hold(SocketAddr::new(*address, port)).map_err(|e| (*address, e))?);
    }
    Ok(held)
}

/// What needs no port of the host's: of the address asked for, the family matters alone.
fn direct(address: IpAddr, asked: &PublishedPort) -> Reservation {
    let any: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let PublishedPort { protocol, container_port, .. } = *asked;
    let host = SocketAddr::new(any, 0);
    Reservation { hold: Hold::Nothing, host, protocol, container_port }
}

fn refused(address: IpAddr, port: u16, errno: Errno) -> ReserveError {
    match errno {
        Errno::ADDRNOTAVAIL => ReserveError::NotLocal(address),
        Errno::ACCESS => ReserveError::Privileged(SocketAddr::new(address, port)),
        _ => ReserveError::Bind { address: SocketAddr::new(address, port), source: errno },
    }
}

fn hold(host: SocketAddr, asked: &PublishedPort) -> Result<Reservation, Errno> {
    let socket = match asked.protocol {
        Protocol::Udp => bound(host, SocketType::DGRAM, false)?,
        Protocol::Tcp => match bound(host, SocketType::STREAM, false) {
            // Connections of a server that is gone may linger on the port for a minute
            // (TIME_WAIT). A listener may have it all the same, and keeps others off.
            Err(Errno::ADDRINUSE) if host.port() != 0 => bound(host, SocketType::STREAM, true)?,
            other => other?,
        },
    };
    let host = SocketAddr::try_from(getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    let PublishedPort { protocol, container_port, .. } = *asked;
    let hold = Hold::Socket { _socket: socket };
    Ok(Reservation { hold, host, protocol, container_port })
}

fn hold_outside(
    outside: &Arc<dyn Outside>,
    host: SocketAddr,
    asked: &PublishedPort,
) -> Result<Reservation, Errno> {
    let PublishedPort { protocol, container_port, .. } = *asked;
    let host = outside
        .hold(protocol, host)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let hold = Hold::Outside { outside: Arc::clone(outside), protocol, address: host };
    Ok(Reservation { hold, host, protocol, container_port })
}

/// A socket that does not listen is enough to keep a port, and answers strays with a reset. One
/// that shares with lingering connections would share with others' sockets too, so it listens.
fn bound(host: SocketAddr, kind: SocketType, share: bool) -> Result<OwnedFd, Errno> {
    let family = if host.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if host.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if share {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &host)?;
    if share {
        listen(&socket, 0)?;
    }
    Ok(socket)
}
