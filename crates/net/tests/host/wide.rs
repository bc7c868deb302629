//! A network of more endpoints than a bridge has ports.

use net::{Endpoint, Fault, Host};

use crate::world::{Container, OUTSIDE, World, ask_tcp, refused_tcp, serve_tcp, sh};

/// Ports of a bridge.
const PORTS: usize = 1023;

/// Takes all ports of the first bridge but so many.
fn fill(world: &World, left: usize) {
    let taken = PORTS - left;
    let (pairs, one) = (taken / 2, taken % 2);
    let script = format!(
        "{{ for i in $(seq {pairs}); do \
         echo link add c$i master wythe0 type veth peer d$i; \
         echo link set d$i master wythe0; done; \
         [ {one} = 0 ] || echo link add c0 master wythe0 type veth peer d0; }} | ip -batch -"
    );
    sh(&world.host, &script);
}

/// Four containers and somebody outside, who all serve. Two find room on the first bridge; the third
/// makes the branch.
fn four(world: &World) -> [Container; 4] {
    fill(world, 2);
    serve_tcp(&world.outside, 81);
    ["a", "b", "c", "d"].map(|id| {
        let container = world.container(id);
        serve_tcp(&container.namespace, 80);
        container
    })
}

fn all_reach(from: &Container, others: &[&Container]) {
    for other in others {
        assert_eq!(ask_tcp(&from.namespace, other.address, 80), Some(from.address.to_string()));
        assert_eq!(ask_tcp(&from.namespace, other.address6, 80), Some(from.address6.to_string()));
    }
}

#[test]
fn a_full_bridge_branches_and_stays_one_network() {
    let Some(world) = World::new() else { return };
    let [a, b, c, d] = four(&world);
    let everybody = [&a, &b, &c, &d];
    everybody.iter().for_each(|one| all_reach(one, &everybody));
    for one in everybody {
        assert!(ask_tcp(&one.namespace, OUTSIDE, 81).is_some());
    }
    // A spare on the branch is one like any other.
    world.net.prepare(&world.network).unwrap();
    let e = world.container("e");
    all_reach(&e, &everybody);
    let ids = ["a", "b", "c", "d", "e"];
    let faults = || world.net.faults(&world.network, &ids).unwrap();
    assert_eq!(faults(), []);

    // The trunk, then the branch itself, then the first bridge are lost.
    let links = || sh(&world.host, "ip -o link show | sed 's/^[0-9]*: //; s/[@:].*//'");
    let named = |prefix: &str, kind: &str| {
        let of_kind = sh(&world.host, &format!("ip -o link show type {kind}"));
        let names = of_kind.lines().filter_map(|line| line.split([' ', '@', ':']).nth(2));
        names.filter(|name| name.starts_with(prefix)).map(str::to_owned).collect::<Vec<_>>()
    };
    let [branch] = named("wythe-b", "bridge").try_into().unwrap();
    let [far] = named("wythe-b", "veth").try_into().unwrap();
    for lost in [&far, &branch, "wythe0"] {
        sh(&world.host, &format!("ip link del {lost}"));
        assert!(!faults().is_empty(), "{lost}");
        if lost == "wythe0" {
            // What others had plugged in is theirs to plug in again.
            sh(&world.host, "for i in $(seq 0 510); do echo link del d$i; done | ip -batch -");
        }
        world.net.restore(&world.network, &ids, &[&world.network], &[]).unwrap();
        assert_eq!(faults(), [], "{lost}");
        everybody.iter().for_each(|one| all_reach(one, &everybody));
    }

    // Another daemon finds the same network, and removes all of it.
    let other = Host::open(Some(std::os::fd::AsFd::as_fd(&world.host))).unwrap();
    assert_eq!(other.faults(&world.network, &ids).unwrap(), [] as [Fault; 0]);
    other.remove_network(&world.network).unwrap();
    assert!(!links().lines().any(|name| name.starts_with('w') && name != "wan0"), "{}", links());
}

#[test]
fn endpoints_that_are_kept_apart_are_so_on_all_branches() {
    let Some(mut world) = World::new() else { return };
    world.network.apart = true;
    world.net.publish(&[&world.network], &[]).unwrap();
    let [a, b, c, d] = four(&world);
    for (one, other) in [(&a, &b), (&a, &c), (&c, &a), (&c, &d), (&d, &b)] {
        assert!(refused_tcp(&one.namespace, other.address, 80));
    }
    for one in [&a, &b, &c, &d] {
        assert!(ask_tcp(&one.namespace, OUTSIDE, 81).is_some());
    }
}

#[test]
fn a_bridge_that_others_have_filled_is_said_to_be_full() {
    let Some(world) = World::new() else { return };
    fill(&world, 0);
    let address = world.network.subnet.address().to_bits() + 9;
    let refused = world.net.attach(&world.network, &Endpoint::new("a", address.into()));
    assert_eq!(refused.unwrap_err().kind(), base::ErrorKind::Exhausted);
    let links = sh(&world.host, "ip -o link show");
    assert_eq!(links.matches(": w").count(), 2, "bridge and wire: {links}");
}
