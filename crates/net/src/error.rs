//! What can go wrong with a host's network stack.

use std::io;

use base::ErrorKind;
use rustix::io::Errno;
use sys::netlink::NetlinkError;

use crate::InterfaceName;

/// Why something about networks could not be done.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// The host's network stack cannot be spoken to.
    #[error("cannot open the host's network stack")]
    Open(#[source] io::Error),
    /// No private subnet is free.
    #[error("no subnet is free: the host has routes to all private networks")]
    NoSubnet,
    /// The network contradicts itself.
    #[error("network {bridge} cannot be made: {fault}")]
    Unusable {
        /// Its bridge.
        bridge: InterfaceName,
        /// What is wrong.
        fault: &'static str,
    },
    /// There is no such link, or one of another kind.
    #[error("there is no bridge {0}")]
    NotABridge(InterfaceName),
    /// A network is to lie on a link that is not there.
    #[error("the parent interface {0} is not on this host; ip link shows those that are")]
    NoParent(InterfaceName),
    /// The kernel lets nobody on a link.
    #[error("the parent interface {parent} takes no container: {why}")]
    Parent {
        /// Which link.
        parent: InterfaceName,
        /// Why.
        why: &'static str,
    },
    /// There is no room for one more port on a bridge (`BR_MAX_PORTS`), and none of those there are
    /// can be moved to a further one: others have plugged them in, or there are 64 branches.
    #[error(
        "network {0} is full: its bridges have 1,023 ports each, and none is left; remove containers \
         that are not needed, or give this one --network none, host or container:NAME"
    )]
    Full(InterfaceName),
    /// A network namespace could not be made.
    #[error("cannot make a network namespace")]
    Namespace(#[source] io::Error),
    /// A machine cannot have this interface.
    #[error("a machine cannot have the interface {name}: it is no end of a bridge network's cable")]
    NotForMachines {
        /// Which one.
        name: InterfaceName,
    },
    /// An endpoint cannot ask for names.
    #[error("cannot listen for questions at 127.0.0.11")]
    Names(#[source] io::Error),
    /// The host cannot be made to forward packets.
    #[error("cannot turn on net.ipv4.ip_forward")]
    Forwarding(#[source] io::Error),
    /// The kernel refused something about links.
    #[error("cannot {doing} {name}")]
    Link {
        /// What was being done.
        doing: &'static str,
        /// To which link, or whose.
        name: String,
        /// What the kernel says.
        #[source]
        source: NetlinkError,
    },
    /// The kernel refused our nftables table.
    #[error("cannot write our nftables table")]
    Table(#[source] NetlinkError),
    /// Whoever holds the ports outside does not lead them.
    #[error("published ports of the host lead nowhere")]
    Outside(#[source] io::Error),
}

impl NetworkError {
    /// What the caller can do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            NetworkError::Unusable { .. } => ErrorKind::InvalidInput,
            NetworkError::NotABridge(_) | NetworkError::NoParent(_) => ErrorKind::NotFound,
            NetworkError::Parent { .. } => ErrorKind::Conflict,
            NetworkError::NotForMachines { .. } => ErrorKind::Unsupported,
            NetworkError::NoSubnet | NetworkError::Full(_) => ErrorKind::Exhausted,
            NetworkError::Link { source, .. } | NetworkError::Table(source) => {
                kind_of(source.errno)
            }
            NetworkError::Open(source)
            | NetworkError::Namespace(source)
            | NetworkError::Names(source)
            | NetworkError::Forwarding(source)
            | NetworkError::Outside(source) => {
                Errno::from_io_error(source).map_or(ErrorKind::Internal, kind_of)
            }
        }
    }
}

pub(crate) fn kind_of(errno: Errno) -> ErrorKind {
    match errno {
        Errno::PERM | Errno::ACCESS | Errno::ROFS => ErrorKind::PermissionDenied,
        Errno::OPNOTSUPP | Errno::AFNOSUPPORT => ErrorKind::Unsupported,
        Errno::NOMEM | Errno::NOSPC | Errno::NFILE | Errno::MFILE => ErrorKind::Exhausted,
        _ => ErrorKind::Internal,
    }
}

/// Says what was being done when the kernel refused.
pub(crate) fn wrong(
    doing: &'static str,
    name: &str,
) -> impl FnOnce(NetlinkError) -> NetworkError + use<> {
    let name = name.to_owned();
    move |source| NetworkError::Link { doing, name, source }
}
