//! Where clients come in: a socket in the file system, or TCP with certificates on both sides.

use std::{io, net};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::tls::{TlsError, TlsFiles};

/// A socket that listens. Over TCP only clients with a certificate get in: who may use this API
/// is root.
#[derive(Debug)]
pub struct Listener(Kind);

enum Kind {
    Unix(UnixListener),
    Tls(TcpListener, TlsAcceptor),
}

/// One who has come, and has said nothing yet.
pub(crate) enum Arrived {
    Unix(UnixStream),
    Tls(TcpStream, TlsAcceptor),
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener(Kind::Unix(listener))
    }
}

impl Listener {
    /// TCP, where server and clients prove who they are.
    ///
    /// # Errors
    /// [`TlsError`] naming the file that is not right.
    pub fn tls(listener: net::TcpListener, files: &TlsFiles) -> Result<Listener, TlsError> {
        let acceptor = files.acceptor()?;
        listener.set_nonblocking(true).map_err(TlsError::Socket)?;
        let listener = TcpListener::from_std(listener).map_err(TlsError::Socket)?;
        Ok(Listener(Kind::Tls(listener, acceptor)))
    }

    /// The next one.
    ///
    /// # Errors
    /// See [`is_passing`].
    pub(crate) async fn accept(&self) -> io::Result<Arrived> {
        match &self.0 {
            Kind::Unix(listener) => Ok(Arrived::Unix(listener.accept().await?.0)),
            Kind::Tls(listener, acceptor) => {
                Ok(Arrived::Tls(listener.accept().await?.0, acceptor.clone()))
            }
        }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Unix(listener) => f.debug_tuple("Unix").field(listener).finish(),
            Kind::Tls(listener, _) => f.debug_tuple("Tls").field(listener).finish(),
        }
    }
}

/// Whether the next try may work: the host is short of something, or the client has gone.
///
/// Source: accept(2), which hands errors of the network on.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    let passing = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::CONNABORTED,
        Errno::INTR,
        Errno::NETDOWN,
        Errno::PROTO,
        Errno::NOPROTOOPT,
        Errno::HOSTDOWN,
        Errno::HOSTUNREACH,
        Errno::NETUNREACH,
        Errno::OPNOTSUPP,
    ];
    error.raw_os_error().is_some_and(|raw| passing.iter().any(|errno| errno.raw_os_error() == raw))
}
