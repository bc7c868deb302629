//! A stack between two network namespaces: the guest's, with a tap device and nothing else, and the
//! host's, in which the stack runs. Everything in the guest is the kernel's own TCP and UDP.

#![allow(clippy::unwrap_used, reason = "helpers of tests are not marked as tests")]

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    process::Command,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

use net::{Uplink, raise_uplink};
use rustix::{
    event::{EventfdFlags, eventfd},
    net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto},
};
use sys::{namespace, netns, tap};
use usernet::{Addresses, Config, Counters, Discard, Framing, Link, Stack};

/// The host's address in the world.
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
/// What no test waits for longer than: it says that one hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both namespaces and the stack between them.
struct Bench {
    host: OwnedFd,
    guest: OwnedFd,
    stop: OwnedFd,
    stack: Option<JoinHandle<Counters>>,
    resolv_conf: PathBuf,
}

impl Bench {
    fn new(loopback: bool, resolv_conf: &str) -> Option<Bench> {
        Bench::with_mtu(loopback, resolv_conf, 65_520)
    }

    fn with_mtu(loopback: bool, resolv_conf: &str, mtu: u16) -> Option<Bench> {
        if !testkit::need::root() || testkit::need::tool("ip").is_none() {
            return None;
        }
        let file = std::env::temp_dir().join(format!("usernet-{}.conf", std::process::id()));
        fs::write(&file, resolv_conf).unwrap();
        let (host, ()) = netns::create(|| {
            namespace::loopback_up()?;
            ip("link add world type bridge");
            ip("link set world up");
            ip(&format!("addr add {WORLD}/24 dev world"));
            // Nobody is there, and nothing leads there.
            ip("route add unreachable 198.51.100.0/24");
            fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0")
        })
        .unwrap();
        let (guest, tap) = netns::create(|| {
            namespace::loopback_up()?;
            let tap = tap::open("tap0")?;
            let address = Ipv4Addr::new(10, 0, 2, 100);
            let uplink =
                Uplink { name: "tap0", address, prefix: 24, gateway: GATEWAY, mtu: mtu.into() };
            raise_uplink(&uplink).map_err(io::Error::other)?;
            Ok(tap)
        })
        .unwrap();
        let stop = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let config = Config {
            addresses: Addresses::default(),
            mtu,
            host_loopback: loopback,
            resolv_conf: file.clone(),
        };
        let (inside, until) = (host.try_clone().unwrap(), stop.try_clone().unwrap());
        let stack = thread::spawn(move || {
            let run = || {
                let stack = Stack::new(Link::new(tap, Framing::Virtio)?, config).unwrap();
                Ok(stack.run(Some(until.as_fd())).unwrap())
            };
            netns::run(inside.as_fd(), run).unwrap()
        });
        Some(Bench { host, guest, stop, stack: Some(stack), resolv_conf: file })
    }

