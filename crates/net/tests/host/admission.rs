//! The host's own input policy decides about published ports, in both families.

use std::net::{IpAddr, Ipv4Addr};

use base::ErrorKind;
use net::{Forward, Reservation};

use crate::{
    ports,
    world::{
        Container, HOST, HOST6, OUTSIDE, OUTSIDE6, World, ask, ask_tcp, client, refused_tcp,
        refused_udp, serve_tcp, serve_udp, sh,
    },
};

/// Reserves ports in both families and leads them to a container.
fn publish(world: &World, to: &Container, specs: &[&str]) -> (Vec<Reservation>, Vec<Forward>) {
    let held = world.net.reserve(&ports(specs), true).unwrap();
    let forwards: Vec<_> =
        held.iter().map(|one| one.forward(to.address, Some(to.address6)).unwrap()).collect();
    world.net.publish(&[&world.network], &forwards).unwrap();
    (held, forwards)
}

/// A host that drops what it does not know.
const DEFAULT_DROP: &str = "nft -f - <<'END'
table inet fw {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname lo accept
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}
END";

#[test]
fn both_families_reach_a_published_port_and_keep_their_address() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    serve_tcp(&a.namespace, 80);
    serve_udp(&a.namespace, 53, "a");
    let _held = publish(&world, &a, &["8080:80", "5353:53/udp"]);
    let gateway = world.network.gateway;
    let gateway6 = world.network.ipv6_of(gateway).unwrap();
    let cases: [(_, IpAddr, IpAddr); 8] = [
        (&world.outside, HOST.into(), OUTSIDE.into()),
        (&world.outside, HOST6.into(), OUTSIDE6.into()),
        (&world.host, HOST.into(), HOST.into()),
        (&world.host, HOST6.into(), HOST6.into()),
        (&b.namespace, HOST.into(), gateway.into()),
        (&b.namespace, HOST6.into(), gateway6.into()),
        (&a.namespace, HOST6.into(), gateway6.into()),
        (&a.namespace, gateway6.into(), gateway6.into()),
    ];
    for (from, to, seen) in cases {
        assert_eq!(ask_tcp(from, to, 8080), Some(seen.to_string()), "to {to}");
        assert_eq!(ask(&client(from), to, 5353), Some(format!("a {seen}")), "to {to}");
    }
    // No kernel leads ::1 elsewhere; a refusal comes at once and clients go on to 127.0.0.1.
    assert!(refused_tcp(&world.host, std::net::Ipv6Addr::LOCALHOST, 8080));
    assert!(ask_tcp(&world.host, Ipv4Addr::LOCALHOST, 8080).is_some());
}

#[test]
fn containers_have_ipv6_of_their_own_and_the_hosts_address_outside() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    serve_tcp(&b.namespace, 80);
    serve_tcp(&world.outside, 81);
    assert_eq!(ask_tcp(&a.namespace, b.address6, 80), Some(a.address6.to_string()));
    assert_eq!(ask_tcp(&a.namespace, OUTSIDE6, 81), Some(HOST6.to_string()));
    sh(&world.outside, &format!("ip -6 route add {} via {HOST6}", world.network.ipv6.unwrap()));
    assert!(refused_tcp(&world.outside, b.address6, 80), "it is not published");
    let trusting = sh(&a.namespace, "cat /proc/sys/net/ipv6/conf/eth0/accept_ra");
    assert_eq!(trusting.trim(), "0");
}

#[test]
fn a_published_port_never_opens_what_the_hosts_input_policy_closes() {
    let Some(world) = World::new() else { return };
    let (a, b) = (world.container("a"), world.container("b"));
    serve_tcp(&a.namespace, 80);
    serve_udp(&a.namespace, 53, "a");
    let _held = publish(&world, &a, &["8080:80", "8081:80", "5353:53/udp"]);
    assert!(ask_tcp(&world.outside, HOST, 8080).is_some());

    sh(&world.host, DEFAULT_DROP);
    let everywhere = |port| {
        for host in [IpAddr::from(HOST), IpAddr::from(HOST6)] {
            assert!(refused_tcp(&world.outside, host, port), "{host}");
            assert!(refused_tcp(&b.namespace, host, port), "{host}, hairpin");
        }
    };
    everywhere(8080);
    everywhere(8081);
    assert!(refused_udp(&world.outside, HOST, 5353));
    assert!(ask_tcp(&world.host, Ipv4Addr::LOCALHOST, 8080).is_some(), "the host is not outside");

    sh(
        &world.host,
        "nft add rule inet fw input meta l4proto { tcp, udp } th dport { 8080, 5353 } accept",
    );
    assert_eq!(ask_tcp(&world.outside, HOST, 8080), Some(OUTSIDE.to_string()));
    assert_eq!(ask_tcp(&world.outside, HOST6, 8080), Some(OUTSIDE6.to_string()));
    assert_eq!(ask(&client(&world.outside), HOST6, 5353), Some(format!("a {OUTSIDE6}")));
    assert!(ask_tcp(&b.namespace, HOST, 8080).is_some());
    everywhere(8081);
}

