//! How much one TCP connection carries through each router that is installed: a measurement, not a
//! test. `cargo test --release -p usernet --test throughput -- --ignored --nocapture`
//!
//! The guest is measured twice: itself, and behind a cable with packets of 1500 bytes and address
//! translation, as containers are.
#![allow(clippy::unwrap_used, reason = "a measurement ends where something is not as it should be")]
#![allow(clippy::print_stdout, reason = "what was measured is told")]

use std::{
    fs, io,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use net::{Uplink, raise_uplink};
use sys::{namespace, netns, tap};
use usernet::{Addresses, Config, Framing, Link, Stack};

/// The address that is connected to; the first is the host's own, which pasta gives to the guest.
const WORLD: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// How long is measured.
const TIME: Duration = Duration::from_secs(4);

#[test]
#[ignore = "a measurement"]
fn throughput_of_one_connection() {
    if !testkit::need::root() {
        return;
    }
    for router in ["own", "pasta", "slirp4netns"] {
        for behind in [false, true] {
            let bench = Bench::new(router, behind);
            let (out, back) = (bench.measure(true), bench.measure(false));
            let place = if behind { "container" } else { "namespace" };
            println!("{router:12} {place}: {out:6.2} Gbit/s out, {back:6.2} Gbit/s back");
        }
    }
}

struct Bench {
    host: OwnedFd,
    client: OwnedFd,
    router: Option<Child>,
    holder: Child,
    _guest: OwnedFd,
}

impl Drop for Bench {
    fn drop(&mut self) {
        for child in self.router.iter_mut().chain([&mut self.holder]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Bench {
    fn new(router: &str, behind: bool) -> Bench {
        let (host, ()) = netns::create(|| {
            namespace::loopback_up()?;
            sh("ip link add world type bridge; ip link set world up; \
                ip addr add 192.0.2.1/24 dev world; ip addr add 192.0.2.9/24 dev world; \
                ip route add default via 192.0.2.254");
            Ok(())
        })
        .unwrap();
        let (guest, holder) = netns::create(|| {
            namespace::loopback_up()?;
            Command::new("sleep").arg("600").spawn()
        })
        .unwrap();
        let pid = holder.id().to_string();
        let child = netns::run(host.as_fd(), || start(router, &pid, &guest)).unwrap();
        let routed = || fs::read_to_string(format!("/proc/{pid}/net/route")).unwrap();
        while !routed().lines().any(|line| line.split_whitespace().nth(1) == Some("00000000")) {
            thread::sleep(Duration::from_millis(10));
        }
        let client = match behind {
            false => guest.try_clone().unwrap(),
            true => container(&guest),
        };
        Bench { host, client, router: child, holder, _guest: guest }
    }

    /// What one connection carries, in Gbit/s.
    fn measure(&self, out: bool) -> f64 {
        let listener = netns::run(self.host.as_fd(), || TcpListener::bind((WORLD, 0))).unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let client = netns::run(self.client.as_fd(), || connect(address)).unwrap();
        let (server, _) = listener.accept().unwrap();
        let (sender, mut reader) = if out { (client, server) } else { (server, client) };
        let pour = thread::spawn(move || {
            let (mut sender, block) = (sender, vec![7; 256 << 10]);
            while sender.write_all(&block).is_ok() {}
        });
        let mut block = vec![0; 256 << 10];
        let mut count = |time: Duration| {
            let (began, mut bytes) = (Instant::now(), 0_u64);
            while began.elapsed() < time {
                bytes += reader.read(&mut block).unwrap() as u64;
            }
            bytes as f64 * 8.0 / began.elapsed().as_secs_f64() / 1e9
        };
        count(Duration::from_millis(500));
        let measured = count(TIME);
        drop(reader);
        pour.join().unwrap();
        measured
    }
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    // A router may drop what comes while it sets itself up.
    let tries = (0..50).map(|_| TcpStream::connect_timeout(&to, Duration::from_secs(1)));
    tries.filter_map(Result::ok).next().ok_or_else(|| io::ErrorKind::TimedOut.into())
}

fn start(router: &str, pid: &str, guest: &OwnedFd) -> io::Result<Option<Child>> {
    let mut command = Command::new(router);
    match router {
        "pasta" => {
            let path = format!("/proc/{pid}/ns/net");
            command.args([
                "--foreground",
                "--quiet",
                "--config-net",
                "--no-map-gw",
                "--runas",
                "0",
            ]);
            command.args(["-t", "none", "-u", "none", "-T", "none", "-U", "none"]);
            command.args(["--netns", &path]);
        }
        "slirp4netns" => {
            command.args(["--configure", "--mtu=65520", "--disable-host-loopback", pid, "tap0"]);
        }
        _ => {
            own(guest);
            return Ok(None);
        }
    }
    command.stdout(Stdio::null()).spawn().map(Some)
}

/// Our stack, on a thread of this process: the guest's device goes with the process.
fn own(guest: &OwnedFd) {
    let device = netns::run(guest.as_fd(), || {
        let device = tap::open("tap0")?;
        let (address, gateway) = (Ipv4Addr::new(10, 0, 2, 100), Ipv4Addr::new(10, 0, 2, 2));
        let uplink = Uplink { name: "tap0", address, prefix: 24, gateway, mtu: 65_520 };
        raise_uplink(&uplink).map_err(io::Error::other)?;
        Ok(device)
    });
    let config = Config {
        addresses: Addresses::default(),
        mtu: 65_520,
        host_loopback: false,
        resolv_conf: Path::new("/etc/resolv.conf").to_owned(),
    };
    let stack = Stack::new(Link::new(device.unwrap(), Framing::Virtio).unwrap(), config).unwrap();
    // This thread is in the host's namespace, and so is one that it starts.
    thread::spawn(move || stack.run(None).unwrap());
}

/// A namespace behind the guest's, as a container is behind its daemon's.
fn container(guest: &OwnedFd) -> OwnedFd {
    let (inside, holder) = netns::create(|| {
        namespace::loopback_up()?;
        Command::new("sleep").arg("600").spawn()
    })
    .unwrap();
    let pid = holder.id();
    netns::run(guest.as_fd(), || {
        sh(&format!(
            "ip link add br0 type bridge; ip addr add 172.30.0.1/24 dev br0; ip link set br0 up; \
             ip link add in0 type veth peer name eth0 netns {pid}; ip link set in0 master br0 up; \
             echo 1 > /proc/sys/net/ipv4/ip_forward; \
             nft add table ip t; \
             nft add chain ip t p '{{ type nat hook postrouting priority 100; }}'; \
             nft add rule ip t p ip saddr 172.30.0.0/24 oifname != br0 masquerade"
        ));
        Ok(())
    })
    .unwrap();
    netns::run(inside.as_fd(), || {
        sh("ip addr add 172.30.0.2/24 dev eth0; ip link set eth0 up; \
            ip route add default via 172.30.0.1");
        Ok(())
    })
    .unwrap();
    let mut holder = holder;
    holder.kill().unwrap();
    holder.wait().unwrap();
    inside
}

fn sh(script: &str) {
    let status = Command::new("sh").args(["-ec", script]).status().unwrap();
    assert!(status.success(), "{script}");
}
