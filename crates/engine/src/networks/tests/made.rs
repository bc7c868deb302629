//! Networks that users make: on a link of the host, and with IPv6 addresses of a range. Needs root.

use super::*;

/// A network on a link of the stage's host.
fn on(stage: &Stage, networks: &HostNetworks, name: &str, parent: &str) -> NetworkInfo {
    let add = format!(
        "ip link show {parent} >/dev/null 2>&1 || {{ ip link add {parent} type veth peer name {parent}x; ip link set {parent} up; ip link set {parent}x up; }}"
    );
    let run = || std::process::Command::new("sh").args(["-c", &add]).status();
    assert!(netns::run(stage.host.as_fd(), run).unwrap().success());
    let subnet = format!("10.77.{}.0/24", networks.list().len());
    networks
        .create(NetworkCreate {
            name: name.to_owned(),
            driver: Some("macvlan".to_owned()),
            pools: vec![PoolRequest { subnet: Some(subnet), ..PoolRequest::default() }],
            options: [("parent".to_owned(), parent.to_owned())].into(),
            ..NetworkCreate::default()
        })
        .unwrap()
}

#[test]
fn a_network_on_a_link_has_no_rules_and_no_ports_and_a_new_daemon_knows_it() {
    if !testkit::need::root() || testkit::need::tool("ip").is_none() {
        return;
    }
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let networks = stage.networks().with_data(dir.path()).unwrap();
        networks.adopt(&[]).unwrap();
        networks
    };
    let networks = open();
    let made = on(&stage, &networks, "wire", "p0");
    assert_eq!((made.driver.as_str(), stage.tables()), ("macvlan", 0));
    let wanted = Joining {
        ports: vec![port(Some(8080))],
        ..joining(&[("wire", EndpointRequest::default())])
    };
    let one = networks.attach(&id(1), &wanted).unwrap();
    assert!(one.view.ports.is_empty() && stage.free(8080));
    assert_eq!(stage.tables(), 0, "nothing of it is the host's");
    // On a bridge as well, that one is taken by its priority, and ports lead there.
    let first = EndpointRequest { priority: 1, ..EndpointRequest::default() };
    let both = joining(&[("wire", EndpointRequest::default()), ("bridge", first)]);
    let two = networks.attach(&id(2), &Joining { ports: wanted.ports.clone(), ..both }).unwrap();
    assert_eq!(two.view.ports.len(), 1);
    let view = networks.disconnect(&id(2), "wire", two.namespace.as_fd()).unwrap();
    assert_eq!(view.endpoints(&networks.default).len(), 1);
    networks
        .connect(&id(2), &joining(&[("wire", EndpointRequest::default())]), two.namespace.as_fd())
        .unwrap();
    networks.detach(&id(2)).unwrap();
    drop(networks);

    let networks = stage.networks().with_data(dir.path()).unwrap();
    networks.adopt(&[known(1, &one)]).unwrap();
    assert_eq!(networks.find("wire").unwrap().containers.len(), 1);
    assert!(networks.remove("wire").is_err(), "it is used");
    let says = |networks: &HostNetworks| {
        let all = networks.findings(false);
        all.into_iter().find(|finding| finding.subject == "network wire").unwrap()
    };
    assert!(says(&networks).works);
    let run = || std::process::Command::new("ip").args(["link", "del", "p0"]).status();
    netns::run(stage.host.as_fd(), run).unwrap();
    let found = says(&networks);
    assert!(!found.works && found.detail.contains("parent interface p0 is gone"), "{found:?}");
    let gone = networks.attach(&id(3), &joining(&[("wire", EndpointRequest::default())]));
    assert!(gone.unwrap_err().to_string().contains("p0"));
    drop(networks);
    // A daemon that comes then knows its containers' places all the same.
    let networks = stage.networks().with_data(dir.path()).unwrap();
    assert!(networks.adopt(&[known(1, &one)]).is_err());
    assert_eq!(networks.find("wire").unwrap().containers.len(), 1);
    networks.detach(&id(1)).unwrap();
    networks.remove("wire").unwrap();
}

#[test]
fn a_refused_network_on_a_link_leaves_no_record() {
    if !testkit::need::root() || testkit::need::tool("ip").is_none() {
        return;
    }
    let stage = Stage::new();
    let networks = stage.networks();
    let create = |parent: &str, mode: &str| {
        let options = [("parent", parent), ("macvlan_mode", mode)];
        networks.create(NetworkCreate {
            name: format!("{parent}-{mode}"),
            driver: Some("macvlan".to_owned()),
            options: options.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..NetworkCreate::default()
        })
    };
    let error = create("nosuch0", "bridge").unwrap_err();
    assert!(
        error.to_string().contains("nosuch0") || crate::error::chain(&error).contains("nosuch0")
    );
    assert_eq!(networks.list().len(), 3);
    on(&stage, &networks, "shared", "p0");
    assert_eq!(create("p0", "passthru").unwrap_err().kind(), base::ErrorKind::Conflict);
    create("p0", "vepa").unwrap();
    assert_eq!(networks.list().len(), 5);
    networks.remove("shared").unwrap();
    assert!(stage.links().contains(&"p0".to_owned()), "it is the user's");
}

#[test]
fn ipv6_addresses_are_of_the_range_and_nobodys_else() {
    if !testkit::need::root() {
        return;
    }
    let stage = Stage::new();
    let dir = tempfile::tempdir().unwrap();
    let networks = stage.networks().with_data(dir.path()).unwrap();
    let auxiliary = [("printer".to_owned(), "fd77::101".to_owned())].into();
    let (subnet, range) = (Some("fd77::/64".to_owned()), Some("fd77::100/126".to_owned()));
    let pool = PoolRequest { subnet, range, auxiliary, ..PoolRequest::default() };
    let create = NetworkCreate { name: "six".to_owned(), pools: vec![pool], ..Default::default() };
    networks.create(create).unwrap();
    let place = || joining(&[("six", EndpointRequest::default())]);
    let six = |attached: &Attached| attached.view.places[0].address6.unwrap().to_string();
    let one = networks.attach(&id(1), &place()).unwrap();
    let two = networks.attach(&id(2), &place()).unwrap();
    assert_eq!((six(&one).as_str(), six(&two).as_str()), ("fd77::100", "fd77::102"));
    let ipv6 = Some("fd77::103".parse().unwrap());
    let asked = joining(&[("six", EndpointRequest { ipv6, ..EndpointRequest::default() })]);
    drop(networks);
    let networks = stage.networks().with_data(dir.path()).unwrap();
    networks.adopt(&[known(1, &one), known(2, &two)]).unwrap();
    assert_eq!(networks.find("six").unwrap().containers.len(), 2);
    assert_eq!(six(&networks.attach(&id(3), &asked).unwrap()), "fd77::103");
    let full = networks.attach(&id(4), &place()).unwrap_err();
    assert_eq!(full.kind(), base::ErrorKind::Exhausted, "{full}");
}