#[test]
fn a_rule_of_the_host_for_one_source_holds_for_a_published_port() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    let _held = publish(&world, &a, &["8080:80"]);
    sh(&world.host, DEFAULT_DROP);
    sh(&world.host, "nft add rule inet fw input ip saddr 198.51.100.64/26 tcp dport 8080 accept");
    sh(&world.outside, "ip addr add 198.51.100.77/24 dev eth0");
    assert!(refused_tcp(&world.outside, HOST, 8080));
    sh(&world.outside, "ip route add 198.51.100.1/32 dev eth0 src 198.51.100.77");
    assert_eq!(ask_tcp(&world.outside, HOST, 8080), Some("198.51.100.77".to_owned()));
}

#[test]
fn who_can_reach_a_port_is_told_from_the_hosts_rules() {
    let Some(world) = World::new() else { return };
    let bridge = &world.network.bridge;
    let admission = |port| world.net.admission(net::Protocol::Tcp, port, 80, bridge).unwrap();
    assert_eq!(admission(8080), net::Admission::default(), "ours are not among them");
    sh(&world.host, DEFAULT_DROP);
    sh(&world.host, "nft add rule inet fw input ip saddr 198.51.100.64/26 tcp dport 8080 accept");
    sh(&world.host, "nft add rule inet fw input tcp dport { 22, 8090-8099 } accept");
    let said = |port| {
        let input = admission(port).input;
        let [policy] = input.as_slice() else { panic!("{input:?}") };
        let line = |j: &net::Judgement| format!("{:?} {}", j.accept, j.conditions.join(" and "));
        policy.judgements.iter().map(line).collect::<Vec<_>>()
    };
    let lo = "Some(true) iifname \"lo\"".to_owned();
    let lan = "Some(true) ip saddr 198.51.100.64/26".to_owned();
    let ip = "over IPv4 and ";
    let strip = |lines: Vec<String>| lines.iter().map(|l| l.replace(ip, "")).collect::<Vec<_>>();
    assert_eq!(strip(said(8080)), [lo.clone(), lan, "Some(false) ".to_owned()]);
    assert_eq!(said(8095), [lo.clone(), "Some(true) ".to_owned()]);
    assert_eq!(said(8100), [lo, "Some(false) ".to_owned()]);
    if testkit::need::tool("iptables-nft").is_some() {
        sh(&world.host, "nft delete table inet fw");
        sh(&world.host, "iptables-nft -w -P INPUT DROP");
        sh(&world.host, "iptables-nft -w -A INPUT -p tcp --dport 8080 -j ACCEPT");
        assert!(admission(8080).input.iter().all(net::ChainPolicy::lets_everybody));
        assert!(admission(8081).input.iter().any(net::ChainPolicy::lets_nobody));
    }
}

#[test]
fn rules_of_iptables_of_either_kind_hold_too() {
    for tool in ["iptables-nft", "iptables-legacy"] {
        let Some(world) = World::new() else { return };
        if testkit::need::tool(tool).is_none() {
            return;
        }
        let a = world.container("a");
        serve_tcp(&a.namespace, 80);
        let _held = publish(&world, &a, &["8080:80", "8081:80"]);
        sh(&world.host, &format!("{tool} -w -P INPUT DROP"));
        sh(&world.host, &format!("{tool} -w -A INPUT -p tcp --dport 8081 -j ACCEPT"));
        assert!(refused_tcp(&world.outside, HOST, 8080), "{tool}");
        assert_eq!(ask_tcp(&world.outside, HOST, 8081), Some(OUTSIDE.to_string()), "{tool}");
    }
}

#[test]
fn a_strict_reverse_path_filter_is_no_obstacle() {
    let Some(world) = World::new() else { return };
    sh(&world.host, "echo 1 > /proc/sys/net/ipv4/conf/all/rp_filter");
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    serve_udp(&a.namespace, 53, "a");
    let _held = publish(&world, &a, &["8080:80", "5353:53/udp"]);
    assert_eq!(ask_tcp(&world.outside, HOST, 8080), Some(OUTSIDE.to_string()));
    assert_eq!(ask(&client(&world.outside), HOST, 5353), Some(format!("a {OUTSIDE}")));
}

#[test]
fn the_first_packet_may_be_as_long_as_any() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_udp(&a.namespace, 53, "a");
    let _held = publish(&world, &a, &["5353:53/udp"]);
    let socket = client(&world.outside);
    socket.send_to(&[0; 9000], (HOST.to_ipv6_mapped(), 5353)).unwrap();
    assert!(socket.recv_from(&mut [0; 64]).unwrap().0 > 0);
}

#[test]
fn a_port_can_be_had_once_in_both_families() {
    let Some(world) = World::new() else { return };
    let held = world.net.reserve(&ports(&["8080:80", "80"]), true).unwrap();
    assert_eq!(held.len(), 4);
    assert_eq!(held[2].host().port(), held[3].host().port());
    let refused = |spec| world.net.reserve(&ports(&[spec]), true).unwrap_err();
    assert_eq!(
        refused("[2001:db8::1]:8080:80").to_string(),
        "Bind for [2001:db8::1]:8080 failed: port is already allocated"
    );
    assert_eq!(refused("[::1]:80:80").kind(), ErrorKind::Unsupported);
    serve_tcp(&world.host, 9000);
    let one_of = world.net.reserve(&ports(&["9000-9001:80"]), true).unwrap();
    assert_eq!(one_of.iter().map(|one| one.host().port()).collect::<Vec<_>>(), [9001, 9001]);
}

