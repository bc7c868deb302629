//! Tests of the two files.

use proptest::prelude::*;

use super::*;

#[test]
fn hosts_names_the_container_and_what_was_asked_for() {
    let extra: Vec<ExtraHost> =
        ["db:10.0.0.9", "host.docker.internal:host-gateway", "six=[::1]", "v6:2001:db8::1"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
    let text = hosts(&Hosts {
        address6: None,
        hostname: "web",
        domainname: Some("example.org"),
        address: Some(Ipv4Addr::new(172, 27, 0, 2)),
        gateway: Some(Ipv4Addr::new(172, 27, 0, 1)),
        extra: &extra,
    });
    insta::assert_snapshot!(text, @r"
    127.0.0.1	localhost
    ::1	localhost ip6-localhost ip6-loopback
    fe00::	ip6-localnet
    ff00::	ip6-mcastprefix
    ff02::1	ip6-allnodes
    ff02::2	ip6-allrouters
    10.0.0.9	db
    172.27.0.1	host.docker.internal
    ::1	six
    2001:db8::1	v6
    172.27.0.2	web.example.org web
    ");
}

#[test]
fn add_host_is_refused_in_dockers_words() {
    let cases = [
        ("web", "bad format for add-host: \"web\""),
        (":1.2.3.4", "bad format for add-host: \":1.2.3.4\""),
        ("a b:1.2.3.4", "bad format for add-host: \"a b:1.2.3.4\""),
        ("a\nb:1.2.3.4", "bad format for add-host: \"a\\nb:1.2.3.4\""),
        ("web:here", "invalid IP address in add-host: \"here\""),
        ("web:", "invalid IP address in add-host: \"\""),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<ExtraHost>().unwrap_err().to_string(), expected);
    }
}

const HOST: &str = "# made by a tool\n\
    nameserver 127.0.0.53\n\
    nameserver 10.0.0.2\n\
    nameserver fe80::1%eth0\n\
    nameserver 2001:db8::53\n\
    domain old.example\n\
    search a.example b.example\n\
    options edns0 trust-ad\n\
    sortlist 130.155.160.0/255.255.240.0\n";

#[test]
fn nameservers_that_a_container_cannot_reach_are_left_out() {
    insta::assert_snapshot!(resolv_conf(HOST, &Dns::default()), @r"
    nameserver 10.0.0.2
    search a.example b.example
    options edns0 trust-ad
    sortlist 130.155.160.0/255.255.240.0
    ");
}

#[test]
fn what_was_asked_for_replaces_the_hosts_lines() {
    let asked = Dns {
        ipv6: false,
        own: false,
        servers: &["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        search: &[".".to_owned()],
        options: &["ndots:5".to_owned()],
    };
    insta::assert_snapshot!(resolv_conf(HOST, &asked), @r"
    nameserver 127.0.0.1
    nameserver ::1
    options ndots:5
    sortlist 130.155.160.0/255.255.240.0
    ");
}

#[test]
fn a_host_without_reachable_nameservers_gets_public_ones() {
    for host in ["", "nameserver 127.0.0.1\n", "nameserver\nnameserver x\n"] {
        let text = resolv_conf(host, &Dns::default());
        assert_eq!(text, "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }
}

#[test]
fn names_of_a_network_are_asked_of_its_own_server_before_search_domains() {
    let own = Dns { own: true, servers: &["192.0.2.1".parse().unwrap()], ..Dns::default() };
    insta::assert_snapshot!(resolv_conf(HOST, &own), @r"
    nameserver 127.0.0.11
    search a.example b.example
    options edns0 trust-ad ndots:0
    sortlist 130.155.160.0/255.255.240.0
    ");
    let dots = Dns { options: &["ndots:2".to_owned()], ..own };
    assert!(resolv_conf(HOST, &dots).contains("options ndots:2\n"));
    assert_eq!(nameservers(HOST).len(), 3, "those of the loopback too");
    assert_eq!(nameservers("").len(), 2);
}

#[test]
fn a_stub_is_told_from_a_list_with_a_stub_in_it() {
    assert!(is_local_stub("nameserver 127.0.0.53\noptions edns0\n"));
    assert!(!is_local_stub(HOST));
    assert!(!is_local_stub(""));
}

proptest! {
    #[test]
    fn any_host_file_gives_a_nameserver_and_settles(text in "(nameserver|search|domain|options|#|[ -~]|\n| 127\\.0\\.0\\.1| 1\\.2\\.3\\.4){0,40}") {
        let once = resolv_conf(&text, &Dns::default());
        prop_assert!(once.starts_with("nameserver "));
        prop_assert_eq!(resolv_conf(&once, &Dns::default()), once);
    }
}
