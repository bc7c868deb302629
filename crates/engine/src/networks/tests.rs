//! The default bridge in a network namespace that plays the host. Needs root.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    time::Duration,
};

use sys::netns;

use super::*;

mod made;

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

/// A place on the default network.
fn default(ports: &[PortRequest]) -> Joining {
    Joining { ports: ports.to_vec(), ..joining(&[("bridge", EndpointRequest::default())]) }
}

fn joining(endpoints: &[(&str, EndpointRequest)]) -> Joining {
    let own = |(name, request): &(&str, EndpointRequest)| ((*name).to_owned(), request.clone());
    Joining {
        name: "web".to_owned(),
        endpoints: endpoints.iter().map(own).collect(),
        ..Joining::default()
    }
}

fn known(byte: u8, attached: &Attached) -> Known {
    Known { id: id(byte), name: "web".to_owned(), view: attached.view.clone() }
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
    let one = networks.attach(&id(1), &default(&[port(Some(8080))])).unwrap();
    let two = networks.attach(&id(2), &default(&[port(None)])).unwrap();
    assert_ne!(one.view.address, two.view.address);
    assert_eq!(one.view.ports[0].host_port, 8080);
    assert!(two.view.ports[0].host_port > 0 && !stage.free(8080));
    assert_eq!(stage.links().len(), 6, "lo, the bridge, two cables and the gate");
    networks.remove_unused().unwrap();
    assert_eq!(stage.links().len(), 6, "it is used");
    let taken = networks.attach(&id(3), &default(&[port(Some(8080))])).unwrap_err();
    assert_eq!(taken.kind(), base::ErrorKind::Conflict, "{taken}");
    for byte in [1, 2, 2, 3] {
        networks.detach(&id(byte)).unwrap();
    }
    assert!(stage.free(8080));
    networks.remove_unused().unwrap();
    assert_eq!(stage.links(), ["lo"]);
    // And all over again.
    networks.attach(&id(1), &default(&[])).unwrap();
    assert!(stage.links().contains(&"wythe0".to_owned()));
}

#[test]
fn a_new_daemon_knows_the_leases_and_ports_of_the_old_one() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let networks = stage.networks();
    let one = networks.attach(&id(1), &default(&[port(Some(8080))])).unwrap();
    drop(networks);
    let networks = stage.networks();
    networks.adopt(&[known(1, &one)]).unwrap();
    assert!(!stage.free(8080), "the port is held again");
    let two = networks.attach(&id(2), &default(&[])).unwrap();
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
    let one = networks.attach(&id(1), &default(&[])).unwrap();
    let vandal = Host::open(Some(stage.host.as_fd())).unwrap();
    let network = networks.network_of(&one.view).unwrap();
    vandal.remove_everything(&[&network]).unwrap();
    let two = networks.attach(&id(2), &default(&[])).unwrap();
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
    first.attach(&id(1), &default(&[])).unwrap();
    let second = stage.networks();
    second.adopt(&[]).unwrap();
    assert!(stage.links().contains(&"wythe0".to_owned()));
    let refused = second.attach(&id(2), &default(&[])).unwrap_err();
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
    let first = one.attach(&id(1), &default(&[port(Some(8080))])).unwrap();
    let second = two.attach(&id(2), &default(&[port(Some(8081))])).unwrap();
    assert_ne!(first.view.gateway, second.view.gateway);
    assert_eq!(stage.tables(), 2);
    two.detach(&id(2)).unwrap();
    two.remove_unused().unwrap();
    assert_eq!(stage.tables(), 1);
    assert!(stage.links().contains(&"wythe0".to_owned()));
}

fn named(name: &str) -> NetworkCreate {
    NetworkCreate { name: name.to_owned(), ..NetworkCreate::default() }
}

fn any() -> EndpointRequest {
    EndpointRequest::default()
}

/// Names of interfaces and where everything is sent by, in a namespace.
fn inside(namespace: &OwnedFd) -> (Vec<String>, Option<String>) {
    let list = || {
        let text = std::fs::read_to_string("/proc/thread-self/net/dev")?;
        let names = text.lines().skip(2).filter_map(|line| line.split_once(':'));
        let names = names.map(|(name, _)| name.trim().to_owned()).filter(|name| name != "lo");
        let routes = std::fs::read_to_string("/proc/thread-self/net/route")?;
        let mut words = routes.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let out = words.find(|words| words.get(1) == Some(&"00000000"));
        Ok((names.collect(), out.and_then(|words| words.first().map(|name| (*name).to_owned()))))
    };
    netns::run(namespace.as_fd(), list).unwrap()
}

