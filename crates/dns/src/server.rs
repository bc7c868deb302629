//! One thread with the sockets of all clients. It starts with the first client and ends with the
//! server.
//!
//! The thread moves between namespaces: a socket belongs to the namespace of the thread that makes
//! it, for ever, so the thread enters a namespace right before it makes one, and nothing else it
//! does depends on where it is.

use std::{
    collections::HashMap,
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UdpSocket as TokioUdpSocket},
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::timeout,
};
use tracing::{debug, warn};

use crate::{
    answer::{self, Said, Way},
    forward::{self, From},
    names::Names,
    wire::{self, Records},
};

/// Where clients find us. Docker's choice.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);
/// Most questions of one client that are with others at a time; whoever asks more is told at once
/// that it failed.
const PASSED_ON_MAX: usize = 128;
/// Most connections of one client; more are closed at once.
const STREAMS_MAX: usize = 16;
/// How long a connection may be silent, and how long a client may take to read an answer.
const SILENCE: Duration = Duration::from_secs(10);
/// Most datagrams of one client in a row, before others have their turn.
const IN_A_ROW: usize = 16;
/// Most orders that wait for the thread; whoever gives more waits as well.
const ORDERS_MAX: usize = 64;
/// Longest datagram.
const BUFFER: usize = 1 << 16;

/// The nameservers of the host, looked up when they are needed.
pub type HostServers = Arc<dyn Fn() -> Vec<IpAddr> + Send + Sync>;

/// Somebody who asks.
#[derive(Debug)]
pub struct Client {
    /// Who it is, as in [`Names`].
    pub who: String,
    /// Where its questions come in.
    pub udp: UdpSocket,
    /// The same for TCP.
    pub tcp: TcpListener,
    /// Where it is.
    pub namespace: OwnedFd,
    /// Whom it asked to have its questions passed on to; the host's own where it did not.
    pub servers: Vec<IpAddr>,
    /// Whether it says itself how many dots make a name whole (`ndots`); names without any are
    /// not passed on then.
    pub dots: bool,
}

enum Order {
    Open(Box<Client>),
    Close(String),
}

/// Answers clients.
#[derive(Debug)]
pub struct Server {
    orders: mpsc::Sender<Order>,
}

impl Server {
    /// Starts the thread. `host`: the namespace from which the host's own loopback is reached.
    ///
    /// # Errors
    /// If there are no threads or descriptors to be had.
    pub fn start(
        names: Arc<Mutex<Names>>,
        host: OwnedFd,
        servers: HostServers,
    ) -> io::Result<Server> {
        let (sender, orders) = mpsc::channel(ORDERS_MAX);
        let shared = Shared { names, host, servers };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("names".to_owned());
        thread.spawn(move || runtime.block_on(work(Arc::new(shared), orders)))?;
        Ok(Server { orders: sender })
    }

    /// Answers a client from here on. Blocks.
    pub fn open(&self, client: Client) {
        self.give(Order::Open(Box::new(client)));
    }

    /// Answers it no more. Blocks.
    pub fn close(&self, who: &str) {
        self.give(Order::Close(who.to_owned()));
    }

    fn give(&self, order: Order) {
        if self.orders.blocking_send(order).is_err() {
            warn!("names are not resolved any more: the thread that does it has ended");
        }
    }
}

/// What all clients have in common.
struct Shared {
    names: Arc<Mutex<Names>>,
    host: OwnedFd,
    servers: HostServers,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A book that was left in the middle of a change has a name too few at worst.
fn lock(names: &Mutex<Names>) -> MutexGuard<'_, Names> {
    names.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let mut tasks = JoinSet::new();
    let mut clients: HashMap<String, AbortHandle> = HashMap::new();
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            Some(_) = tasks.join_next() => continue,
        };
        match order {
            None => return,
            Some(Order::Close(who)) => {
                if let Some(task) = clients.remove(&who) {
                    task.abort();
                }
            }
            Some(Order::Open(client)) => {
                let who = client.who.clone();
                match Asking::new(*client, Arc::clone(&shared)) {
                    Ok(asking) => {
                        let task = tasks.spawn(asking.serve());
                        if let Some(before) = clients.insert(who, task) {
                            before.abort();
                        }
                    }
                    Err(error) => warn!(%who, %error, "it is not told names"),
                }
            }
        }
    }
}

/// A client whose questions are answered.
#[derive(Debug)]
struct Asking {
    client: Arc<Passing>,
    udp: Arc<TokioUdpSocket>,
    tcp: tokio::net::TcpListener,
}

/// What is needed to answer one.
#[derive(Debug)]
struct Passing {
    shared: Arc<Shared>,
    who: String,
    namespace: OwnedFd,
    servers: Vec<IpAddr>,
    dots: bool,
}

