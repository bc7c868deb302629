//! Asks other servers, each question from a socket and under a number of its own.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdUdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, UdpSocket},
    time::timeout,
};
use tracing::debug;

use crate::{
    answer::Way,
    wire::{self, Worth},
};

/// Most servers that are asked about one question. Source: resolv.conf(5), `MAXNS`.
const SERVERS_MAX: usize = 3;
/// How long a server may take while there is another one to ask.
const WAIT: Duration = Duration::from_secs(2);
/// How long the last one may take: clients ask again after five seconds, resolv.conf(5).
const WAIT_LAST: Duration = Duration::from_secs(4);
/// Where servers listen.
const PORT: u16 = 53;
/// Most datagrams of strangers that are read while one answer is waited for.
const STRANGERS_MAX: usize = 100;

/// A server, and from where it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) address: IpAddr,
    /// From the host: it is on the host's own loopback.
    pub(crate) from_host: bool,
}

/// Whom a client's questions are passed on to.
///
/// Those it asked for are reached from where it is. Of the host's own, those on the loopback are
/// reached from the host alone.
pub(crate) fn upstreams(asked: &[IpAddr], host: &[IpAddr]) -> Vec<Upstream> {
    let own = IpAddr::V4(crate::server::ADDRESS);
    let all = match asked {
        [] => host.iter().map(|&address| (address, address.is_loopback())).collect(),
        // To ask itself leads nowhere.
        asked => asked.iter().filter(|&&one| one != own).map(|&one| (one, false)).collect(),
    };
    let all: Vec<(IpAddr, bool)> = all;
    let upstream = |(address, from_host)| Upstream { address, from_host };
    all.into_iter().map(upstream).take(SERVERS_MAX).collect()
}

/// Where a question is sent from, and where the thread is at home.
#[derive(Clone, Copy, Debug)]
pub(crate) struct From<'a> {
    pub(crate) client: &'a OwnedFd,
    pub(crate) host: &'a OwnedFd,
}

/// Passes a question on. The answer has the question's number; there is none if nobody answers.
pub(crate) async fn ask(
    question: &[u8],
    way: Way,
    all: &[Upstream],
    from: From<'_>,
) -> Option<Vec<u8>> {
    let id = wire::number(question);
    let mut last = None;
    for (at, upstream) in all.iter().enumerate() {
        let wait = if at + 1 == all.len() { WAIT_LAST } else { WAIT };
        let from = match upstream.from_host {
            true => From { client: from.host, ..from },
            false => from,
        };
        let sent = wire::renumbered(question.to_vec(), random_number());
        let one = one(&sent, way, upstream.address, from);
        match timeout(wait, one).await {
            Ok(Ok((Worth::Whole | Worth::Cut, answer))) => {
                return Some(wire::renumbered(answer, id));
            }
            Ok(Ok((_, answer))) => last = Some(wire::renumbered(answer, id)),
            Ok(Err(error)) => debug!(server = %upstream.address, %error, "it cannot be asked"),
            Err(_) => debug!(server = %upstream.address, "it does not answer"),
        }
    }
    last
}

/// Makes a socket in a namespace. The thread is at home on the host afterwards: where it stayed,
/// the namespace would stay as well.
fn made<T>(
    namespace: &OwnedFd,
    host: &OwnedFd,
    make: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    sys::netns::enter(namespace.as_fd())?;
    let made = make();
    sys::netns::enter(host.as_fd())?;
    made
}

/// A number that nobody guesses; the port is another such.
pub(crate) fn random_number() -> [u8; 2] {
    let mut id = [0; 2];
    rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty()).ok();
    id
}