#[test]
fn users_networks_have_subnets_of_their_own_and_outlive_the_daemon() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let data = tempfile::tempdir().unwrap();
    let open = || stage.networks().with_data(data.path()).unwrap();
    let networks = open();
    let first = networks.create(named("one")).unwrap();
    let second = networks.create(named("two")).unwrap();
    assert_ne!(first.pools[0].subnet, second.pools[0].subnet);
    let again = networks.create(named("one")).unwrap_err();
    assert_eq!(again.kind(), base::ErrorKind::Conflict, "{again}");
    let both = networks.attach(&id(1), &joining(&[("one", any()), ("two", any())])).unwrap();
    assert_eq!(
        inside(&both.namespace),
        (vec!["eth0".to_owned(), "eth1".to_owned()], Some("eth0".to_owned()))
    );
    let held = networks.remove("one").unwrap_err();
    assert_eq!(held.kind(), base::ErrorKind::PermissionDenied, "{held}");
    let rules = stage.links();
    drop(networks);

    let networks = open();
    networks.adopt(&[known(1, &both)]).unwrap();
    assert_eq!(stage.links(), rules);
    assert!(networks.strays().unwrap().is_empty());
    let same = networks.find("one").unwrap();
    assert_eq!((same.id, same.containers.len()), (first.id, 1));
    let other = networks.attach(&id(2), &joining(&[("one", any())])).unwrap();
    assert_ne!(other.view.address, both.view.address);
    for byte in [1, 2] {
        networks.detach(&id(byte)).unwrap();
    }
    for name in ["one", "two"] {
        networks.remove(name).unwrap();
    }
    assert_eq!(stage.links(), ["lo"]);
    assert_eq!(networks.list().len(), 3, "bridge, host and none");
    drop(networks);
    assert_eq!(open().list().len(), 3);
}

#[test]
fn a_bridge_without_a_record_goes_with_the_next_daemon() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let data = tempfile::tempdir().unwrap();
    let networks = stage.networks().with_data(data.path()).unwrap();
    networks.create(named("one")).unwrap();
    assert_eq!(stage.links().len(), 2);
    drop(networks);
    // Somebody removed the data root: the daemon after that knows of no network.
    let networks = stage.networks();
    assert_eq!(networks.strays().unwrap().len(), 1);
    networks.adopt(&[]).unwrap();
    assert_eq!(stage.links(), ["lo"]);
}

#[test]
fn a_running_container_comes_to_networks_and_leaves_them() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let networks = stage.networks();
    networks.create(named("mine")).unwrap();
    networks.create(NetworkCreate { internal: true, ..named("inner") }).unwrap();
    let one = networks.attach(&id(1), &default(&[port(Some(8080))])).unwrap();
    let space = one.namespace.as_fd();
    let view = networks.connect(&id(1), &joining(&[("inner", any())]), space).unwrap();
    assert_eq!((view.places.len(), view.address), (2, one.view.address));
    assert!(view.places[1].gateway.is_none(), "nothing leads out of it");
    let asked = EndpointRequest { priority: 10, ..any() };
    let view = networks.connect(&id(1), &joining(&[("mine", asked)]), space).unwrap();
    assert_eq!(view.places[0].network, "mine");
    let (links, out) = inside(&one.namespace);
    assert_eq!((links.len(), out.as_deref()), (3, Some("eth2")));
    assert!(networks.connect(&id(1), &joining(&[("mine", any())]), space).is_err(), "twice");
    let view = networks.disconnect(&id(1), "mine", space).unwrap();
    assert_eq!((view.places.len(), view.address), (2, one.view.address));
    assert_eq!(inside(&one.namespace).1.as_deref(), Some("eth0"));
    networks.remove("mine").unwrap();
    networks.disconnect(&id(1), "bridge", space).unwrap();
    let view = networks.disconnect(&id(1), "inner", space).unwrap();
    assert!(view.address.is_none() && view.places.is_empty());
    assert_eq!(inside(&one.namespace), (Vec::new(), None));
    let view = networks.connect(&id(1), &joining(&[("inner", any())]), space).unwrap();
    assert_eq!(view.places[0].interface, 0);
    networks.detach(&id(1)).unwrap();
    networks.remove("inner").unwrap();
    networks.remove_unused().unwrap();
    assert_eq!(stage.links(), ["lo"]);
}

