//! A small world of network namespaces: a host, a wire, and somebody outside.
//!
//! ```text
//! containers ── bridge [host] wan0 198.51.100.1 ── 198.51.100.2 eth0 [outside]
//! ```

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
    process::Command,
    sync::Mutex,
    thread,
    time::Duration,
};

use net::{Endpoint, Host, Ipv6Net, Leases, Network};
use sys::netns;
use testkit::need;

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
pub(crate) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
pub(crate) const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
pub(crate) const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one is waited for that should not come.
const SILENCE: Duration = Duration::from_millis(300);

pub(crate) struct World {
    pub(crate) host: OwnedFd,
    pub(crate) outside: OwnedFd,
    pub(crate) net: Host,
    pub(crate) network: Network,
    leases: Mutex<Leases>,
}

/// A container: a namespace with an address.
pub(crate) struct Container {
    pub(crate) namespace: OwnedFd,
    pub(crate) address: Ipv4Addr,
    pub(crate) address6: Ipv6Addr,
}

impl World {
    /// The world before anything is attached; none without what it needs.
    pub(crate) fn new() -> Option<World> {
        if !need::root() || ["nft", "ip"].iter().any(|name| need::tool(name).is_none()) {
            return None;
        }
        let (host, ()) = netns::create(|| Ok(())).unwrap();
        let (outside, ()) = netns::create(|| Ok(())).unwrap();
        let there = format!("/proc/{}/fd/{}", std::process::id(), outside.as_raw_fd());
        // A namespace begins with what its maker's has.
        let off =
            "for f in ipv4/ip_forward ipv6/conf/all/forwarding; do echo 0 > /proc/sys/net/$f; done";
        sh(&host, off);
        sh(&host, "ip link set lo up");
        sh(&host, &format!("ip link add wan0 type veth peer name eth0 netns {there}"));
        sh(&host, &format!("ip addr add {HOST}/24 dev wan0 && ip link set wan0 up"));
        sh(&outside, &format!("ip addr add {OUTSIDE}/24 dev eth0 && ip link set eth0 up"));
        sh(&host, &format!("ip -6 addr add {HOST6}/64 dev wan0 nodad"));
        sh(&outside, &format!("ip -6 addr add {OUTSIDE6}/64 dev eth0 nodad"));
        // To ask for a link makes the kernel act on its carrier at once.
        for (namespace, link) in [(&host, "wan0"), (&outside, "eth0")] {
            sh(namespace, &format!("ip link show {link}"));
        }
        let net = Host::open(Some(host.as_fd())).unwrap();
        let bridge = "wythe0".parse().unwrap();
        let mut network =
            Network::new(bridge, net.choose_subnet(&"wythe0".parse().unwrap(), &[]).unwrap());
        network.ipv6 = Some(Ipv6Net::unique_local(b"world"));
        let leases = Mutex::new(Leases::new(network.subnet, network.gateway));
        net.ensure_network(&network).unwrap();
        net.publish(&[&network], &[]).unwrap();
        Some(World { host, outside, net, network, leases })
    }

    pub(crate) fn container(&self, id: &str) -> Container {
        let address = self.leases.lock().unwrap().allocate().unwrap();
        let endpoint = Endpoint::new(id, address);
        let namespace = self.net.attach(&self.network, &endpoint).unwrap().namespace;
        let address6 = self.network.ipv6_of(address).unwrap();
        Container { namespace, address, address6 }
    }

    pub(crate) fn rules(&self) -> String {
        sh(&self.host, "nft list ruleset")
    }
}

/// Runs a command line in a namespace and returns what it prints.
pub(crate) fn sh(namespace: &OwnedFd, line: &str) -> String {
    let out = netns::run(namespace.as_fd(), || {
        Command::new("sh").args(["-c", line]).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").output()
    })
    .unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{line}: {error}");
    String::from_utf8(out.stdout).unwrap()
}

/// Serves TCP: tells every client the address it is seen under.
pub(crate) fn serve_tcp(namespace: &OwnedFd, port: u16) {
    let at = (Ipv6Addr::UNSPECIFIED, port);
    let listener = netns::run(namespace.as_fd(), || TcpListener::bind(at)).unwrap();
    thread::spawn(move || {
        while let Ok((mut client, from)) = listener.accept() {
            let _ = write!(client, "{}", from.ip().to_canonical());
        }
    });
}

/// Serves UDP: tells every client a name and the address it is seen under.
pub(crate) fn serve_udp(namespace: &OwnedFd, port: u16, name: &'static str) {
    let at = (Ipv6Addr::UNSPECIFIED, port);
    let socket = netns::run(namespace.as_fd(), || UdpSocket::bind(at)).unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", from.ip().to_canonical()).as_bytes(), from);
        }
    });
}

/// The address a server sees this namespace under; none if it cannot be reached.
pub(crate) fn ask_tcp(from: &OwnedFd, to: impl Into<IpAddr>, port: u16) -> Option<String> {
    let mut answer = String::new();
    connect(from, to.into(), port, PATIENCE)?.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Whether a port cannot be reached.
pub(crate) fn refused_tcp(from: &OwnedFd, to: impl Into<IpAddr>, port: u16) -> bool {
    connect(from, to.into(), port, SILENCE).is_none()
}

fn connect(from: &OwnedFd, to: IpAddr, port: u16, wait: Duration) -> Option<TcpStream> {
    let to = SocketAddr::from((to, port));
    netns::run(from.as_fd(), || TcpStream::connect_timeout(&to, wait)).ok()
}

/// A UDP client in a namespace.
pub(crate) fn client(namespace: &OwnedFd) -> UdpSocket {
    let at = (Ipv6Addr::UNSPECIFIED, 0);
    let socket = netns::run(namespace.as_fd(), || UdpSocket::bind(at)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// What a UDP server answers; none if it does not.
pub(crate) fn ask(socket: &UdpSocket, to: impl Into<IpAddr>, port: u16) -> Option<String> {
    let to = match to.into() {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    socket.send_to(b"?", SocketAddr::from((to, port))).ok()?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

/// Whether nobody answers at a port.
pub(crate) fn refused_udp(from: &OwnedFd, to: impl Into<IpAddr>, port: u16) -> bool {
    let socket = client(from);
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    ask(&socket, to, port).is_none()
}
