//! Questions for names: what comes to 127.0.0.11 is asked of the host.
//!
//! ```text
//! program ──udp──▶ 127.0.0.11 ──vsock 1053, each in a stream──▶ host ──udp──▶ its own 127.0.0.11
//!         ──tcp──▶            ──vsock 53, as it is────────────▶      ──tcp──▶
//! ```

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream, UdpSocket},
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use net::{NameSockets, NetworkError, name_sockets};
use sys::vsock;

/// Where the host takes connections over TCP.
const TCP: u32 = 53;

/// Where it takes datagrams: each in a stream of its own, its length in front (2 bytes in network
/// order, as in DNS over TCP), and the answer the same way.
const UDP: u32 = 1053;

/// Longest datagram.
const DATAGRAM_MAX: usize = 65_535;

/// Questions that may be on their way at once; more are not heard, as when a network is busy.
const ASKED_MAX: usize = 64;

/// How long the host may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Answers from now on.
pub(crate) fn answer() -> Result<(), NetworkError> {
    let here = sys::netns::current().map_err(NetworkError::Namespace)?;
    let NameSockets { udp, tcp, led: _ } = name_sockets(here.as_fd())?;
    let asked = Places(Arc::default());
    let again = asked.clone();
    let start = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let thread = thread::Builder::new().name(name.to_owned()).spawn(work);
        thread.map(drop).map_err(NetworkError::Names)
    };
    start("names udp", Box::new(move || datagrams(&Arc::new(udp), &asked)))?;
    start(
        "names tcp",
        Box::new(move || {
            for client in tcp.incoming().flatten() {
                again.occupy(move || carry(client));
            }
        }),
    )
}

/// How many are asked at the moment.
#[derive(Clone)]
struct Places(Arc<AtomicUsize>);

impl Places {
    /// Does it in a thread of its own, if there is a place.
    fn occupy(&self, work: impl FnOnce() -> io::Result<()> + Send + 'static) {
        let places = self.clone();
        if self.0.fetch_add(1, Ordering::AcqRel) >= ASKED_MAX {
            self.0.fetch_sub(1, Ordering::AcqRel);
            return;
        }
        let thread = thread::Builder::new().spawn(move || {
            // Whoever asked asks again.
            let _ = work();
            places.0.fetch_sub(1, Ordering::AcqRel);
        });
        if thread.is_err() {
            self.0.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

fn datagrams(socket: &Arc<UdpSocket>, places: &Places) {
    let mut question = vec![0; DATAGRAM_MAX];
    loop {
        let Ok((bytes, from)) = socket.recv_from(&mut question) else { continue };
        let (socket, question) = (Arc::clone(socket), question[..bytes].to_vec());
        places.occupy(move || ask(&socket, &question, from));
    }
}

fn ask(socket: &UdpSocket, question: &[u8], from: SocketAddr) -> io::Result<()> {
    let mut host = UnixStream::from(vsock::connect(vsock::HOST, UDP)?);
    host.set_read_timeout(Some(ANSWER_WITHIN))?;
    let bytes = u16::try_from(question.len()).map_err(io::Error::other)?;
    host.write_all(&[&bytes.to_be_bytes(), question].concat())?;
    let mut bytes = [0; 2];
    host.read_exact(&mut bytes)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(bytes))];
    host.read_exact(&mut answer)?;
    socket.send_to(&answer, from).map(drop)
}

/// Carries both ways until both have ended.
fn carry(client: TcpStream) -> io::Result<()> {
    let host = UnixStream::from(vsock::connect(vsock::HOST, TCP)?);
    client.set_read_timeout(Some(ANSWER_WITHIN))?;
    host.set_read_timeout(Some(ANSWER_WITHIN))?;
    let (mut to, mut from) = (host.try_clone()?, client.try_clone()?);
    let asking = thread::Builder::new().spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Write).and(copied)
    })?;
    let (mut from, mut to) = (host, client);
    let copied = io::copy(&mut from, &mut to);
    to.shutdown(Shutdown::Both).ok();
    asking.join().map_err(|_| io::Error::other("a thread panicked"))?.and(copied).map(drop)
}
