//! Gateway modes: how others reach a network's addresses.

use std::{net::Ipv4Addr, os::fd::OwnedFd};

use net::{Endpoint, GatewayMode, Ipv6Net, Network, Reservation};

use crate::{
    ports,
    world::{
        HOST, HOST6, OUTSIDE, OUTSIDE6, World, ask, ask_tcp, client, refused_tcp, serve_tcp,
        serve_udp, sh,
    },
};

const ONE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 12);

/// A network beside the world's own, to which somebody outside has routes.
fn network(world: &World, mode: GatewayMode) -> Network {
    let network = Network {
        ipv6: Some("2001:db8:77::/64".parse::<Ipv6Net>().unwrap()),
        mode,
        mode6: mode,
        internal: mode == GatewayMode::Isolated,
        ..Network::new("wythe7".parse().unwrap(), "10.77.0.0/24".parse().unwrap())
    };
    world.net.ensure_network(&network).unwrap();
    world.net.publish(&[&world.network, &network], &[]).unwrap();
    sh(&world.outside, &format!("ip route add 10.77.0.0/24 via {HOST}"));
    sh(&world.outside, &format!("ip -6 route add 2001:db8:77::/64 via {HOST6}"));
    network
}

fn attach(world: &World, network: &Network, id: &str, address: Ipv4Addr) -> OwnedFd {
    world.net.attach(network, &Endpoint::new(id, address)).unwrap().namespace
}

#[test]
fn routed_containers_have_their_own_addresses_everywhere() {
    let Some(world) = World::new() else { return };
    let network = network(&world, GatewayMode::Routed);
    let one = attach(&world, &network, "1", ONE);
    let six = network.ipv6_of(ONE).unwrap();
    let neighbour = world.container("n");
    serve_tcp(&one, 80);
    serve_tcp(&one, 81);
    serve_udp(&world.outside, 53, "dns");
    assert_eq!(ask(&client(&one), OUTSIDE, 53), Some(format!("dns {ONE}")), "untranslated");
    assert!(refused_tcp(&world.outside, ONE, 80));
    let held = world.net.reserve_on(&network, &ports(&["8080:80"])).unwrap();
    assert!(held.iter().all(|one| one.host().port() == 0) && held.len() == 2);
    let lead = |held: &[Reservation]| {
        let forwards: Vec<_> = held.iter().filter_map(|one| one.forward(ONE, Some(six))).collect();
        world.net.publish(&[&world.network, &network], &forwards).unwrap();
    };
    lead(&held);
    assert_eq!(ask_tcp(&world.outside, ONE, 80), Some(OUTSIDE.to_string()));
    assert_eq!(ask_tcp(&world.outside, six, 80), Some(OUTSIDE6.to_string()));
    assert_eq!(ask_tcp(&neighbour.namespace, ONE, 80), Some(neighbour.address.to_string()));
    for from in [&world.outside, &neighbour.namespace] {
        assert!(refused_tcp(from, ONE, 81), "it is not published");
    }
    assert!(refused_tcp(&world.outside, HOST, 8080), "no port of the host's is taken");
    if let Some(busybox) = testkit::need::tool("busybox") {
        sh(&world.outside, &format!("{} ping -c1 -W2 {ONE}", busybox.display()));
    }
    assert!(world.net.faults(&network, &["1"]).unwrap().is_empty());
    lead(&[]);
    assert!(refused_tcp(&world.outside, ONE, 80), "it is published no more");
}

#[test]
fn unprotected_containers_are_reached_by_whoever_has_a_route_from_beyond() {
    let Some(world) = World::new() else { return };
    let network = network(&world, GatewayMode::NatUnprotected);
    let one = attach(&world, &network, "1", ONE);
    let neighbour = world.container("n");
    serve_tcp(&one, 81);
    serve_udp(&world.outside, 53, "dns");
    assert_eq!(ask(&client(&one), OUTSIDE, 53), Some(format!("dns {HOST}")), "translated");
    assert_eq!(ask_tcp(&world.outside, ONE, 81), Some(OUTSIDE.to_string()));
    let six = network.ipv6_of(ONE).unwrap();
    assert_eq!(ask_tcp(&world.outside, six, 81), Some(OUTSIDE6.to_string()));
    assert!(refused_tcp(&neighbour.namespace, ONE, 81), "networks of this host are apart");
    assert!(refused_tcp(&world.outside, neighbour.address, 81), "the others are as they were");
}

#[test]
fn isolated_containers_have_each_other_and_not_the_host() {
    let Some(world) = World::new() else { return };
    let network = network(&world, GatewayMode::Isolated);
    let (one, two) = (attach(&world, &network, "1", ONE), attach(&world, &network, "2", TWO));
    assert_eq!(sh(&world.host, "ip -o addr show dev wythe7"), "");
    serve_tcp(&two, 80);
    serve_tcp(&world.host, 81);
    assert_eq!(ask_tcp(&one, TWO, 80), Some(ONE.to_string()));
    let six = network.ipv6_of(TWO).unwrap();
    assert!(ask_tcp(&one, six, 80).is_some());
    assert!(refused_tcp(&world.host, TWO, 80) && refused_tcp(&one, network.gateway, 81));
    world.net.ensure_network(&network).unwrap();
    assert!(world.net.faults(&network, &["1", "2"]).unwrap().is_empty());
    sh(&world.host, "ip addr add 10.77.0.1/24 dev wythe7");
    world.net.ensure_network(&network).unwrap();
    assert_eq!(sh(&world.host, "ip -o addr show dev wythe7"), "", "nor gets one");
}
