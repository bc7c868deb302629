//! Networks in the kernel: everything here happens in namespaces that each test makes.

#![expect(clippy::unwrap_used, reason = "a test's helpers are tests")]

mod admission;
mod machine;
mod macvlan;
mod modes;
mod names;
mod spare;
mod watch;
mod wide;
mod world;

use std::{
    io::Read as _,
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    time::Instant,
};

use base::ErrorKind;
use net::{Endpoint, Forward, Host, PublishedPort, Reservation, parse_published};
use sys::netns;
use world::{
    HOST, OUTSIDE, World, ask, ask_tcp, client, refused_tcp, refused_udp, serve_tcp, serve_udp, sh,
};

const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

fn ports(specs: &[&str]) -> Vec<PublishedPort> {
    specs.iter().flat_map(|spec| parse_published(spec).unwrap()).collect()
}

/// Reserves ports and leads them to a container's address.
fn publish(world: &World, to: Ipv4Addr, specs: &[&str]) -> (Vec<Reservation>, Vec<Forward>) {
    let held = world.net.reserve(&ports(specs), false).unwrap();
    let forwards: Vec<_> = held.iter().filter_map(|one| one.forward(to, None)).collect();
    world.net.publish(&[&world.network], &forwards).unwrap();
    (held, forwards)
}

#[test]
fn containers_reach_each_other_and_the_gateway() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    serve_tcp(&b.namespace, 80);
    serve_tcp(&world.host, 81);
    assert_eq!(ask_tcp(&a.namespace, b.address, 80), Some(a.address.to_string()));
    assert_eq!(ask_tcp(&a.namespace, world.network.gateway, 81), Some(a.address.to_string()));
    assert_eq!(ask_tcp(&world.host, b.address, 80), Some(world.network.gateway.to_string()));
    serve_tcp(&a.namespace, 82);
    assert_eq!(ask_tcp(&a.namespace, LOCALHOST, 82), Some(LOCALHOST.to_string()));
}

#[test]
fn an_endpoint_can_speak_as_soon_as_it_is_attached() {
    let Some(world) = World::new() else { return };
    serve_udp(&world.outside, 53, "dns");
    for n in 0..20 {
        let container = world.container(&format!("{n}"));
        // One datagram, never repeated.
        assert!(ask(&client(&container.namespace), OUTSIDE, 53).is_some());
    }
}

#[test]
fn the_world_sees_the_hosts_address() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&world.outside, 80);
    serve_udp(&world.outside, 53, "dns");
    assert_eq!(ask_tcp(&a.namespace, OUTSIDE, 80), Some(HOST.to_string()));
    assert_eq!(ask(&client(&a.namespace), OUTSIDE, 53), Some(format!("dns {HOST}")));
}

#[test]
fn a_published_port_is_reached_from_everywhere() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    serve_tcp(&a.namespace, 80);
    serve_udp(&a.namespace, 53, "a");
    let _held = publish(&world, a.address, &["8080:80", "5353:53/udp"]);
    let gateway = world.network.gateway;
    let cases = [
        // The client's address is kept where that is possible.
        (&world.outside, HOST, OUTSIDE),
        (&world.host, HOST, HOST),
        (&world.host, gateway, gateway),
        (&world.host, LOCALHOST, gateway),
        // Hairpin: a container, itself included, through the host.
        (&b.namespace, HOST, gateway),
        (&b.namespace, gateway, gateway),
        (&a.namespace, HOST, gateway),
        (&a.namespace, gateway, gateway),
    ];
    for (from, to, seen) in cases {
        assert_eq!(ask_tcp(from, to, 8080), Some(seen.to_string()), "to {to}, seen as {seen}");
        assert_eq!(ask(&client(from), to, 5353), Some(format!("a {seen}")), "to {to}");
    }
    assert!(refused_tcp(&world.outside, HOST, 5353), "udp is published, not tcp");
    assert!(refused_udp(&world.outside, HOST, 8080), "tcp is published, not udp");
}