impl Asking {
    fn new(client: Client, shared: Arc<Shared>) -> io::Result<Asking> {
        let Client { who, udp, tcp, namespace, servers, dots } = client;
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        let passing = Passing { shared, who, namespace, servers, dots };
        Ok(Asking {
            client: Arc::new(passing),
            udp: Arc::new(TokioUdpSocket::from_std(udp)?),
            tcp: tokio::net::TcpListener::from_std(tcp)?,
        })
    }

    /// Until it is aborted; then everything it began ends as well.
    async fn serve(self) {
        let (mut passed_on, mut streams) = (JoinSet::new(), JoinSet::new());
        loop {
            tokio::select! {
                ready = self.udp.readable() => match ready {
                    Ok(()) => self.datagrams(&mut passed_on),
                    Err(error) => return debug!(%error, "a client's socket is gone"),
                },
                accepted = self.tcp.accept() => match accepted {
                    Ok((stream, _)) if streams.len() < STREAMS_MAX => {
                        drop(streams.spawn(Arc::clone(&self.client).stream(stream)));
                    }
                    Ok(_) => {}
                    // Whoever has come is gone again, or there are no descriptors.
                    Err(error) => {
                        debug!(%error, "a connection is not taken");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                },
                Some(_) = passed_on.join_next() => {}
                Some(_) = streams.join_next() => {}
            }
            tokio::task::yield_now().await;
        }
    }

    /// Takes what has come.
    fn datagrams(&self, passed_on: &mut JoinSet<()>) {
        let mut buffer = [0; wire::QUESTION_MAX];
        for _ in 0..IN_A_ROW {
            let Ok((count, from)) = self.udp.try_recv_from(&mut buffer) else { return };
            let question = buffer.get(..count).unwrap_or_default();
            match self.client.said(question, Way::Datagram) {
                Said::Nothing => {}
                Said::Answer(answer) => self.send(&answer, from),
                Said::PassedOn(asked) if passed_on.len() >= PASSED_ON_MAX => {
                    let most = answer::most(&asked, Way::Datagram);
                    self.send(&asked.answer(&Records::Failed, most), from);
                }
                Said::PassedOn(asked) => {
                    let (client, udp) = (Arc::clone(&self.client), Arc::clone(&self.udp));
                    let question = question.to_vec();
                    passed_on.spawn(async move {
                        let answer = client.pass_on(&question, &asked, Way::Datagram).await;
                        udp.send_to(&answer, from).await.ok();
                    });
                }
            }
        }
    }

    /// Where there is no room, it is lost, as datagrams are.
    fn send(&self, answer: &[u8], to: SocketAddr) {
        self.udp.try_send_to(answer, to).ok();
    }
}

impl Passing {
    fn said(&self, question: &[u8], way: Way) -> Said {
        // At random: a count would be even for every name that is asked for with another one.
        let turn = usize::from(u16::from_ne_bytes(forward::random_number()));
        answer::to(question, &lock(&self.shared.names), &self.who, way, self.dots, turn)
    }

    /// The answer of others, or that there is none.
    async fn pass_on(&self, question: &[u8], asked: &wire::Question, way: Way) -> Vec<u8> {
        let host = if self.servers.is_empty() { (self.shared.servers)() } else { Vec::new() };
        let all = forward::upstreams(&self.servers, &host);
        let from = From { client: &self.namespace, host: &self.shared.host };
        let most = answer::most(asked, way);
        match forward::ask(question, way, &all, from).await {
            None => asked.answer(&Records::Failed, most),
            Some(whole) if whole.len() <= most => whole,
            // The client is to come again over TCP.
            Some(_) => asked.cut(),
        }
    }

    /// Answers one question after the other until the client goes, or is silent for too long.
    async fn stream(self: Arc<Passing>, mut stream: TcpStream) {
        while let Ok(Ok(length)) = timeout(SILENCE, stream.read_u16()).await {
            let length = usize::from(length);
            if length > wire::QUESTION_MAX {
                return;
            }
            let mut question = vec![0; length];
            match timeout(SILENCE, stream.read_exact(&mut question)).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
            let answer = match self.said(&question, Way::Stream) {
                Said::Nothing => return,
                Said::Answer(answer) => answer,
                Said::PassedOn(asked) => self.pass_on(&question, &asked, Way::Stream).await,
            };
            match timeout(SILENCE, stream.write_all(&forward::framed(&answer))).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// Lends the thread's one buffer for datagrams of any length.
pub(crate) fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    use std::cell::RefCell;
    thread_local! {
        static SHARED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    SHARED.with_borrow_mut(|buffer| {
        buffer.resize(BUFFER, 0);
        work(buffer)
    })
}

#[cfg(test)]
mod tests;