/// Asks one server.
async fn one(
    question: &[u8],
    way: Way,
    server: IpAddr,
    from: From<'_>,
) -> io::Result<(Worth, Vec<u8>)> {
    let server = SocketAddr::from((server, PORT));
    if way == Way::Datagram {
        let (worth, answer) = by_datagram(question, server, from).await?;
        if worth != Worth::Cut {
            return Ok((worth, answer));
        }
        // If it cannot be had whole, its beginning says so.
        let whole = by_stream(question, server, from).await;
        return Ok(whole.unwrap_or((worth, answer)));
    }
    by_stream(question, server, from).await
}

async fn by_datagram(
    question: &[u8],
    server: SocketAddr,
    from: From<'_>,
) -> io::Result<(Worth, Vec<u8>)> {
    let socket = made(from.client, from.host, || {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = StdUdpSocket::bind((any, 0))?;
        // From here on the kernel drops what comes from others.
        socket.connect(server)?;
        socket.set_nonblocking(true)?;
        UdpSocket::from_std(socket)
    })?;
    socket.send(question).await?;
    for _ in 0..STRANGERS_MAX {
        socket.readable().await?;
        let received: io::Result<Vec<u8>> = crate::server::with_buffer(|buffer| {
            let count = socket.try_recv(buffer)?;
            Ok(buffer.get(..count).unwrap_or_default().to_vec())
        });
        let answer = match received {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            other => other?,
        };
        match wire::answers(question, &answer) {
            Worth::Nothing => {}
            worth @ (Worth::Refused | Worth::Cut | Worth::Whole) => return Ok((worth, answer)),
        }
    }
    Err(io::Error::other("only strangers answer"))
}

async fn by_stream(
    question: &[u8],
    server: SocketAddr,
    from: From<'_>,
) -> io::Result<(Worth, Vec<u8>)> {
    let socket = made(from.client, from.host, || match server {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    })?;
    let mut stream = socket.connect(server).await?;
    stream.write_all(&framed(question)).await?;
    let answer = unframed(&mut stream).await?;
    match wire::answers(question, &answer) {
        Worth::Nothing => Err(io::Error::other("it answers something else")),
        worth @ (Worth::Refused | Worth::Cut | Worth::Whole) => Ok((worth, answer)),
    }
}

/// A message that came over TCP, whole: one that is cut short would be passed on as one that says
/// less.
async fn unframed(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut message = vec![0; stream.read_u16().await?.into()];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// A message as it goes over TCP, its length before it. Source: RFC 1035, section 4.2.2.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    // What we send is shorter than that: answers are cut, and others' came with such a length.
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    [&length.to_be_bytes()[..], message.get(..length.into()).unwrap_or_default()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(all: &[&str]) -> Vec<IpAddr> {
        all.iter().map(|one| one.parse().unwrap()).collect()
    }

    #[test]
    fn a_clients_own_servers_come_before_the_hosts_and_it_never_asks_itself() {
        let host = addresses(&["127.0.0.53", "192.0.2.1", "192.0.2.2", "192.0.2.3"]);
        let of = |asked: &[&str]| {
            let all = upstreams(&addresses(asked), &host).into_iter();
            all.map(|one| (one.address.to_string(), one.from_host)).collect::<Vec<_>>()
        };
        let own = |address: &str, from_host| (address.to_owned(), from_host);
        let three = [own("127.0.0.53", true), own("192.0.2.1", false), own("192.0.2.2", false)];
        assert_eq!(of(&[]), three);
        assert_eq!(of(&["127.0.0.11", "127.0.0.1"]), [own("127.0.0.1", false)]);
    }

    #[test]
    fn a_message_has_its_length_before_it() {
        assert_eq!(framed(b"abc"), b"\0\x03abc");
    }

    #[tokio::test]
    async fn a_message_that_is_cut_short_is_none() {
        assert_eq!(unframed(&mut framed(b"abc").as_slice()).await.unwrap(), b"abc");
        for length in 0..5 {
            let cut = framed(b"abc").get(..length).unwrap().to_vec();
            assert!(unframed(&mut cut.as_slice()).await.is_err(), "{length}");
        }
    }
}