#[test]
fn published_ports_work_where_bridges_call_iptables() {
    let Some(world) = World::new() else { return };
    let switch = "/proc/sys/net/bridge/bridge-nf-call-iptables";
    if !std::path::Path::new(switch).exists() {
        return;
    }
    sh(&world.host, &format!("echo 1 > {switch}"));
    let (a, b) = (world.container("a"), world.container("b"));
    serve_tcp(&a.namespace, 80);
    let _held = publish(&world, a.address, &["8080:80"]);
    let gateway = world.network.gateway.to_string();
    assert_eq!(ask_tcp(&b.namespace, a.address, 80), Some(b.address.to_string()));
    assert_eq!(ask_tcp(&b.namespace, HOST, 8080), Some(gateway.clone()));
    assert_eq!(ask_tcp(&a.namespace, HOST, 8080), Some(gateway.clone()));
    assert_eq!(ask_tcp(&world.host, LOCALHOST, 8080), Some(gateway));
    assert_eq!(ask_tcp(&world.outside, HOST, 8080), Some(OUTSIDE.to_string()));
}

#[test]
fn only_published_ports_are_reached_from_outside() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    serve_tcp(&a.namespace, 81);
    let _held = publish(&world, a.address, &["8080:80"]);
    // A neighbour who knows the way to the containers.
    sh(&world.outside, &format!("ip route add {} via {HOST}", world.network.subnet));
    assert!(refused_tcp(&world.outside, a.address, 81));
    assert!(refused_tcp(&world.outside, a.address, 80));
    assert!(refused_tcp(&world.outside, HOST, 81));
    assert!(ask_tcp(&world.outside, HOST, 8080).is_some());
}

#[test]
fn a_port_published_on_one_address_is_reached_on_no_other() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    serve_tcp(&world.host, 90);
    let _held = publish(&world, a.address, &["127.0.0.1:8080:80", "198.51.100.1:8081:80"]);
    assert!(ask_tcp(&world.host, LOCALHOST, 8080).is_some());
    assert!(ask_tcp(&world.host, HOST, 8081).is_some());
    assert!(ask_tcp(&world.outside, HOST, 8081).is_some());
    assert!(refused_tcp(&world.host, HOST, 8080));
    assert!(refused_tcp(&world.host, LOCALHOST, 8081));
    assert!(refused_tcp(&world.outside, HOST, 8080));
    assert!(refused_tcp(&a.namespace, world.network.gateway, 8080));

    // Neighbours who send to 127.0.0.1 over the wire. Without an address on their own `lo`, and
    // allowed to, they can.
    for (from, gateway, own) in
        [(&world.outside, HOST, OUTSIDE), (&a.namespace, world.network.gateway, a.address)]
    {
        sh(from, "ip link set lo down; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet");
        sh(from, &format!("ip route add 127.0.0.1/32 via {gateway} src {own}"));
        assert!(refused_tcp(from, LOCALHOST, 8080), "a container's port");
        assert!(refused_tcp(from, LOCALHOST, 90), "a port of the host");
    }
    let dropped = sh(&world.host, "nft -s list chain ip wythe raw");
    assert!(dropped.contains("ip daddr 127.0.0.0/8 drop"), "{dropped}");
}

#[test]
fn a_port_can_be_had_once() {
    let Some(world) = World::new() else { return };
    let held = world.net.reserve(&ports(&["8080:80", "8080:80/udp", "80"]), false).unwrap();
    assert!(held[2].host().port() != 0);
    for spec in ["8080:80", "127.0.0.1:8080:80", "8080:80/udp", "7000-7001:8079-8080"] {
        // Twice, because a failed attempt must hold nothing.
        for _ in 0..2 {
            let result = world.net.reserve(&ports(&["9090:90", spec]), false).map(drop);
            match spec {
                "7000-7001:8079-8080" => result.unwrap(),
                _ => assert_eq!(result.unwrap_err().kind(), ErrorKind::Conflict, "{spec}"),
            }
        }
    }
    let error = world.net.reserve(&ports(&["8080:80"]), false).unwrap_err();
    assert_eq!(error.to_string(), "Bind for 0.0.0.0:8080 failed: port is already allocated");
    let one_of = world.net.reserve(&ports(&["8080-8081:80"]), false).unwrap();
    assert_eq!(one_of[0].host().port(), 8081);
    assert!(refused_tcp(&world.host, LOCALHOST, 8080), "nothing is accepted");
    drop(held);
    world.net.reserve(&ports(&["8080:80"]), false).unwrap();
    // A program of the host has it.
    serve_tcp(&world.host, 9000);
    let kind = |spec| world.net.reserve(&ports(&[spec]), false).unwrap_err().kind();
    assert_eq!(kind("9000:80"), ErrorKind::Conflict);
    assert_eq!(kind("203.0.113.1:80:80"), ErrorKind::InvalidInput);
    assert_eq!(kind("[::1]:80:80"), ErrorKind::Unsupported);
}

