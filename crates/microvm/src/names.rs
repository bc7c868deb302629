//! The host's end of a machine's questions for names: asked in the network namespace whose
//! interfaces the machine has, of the name server there.
//!
//! The machine's process may make no sockets. It hands each stream on as it comes, and here it is
//! carried, byte by byte.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    sync::Semaphore,
};

use crate::control::Transport;

/// Who is asked.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// Streams at once; a machine that has more is refused, which it notices.
const STREAMS_MAX: usize = 64;

/// How long a stream may take.
const WITHIN: Duration = Duration::from_secs(30);

/// Who carries a machine's questions.
#[derive(Debug)]
pub(crate) struct Names {
    namespace: Arc<OwnedFd>,
    places: Arc<Semaphore>,
}

impl Names {
    /// One that asks in this network namespace.
    pub(crate) fn new(namespace: OwnedFd) -> Names {
        Names { namespace: Arc::new(namespace), places: Arc::new(Semaphore::new(STREAMS_MAX)) }
    }

    /// Carries what comes over this stream.
    pub(crate) fn carry(&self, stream: OwnedFd, transport: Transport) {
        // Who finds no place has his stream closed, and asks again.
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else { return };
        let namespace = Arc::clone(&self.namespace);
        tokio::spawn(async move {
            let carried = async {
                let stream = UnixStream::from(stream);
                stream.set_nonblocking(true)?;
                let machine = tokio::net::UnixStream::from_std(stream)?;
                match transport {
                    Transport::Datagram => datagram(machine, namespace).await,
                    Transport::Stream => connection(machine, namespace).await,
                }
            };
            // A question that cannot be carried is one that nobody answers.
            let _ = tokio::time::timeout(WITHIN, carried).await;
            drop(place);
        });
    }
}

/// A question with its length in front, and the same of its answer.
async fn datagram(mut machine: tokio::net::UnixStream, namespace: Arc<OwnedFd>) -> io::Result<()> {
    let mut bytes = vec![0; usize::from(machine.read_u16().await?)];
    machine.read_exact(&mut bytes).await?;
    let socket = inside(namespace, || {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(SERVER)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    });
    let socket = tokio::net::UdpSocket::from_std(socket.await?)?;
    socket.send(&bytes).await?;
    bytes.resize(usize::from(u16::MAX), 0);
    let length = socket.recv(&mut bytes).await?;
    machine.write_u16(u16::try_from(length).map_err(io::Error::other)?).await?;
    machine.write_all(&bytes[..length]).await
}

/// Everything as it comes, both ways.
async fn connection(
    mut machine: tokio::net::UnixStream,
    namespace: Arc<OwnedFd>,
) -> io::Result<()> {
    let server = inside(namespace, || {
        let server = std::net::TcpStream::connect_timeout(&SERVER, WITHIN)?;
        server.set_nonblocking(true)?;
        Ok(server)
    });
    let mut server = tokio::net::TcpStream::from_std(server.await?)?;
    copy_bidirectional(&mut machine, &mut server).await.map(drop)
}

/// Does something in a network namespace.
async fn inside<T: Send + 'static>(
    namespace: Arc<OwnedFd>,
    make: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let made = tokio::task::spawn_blocking(move || sys::netns::run(namespace.as_fd(), make)).await;
    made.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{TcpListener, UdpSocket},
        thread,
    };

    use super::*;

    /// A namespace in which a server answers each question with its letters in capitals.
    fn namespace() -> OwnedFd {
        let (namespace, (udp, tcp)) = sys::netns::create(|| {
            sys::namespace::loopback_up()?;
            Ok((UdpSocket::bind(SERVER)?, TcpListener::bind(SERVER)?))
        })
        .unwrap();
        thread::spawn(move || {
            let mut bytes = [0; 100];
            while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                udp.send_to(&bytes[..length].to_ascii_uppercase(), from).unwrap();
            }
        });
        thread::spawn(move || {
            for client in tcp.incoming() {
                let (mut client, mut bytes) = (client.unwrap(), Vec::new());
                client.read_to_end(&mut bytes).unwrap();
                client.write_all(&bytes.to_ascii_uppercase()).unwrap();
            }
        });
        namespace
    }

    #[tokio::test]
    async fn questions_are_asked_where_the_machine_is() {
        if !testkit::need::root() {
            return;
        }
        let names = Names::new(namespace());
        let ask = |transport, question: &'static [u8]| {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            names.carry(theirs.into(), transport);
            tokio::task::spawn_blocking(move || {
                let mut answer = Vec::new();
                ours.write_all(question).unwrap();
                ours.shutdown(std::net::Shutdown::Write).unwrap();
                ours.read_to_end(&mut answer).unwrap();
                answer
            })
        };
        assert_eq!(ask(Transport::Datagram, b"\0\x03who").await.unwrap(), b"\0\x03WHO");
        assert_eq!(ask(Transport::Stream, b"and who").await.unwrap(), b"AND WHO");
        // Too short for what it says, and not a file at all: the stream is closed.
        assert_eq!(ask(Transport::Datagram, b"\0\x09who").await.unwrap(), b"");
        let null = std::fs::File::open("/dev/null").unwrap();
        names.carry(null.into(), Transport::Stream);
        assert_eq!(ask(Transport::Datagram, b"\0\x01a").await.unwrap(), b"\0\x01A");
    }

    #[tokio::test]
    async fn there_are_only_so_many_streams() {
        let names = Names::new(std::fs::File::open("/dev/null").unwrap().into());
        let mut held = Vec::new();
        for _ in 0..STREAMS_MAX {
            let (ours, theirs) = UnixStream::pair().unwrap();
            names.carry(theirs.into(), Transport::Datagram);
            held.push(ours);
        }
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        names.carry(theirs.into(), Transport::Datagram);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0, "it is closed at once");
        drop(held);
        while names.places.available_permits() < STREAMS_MAX {
            tokio::task::yield_now().await;
        }
    }
}
