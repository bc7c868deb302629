//! The host's end of the machine's questions for names: asked here, where the machine's network is.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use virtio::vsock::Host;

/// Who is asked.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11)), 53);

/// Where the machine connects to: as it is, and datagrams, each with its length in front.
const TCP: u32 = 53;
const UDP: u32 = 1053;

/// Streams at once; a machine that has more is refused, which it notices.
const STREAMS_MAX: usize = 64;

/// How long somebody may be silent.
const WITHIN: Duration = Duration::from_secs(30);

/// Takes the machine's questions from now on.
pub(super) fn serve(host: &Host) {
    let streams = Arc::new(AtomicUsize::new(0));
    for (port, carry) in [(TCP, tcp as fn(UnixStream) -> io::Result<()>), (UDP, udp)] {
        let streams = Arc::clone(&streams);
        host.listen(
            port,
            Box::new(move |stream: OwnedFd| {
                let place = Place::take(&streams);
                let Some(place) = place else { return };
                let thread = thread::Builder::new().name("names".to_owned());
                // Without a thread the stream is closed, and the machine asks again.
                let _ = thread.spawn(move || {
                    let _ = carry(UnixStream::from(stream));
                    drop(place);
                });
            }),
        );
    }
}

/// One of the streams that there may be.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(streams: &Arc<AtomicUsize>) -> Option<Place> {
        let place = Place(Arc::clone(streams));
        (streams.fetch_add(1, Ordering::AcqRel) < STREAMS_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn udp(mut machine: UnixStream) -> io::Result<()> {
    machine.set_nonblocking(false)?;
    machine.set_read_timeout(Some(WITHIN))?;
    let mut bytes = [0; 2];
    machine.read_exact(&mut bytes)?;
    let mut datagram = vec![0; usize::from(u16::from_be_bytes(bytes))];
    machine.read_exact(&mut datagram)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(SERVER)?;
    socket.set_read_timeout(Some(WITHIN))?;
    socket.send(&datagram)?;
    datagram.resize(usize::from(u16::MAX), 0);
    let bytes = socket.recv(&mut datagram)?;
    let length = u16::try_from(bytes).map_err(io::Error::other)?;
    machine.write_all(&length.to_be_bytes())?;
    machine.write_all(&datagram[..bytes])
}

fn tcp(mut machine: UnixStream) -> io::Result<()> {
    machine.set_nonblocking(false)?;
    machine.set_read_timeout(Some(WITHIN))?;
    let mut server = TcpStream::connect(SERVER)?;
    server.set_read_timeout(Some(WITHIN))?;
    let (mut from, mut to) = (server.try_clone()?, machine.try_clone()?);
    let answering = thread::Builder::new().spawn(move || {
        let copied = io::copy(&mut from, &mut to);
        to.shutdown(Shutdown::Both).and(copied)
    })?;
    let asked = io::copy(&mut machine, &mut server);
    server.shutdown(Shutdown::Write).ok();
    answering.join().map_err(|_| io::Error::other("a thread panicked"))?.and(asked).map(drop)
}
