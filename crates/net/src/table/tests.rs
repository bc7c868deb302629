//! What the tables say, without a kernel.

use proptest::prelude::*;

use super::*;

fn forward(host: &str, container: &str) -> Forward {
    Forward {
        host: host.parse().unwrap(),
        protocol: crate::Protocol::Udp,
        container: container.parse().unwrap(),
    }
}

#[test]
fn a_port_on_all_addresses_and_one_on_a_single_address_lie_in_two_maps() {
    let all = elements(Family::V4, &Entry::Port(forward("0.0.0.0:53", "10.0.0.2:5353")));
    let (set, element) = &all[0];
    assert_eq!((*set, &element.key[..]), ("ports", &[17, 0, 0, 0, 0, 53, 0, 0][..]));
    assert_eq!(element.value, [10, 0, 0, 2, 0x14, 0xe9, 0, 0]);
    let one = elements(Family::V4, &Entry::Port(forward("127.0.0.1:53", "10.0.0.2:5353")));
    assert_eq!(one[0].0, "ports-at");
    assert_eq!(one[0].1.key, [127, 0, 0, 1, 17, 0, 0, 0, 0, 53, 0, 0]);
}

#[test]
fn keys_and_values_have_the_lengths_their_sets_declare() {
    let entries = [
        Entry::Bridge("wythe0".parse().unwrap()),
        Entry::Within("wythe0".parse().unwrap()),
        Entry::Internal("wythe0".parse().unwrap()),
        Entry::Masked("10.0.0.0/8".parse().unwrap()),
        Entry::Masked6("fd00::/64".parse().unwrap()),
        Entry::Subnet("10.0.0.0/8".parse().unwrap()),
        Entry::Subnet6("fd00::/64".parse().unwrap()),
        Entry::Port(forward("0.0.0.0:53", "10.0.0.2:53")),
        Entry::Port(forward("127.0.0.1:53", "10.0.0.2:53")),
        Entry::Port(forward("[::]:53", "[fd00::2]:53")),
        Entry::Port(forward("[2001:db8::1]:53", "[fd00::2]:53")),
        Entry::Unguarded("wythe0".parse().unwrap()),
        Entry::Routed6("wythe0".parse().unwrap()),
        Entry::Direct("10.0.0.2:53".parse().unwrap(), Protocol::Udp),
        Entry::Direct("[fd00::2]:53".parse().unwrap(), Protocol::Tcp),
    ];
    for family in [Family::V4, Family::V6] {
        let all: Vec<_> = entries.iter().flat_map(|entry| elements(family, entry)).collect();
        assert_eq!(all.len(), 13);
        for (name, element) in all {
            let set = family.sets().into_iter().find(|set| set.name == name).unwrap();
            let value = set.value.map_or(0, |value| value.length);
            assert_eq!(element.key.len(), set.key.length.try_into().unwrap(), "{name}");
            assert_eq!(element.value.len(), value.try_into().unwrap(), "{name}");
        }
    }
}

#[test]
fn other_rules_are_written_anew() {
    let contents =
        |entry: Option<Entry>, gate| Contents { entries: entry.into_iter().collect(), gate };
    let gate = || {
        Some(Gate {
            into: (Ipv4Addr::LOCALHOST, Ipv6Addr::LOCALHOST),
            out_of: "wythe-in".parse().unwrap(),
        })
    };
    let six = || Some(Entry::Subnet6("fd00::/64".parse().unwrap()));
    let plain = contents(None, None);
    assert!(amend(TABLE, &plain, &plain).is_some());
    assert!(amend(TABLE, &plain, &contents(None, gate())).is_none());
    assert!(amend(TABLE, &plain, &contents(six(), None)).is_none());
}

proptest! {
    #[test]
    fn amending_touches_only_what_differs(
        have in prop::collection::btree_set(1u16..50, 0..20),
        want in prop::collection::btree_set(1u16..50, 0..20),
    ) {
        let entries = |ports: &BTreeSet<u16>| ports.iter()
            .map(|port| Entry::Port(forward(&format!("0.0.0.0:{port}"), "10.0.0.2:1")))
            .collect::<BTreeSet<_>>();
        let contents = |ports| Contents { entries: entries(ports), gate: None };
        let sent = amend(TABLE, &contents(&have), &contents(&want)).unwrap().finish().len();
        let gone = have.difference(&want).next().is_some();
        let come = want.difference(&have).next().is_some();
        prop_assert_eq!(sent, 2 + 2 * usize::from(gone) + 2 * usize::from(come));
    }
}
