//! The default bridge in a network namespace that plays the host. Needs root.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use sys::netns;

use super::*;

fn id(byte: u8) -> ContainerId {
    ContainerId::from_random([byte; 32])
}

fn port(host_port: Option<u16>) -> PortRequest {
    PortRequest {
        container_port: 80,
        protocol: Protocol::Tcp,
        host_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host_port,
        host_port_end: None,
    }
}

/// A host of its own, and what its links are called.
struct Stage {
    host: OwnedFd,
}

impl Stage {
    fn new() -> Stage {
        let host = net::private_namespace().unwrap();
        Stage { host }
    }

    /// What a daemon of this host has.
    fn networks(&self) -> HostNetworks {
        self.networks_of("wythe0")
    }

    fn networks_of(&self, bridge: &str) -> HostNetworks {
        let host = self.host.try_clone().unwrap();
        HostNetworks::new(bridge.parse().unwrap(), Ipv6::Auto, Some(host), None)
    }

    fn tables(&self) -> usize {
        let Some(nft) = testkit::need::tool("nft") else { return 0 };
        let list = || std::process::Command::new(nft).args(["list", "tables"]).output();
        let output = netns::run(self.host.as_fd(), list).unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("table ip "))
            .count()
    }

    fn links(&self) -> Vec<String> {
        let list = || {
            let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
            let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
            Ok(names.map(|(name, _)| name.trim().to_owned()).collect())
        };
        netns::run(self.host.as_fd(), list).unwrap()
    }

    /// Whether somebody else can have this port.
    fn free(&self, port: u16) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        netns::run(self.host.as_fd(), || Ok(TcpListener::bind(address).is_ok())).unwrap()
    }
}

#[test]
fn the_bridge_comes_with_the_first_and_goes_after_the_last() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let networks = stage.networks();
    networks.adopt(&[]).unwrap();
    assert_eq!(stage.links(), ["lo"]);
    let one = networks.attach(&id(1), &[port(Some(8080))]).unwrap();
    let two = networks.attach(&id(2), &[port(None)]).unwrap();
    assert_ne!(one.view.address, two.view.address);
    assert_eq!(one.view.ports[0].host_port, 8080);
    assert!(two.view.ports[0].host_port > 0 && !stage.free(8080));
    assert_eq!(stage.links().len(), 6, "lo, the bridge, two cables and the gate");
    networks.remove_unused().unwrap();
    assert_eq!(stage.links().len(), 6, "it is used");
    let taken = networks.attach(&id(3), &[port(Some(8080))]).unwrap_err();
    assert_eq!(taken.kind(), base::ErrorKind::Conflict, "{taken}");
    for byte in [1, 2, 2, 3] {
        networks.detach(&id(byte)).unwrap();
    }
    assert!(stage.free(8080));
    networks.remove_unused().unwrap();
    assert_eq!(stage.links(), ["lo"]);
    // And all over again.
    networks.attach(&id(1), &[]).unwrap();
    assert!(stage.links().contains(&"wythe0".to_owned()));
}

#[test]
fn a_new_daemon_knows_the_leases_and_ports_of_the_old_one() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let networks = stage.networks();
    let one = networks.attach(&id(1), &[port(Some(8080))]).unwrap();
    drop(networks);
    let networks = stage.networks();
    networks.adopt(&[(id(1), one.view.clone())]).unwrap();
    assert!(!stage.free(8080), "the port is held again");
    let two = networks.attach(&id(2), &[]).unwrap();
    assert_ne!(one.view.address, two.view.address);
    assert_eq!(one.view.gateway, two.view.gateway);
    drop(networks);
    // Nothing runs any more: whatever is left of it goes.
    stage.networks().adopt(&[]).unwrap();
    assert_eq!(stage.links(), ["lo"]);
}

#[test]
fn a_bridge_that_somebody_removed_is_made_anew() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let networks = stage.networks();
    let one = networks.attach(&id(1), &[]).unwrap();
    let vandal = Host::open(Some(stage.host.as_fd())).unwrap();
    let network = networks.network_of(&one.view).unwrap();
    vandal.remove_everything(&[&network]).unwrap();
    let two = networks.attach(&id(2), &[]).unwrap();
    assert_eq!(one.view.gateway, two.view.gateway);
    assert!(stage.links().contains(&"wythe0".to_owned()));
}

#[test]
fn two_daemons_do_not_take_each_others_network_away() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let first = stage.networks();
    first.attach(&id(1), &[]).unwrap();
    let second = stage.networks();
    second.adopt(&[]).unwrap();
    assert!(stage.links().contains(&"wythe0".to_owned()));
    let refused = second.attach(&id(2), &[]).unwrap_err();
    assert_eq!(refused.kind(), base::ErrorKind::Conflict);
    second.remove_unused().unwrap();
    assert!(stage.links().contains(&"wythe0".to_owned()));
    drop(first);
    second.adopt(&[]).unwrap();
    assert_eq!(stage.links(), ["lo"]);
}

#[test]
fn daemons_with_other_bridges_live_side_by_side() {
    if !testkit::need::root() || testkit::need::tool("nft").is_none() {
        return;
    }
    let stage = Stage::new();
    let (one, two) = (stage.networks(), stage.networks_of("wy-other"));
    let first = one.attach(&id(1), &[port(Some(8080))]).unwrap();
    let second = two.attach(&id(2), &[port(Some(8081))]).unwrap();
    assert_ne!(first.view.gateway, second.view.gateway);
    assert_eq!(stage.tables(), 2);
    two.detach(&id(2)).unwrap();
    two.remove_unused().unwrap();
    assert_eq!(stage.tables(), 1);
    assert!(stage.links().contains(&"wythe0".to_owned()));
}
