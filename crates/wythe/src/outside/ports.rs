//! Published ports of the host, and what arrives there carried to containers.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap},
    io,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use net::{Forward, Protocol};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    sync::Semaphore,
    task::{JoinHandle, JoinSet, spawn_local},
    time::timeout,
};

use super::factory::Factory;

/// Connections through one port at a time; more wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// Clients of one UDP port that are known at a time; the others' datagrams are dropped.
const FLOWS_MAX: usize = 4096;
/// For how long a UDP client is known that is silent. Source: nf_conntrack, `udp_timeout_stream`.
const FLOW_IDLE: Duration = Duration::from_secs(120);
/// Longest UDP datagram.
const DATAGRAM_BYTES_MAX: usize = 65_536;
/// How long nothing is accepted after that failed: the process is out of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// The ports that are held.
pub(super) struct Ports {
    factory: Rc<Factory>,
    held: BTreeMap<(Protocol, SocketAddr), Port>,
}

/// A port and who carries what arrives there.
struct Port {
    socket: Socket,
    container: Option<SocketAddr>,
    carrier: Option<JoinHandle<()>>,
}

#[derive(Clone)]
enum Socket {
    Tcp(Rc<TcpListener>),
    Udp(Rc<UdpSocket>),
}

impl Ports {
    pub(super) fn new(factory: Rc<Factory>) -> Ports {
        Ports { factory, held: BTreeMap::new() }
    }

    /// Holds a port. One that is held already, and leads somewhere, is held again by a daemon
    /// that follows another.
    pub(super) fn hold(
        &mut self,
        protocol: Protocol,
        address: SocketAddr,
    ) -> io::Result<SocketAddr> {
        if self.held.contains_key(&(protocol, address)) {
            return Ok(address);
        }
        let socket = Socket::bind(protocol, address)?;
        let address = socket.address()?;
        self.held.insert((protocol, address), Port { socket, container: None, carrier: None });
        Ok(address)
    }

    /// Lets a port go.
    pub(super) fn release(&mut self, protocol: Protocol, address: SocketAddr) {
        self.held.remove(&(protocol, address));
    }

    /// Has held ports lead to these containers, and the others nowhere.
    pub(super) fn lead(&mut self, forwards: &[Forward]) {
        for ((protocol, address), port) in &mut self.held {
            let way = forwards.iter().find(|f| f.protocol == *protocol && f.host == *address);
            port.lead(way.map(|forward| forward.container), &self.factory);
        }
    }
}

impl Port {
    fn lead(&mut self, container: Option<SocketAddr>, factory: &Rc<Factory>) {
        if self.container == container {
            return;
        }
        self.stop();
        self.container = container;
        let Some(container) = container else { return };
        let (socket, factory) = (self.socket.clone(), Rc::clone(factory));
        self.carrier = Some(match socket {
            Socket::Tcp(listener) => spawn_local(carry_streams(listener, container, factory)),
            Socket::Udp(socket) => spawn_local(carry_datagrams(socket, container, factory)),
        });
    }

    fn stop(&mut self) {
        if let Some(carrier) = self.carrier.take() {
            carrier.abort();
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Socket {
    fn bind(protocol: Protocol, address: SocketAddr) -> io::Result<Socket> {
        match protocol {
            Protocol::Tcp => {
                let listener = std::net::TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Socket::Tcp(Rc::new(TcpListener::from_std(listener)?)))
            }
            Protocol::Udp => {
                let socket = std::net::UdpSocket::bind(address)?;
                socket.set_nonblocking(true)?;
                Ok(Socket::Udp(Rc::new(UdpSocket::from_std(socket)?)))
            }
        }
    }

    fn address(&self) -> io::Result<SocketAddr> {
        match self {
            Socket::Tcp(listener) => listener.local_addr(),
            Socket::Udp(socket) => socket.local_addr(),
        }
    }
}

/// Carries connections until it is aborted; they end with it.
async fn carry_streams(listener: Rc<TcpListener>, container: SocketAddr, factory: Rc<Factory>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((client, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let factory = Rc::clone(&factory);
        connections.spawn_local(async move {
            // A container that does not listen refuses; the client is told by the end.
            let _ = carry_stream(client, container, &factory).await;
            drop(permit);
        });
    }
}

async fn carry_stream(
    mut client: TcpStream,
    container: SocketAddr,
    factory: &Factory,
) -> io::Result<()> {
    let socket = std::net::TcpStream::from(factory.make(Protocol::Tcp)?);
    let mut server = TcpSocket::from_std_stream(socket).connect(container).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
}

/// The clients of a UDP port, each with a socket that the container knows it by.
type Flows = Rc<RefCell<HashMap<SocketAddr, Rc<UdpSocket>>>>;

/// Carries datagrams until it is aborted.
async fn carry_datagrams(socket: Rc<UdpSocket>, container: SocketAddr, factory: Rc<Factory>) {
    let flows = Flows::default();
    let mut answers = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        while answers.try_join_next().is_some() {}
        let Ok((length, client)) = socket.recv_from(&mut datagram).await else {
            // What an earlier answer met on its way, such as a port that is closed.
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let known = flows.borrow().get(&client).cloned();
        let flow = match known {
            Some(flow) => flow,
            None if flows.borrow().len() >= FLOWS_MAX => continue,
            None => match open_flow(&factory, container).await {
                Ok(flow) => {
                    flows.borrow_mut().insert(client, Rc::clone(&flow));
                    let (socket, answering, flows) =
                        (Rc::clone(&socket), Rc::clone(&flow), Rc::clone(&flows));
                    answers.spawn_local(async move {
                        carry_answers(&answering, &socket, client).await;
                        flows.borrow_mut().remove(&client);
                    });
                    flow
                }
                Err(_) => continue,
            },
        };
        // It is a datagram: who does not get it was not there.
        let _ = flow.send(datagram.get(..length).unwrap_or_default()).await;
    }
}

async fn open_flow(factory: &Factory, container: SocketAddr) -> io::Result<Rc<UdpSocket>> {
    let socket = std::net::UdpSocket::from(factory.make(Protocol::Udp)?);
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(container).await?;
    Ok(Rc::new(socket))
}

/// Carries what the container answers to one client, until both are silent for long.
async fn carry_answers(flow: &UdpSocket, socket: &UdpSocket, client: SocketAddr) {
    let mut datagram = vec![0; DATAGRAM_BYTES_MAX];
    while let Ok(received) = timeout(FLOW_IDLE, flow.recv(&mut datagram)).await {
        let Ok(length) = received else { continue };
        let _ = socket.send_to(datagram.get(..length).unwrap_or_default(), client).await;
    }
}
