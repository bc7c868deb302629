//! The server in namespaces that play a host and a client. Needs root.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    process::Command,
};

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::RecordType,
};
use sys::netns;

use super::*;
use crate::{names::Place, wire::tests::asked};

const PATIENCE: Duration = Duration::from_secs(10);

/// A namespace in which `lo` is up.
fn namespace() -> OwnedFd {
    let up = || Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let (namespace, status) = netns::create(up).unwrap();
    assert!(status.success());
    namespace
}

struct Stage {
    host: OwnedFd,
    client: OwnedFd,
    names: Arc<Mutex<Names>>,
    server: Server,
    port: (u16, u16),
}

impl Stage {
    fn new(servers: &[&str]) -> Option<Stage> {
        if !testkit::need::root() || testkit::need::tool("ip").is_none() {
            return None;
        }
        let (host, client, names) = (namespace(), namespace(), Arc::<Mutex<Names>>::default());
        let own: Vec<IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
        let home = host.try_clone().unwrap();
        let server =
            Server::start(Arc::clone(&names), home, Arc::new(move || own.clone())).unwrap();
        let bind = || Ok((UdpSocket::bind((ADDRESS, 0))?, TcpListener::bind((ADDRESS, 0))?));
        let (udp, tcp) = netns::run(client.as_fd(), bind).unwrap();
        let port = (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port());
        let namespace = client.try_clone().unwrap();
        let servers = servers.iter().map(|one| one.parse().unwrap()).collect();
        server.open(Client { who: "me".to_owned(), udp, tcp, namespace, servers, dots: false });
        let place = Place {
            network: "id".to_owned(),
            network_name: "mine".to_owned(),
            names: vec!["web".to_owned()],
            addresses: vec![IpAddr::from([10, 0, 0, 2])],
        };
        names.lock().unwrap().set("me", vec![place], true);
        Some(Stage { host, client, names, server, port })
    }

    fn datagram(&self, question: &[u8]) -> Option<Message> {
        let socket = netns::run(self.client.as_fd(), || UdpSocket::bind(("127.0.0.1", 0))).unwrap();
        socket.connect((ADDRESS, self.port.0)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(question).ok()?;
        let mut buffer = [0; 65536];
        let count = socket.recv(&mut buffer).ok()?;
        Some(Message::from_vec(&buffer[..count]).unwrap())
    }

    fn stream(&self) -> TcpStream {
        let connect = || TcpStream::connect((ADDRESS, self.port.1));
        let stream = netns::run(self.client.as_fd(), connect).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

fn over(stream: &mut TcpStream, question: &[u8]) -> Message {
    stream.write_all(&forward::framed(question)).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn told(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

/// A server at port 53 whose answers do not fit into a datagram: over UDP they are cut, and before
/// them come some that answer something else.
fn upstream(namespace: &OwnedFd) {
    let at = ("127.0.0.1", 53);
    let bind = || Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?));
    let (udp, tcp) = netns::run(namespace.as_fd(), bind).unwrap();
    let answer = |question: &[u8], cut: bool| {
        let many = (0..100).map(|last| IpAddr::from([192, 0, 2, last])).collect();
        let question = wire::read(question).unwrap();
        question.answer(&Records::Addresses(many), if cut { 512 } else { usize::MAX })
    };
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((count, from)) = udp.recv_from(&mut buffer) {
            let good = answer(&buffer[..count], true);
            udp.send_to(&wire::renumbered(good.clone(), [1, 2]), from).ok();
            udp.send_to(b"nonsense", from).ok();
            udp.send_to(&good, from).ok();
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().flatten() {
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(&forward::framed(&answer(&question, false))).unwrap();
        }
    });
}

#[test]
fn names_are_told_in_datagrams_and_over_tcp_until_the_client_is_gone() {
    let Some(stage) = Stage::new(&[]) else { return };
    let question = asked("web.", RecordType::A, None);
    assert_eq!(told(&stage.datagram(&question).unwrap()), ["10.0.0.2"]);
    let mut stream = stage.stream();
    for _ in 0..2 {
        assert_eq!(told(&over(&mut stream, &question)), ["10.0.0.2"]);
    }
    // What is no question is not answered, and the next one is.
    let socket = netns::run(stage.client.as_fd(), || UdpSocket::bind(("127.0.0.1", 0))).unwrap();
    socket.send_to(b"hello", (ADDRESS, stage.port.0)).unwrap();
    assert_eq!(told(&stage.datagram(&question).unwrap()), ["10.0.0.2"]);
    stage.names.lock().unwrap().set("me", Vec::new(), false);
    let answer = stage.datagram(&question).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::NXDomain);
    stage.server.close("me");
    let mut rest = Vec::new();
    let ended = stream.read_to_end(&mut rest);
    assert!(rest.is_empty() && ended.is_ok_and(|count| count == 0), "the connection ends");
}

#[test]
fn others_are_asked_from_the_host_where_only_it_reaches_them_and_over_tcp_for_long_answers() {
    let Some(stage) = Stage::new(&[]) else { return };
    upstream(&stage.host);
    let short = stage.datagram(&asked("some.example.", RecordType::A, None)).unwrap();
    assert!(short.metadata.truncation, "it fits into no datagram");
    let long = stage.datagram(&asked("some.example.", RecordType::A, Some(4096))).unwrap();
    assert_eq!((long.metadata.truncation, long.answers.len()), (false, 100));
    let over = over(&mut stage.stream(), &asked("some.example.", RecordType::A, None));
    assert_eq!((over.metadata.id, over.answers.len()), (7, 100));
}

#[test]
fn a_client_has_its_own_servers_asked_from_where_it_is_and_hears_if_there_is_none() {
    let Some(stage) = Stage::new(&["127.0.0.1"]) else { return };
    let question = asked("some.example.", RecordType::A, Some(4096));
    let failed = stage.datagram(&question).unwrap();
    assert_eq!(failed.metadata.response_code, ResponseCode::ServFail, "nobody is there");
    upstream(&stage.client);
    assert_eq!(stage.datagram(&question).unwrap().answers.len(), 100);
}