    fn on_host<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run(self.host.as_fd(), || Ok(work())).unwrap()
    }

    fn in_guest<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        netns::run(self.guest.as_fd(), || Ok(work())).unwrap()
    }

    /// A server of the host's.
    fn listen(&self, ip: Ipv4Addr) -> (TcpListener, SocketAddr) {
        let listener = self.on_host(|| TcpListener::bind((ip, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn connect(&self, to: SocketAddr) -> io::Result<TcpStream> {
        let stream = self.in_guest(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A socket of the guest's.
    fn udp(&self) -> UdpSocket {
        let socket = self.in_guest(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn end(mut self) -> Counters {
        rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).unwrap();
        self.stack.take().unwrap().join().unwrap()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.resolv_conf);
        let _ = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
    }
}

fn ip(words: &str) {
    let status = Command::new("ip").args(words.split(' ')).status().unwrap();
    assert!(status.success(), "ip {words}");
}

/// Bytes that are nowhere the same.
fn content(length: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut state = seed | 1;
    let mut left = length;
    std::iter::from_fn(move || {
        let count = left.min(64 << 10);
        left -= count;
        let mut block = vec![0; count];
        for piece in block.chunks_mut(8) {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            piece.copy_from_slice(&state.to_le_bytes()[..piece.len()]);
        }
        (count > 0).then_some(block)
    })
}

fn pour(mut into: &TcpStream, length: usize, seed: u64) {
    for block in content(length, seed) {
        into.write_all(&block).unwrap();
    }
    into.shutdown(Shutdown::Write).unwrap();
}

/// Reads to the end, and that it is what was poured.
fn drain(mut from: &TcpStream, length: usize, seed: u64) {
    let mut at = 0;
    for block in content(length, seed) {
        let mut read = vec![0; block.len()];
        from.read_exact(&mut read).unwrap_or_else(|error| panic!("{error} after {at} bytes"));
        assert!(read == block, "other bytes after {at}");
        at += block.len();
    }
    assert_eq!(from.read(&mut [0]).unwrap(), 0, "more than {length} bytes");
}

/// Both ends of a connection send so much at the same time.
fn both_ways(bench: &Bench, length: usize) {
    let (listener, address) = bench.listen(WORLD);
    let guest = bench.connect(address).unwrap();
    let (host, _) = listener.accept().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| pour(&guest, length, 1));
        scope.spawn(|| pour(&host, length, 2));
        scope.spawn(|| drain(&host, length, 1));
        scope.spawn(|| drain(&guest, length, 2));
    });
}

#[test]
fn a_hundred_megabytes_go_both_ways_at_once() {
    let Some(bench) = Bench::new(false, "") else { return };
    both_ways(&bench, 100 << 20);
    let counters = bench.end();
    assert_eq!(counters.discarded(Discard::Guest), 0, "{counters:?}");
    assert_eq!(counters.discarded(Discard::Malformed), 0, "{counters:?}");
    assert_eq!(counters.discarded(Discard::Checksum), 0, "{counters:?}");
}

#[test]
fn an_interface_may_take_small_packets_only() {
    let Some(bench) = Bench::with_mtu(false, "", 1500) else { return };
    both_ways(&bench, 8 << 20);
}

#[test]
fn two_hundred_connections_at_once_each_have_their_own_bytes() {
    let Some(bench) = Bench::new(false, "") else { return };
    let (listener, address) = bench.listen(WORLD);
    let server = thread::spawn(move || {
        let mut all = Vec::new();
        for _ in 0..200 {
            let (mut stream, _) = listener.accept().unwrap();
            all.push(thread::spawn(move || {
                let mut text = Vec::new();
                stream.read_to_end(&mut text).unwrap();
                stream.write_all(&text).unwrap();
            }));
        }
        all.into_iter().for_each(|each| each.join().unwrap());
    });
    // All are there before the first says anything.
    let all: Vec<TcpStream> = (0..200).map(|_| bench.connect(address).unwrap()).collect();
    thread::scope(|scope| {
        for (number, mut stream) in all.iter().enumerate() {
            scope.spawn(move || {
                let said = content(20_000 + number, number as u64).flatten().collect::<Vec<u8>>();
                stream.write_all(&said).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
                let mut heard = Vec::new();
                stream.read_to_end(&mut heard).unwrap();
                assert!(said == heard, "connection {number}");
            });
        }
    });
    server.join().unwrap();
    assert_eq!(bench.end().flows, 200);
}

#[test]
fn either_end_may_stop_sending_and_go_on_hearing() {
    let Some(bench) = Bench::new(false, "") else { return };
    let (listener, address) = bench.listen(WORLD);
    let mut guest = bench.connect(address).unwrap();
    let (mut host, _) = listener.accept().unwrap();
    guest.write_all(b"last words").unwrap();
    guest.shutdown(Shutdown::Write).unwrap();
    let mut text = String::new();
    host.read_to_string(&mut text).unwrap();
    assert_eq!(text, "last words");
    host.write_all(b"and mine").unwrap();
    drop(host);
    text.clear();
    guest.read_to_string(&mut text).unwrap();
    assert_eq!(text, "and mine");

    let mut guest = bench.connect(address).unwrap();
    let (mut host, _) = listener.accept().unwrap();
    host.write_all(b"first").unwrap();
    host.shutdown(Shutdown::Write).unwrap();
    text.clear();
    guest.read_to_string(&mut text).unwrap();
    assert_eq!(text, "first");
    guest.write_all(b"second").unwrap();
    drop(guest);
    text.clear();
    host.read_to_string(&mut text).unwrap();
    assert_eq!(text, "second");
}

#[test]
fn a_reset_of_either_end_is_a_reset_at_the_other() {
    let Some(bench) = Bench::new(false, "") else { return };
    let (listener, address) = bench.listen(WORLD);
    let now = Some(Duration::ZERO);
    let mut guest = bench.connect(address).unwrap();
    let (host, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&host, now).unwrap();
    drop(host);
    assert_eq!(guest.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);

    let guest = bench.connect(address).unwrap();
    let (mut host, _) = listener.accept().unwrap();
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    rustix::net::sockopt::set_socket_linger(&guest, now).unwrap();
    drop(guest);
    assert_eq!(host.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn whoever_does_not_read_stops_the_sender() {
    let Some(bench) = Bench::new(false, "") else { return };
    let (listener, address) = bench.listen(WORLD);
    for guest_sends in [true, false] {
        let guest = bench.connect(address).unwrap();
        let (host, _) = listener.accept().unwrap();
        let (sender, reader) = if guest_sends { (&guest, &host) } else { (&host, &guest) };
        // Until nothing goes for a while, though little of it was read.
        sender.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let mut sent = 0;
        let mut blocks = content(usize::MAX, 3);
        let mut half = Vec::new();
        loop {
            let block = blocks.next().unwrap();
            let mut writer = sender;
            let mut at = 0;
            while at < block.len() {
                match writer.write(&block[at..]) {
                    Ok(count) => at += count,
                    Err(_) => break,
                }
            }
            sent += at;
            if at < block.len() {
                half.extend_from_slice(&block[at..]);
                break;
            }
            assert!(sent < 256 << 20, "nothing stops the sender");
        }
        // And then all of it arrives.
        thread::scope(|scope| {
            scope.spawn(|| {
                sender.set_write_timeout(None).unwrap();
                let mut writer = sender;
                writer.write_all(&half).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            drain(reader, sent + half.len(), 3);
        });
    }
}

#[test]
fn what_refuses_the_host_refuses_the_guest() {
    let Some(bench) = Bench::new(false, "") else { return };
    let (listener, address) = bench.listen(WORLD);
    drop(listener);
    let kind = |to: SocketAddr| bench.connect(to).unwrap_err().kind();
    assert_eq!(kind(address), io::ErrorKind::ConnectionRefused);
    assert_eq!(kind(([198, 51, 100, 1], 80).into()), io::ErrorKind::HostUnreachable);
    // No route leads there.
    assert_eq!(kind(([203, 0, 113, 1], 80).into()), io::ErrorKind::NetworkUnreachable);
}

#[test]
fn the_hosts_loopback_is_out_of_reach_unless_it_is_asked_for() {
    let Some(bench) = Bench::new(false, "") else { return };
    let (_listener, address) = bench.listen(Ipv4Addr::LOCALHOST);
    let by_gateway = SocketAddr::from((GATEWAY, address.port()));
    let kind = |to: SocketAddr| bench.connect(to).unwrap_err().kind();
    assert_eq!(kind(by_gateway), io::ErrorKind::ConnectionRefused);
    assert_eq!(kind((RESOLVER, address.port()).into()), io::ErrorKind::ConnectionRefused);
    let host = bench.on_host(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    let guest = bench.udp();
    guest.connect((GATEWAY, host.local_addr().unwrap().port())).unwrap();
    guest.send(b"x").unwrap();
    assert_eq!(guest.recv(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    drop(bench);

    let Some(bench) = Bench::new(true, "") else { return };
    let (listener, address) = bench.listen(Ipv4Addr::LOCALHOST);
    let by_gateway = SocketAddr::from((GATEWAY, address.port()));
    let mut guest = bench.connect(by_gateway).unwrap();
    listener.accept().unwrap().0.write_all(b"hello").unwrap();
    let mut text = String::new();
    guest.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}

#[test]
fn datagrams_go_both_ways_and_refusals_come_back() {
    let Some(bench) = Bench::new(false, "") else { return };
    let host = bench.on_host(|| UdpSocket::bind((WORLD, 0)).unwrap());
    host.set_read_timeout(Some(PATIENCE)).unwrap();
    let guest = bench.udp();
    guest.connect(host.local_addr().unwrap()).unwrap();
    let mut bytes = vec![0; 65_536];
    for length in [0, 1, 1400, 30_000, 65_000] {
        let said: Vec<u8> = content(length, 5).flatten().collect();
        guest.send(&said).unwrap();
        let (count, from) = host.recv_from(&mut bytes).unwrap();
        assert!(bytes[..count] == said, "{length} bytes out");
        host.send_to(&said, from).unwrap();
        let count = guest.recv(&mut bytes).unwrap();
        assert!(bytes[..count] == said, "{length} bytes back");
    }
    // Another of the guest's is another for the host.
    let other = bench.udp();
    other.send_to(b"other", host.local_addr().unwrap()).unwrap();
    let (_, second) = host.recv_from(&mut bytes).unwrap();
    host.send_to(b"for the other", second).unwrap();
    assert_eq!(other.recv(&mut bytes).unwrap(), 13);
    drop(host);
    guest.send(b"is anybody there").unwrap();
    let error = guest.recv(&mut bytes).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// Answers every question with a letter and the question.
fn name_server(bench: &Bench, ip: Ipv4Addr, letter: u8) -> mpsc::Receiver<()> {
    let socket = bench.on_host(|| UdpSocket::bind((ip, 53)).unwrap());
    let streams = bench.on_host(|| TcpListener::bind((ip, 53)).unwrap());
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = [0; 512];
        while let Ok((count, from)) = socket.recv_from(&mut bytes) {
            let answer = [&[letter], &bytes[..count]].concat();
            let _ = socket.send_to(&answer, from);
            let _ = ready.send(());
        }
    });
    thread::spawn(move || {
        for mut stream in streams.incoming().flatten() {
            let _ = stream.write_all(&[letter]);
        }
    });
    is_ready
}

#[test]
fn names_are_asked_of_the_hosts_resolver_even_on_its_loopback() {
    let Some(bench) = Bench::new(false, "nameserver 127.0.0.1\n") else { return };
    let _local = name_server(&bench, Ipv4Addr::LOCALHOST, b'l');
    let guest = bench.udp();
    guest.send_to(b"who", (RESOLVER, 53)).unwrap();
    let mut bytes = [0; 512];
    let (count, from) = guest.recv_from(&mut bytes).unwrap();
    assert_eq!((&bytes[..count], from), (&b"lwho"[..], SocketAddr::from((RESOLVER, 53))));
    let mut letter = [0];
    bench.connect((RESOLVER, 53).into()).unwrap().read_exact(&mut letter).unwrap();
    assert_eq!(letter, *b"l");
}

#[test]
fn a_resolver_that_is_gone_is_passed_over() {
    let conf = "nameserver 192.0.2.77\nnameserver 127.0.0.1\n";
    let Some(bench) = Bench::new(false, conf) else { return };
    let _local = name_server(&bench, Ipv4Addr::LOCALHOST, b'l');
    let guest = bench.udp();
    guest.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    let mut bytes = [0; 512];
    let answered = (0..20).any(|_| {
        // The same socket asks again, as resolvers do.
        guest.send_to(b"who", (RESOLVER, 53)).unwrap();
        guest.recv_from(&mut bytes).is_ok()
    });
    assert!(answered);
    // The next one need not wait.
    let next = bench.udp();
    next.send_to(b"what", (RESOLVER, 53)).unwrap();
    assert_eq!(next.recv(&mut bytes).unwrap(), 5);
}

/// Sends an echo request from the guest and gives the answer.
fn ping(bench: &Bench, to: Ipv4Addr) -> Vec<u8> {
    let socket = bench.in_guest(|| {
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").unwrap();
        let (family, kind) = (AddressFamily::INET, SocketType::DGRAM);
        rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, Some(ipproto::ICMP)).unwrap()
    });
    let patience = rustix::net::sockopt::Timeout::Recv;
    rustix::net::sockopt::set_socket_timeout(&socket, patience, Some(PATIENCE)).unwrap();
    rustix::net::connect(&socket, &SocketAddr::from((to, 0))).unwrap();
    rustix::net::send(&socket, b"\x08\0\0\0\0\0\0\x05ping", SendFlags::empty()).unwrap();
    let mut bytes = vec![0; 64];
    let (count, _) = rustix::net::recv(&socket, &mut bytes[..], RecvFlags::empty()).unwrap();
    bytes.truncate(count);
    bytes
}

#[test]
fn echo_requests_are_answered_by_the_gateway_and_by_the_world() {
    let Some(bench) = Bench::new(false, "") else { return };
    for to in [GATEWAY, RESOLVER, WORLD] {
        let answer = ping(&bench, to);
        assert_eq!((answer[0], &answer[6..]), (0, &b"\0\x05ping"[..]), "{to}");
    }
}
