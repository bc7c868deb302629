//! Networks on a link of the host: `wan0`, whose other end is somebody outside.

use std::{net::Ipv4Addr, os::fd::AsFd as _, os::fd::OwnedFd};

use base::ErrorKind;
use net::{Endpoint, Fault, Host, Ipv6Net, Macvlan, MacvlanMode, Network, NetworkError};

use crate::world::{
    HOST, OUTSIDE, OUTSIDE6, World, ask, ask_tcp, client, refused_tcp, serve_tcp, serve_udp, sh,
};

/// A network of the addresses that are on the wire.
fn on(parent: Option<&str>, mode: MacvlanMode) -> Network {
    let parent = parent.map(|name| name.parse().unwrap());
    Network {
        gateway: OUTSIDE,
        ipv6: Some("2001:db8::/64".parse::<Ipv6Net>().unwrap()),
        gateway6: Some(OUTSIDE6),
        macvlan: Some(Macvlan { parent, mode }),
        ..Network::new("wyb000011112222".parse().unwrap(), "198.51.100.0/24".parse().unwrap())
    }
}

const ONE: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
const TWO: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 12);

fn attach(world: &World, network: &Network, id: &str, address: Ipv4Addr) -> OwnedFd {
    world.net.ensure_network(network).unwrap();
    let endpoint = Endpoint::new(id, address);
    world.net.attach(network, &endpoint).unwrap().namespace
}

#[test]
fn containers_are_neighbours_of_each_other_and_of_the_world() {
    let Some(world) = World::new() else { return };
    let network = on(Some("wan0"), MacvlanMode::Bridge);
    let before = world.rules();
    let (one, two) = (attach(&world, &network, "1", ONE), attach(&world, &network, "2", TWO));
    serve_tcp(&two, 80);
    serve_udp(&world.outside, 53, "dns");
    assert_eq!(ask_tcp(&one, TWO, 80), Some(ONE.to_string()));
    assert_eq!(ask_tcp(&world.outside, TWO, 80), Some(OUTSIDE.to_string()));
    let six = network.ipv6_of(TWO).unwrap();
    assert_eq!(ask_tcp(&one, six, 80), network.ipv6_of(ONE).map(|ip| ip.to_string()));
    // Nobody translates, and what goes elsewhere goes by the gateway that was named.
    assert_eq!(ask(&client(&one), OUTSIDE, 53), Some(format!("dns {ONE}")));
    sh(&world.outside, "ip addr add 192.0.2.1/32 dev lo && ip link set lo up");
    assert_eq!(ask(&client(&one), Ipv4Addr::new(192, 0, 2, 1), 53), Some(format!("dns {ONE}")));
    // The host itself is no part of it, by the nature of macvlan.
    serve_tcp(&world.host, 81);
    assert!(refused_tcp(&one, HOST, 81));
    world.net.publish(&[&world.network, &network], &[]).unwrap();
    assert_eq!(world.rules(), before, "no rule speaks of it");
    assert!(world.net.faults(&network, &["1", "2"]).unwrap().is_empty());
}

#[test]
fn in_private_mode_containers_reach_the_world_and_not_each_other() {
    let Some(world) = World::new() else { return };
    let network = on(Some("wan0"), MacvlanMode::Private);
    let (one, two) = (attach(&world, &network, "1", ONE), attach(&world, &network, "2", TWO));
    serve_tcp(&two, 80);
    assert_eq!(ask_tcp(&world.outside, TWO, 80), Some(OUTSIDE.to_string()));
    assert!(refused_tcp(&one, TWO, 80));
}

#[test]
fn a_parent_in_passthru_is_one_containers_alone() {
    let Some(world) = World::new() else { return };
    let network = on(Some("wan0"), MacvlanMode::Passthru);
    let one = attach(&world, &network, "1", ONE);
    // A server in it would keep its namespace.
    serve_tcp(&world.outside, 80);
    assert_eq!(ask_tcp(&one, OUTSIDE, 80), Some(ONE.to_string()));
    let second = world.net.attach(&network, &Endpoint::new("2", TWO)).unwrap_err();
    assert!(second.to_string().contains("parent interface wan0"), "{second}");
    assert_eq!(second.kind(), ErrorKind::Conflict);
    // Whoever comes at once after it has gone waits for the kernel to let go of its link.
    drop(one);
    attach(&world, &network, "2", TWO);
}

#[test]
fn an_address_is_anothers_as_soon_as_its_container_has_gone() {
    let Some(world) = World::new() else { return };
    let network = on(Some("wan0"), MacvlanMode::Bridge);
    serve_udp(&world.outside, 53, "dns");
    for id in ["1", "2", "3"] {
        let one = attach(&world, &network, id, ONE);
        assert_eq!(ask(&client(&one), OUTSIDE, 53), Some(format!("dns {ONE}")), "{id}");
        drop(one);
    }
}