#[test]
fn addresses_are_those_that_were_asked_for_and_had_by_one() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let networks = stage.networks();
    let pool = |subnet: &str, range: Option<&str>| PoolRequest {
        subnet: Some(subnet.to_owned()),
        range: range.map(str::to_owned),
        ..PoolRequest::default()
    };
    let pools = vec![pool("10.5.0.0/24", Some("10.5.0.128/25")), pool("fd00:5::/64", None)];
    networks.create(NetworkCreate { pools, ..named("mine") }).unwrap();
    let asked = EndpointRequest {
        ipv4: Some("10.5.0.7".parse().unwrap()),
        ipv6: Some("fd00:5::80".parse().unwrap()),
        mac: Some("02:00:00:00:00:07".to_owned()),
        ..any()
    };
    let one = networks.attach(&id(1), &joining(&[("mine", asked.clone())])).unwrap();
    assert_eq!(one.view.address, asked.ipv4);
    assert_eq!((one.view.address6, one.view.mac.as_ref()), (asked.ipv6, asked.mac.as_ref()));
    let taken = networks.attach(&id(2), &joining(&[("mine", asked.clone())])).unwrap_err();
    assert_eq!(taken.kind(), base::ErrorKind::Conflict, "{taken}");
    // The first of the range would go with an IPv6 address that is somebody's.
    let two = networks.attach(&id(2), &joining(&[("mine", any())])).unwrap();
    assert_eq!(two.view.address, Some("10.5.0.129".parse().unwrap()));
    let outside = EndpointRequest { ipv4: Some("10.6.0.7".parse().unwrap()), ..any() };
    let outside = networks.attach(&id(3), &joining(&[("mine", outside)])).unwrap_err();
    assert_eq!(outside.kind(), base::ErrorKind::InvalidInput, "{outside}");
    // The same container, and another one, at once after it has left.
    networks.detach(&id(1)).unwrap();
    networks.attach(&id(1), &joining(&[("mine", asked.clone())])).unwrap();
    networks.detach(&id(1)).unwrap();
    networks.attach(&id(4), &joining(&[("mine", asked)])).unwrap();
}

/// The addresses of a name, as they are told in a namespace; none if nobody says anything.
fn told(namespace: &OwnedFd, name: &str) -> Option<Vec<Ipv4Addr>> {
    let label = |label: &str| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat();
    let name: Vec<u8> = name.split('.').flat_map(label).collect();
    let question = [&[0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &*name, &[0, 0, 1, 0, 1]].concat();
    let ask = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((net::NAME_SERVER, 53))?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.send(&question)?;
        let mut buffer = [0; 512];
        let count = socket.recv(&mut buffer)?;
        Ok(buffer[question.len()..count].to_vec())
    };
    let answers = netns::run(namespace.as_fd(), ask).ok()?;
    // A pointer to the name, ten bytes about the record, and the address.
    let address = |record: &[u8]| Ipv4Addr::from(<[u8; 4]>::try_from(&record[12..]).unwrap());
    Some(answers.chunks(16).map(address).collect())
}

#[test]
fn names_are_told_on_networks_that_users_make_and_by_the_next_daemon_too() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let data = tempfile::tempdir().unwrap();
    let open = || stage.networks().with_data(data.path()).unwrap();
    let networks = open();
    networks.create(named("mine")).unwrap();
    let joining_as = |name: &str, network: &str, alias: Option<&str>| {
        let aliases = alias.map(str::to_owned).into_iter().collect();
        let request = EndpointRequest { aliases, ..any() };
        Joining { name: name.to_owned(), ..joining(&[(network, request)]) }
    };
    let one = networks.attach(&id(1), &joining_as("one", "mine", Some("web"))).unwrap();
    let two = networks.attach(&id(2), &joining_as("two", "mine", Some("web"))).unwrap();
    let plain = networks.attach(&id(3), &joining_as("three", "bridge", None)).unwrap();
    let (first, second) = (one.view.address.unwrap(), two.view.address.unwrap());
    assert_eq!(told(&one.namespace, "two"), Some(vec![second]));
    assert_eq!(told(&one.namespace, "ONE.mine"), Some(vec![first]));
    assert_eq!(told(&plain.namespace, "one"), None, "the default network has no names");
    let mut both = told(&two.namespace, "web").unwrap();
    both.sort();
    assert_eq!(both, [first, second]);
    networks.rename(&id(2), "deux");
    assert_eq!(told(&one.namespace, "deux"), Some(vec![second]));
    networks.connect(&id(3), &joining_as("three", "mine", None), plain.namespace.as_fd()).unwrap();
    assert_eq!(told(&plain.namespace, "one"), Some(vec![first]));
    networks.disconnect(&id(3), "mine", plain.namespace.as_fd()).unwrap();
    drop(networks);

    let networks = open();
    let of = |byte: u8, name: &str, attached: &Attached| Known {
        name: name.to_owned(),
        ..known(byte, attached)
    };
    networks.adopt(&[of(1, "one", &one), of(2, "deux", &two), of(3, "three", &plain)]).unwrap();
    networks.resume(&id(1), &Resolving::default(), one.namespace.as_fd()).unwrap();
    assert_eq!(told(&one.namespace, "deux"), Some(vec![second]));
    networks.detach(&id(2)).unwrap();
    assert_eq!(told(&one.namespace, "web"), Some(vec![first]));
}
