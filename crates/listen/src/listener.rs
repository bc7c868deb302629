//! Where clients come in: a socket in the file system, or TCP, with certificates or without.

use std::{io, net};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsAcceptor;

use crate::tls::{TlsError, TlsFiles};

/// A socket that listens.
#[derive(Debug)]
pub struct Listener(Kind);

enum Kind {
    Unix(UnixListener),
    Plain(TcpListener),
    Tls(TcpListener, TlsAcceptor),
}

/// One who has come, and has said nothing yet.
pub(crate) enum Arrived {
    Unix(UnixStream),
    Plain(TcpStream),
    Tls(TcpStream, TlsAcceptor),
}

impl From<UnixListener> for Listener {
    fn from(listener: UnixListener) -> Listener {
        Listener(Kind::Unix(listener))
    }
}

impl Listener {
    /// TCP that everybody may use who reaches it, and read who stands in between.
    ///
    /// # Errors
    /// If the socket cannot be used.
    pub fn plain(listener: net::TcpListener) -> io::Result<Listener> {
        listener.set_nonblocking(true)?;
        Ok(Listener(Kind::Plain(TcpListener::from_std(listener)?)))
    }

    /// TCP where the server proves who it is; clients too, if the files name their authority.
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
            Kind::Plain(listener) => Ok(Arrived::Plain(prompt(listener.accept().await?.0))),
            Kind::Tls(listener, acceptor) => {
                Ok(Arrived::Tls(prompt(listener.accept().await?.0), acceptor.clone()))
            }
        }
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Unix(listener) => f.debug_tuple("Unix").field(listener).finish(),
            Kind::Plain(listener) => f.debug_tuple("Plain").field(listener).finish(),
            Kind::Tls(listener, _) => f.debug_tuple("Tls").field(listener).finish(),
        }
    }
}

/// What is written goes out at once: the end of an answer would wait for the client's word that it
/// has the beginning.
///
/// Source: tcp(7), `TCP_NODELAY`.
fn prompt(stream: TcpStream) -> TcpStream {
    // Without it the connection is slow, and right.
    let _ = stream.set_nodelay(true);
    stream
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