#[test]
fn a_port_with_lingering_connections_can_be_had_and_is_kept_from_others() {
    let Some(world) = World::new() else { return };
    let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 9000));
    let server = netns::run(world.host.as_fd(), bind).unwrap();
    let connect = || TcpStream::connect((LOCALHOST, 9000));
    let mut client = netns::run(world.host.as_fd(), connect).unwrap();
    // The end that closes first lingers.
    drop(server.accept().unwrap());
    drop(server);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    assert!(sh(&world.host, "ss -Htan state time-wait").contains(":9000"));
    let _held = world.net.reserve(&ports(&["9000:80"]), false).unwrap();
    assert!(netns::run(world.host.as_fd(), bind).is_err());
    assert!(world.net.reserve(&ports(&["9000:80"]), false).is_err());
}

#[test]
fn everything_can_be_removed() {
    let Some(world) = World::new() else { return };
    let links = || sh(&world.host, "ip -o link").lines().count();
    let before = links() - 1;
    let kept = [world.container("a"), world.container("b")];
    let _held = publish(&world, kept[0].address, &["8080:80"]);
    world.net.remove_everything(&[&world.network]).unwrap();
    assert_eq!(world.rules(), "");
    assert_eq!(sh(&world.host, "ip -o link").lines().count(), before);
    world.net.remove_everything(&[&world.network]).unwrap();
    // And all made again.
    world.net.ensure_network(&world.network).unwrap();
    world.net.publish(&[&world.network], &[]).unwrap();
    let c = world.container("c");
    assert!(refused_tcp(&c.namespace, world.network.gateway, 1));
}

#[test]
fn an_endpoint_goes_when_its_namespace_does() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    let links = || sh(&world.host, "ip -o link");
    assert!(links().contains("master wythe0"));
    drop(a);
    // The kernel removes namespaces in the background.
    while links().contains("master wythe0") {
        std::thread::yield_now();
    }
    let b = world.container("b");
    world.net.detach("b").unwrap();
    assert!(!links().contains("master wythe0"));
    world.net.detach("b").unwrap();
    drop(b);
}

#[test]
fn an_endpoint_can_be_attached_again_while_its_old_namespace_lives() {
    let Some(world) = World::new() else { return };
    let old = world.container("a");
    let new = world.container("a");
    serve_tcp(&new.namespace, 80);
    assert!(ask_tcp(&world.host, new.address, 80).is_some());
    assert!(!sh(&old.namespace, "ip -o link").contains("eth0"));
}

#[test]
fn another_daemon_finds_the_same_host_and_disturbs_no_connection() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_udp(&a.namespace, 53, "a");
    serve_tcp(&a.namespace, 80);
    let (held, forwards) = publish(&world, a.address, &["5353:53/udp", "8080:80"]);
    let flow = client(&world.outside);
    assert!(ask(&flow, HOST, 5353).is_some());
    let before = world.rules();

    let next = Host::open(Some(world.host.as_fd())).unwrap();
    let subnet = next.choose_subnet(&world.network.bridge, &[]).unwrap();
    assert_eq!(subnet, world.network.subnet, "its own bridge is no obstacle");
    next.ensure_network(&world.network).unwrap();
    next.publish(&[&world.network], &forwards).unwrap();
    assert_eq!(world.rules(), before);
    next.publish(&[&world.network], &forwards).unwrap();
    assert_eq!(world.rules(), before);
    assert_eq!(ask(&flow, HOST, 5353), Some(format!("a {OUTSIDE}")));
    assert!(ask_tcp(&world.outside, HOST, 8080).is_some());
    drop(held);
}

#[test]
fn ports_come_and_go_one_by_one() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    serve_tcp(&a.namespace, 80);
    serve_tcp(&b.namespace, 80);
    let (_first, of_a) = publish(&world, a.address, &["8080:80"]);
    let held = world.net.reserve(&ports(&["127.0.0.1:8081:80"]), false).unwrap();
    let both = [of_a[0], held[0].forward(b.address, None).unwrap()];
    world.net.publish(&[&world.network], &both).unwrap();
    assert!(ask_tcp(&world.outside, HOST, 8080).is_some());
    assert!(ask_tcp(&world.host, LOCALHOST, 8081).is_some());
    world.net.publish(&[&world.network], &both[1..]).unwrap();
    assert!(refused_tcp(&world.outside, HOST, 8080));
    assert!(ask_tcp(&world.host, LOCALHOST, 8081).is_some());
    // The same port to somebody else, in one step.
    let moved = [Forward { container: of_a[0].container, ..both[1] }];
    world.net.publish(&[&world.network], &moved).unwrap();
    assert!(ask_tcp(&world.host, LOCALHOST, 8081).is_some());
    drop(b);
    assert!(ask_tcp(&world.host, LOCALHOST, 8081).is_some());
}

