//! Where an endpoint's questions for names come in: 127.0.0.11 of its own namespace, as in Docker.
//!
//! Whoever is in the namespace may want port 53 of all addresses for itself, so the sockets are
//! bound to other ports, and two chains write the one for the other into what passes between them
//! and those who ask. Nothing is tracked, so the endpoint's other packets pay one comparison:
//!
//! ```text
//! questions  (output, raw)   to 127.0.0.11 port 53: to our port
//! answers    (output, last)  from 127.0.0.11 and our port: from port 53
//! ```
//!
//! The first stands before connection tracking and the second behind it, so that both see one
//! connection where somebody inside has rules that track.

use std::{
    io,
    net::{Ipv4Addr, TcpListener, UdpSocket},
    os::fd::{AsFd as _, BorrowedFd},
};

use sys::{
    netlink::{Batch, Family as Netlink, NetlinkError, Socket},
    netns,
};
use tracing::warn;

use crate::{
    NetworkError,
    nft::{Chain, Family, Hook, Register, Step, Transaction},
};

/// Where names are resolved inside of every endpoint that has it. Docker's choice.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 11);

/// The name of the table inside.
const TABLE: &str = "wythe-names";
/// Where everybody looks for it.
const PORT: u16 = 53;

/// The sockets on which questions come in.
#[derive(Debug)]
pub struct NameSockets {
    /// In datagrams.
    pub udp: UdpSocket,
    /// Over TCP.
    pub tcp: TcpListener,
    /// Whether port 53 leads to them; if not, they have taken it.
    pub led: bool,
}

/// Tries whether an endpoint's questions can be led to another port, in a namespace of its own.
///
/// # Errors
/// As [`name_sockets`].
pub fn try_names() -> Result<bool, NetworkError> {
    Ok(name_sockets(crate::private_namespace()?.as_fd())?.led)
}

/// Opens them in a namespace in which `lo` is up, whatever was there before.
///
/// Where the kernel does not take the rules, the sockets are bound to port 53 itself: names are
/// resolved, and nobody inside can have that port of all addresses.
///
/// # Errors
/// [`NetworkError::Names`] if they cannot be had.
pub fn name_sockets(namespace: BorrowedFd<'_>) -> Result<NameSockets, NetworkError> {
    netns::run(namespace, open).map_err(NetworkError::Names)
}

fn open() -> io::Result<NameSockets> {
    let sockets = NameSockets { led: true, ..bind(0)? };
    let (udp, tcp) = (sockets.udp.local_addr()?.port(), sockets.tcp.local_addr()?.port());
    match lead(table(udp, tcp)) {
        Ok(()) => Ok(sockets),
        Err(error) => {
            warn!(%error, "the kernel takes no rules in a container: port 53 is not its own there");
            drop(sockets);
            bind(PORT)
        }
    }
}

fn bind(port: u16) -> io::Result<NameSockets> {
    let at = (NAME_SERVER, port);
    Ok(NameSockets { udp: UdpSocket::bind(at)?, tcp: TcpListener::bind(at)?, led: false })
}

fn lead(batch: Batch) -> Result<(), NetlinkError> {
    Socket::open(Netlink::Netfilter)?.execute(batch)
}

/// Hooks and priorities as nft(8) names them: raw is -300; nothing has one behind 1000.
const QUESTIONS: Chain = chain("questions", -300);
const ANSWERS: Chain = chain("answers", 1000);

const fn chain(name: &'static str, priority: i32) -> Chain {
    const NF_INET_LOCAL_OUT: u32 = 3;
    Chain { name, hook: Hook { kind: "filter", number: NF_INET_LOCAL_OUT, priority } }
}

/// The two protocols: their number, and where their checksum lies (RFC 768, RFC 9293).
const UDP: (u8, u32) = (17, 6);
const TCP: (u8, u32) = (6, 16);
/// Where the ports lie in both, and the addresses in IPv4 (RFC 791).
const SOURCE_PORT: u32 = 0;
const DESTINATION_PORT: u32 = 2;
const SOURCE: u32 = 12;
const DESTINATION: u32 = 16;

/// The table, made anew.
fn table(udp: u16, tcp: u16) -> Batch {
    let mut transaction = Transaction::new(TABLE);
    transaction.of(Family::V4);
    // To add first lets the deletion succeed where there is no table.
    transaction.add_table();
    transaction.delete_table();
    transaction.add_table();
    for chain in [&QUESTIONS, &ANSWERS] {
        transaction.add_chain(chain);
    }
    for (protocol, port) in [(UDP, udp), (TCP, tcp)] {
        let questions = rewritten(protocol, DESTINATION, DESTINATION_PORT, PORT, port);
        transaction.add_rule(QUESTIONS.name, &questions);
        let answers = rewritten(protocol, SOURCE, SOURCE_PORT, port, PORT);
        transaction.add_rule(ANSWERS.name, &answers);
    }
    transaction.finish()
}

/// `ip saddr|daddr 127.0.0.11 udp|tcp sport|dport A udp|tcp sport|dport set B`
fn rewritten(
    (protocol, checksum): (u8, u32),
    address: u32,
    offset: u32,
    from: u16,
    to: u16,
) -> Vec<Step> {
    const META_L4PROTO: u32 = 16;
    const NETWORK_HEADER: u32 = 1;
    const TRANSPORT_HEADER: u32 = 2;
    const A: Register = Register(0);
    let is = |value: &[u8]| Step::Equal { register: A, value: value.into() };
    vec![
        Step::Payload { base: NETWORK_HEADER, offset: address, length: 4, to: A },
        is(&NAME_SERVER.octets()),
        Step::Meta { key: META_L4PROTO, to: A },
        is(&[protocol]),
        Step::Payload { base: TRANSPORT_HEADER, offset, length: 2, to: A },
        is(&from.to_be_bytes()),
        Step::Load { value: to.to_be_bytes().into(), to: A },
        Step::WriteTransport { offset, length: 2, from: A, checksum },
    ]
}