#[test]
fn a_network_without_a_parent_leads_nowhere_and_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let network = on(None, MacvlanMode::Bridge);
    let links = |host: &OwnedFd| sh(host, "ip -o link").lines().count();
    let before = links(&world.host);
    let (one, two) = (attach(&world, &network, "1", ONE), attach(&world, &network, "2", TWO));
    assert_eq!(links(&world.host), before + 2, "a cable, and nothing for each container");
    serve_tcp(&two, 80);
    assert_eq!(ask_tcp(&one, TWO, 80), Some(ONE.to_string()));
    assert!(refused_tcp(&world.outside, TWO, 80) && refused_tcp(&one, OUTSIDE, 80));
    assert_eq!(world.net.links_like("wyb0000").unwrap(), ["wyb000011112222".parse().unwrap()]);
    world.net.remove_network(&network).unwrap();
    assert_eq!(links(&world.host), before);
}

#[test]
fn one_that_runs_is_connected_and_disconnected() {
    let Some(world) = World::new() else { return };
    let network = on(Some("wan0"), MacvlanMode::Bridge);
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    assert!(refused_tcp(&world.outside, ONE, 80));
    let endpoint = Endpoint {
        interface: 1,
        leads_out: false,
        namespace: Some(a.namespace.as_fd()),
        ..Endpoint::new("a.net", ONE)
    };
    world.net.attach(&network, &endpoint).unwrap();
    assert_eq!(ask_tcp(&world.outside, ONE, 80), Some(OUTSIDE.to_string()));
    assert_eq!(ask_tcp(&world.host, a.address, 80), Some(world.network.gateway.to_string()));
    world.net.pull_out(a.namespace.as_fd(), 1).unwrap();
    world.net.pull_out(a.namespace.as_fd(), 1).unwrap();
    assert!(refused_tcp(&world.outside, ONE, 80));
    assert_eq!(ask_tcp(&world.host, a.address, 80), Some(world.network.gateway.to_string()));
}

#[test]
fn what_cannot_be_a_parent_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    let refused = |parent: &str| {
        let network = on(Some(parent), MacvlanMode::Bridge);
        let made = world.net.ensure_network(&network);
        made.and_then(|()| world.net.attach(&network, &Endpoint::new("1", ONE)).map(drop))
    };
    let none = refused("nosuch0").unwrap_err();
    assert!(matches!(none, NetworkError::NoParent(_)), "{none}");
    assert!(none.to_string().contains("nosuch0"), "{none}");
    let below = refused("nosuch0.50").unwrap_err();
    assert!(below.to_string().contains("nosuch0 is not on this host"), "{below}");
    sh(&world.host, "ip link add br7 type bridge && ip link set wan0 master br7");
    let port = refused("wan0").unwrap_err();
    assert!(port.to_string().contains("wan0") && port.to_string().contains("bridge"), "{port}");
}

#[test]
fn an_802_1q_link_is_made_and_goes_and_anothers_stays() {
    let Some(world) = World::new() else { return };
    let tagged = on(Some("wan0.50"), MacvlanMode::Bridge);
    let there = |name: &str| sh(&world.host, "ip -o link").contains(&format!(" {name}"));
    match world.net.ensure_network(&tagged) {
        Ok(()) => {
            assert!(sh(&world.host, "ip -d link show wan0.50").contains("802.1Q id 50"));
            attach(&world, &tagged, "1", ONE);
            world.net.remove_network(&tagged).unwrap();
        }
        // Not every kernel has them.
        Err(error) => {
            assert!(error.to_string().contains("802.1Q") && error.to_string().contains("wan0.50"));
        }
    }
    assert!(!there("wan0.50@"));
    // One that somebody else has made is his.
    sh(&world.host, "ip link add name wan0.50 type veth peer name wan1 && ip link set wan0.50 up");
    sh(&world.host, "ip link set wan1 up");
    attach(&world, &tagged, "1", ONE);
    world.net.remove_network(&tagged).unwrap();
    assert!(there("wan0.50@"));
}

#[test]
fn a_parent_that_is_gone_or_down_is_found() {
    let Some(world) = World::new() else { return };
    let network = on(Some("wan0"), MacvlanMode::Bridge);
    let own = on(None, MacvlanMode::Bridge);
    let found = |net: &Host, network: &Network| net.faults(network, &[]).unwrap();
    assert!(found(&world.net, &network).is_empty());
    sh(&world.host, "ip link set wan0 down");
    assert_eq!(found(&world.net, &network), [Fault::ParentDown("wan0".parse().unwrap())]);
    sh(&world.host, "ip link del wan0");
    assert_eq!(found(&world.net, &network), [Fault::Parent("wan0".parse().unwrap())]);
    let gone = world.net.restore(&network, &[], &[], &[]).unwrap_err();
    assert!(matches!(gone, NetworkError::NoParent(_)), "{gone}");
    assert_eq!(found(&world.net, &own).len(), 1);
    world.net.restore(&own, &[], &[], &[]).unwrap();
    assert!(found(&world.net, &own).is_empty(), "what is ours is made anew");
}
