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
    net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket},
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
    fn hold(&self, protocol: Protocol, address: SocketAddrV4) -> io::Result<SocketAddrV4>;

    /// Lets it go.
    fn release(&self, protocol: Protocol, address: SocketAddrV4);

    /// Has held ports lead to these containers, and the others nowhere.
    ///
    /// # Errors
    /// If nobody is there to do it.
    fn lead(&self, forwards: &[Forward]) -> io::Result<()>;
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
        address: SocketAddrV4,
    },
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
    _hold: Hold,
    host: SocketAddrV4,
    protocol: Protocol,
    container_port: u16,
}

/// Why a port could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ReserveError {
    /// Another container or another program has it.
    #[error("bind for {address}:{ports} failed: port is already allocated")]
    Allocated {
        /// The host's address.
        address: Ipv4Addr,
        /// The port, or the range of which none is free.
        ports: String,
    },
    /// The address is not the host's.
    #[error("bind for {0} failed: it is not an address of this host")]
    NotLocal(Ipv4Addr),
    /// The port is one of those for which it takes a privilege.
    #[error(
        "bind for {0} failed: permission denied; publish a higher port, or have root allow this \
         one with `sysctl net.ipv4.ip_unprivileged_port_start={port}`", port = .0.port()
    )]
    Privileged(SocketAddrV4),
    /// The address is an IPv6 one.
    #[error("bind for {0} failed: ports can be published on IPv4 addresses only")]
    Ipv6(IpAddr),
    /// Anything else the host said.
    #[error("bind for {address} failed")]
    Bind {
        /// The host's address and port.
        address: SocketAddrV4,
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
            ReserveError::Ipv6(_) => ErrorKind::Unsupported,
            ReserveError::Bind { source, .. } => kind_of(*source),
            ReserveError::Enter(_) => ErrorKind::Internal,
        }
    }
}

impl Reservation {
    /// Where the port is reached: the number is known even if any was asked for.
    pub fn host(&self) -> SocketAddrV4 {
        self.host
    }

    /// The protocol.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The container's port that it is held for.
    pub fn container_port(&self) -> u16 {
        self.container_port
    }

    /// The way from it to a container at this address.
    pub fn forward(&self, container: Ipv4Addr) -> Forward {
        Forward {
            host: self.host,
            protocol: self.protocol,
            container: SocketAddrV4::new(container, self.container_port),
        }
    }
}

/// Holds the port asked for, or the first free one of those asked for, in the calling thread's
/// network namespace or outside it.
pub(crate) fn reserve(
    asked: &PublishedPort,
    outside: Option<&Arc<dyn Outside>>,
) -> Result<Reservation, ReserveError> {
    let hold = |address| match outside {
        None => hold(address, asked),
        Some(outside) => hold_outside(outside, address, asked),
    };
    let address = match asked.host_ip {
        None => Ipv4Addr::UNSPECIFIED,
        Some(IpAddr::V4(address)) => address,
        Some(address @ IpAddr::V6(_)) => return Err(ReserveError::Ipv6(address)),
    };
    let Some(range) = asked.host_ports else {
        return hold(SocketAddrV4::new(address, 0)).map_err(|source| refused(address, 0, source));
    };
    for port in range.ports() {
        match hold(SocketAddrV4::new(address, port)) {
            Err(Errno::ADDRINUSE) => {}
            Err(errno) => return Err(refused(address, port, errno)),
            Ok(reservation) => return Ok(reservation),
        }
    }
    Err(ReserveError::Allocated { address, ports: range.to_string() })
}

fn refused(address: Ipv4Addr, port: u16, errno: Errno) -> ReserveError {
    match errno {
        Errno::ADDRNOTAVAIL => ReserveError::NotLocal(address),
        Errno::ACCESS => ReserveError::Privileged(SocketAddrV4::new(address, port)),
        _ => ReserveError::Bind { address: SocketAddrV4::new(address, port), source: errno },
    }
}

fn hold(host: SocketAddrV4, asked: &PublishedPort) -> Result<Reservation, Errno> {
    let socket = match asked.protocol {
        Protocol::Udp => {
            let socket = UdpSocket::bind(host)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))?;
            OwnedFd::from(socket)
        }
        Protocol::Tcp => match bound_stream(host, false) {
            // Connections of a server that is gone may linger on the port for a minute
            // (TIME_WAIT). A listener may have it all the same, and keeps others off.
            Err(Errno::ADDRINUSE) if host.port() != 0 => bound_stream(host, true)?,
            other => other?,
        },
    };
    let host = SocketAddrV4::try_from(getsockname(&socket)?).map_err(|_| Errno::AFNOSUPPORT)?;
    let PublishedPort { protocol, container_port, .. } = *asked;
    let hold = Hold::Socket { _socket: socket };
    Ok(Reservation { _hold: hold, host, protocol, container_port })
}

fn hold_outside(
    outside: &Arc<dyn Outside>,
    host: SocketAddrV4,
    asked: &PublishedPort,
) -> Result<Reservation, Errno> {
    let PublishedPort { protocol, container_port, .. } = *asked;
    let host = outside
        .hold(protocol, host)
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    let hold = Hold::Outside { outside: Arc::clone(outside), protocol, address: host };
    Ok(Reservation { _hold: hold, host, protocol, container_port })
}

/// A socket that does not listen is enough to keep a port, and answers strays with a reset. One
/// that shares with lingering connections would share with others' sockets too, so it listens.
fn bound_stream(host: SocketAddrV4, share: bool) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    if share {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    bind(&socket, &host)?;
    if share {
        listen(&socket, 0)?;
    }
    Ok(socket)
}