#[test]
fn nft_reads_back_what_it_lists() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    let _held = publish(&world, a.address, &["8080:80", "127.0.0.1:5353:53/udp"]);
    let listed = world.rules();
    insta::assert_snapshot!(listed);
    sh(&world.host, &format!("nft flush ruleset; nft -f - <<'END'\n{listed}\nEND"));
    assert_eq!(world.rules(), listed);
    assert!(ask_tcp(&world.outside, HOST, 8080).is_some());
    assert!(ask_tcp(&a.namespace, HOST, 8080).is_some());
}

#[test]
fn thousands_of_ports_are_one_transaction() {
    let Some(world) = World::new() else { return };
    let all: Vec<_> = (1..=5000)
        .map(|port| Forward {
            host: (Ipv4Addr::UNSPECIFIED, port).into(),
            protocol: net::Protocol::Tcp,
            container: (Ipv4Addr::new(172, 27, 0, 2), port).into(),
        })
        .collect();
    world.net.publish(&[&world.network], &all).unwrap();
    let count = || world.rules().matches(": 172.27.0.2 . ").count();
    assert_eq!(count(), all.len());
    world.net.publish(&[&world.network], &all[..10]).unwrap();
    assert_eq!(count(), 10);
}

#[test]
fn a_port_cannot_lead_to_two_containers() {
    let Some(world) = World::new() else { return };
    let to = |container: &str| Forward {
        host: "0.0.0.0:80".parse().unwrap(),
        protocol: net::Protocol::Tcp,
        container: container.parse().unwrap(),
    };
    world.net.publish(&[&world.network], &[to("172.27.0.2:80")]).unwrap();
    let before = world.rules();
    let both = [to("172.27.0.2:80"), to("172.27.0.3:80")];
    world.net.publish(&[&world.network], &both).unwrap_err();
    assert_eq!(world.rules(), before);
    world.net.publish(&[&world.network], &both[1..]).unwrap();
    assert!(world.rules().contains("172.27.0.3"));
}

#[test]
fn a_ruleset_flushed_by_someone_else_comes_back_with_the_next_change() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    let (_held, mut forwards) = publish(&world, a.address, &["8080:80"]);
    let more = world.net.reserve(&ports(&["8081:80"]), false).unwrap();
    sh(&world.host, "nft flush ruleset");
    assert!(refused_tcp(&world.outside, HOST, 8080));
    forwards.push(more[0].forward(a.address, None).unwrap());
    world.net.publish(&[&world.network], &forwards).unwrap();
    assert!(ask_tcp(&world.outside, HOST, 8080).is_some());
    assert!(ask_tcp(&world.outside, HOST, 8081).is_some());
}

#[test]
fn a_udp_sender_that_never_pauses_follows_the_port() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    serve_udp(&world.host, 53, "host");
    serve_udp(&a.namespace, 53, "a");
    serve_udp(&b.namespace, 53, "b");
    let sender = client(&world.outside);
    assert_eq!(ask(&sender, HOST, 53), Some(format!("host {OUTSIDE}")));
    // The host's own server has the port, so it is led away without being reserved.
    let lead = |to: Ipv4Addr| {
        let forward = Forward {
            host: "0.0.0.0:53".parse().unwrap(),
            protocol: net::Protocol::Udp,
            container: (to, 53).into(),
        };
        world.net.publish(&[&world.network], &[forward]).unwrap();
    };
    lead(a.address);
    assert_eq!(ask(&sender, HOST, 53), Some(format!("a {OUTSIDE}")));
    lead(b.address);
    assert_eq!(ask(&sender, HOST, 53), Some(format!("b {OUTSIDE}")));
    world.net.publish(&[&world.network], &[]).unwrap();
    assert_eq!(ask(&sender, HOST, 53), Some(format!("host {OUTSIDE}")));
}

