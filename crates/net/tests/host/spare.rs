//! The spare: the next endpoint's place, made before anybody asks.

use std::{os::fd::OwnedFd, thread::sleep, time::Duration};

use net::Endpoint;

use crate::world::{World, ask_tcp, serve_tcp, sh};

/// Within this time the second report follows the first (RFC 3810, section 9.11).
const REPORTS: Duration = Duration::from_millis(1200);

/// The ports of the bridge.
fn ports(world: &World) -> Vec<String> {
    let list = sh(&world.host, "ip -o link show master wythe0");
    list.lines().filter_map(|line| Some(line.split([' ', '@']).nth(1)?.to_owned())).collect()
}

#[test]
fn a_spare_becomes_the_next_endpoint() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    world.net.prepare(&world.network).unwrap();
    world.net.prepare(&world.network).unwrap();
    assert_eq!(ports(&world).len(), 2, "one endpoint and one spare");
    assert_eq!(world.net.cables(&world.network.bridge).unwrap().len(), 1, "a spare is nobody's");
    let b = world.container("b");
    assert_eq!(ports(&world).len(), 2, "the spare is taken");
    assert_eq!(world.net.cables(&world.network.bridge).unwrap().len(), 2);
    serve_tcp(&b.namespace, 80);
    assert_eq!(ask_tcp(&a.namespace, b.address, 80), Some(a.address.to_string()));
    assert_eq!(ask_tcp(&a.namespace, b.address6, 80), Some(a.address6.to_string()));
    let [c, d, e, f] = b.address.octets();
    let mac = format!("02:42:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
    assert!(sh(&b.namespace, "ip link show eth0").contains(&mac));
    world.net.detach("b").unwrap();
    assert_eq!(ports(&world).len(), 1);
}

#[test]
fn a_spare_replaces_what_is_left_of_the_same_endpoint() {
    let Some(world) = World::new() else { return };
    let old = world.container("a");
    world.net.prepare(&world.network).unwrap();
    let new = world.container("a");
    assert!(sh(&old.namespace, "ip -o link").lines().all(|line| !line.contains("eth0")));
    serve_tcp(&new.namespace, 80);
    assert!(ask_tcp(&world.host, new.address, 80).is_some());
}

#[test]
fn a_spare_whose_bridge_is_another_is_not_taken() {
    let Some(world) = World::new() else { return };
    world.net.prepare(&world.network).unwrap();
    sh(&world.host, "ip link del wythe0");
    let endpoint = Endpoint::new("a", world.network.gateway);
    assert!(world.net.attach(&world.network, &endpoint).is_err(), "there is no bridge");
    world.net.ensure_network(&world.network).unwrap();
    world.net.prepare(&world.network).unwrap();
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    assert!(ask_tcp(&world.host, a.address, 80).is_some());
}

#[test]
fn a_spare_goes_with_its_network() {
    let Some(world) = World::new() else { return };
    world.net.prepare(&world.network).unwrap();
    world.net.remove_everything(&[&world.network]).unwrap();
    assert!(world.net.prepare(&world.network).is_err());
    assert!(!sh(&world.host, "ip -o link").contains("wythe0"));
    assert_eq!(world.rules(), "");
}

#[test]
fn a_container_tells_nobody_what_it_listens_to() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    let count = |of: &OwnedFd, what: &str| {
        let line = sh(of, &format!("grep '{what} ' /proc/net/snmp6"));
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    // The bridge, which is a host of its own, says what it listens to when its first port is there.
    let quiet = || {
        let before = count(&a.namespace, "Ip6InMcastPkts");
        sleep(REPORTS);
        (count(&a.namespace, "Ip6InMcastPkts") == before).then_some(before)
    };
    let before = (0..10).find_map(|_| quiet()).expect("silence");
    let b = world.container("b");
    sleep(REPORTS);
    assert!(count(&b.namespace, "Icmp6OutMLDv2Reports") > 0, "it reports");
    assert_eq!(count(&a.namespace, "Ip6InMcastPkts"), before, "and nobody hears it");
}
