//! A machine on a network, played by a namespace behind a second tap device.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
    thread,
};

use net::machine::{Cables, hand_over, set_cables, take_over};
use sys::{netns, tap};

use crate::world::{World, ask_tcp, serve_tcp, sh};

/// Longest frame of the test, with its header.
const FRAME_MAX: usize = 70_000;

/// Carries frames both ways, until one of the devices has gone.
fn connect(one: OwnedFd, other: OwnedFd) {
    for (from, to) in [(&one, &other), (&other, &one)] {
        let mut from = File::from(from.try_clone().unwrap());
        let mut to = File::from(to.try_clone().unwrap());
        thread::spawn(move || {
            let mut frame = vec![0; FRAME_MAX];
            while let Ok(bytes) = from.read(&mut frame) {
                // A device that is not up yet takes nothing.
                let _ = to.write(&frame[..bytes]);
            }
        });
    }
}

#[test]
fn a_machine_takes_a_containers_place_on_its_network() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    let (inside, ()) = netns::create(|| Ok(())).unwrap();
    let far = netns::run(inside.as_fd(), || tap::open("eth0")).unwrap();
    let mac = sh(&b.namespace, "cat /sys/class/net/eth0/address 2>/dev/null; ip -o link show eth0");

    let [(interface, near)] = <[_; 1]>::try_from(hand_over(b.namespace.as_fd()).unwrap()).unwrap();
    assert_eq!(interface.name.as_str(), "eth0");
    assert_eq!(interface.gateways.len(), 2, "one of each family: {interface:?}");
    for address in [IpAddr::from(b.address), b.address6.into()] {
        assert!(interface.addresses.iter().any(|(one, _)| *one == address), "{interface:?}");
    }
    let said: Vec<_> = interface.mac.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(mac.contains(&said.join(":")), "{mac}");
    assert!(!sh(&b.namespace, "ip -o addr show dev eth0").contains("inet"), "it gave them away");

    connect(near, far);
    netns::run(inside.as_fd(), || Ok(take_over(0, &interface))).unwrap().unwrap();
    serve_tcp(&inside, 80);
    serve_tcp(&a.namespace, 81);
    let ways: [(IpAddr, IpAddr); 2] =
        [(b.address.into(), a.address.into()), (b.address6.into(), a.address6.into())];
    for (to, from) in ways {
        assert_eq!(ask_tcp(&a.namespace, to, 80), Some(from.to_string()));
    }
    assert_eq!(ask_tcp(&inside, a.address, 81), Some(b.address.to_string()));
    let gateway = world.network.gateway;
    serve_tcp(&world.host, 82);
    assert_eq!(ask_tcp(&inside, gateway, 82), Some(b.address.to_string()));
}

#[test]
fn a_machine_that_was_copied_takes_another_place_once_it_is_connected() {
    let Some(world) = World::new() else { return };
    let (a, b, c) = (world.container("a"), world.container("b"), world.container("c"));
    let (inside, ()) = netns::create(|| Ok(())).unwrap();
    let far = netns::run(inside.as_fd(), || tap::open("eth0")).unwrap();
    let handed =
        |namespace: &OwnedFd| <[_; 1]>::try_from(hand_over(namespace.as_fd()).unwrap()).unwrap();
    let ([(first, _near)], [(own, near)]) = (handed(&b.namespace), handed(&c.namespace));
    set_cables(c.namespace.as_fd(), 1, Cables::Cut).unwrap();
    assert!(!sh(&c.namespace, "ip -o link show tap0").contains(",UP"), "it is cut");
    connect(near, far);
    for interface in [&first, &own] {
        netns::run(inside.as_fd(), || Ok(take_over(0, interface))).unwrap().unwrap();
    }
    set_cables(c.namespace.as_fd(), 1, Cables::Connected).unwrap();
    let shown = sh(&inside, "ip -o addr show dev eth0");
    for (gone, has) in
        [(IpAddr::from(b.address), IpAddr::from(c.address)), (b.address6.into(), c.address6.into())]
    {
        assert!(!shown.contains(&format!(" {gone}/")), "{shown}");
        assert!(shown.contains(&format!(" {has}/")), "{shown}");
    }
    serve_tcp(&inside, 80);
    serve_tcp(&a.namespace, 81);
    assert_eq!(ask_tcp(&a.namespace, c.address, 80), Some(a.address.to_string()));
    assert_eq!(ask_tcp(&inside, a.address, 81), Some(c.address.to_string()));
    assert_eq!(ask_tcp(&inside, a.address6, 81), Some(c.address6.to_string()));
}

#[test]
fn what_is_no_cable_is_refused_by_name() {
    let Some(world) = World::new() else { return };
    let b = world.container("b");
    sh(&b.namespace, "ip link add other0 type bridge");
    let refused = hand_over(b.namespace.as_fd()).unwrap_err().to_string();
    assert!(refused.contains("other0"), "{refused}");
    assert!(sh(&b.namespace, "ip -o addr show dev eth0").contains("inet"), "nothing was taken");
}