#[test]
fn networks_are_kept_apart() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    let other = net::Network::new("wythe1".parse().unwrap(), "10.9.0.0/24".parse().unwrap());
    world.net.ensure_network(&other).unwrap();
    world.net.publish(&[&world.network, &other], &[]).unwrap();
    let address = Ipv4Addr::new(10, 9, 0, 2);
    let b = world.net.attach(&other, &Endpoint::new("b", address)).unwrap();
    serve_tcp(&b.namespace, 80);
    serve_tcp(&world.outside, 80);
    assert!(refused_tcp(&a.namespace, address, 80));
    assert_eq!(ask_tcp(&b.namespace, OUTSIDE, 80), Some(HOST.to_string()));
    let held = world.net.reserve(&ports(&["8080:80"]), false).unwrap();
    world
        .net
        .publish(&[&world.network, &other], &[held[0].forward(address, None).unwrap()])
        .unwrap();
    assert!(ask_tcp(&a.namespace, HOST, 8080).is_some(), "what is published is for everyone");
}

#[test]
fn networks_that_cannot_be_are_refused() {
    let Some(world) = World::new() else { return };
    let network = |bridge: &str, subnet: &str| {
        net::Network::new(bridge.parse().unwrap(), subnet.parse().unwrap())
    };
    let kind = |network: &net::Network| world.net.ensure_network(network).unwrap_err().kind();
    assert_eq!(kind(&network("wythe9", "10.9.0.0/31")), ErrorKind::InvalidInput);
    let mut outside = network("wythe9", "10.9.0.0/24");
    outside.gateway = HOST;
    assert_eq!(kind(&outside), ErrorKind::InvalidInput);
    assert_eq!(kind(&network("wan0", "10.9.0.0/24")), ErrorKind::NotFound);
    let endpoint = Endpoint::new("a", Ipv4Addr::new(10, 9, 0, 2));
    let error = world.net.attach(&network("wythe9", "10.9.0.0/24"), &endpoint).unwrap_err();
    assert_eq!(error.to_string(), "there is no bridge wythe9");
}

#[test]
fn a_bridge_takes_the_address_and_the_packet_size_it_is_given() {
    let Some(mut world) = World::new() else { return };
    world.network.mtu = Some(1400);
    world.net.ensure_network(&world.network).unwrap();
    let a = world.container("a");
    assert!(sh(&a.namespace, "ip link show eth0").contains("mtu 1400"));
    assert!(sh(&world.host, "ip link show wythe0").contains("mtu 1400"));
    let moved = net::Network::new(world.network.bridge.clone(), "10.9.0.0/24".parse().unwrap());
    world.net.ensure_network(&moved).unwrap();
    let addresses = sh(&world.host, "ip -o addr show wythe0");
    assert!(addresses.contains("10.9.0.1/24") && addresses.lines().count() == 1, "{addresses}");
}

#[test]
fn a_private_namespace_has_nothing_but_loopback() {
    let Some(_world) = World::new() else { return };
    let alone = net::private_namespace().unwrap();
    serve_tcp(&alone, 80);
    assert!(ask_tcp(&alone, LOCALHOST, 80).is_some());
    assert_eq!(sh(&alone, "ip route"), "");
}

#[test]
#[expect(clippy::print_stderr, reason = "the measurement is for people")]
fn two_hundred_endpoints_can_be_attached() {
    const COUNT: usize = 200;
    let Some(world) = World::new() else { return };
    let start = Instant::now();
    let all: Vec<_> = (0..COUNT).map(|n| world.container(&format!("endpoint {n}"))).collect();
    let attached = start.elapsed();
    let specs: Vec<_> = (0..COUNT).map(|n| format!("{}:80", 20_000 + n)).collect();
    let specs: Vec<_> = specs.iter().map(String::as_str).collect();
    let held = world.net.reserve(&ports(&specs), false).unwrap();
    let pairs = held.iter().zip(&all);
    let forwards: Vec<_> = pairs.filter_map(|(port, to)| port.forward(to.address, None)).collect();
    let start = Instant::now();
    for count in 1..=COUNT {
        world.net.publish(&[&world.network], &forwards[..count]).unwrap();
    }
    let published = start.elapsed();
    for (n, container) in all.iter().enumerate().step_by(67) {
        serve_tcp(&container.namespace, 80);
        let port = u16::try_from(20_000 + n).unwrap();
        assert!(ask_tcp(&world.outside, HOST, port).is_some());
    }
    let start = Instant::now();
    world.net.remove_everything(&[&world.network]).unwrap();
    eprintln!(
        "{COUNT}: attached {attached:?}, published {published:?}, removed {:?}",
        start.elapsed()
    );
    assert_eq!(world.rules(), "");
}