#[test]
fn forwarding_is_put_back_by_whoever_turned_it_on() {
    let Some(world) = World::new() else { return };
    let read = || {
        let files = ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/wan0/accept_ra"];
        sh(&world.host, &files.map(|file| format!("cat /proc/sys/net/{file}")).join("; "))
    };
    assert_eq!(read(), "1\n1\n2\n");
    // Another daemon, which did not turn it on itself.
    let next = net::Host::open(Some(std::os::fd::AsFd::as_fd(&world.host))).unwrap();
    next.ensure_network(&world.network).unwrap();
    next.remove_everything(&[&world.network]).unwrap();
    assert_eq!(read(), "0\n0\n1\n");
    // Somebody else's bridge may need it.
    world.net.ensure_network(&world.network).unwrap();
    sh(&world.host, "ip link add br0 type bridge");
    world.net.remove_everything(&[&world.network]).unwrap();
    assert_eq!(read(), "1\n1\n2\n");
    // What was on before stays on.
    sh(&world.host, "ip link del br0");
    world.net.ensure_network(&world.network).unwrap();
    world.net.remove_everything(&[&world.network]).unwrap();
    assert_eq!(read(), "1\n1\n2\n");
}

/// A host that forwards nothing it does not know.
const FORWARD_DROP: &str = "nft -f - <<'END'
table inet fw {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname { \"lan0\", \"lan1\" } accept
        oifname \"lan0\" tcp dport 22 accept
        meta l4proto icmp accept
    }
}
END";

#[test]
fn a_host_that_does_not_forward_is_seen_and_what_is_said_mends_it() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    serve_tcp(&world.outside, 81);
    let _held = publish(&world, &a, &["8080:80"]);
    sh(&world.host, &format!("ip route add default via {OUTSIDE}"));
    let passage = || world.net.passage(&world.network.bridge, true).unwrap();
    assert_eq!(passage().barriers().count(), 0);
    let reached = || {
        let waits = |from, to: IpAddr, port| !refused_tcp(from, to, port);
        let all = [(HOST.into(), OUTSIDE.into()), (HOST6.into(), OUTSIDE6.into())];
        all.map(|(host, outside)| {
            (waits(&world.outside, host, 8080), waits(&a.namespace, outside, 81))
        })
    };
    let mut hosts = vec![(FORWARD_DROP, "inet fw", "nft delete table inet fw")];
    if testkit::need::tool("iptables-nft").is_some() {
        let docker = "for t in iptables ip6tables; do $t-nft -w -P FORWARD DROP; \
            $t-nft -w -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; \
            $t-nft -w -A FORWARD -i docker0 -m comment --comment out -j ACCEPT; done";
        hosts.push((docker, "ip filter", "true"));
    }
    for (setting, table, undone) in hosts {
        sh(&world.host, setting);
        assert_eq!(reached(), [(false, false); 2], "{table}");
        let passage = passage();
        assert!(!passage.out.is_empty() && !passage.published.is_empty(), "{passage:?}");
        let named = |barrier: &net::Barrier| format!("{} {}", barrier.family, barrier.table);
        assert!(passage.barriers().any(|barrier| named(barrier) == table), "{passage:?}");
        let told = world.net.admission(net::Protocol::Tcp, 8080, 80, &world.network.bridge);
        let told = told.unwrap();
        assert!(told.forward.iter().any(net::ChainPolicy::lets_nobody), "{told:?}");
        assert!(!told.barriers.is_empty());
        for line in passage.barriers().flat_map(|barrier| &barrier.mend) {
            sh(&world.host, &line.replace("tables -I", "tables-nft -w -I"));
        }
        assert_eq!(reached(), [(true, true); 2], "{table}");
        let mended = world.net.passage(&world.network.bridge, true).unwrap();
        // Docker's own kind of chain lets answers pass for its own bridges only.
        assert_eq!(mended.barriers().count(), 0, "{mended:?}");
        sh(&world.host, undone);
    }
}

#[test]
fn a_full_bridge_is_called_by_that_name() {
    let Some(world) = World::new() else { return };
    // `BR_MAX_PORTS` is 1,024, and port 0 is nobody's.
    let lines = "for n in $(seq 512); do
        echo link add a$n type veth peer name b$n
        echo link set a$n master wythe0
        test $n = 512 || echo link set b$n master wythe0
    done | ip -batch -";
    sh(&world.host, lines);
    let endpoint = net::Endpoint::new("one-more", Ipv4Addr::new(172, 27, 0, 9));
    let error = world.net.attach(&world.network, &endpoint).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exhausted);
    assert!(error.to_string().contains("network wythe0 is full"), "{error}");
}
