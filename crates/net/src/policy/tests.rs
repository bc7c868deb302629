//! Rules as the kernel tells of them, and what is said about them.

use super::{
    Asked, Hook, Rules, State,
    read::{Elements, RawChain, RawRule},
};

const WEB: Asked<'_> = Asked {
    protocol: 6,
    port: Some(80),
    arrives_by: None,
    leaves_by: None,
    family: None,
    state: State::New,
};

/// What leaves a bridge for anywhere.
const OUTWARD: Asked<'_> = Asked { port: None, arrives_by: Some("wythe0"), family: Some(2), ..WEB };

/// An attribute. Source: netlink(7), `struct nlattr`.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn number(kind: u16, value: u32) -> Vec<u8> {
    attribute(kind, &value.to_be_bytes())
}

fn value(kind: u16, bytes: &[u8]) -> Vec<u8> {
    attribute(kind, &attribute(1, bytes))
}

fn expression(name: &str, attributes: &[Vec<u8>]) -> (String, Vec<u8>) {
    (name.to_owned(), attributes.concat())
}

fn protocol(is: u8) -> Vec<(String, Vec<u8>)> {
    vec![
        expression("meta", &[number(2, 16), number(1, 1)]),
        expression("cmp", &[number(1, 1), number(2, 0), value(3, &[is])]),
    ]
}

fn port() -> (String, Vec<u8>) {
    expression("payload", &[number(1, 1), number(2, 2), number(3, 2), number(4, 2)])
}

fn port_is(is: u16) -> Vec<(String, Vec<u8>)> {
    vec![port(), expression("cmp", &[number(1, 1), number(2, 0), value(3, &is.to_be_bytes())])]
}

fn from(network: [u8; 4], mask: [u8; 4]) -> Vec<(String, Vec<u8>)> {
    vec![
        expression("payload", &[number(1, 1), number(2, 1), number(3, 12), number(4, 4)]),
        expression(
            "bitwise",
            &[number(1, 1), number(2, 1), number(3, 4), value(4, &mask), value(5, &[0; 4])],
        ),
        expression("cmp", &[number(1, 1), number(2, 0), value(3, &network)]),
    ]
}

fn state_is(bits: u32) -> Vec<(String, Vec<u8>)> {
    vec![
        expression("ct", &[number(2, 0), number(1, 1)]),
        expression(
            "bitwise",
            &[number(1, 1), number(2, 1), value(4, &bits.to_ne_bytes()), value(5, &[0; 4])],
        ),
        expression("cmp", &[number(1, 1), number(2, 1), value(3, &[0; 4])]),
    ]
}

fn verdict(code: i32, chain: &str) -> Vec<(String, Vec<u8>)> {
    let mut inner = attribute(1, &code.to_be_bytes());
    if !chain.is_empty() {
        inner.extend(attribute(2, format!("{chain}\0").as_bytes()));
    }
    vec![expression("immediate", &[number(1, 0), attribute(2, &attribute(2, &inner))])]
}

const ACCEPT: i32 = 1;
const DROP: i32 = 0;
const JUMP: i32 = -3;
const RETURN: i32 = -5;

fn chain(name: &str, hook: Option<u32>, accepts: bool) -> RawChain {
    RawChain { family: 1, table: "filter".to_owned(), name: name.to_owned(), hook, accepts }
}

fn rule(chain: &str, handle: u64, parts: &[Vec<(String, Vec<u8>)>]) -> RawRule {
    let expressions = parts.concat();
    let (table, chain) = ("filter".to_owned(), chain.to_owned());
    RawRule { family: 1, table, chain, handle, expressions }
}

/// What is said, one line each.
fn said(rules: &Rules) -> Vec<String> {
    let policies = rules.judge(Hook::Input, WEB);
    let [policy] = policies.as_slice() else { panic!("{policies:?}") };
    let line = |judgement: &super::Judgement| {
        let verb = match judgement.accept {
            Some(true) => "accept",
            Some(false) => "drop",
            None => "perhaps",
        };
        let conditions = judgement.conditions.join(" and ");
        format!("{verb} [{conditions}] by {}", judgement.by)
    };
    policy.judgements.iter().map(line).collect()
}

fn with(rules: Vec<RawRule>, policy: bool) -> Rules {
    let chains = vec![chain("input", Some(1), policy), chain("web", None, true)];
    Rules { chains, rules, sets: Default::default() }
}

#[test]
fn rules_that_cannot_match_are_passed_over() {
    let rules = with(
        vec![
            rule("input", 1, &[state_is(2 | 4), verdict(ACCEPT, "")]),
            rule("input", 2, &[protocol(17), port_is(80), verdict(ACCEPT, "")]),
            rule("input", 3, &[protocol(6), port_is(22), verdict(ACCEPT, "")]),
            rule("input", 4, &[state_is(1), verdict(DROP, "")]),
        ],
        false,
    );
    assert_eq!(said(&rules), ["drop [] by policy"]);
    assert!(rules.judge(Hook::Input, WEB)[0].lets_nobody());
}

#[test]
fn one_that_must_match_ends_the_walk() {
    let rules = with(
        vec![
            rule("input", 7, &[protocol(6), port_is(80), verdict(ACCEPT, "")]),
            rule("input", 8, &[verdict(DROP, "")]),
        ],
        false,
    );
    assert_eq!(said(&rules), ["accept [] by rule 7 of chain input"]);
    assert!(rules.judge(Hook::Input, WEB)[0].lets_everybody());
}

#[test]
fn what_is_not_known_becomes_a_condition() {
    let lo = expression("meta", &[number(2, 6), number(1, 1)]);
    let is_lo = expression("cmp", &[number(1, 1), number(2, 0), value(3, b"lo\0\0")]);
    let rules = with(
        vec![
            rule("input", 1, &[vec![lo, is_lo], verdict(ACCEPT, "")]),
            rule(
                "input",
                2,
                &[from([10, 0, 0, 0], [255, 0, 0, 0]), port_is(80), verdict(ACCEPT, "")],
            ),
            rule("input", 3, &[vec![expression("socket", &[])], verdict(ACCEPT, "")]),
        ],
        false,
    );
    assert_eq!(
        said(&rules),
        [
            "accept [iifname \"lo\"] by rule 1 of chain input",
            "accept [ip saddr 10.0.0.0/8] by rule 2 of chain input",
            "accept [\"socket\" matches, which is not read here] by rule 3 of chain input",
            "drop [] by policy",
        ]
    );
}

#[test]
fn jumps_carry_their_conditions_along() {
    let from_lan = from([192, 168, 0, 0], [255, 255, 0, 0]);
    let rules = with(
        vec![
            rule("input", 1, &[from_lan, verdict(JUMP, "web")]),
            rule("web", 2, &[port_is(443), verdict(ACCEPT, "")]),
            rule("web", 3, &[port_is(80), verdict(ACCEPT, "")]),
            rule("input", 4, &[verdict(JUMP, "web")]),
        ],
        false,
    );
    assert_eq!(
        said(&rules),
        [
            "accept [ip saddr 192.168.0.0/16] by rule 3 of chain web",
            "accept [] by rule 3 of chain web",
        ]
    );
}

#[test]
fn a_return_goes_on_behind_the_jump() {
    let rules = with(
        vec![
            rule("input", 1, &[verdict(JUMP, "web")]),
            rule("web", 2, &[verdict(RETURN, "")]),
            rule("web", 3, &[verdict(ACCEPT, "")]),
        ],
        false,
    );
    assert_eq!(said(&rules), ["drop [] by policy"]);
}

#[test]
fn chains_that_jump_in_circles_end() {
    let rules = with(
        vec![rule("input", 1, &[verdict(JUMP, "web")]), rule("web", 2, &[verdict(JUMP, "web")])],
        true,
    );
    let said = said(&rules);
    assert!(said[0].starts_with("perhaps") && said[0].contains("too deep"), "{said:?}");
}

#[test]
fn sets_of_ports_are_looked_into() {
    let set = |keys: &[(u16, bool)]| {
        Elements(keys.iter().map(|(port, ends)| (port.to_be_bytes().to_vec(), *ends)).collect())
    };
    assert!(set(&[(22, false), (80, false)]).has(&80_u16.to_be_bytes()));
    assert!(!set(&[(22, false), (443, false)]).has(&80_u16.to_be_bytes()));
    let ranges = set(&[(0, true), (80, false), (91, true), (1000, false), (2001, true)]);
    for (port, inside) in
        [(79_u16, false), (80, true), (90, true), (91, false), (2000, true), (2001, false)]
    {
        assert_eq!(ranges.has(&port.to_be_bytes()), inside, "{port}");
    }
    let lookup = expression("lookup", &[attribute(1, b"__set0\0"), number(2, 1)]);
    let mut rules = with(
        vec![rule("input", 1, &[protocol(6), vec![port(), lookup], verdict(ACCEPT, "")])],
        false,
    );
    rules.sets.insert((1, "filter".to_owned(), "__set0".to_owned()), set(&[(80, false)]));
    assert_eq!(said(&rules), ["accept [] by rule 1 of chain input"]);
    rules.sets.insert((1, "filter".to_owned(), "__set0".to_owned()), set(&[(22, false)]));
    assert_eq!(said(&rules), ["drop [] by policy"]);
}

#[test]
fn iptables_matches_of_ports_are_read() {
    let ports = |from: u16, to: u16| {
        let info = [0_u16, u16::MAX, from, to].map(u16::to_ne_bytes).concat();
        vec![expression("match", &[attribute(1, b"tcp\0"), number(2, 0), attribute(3, &info)])]
    };
    let rules = with(
        vec![
            rule("input", 1, &[ports(22, 22), verdict(ACCEPT, "")]),
            rule("input", 2, &[ports(80, 81), verdict(ACCEPT, "")]),
        ],
        false,
    );
    assert_eq!(said(&rules), ["accept [] by rule 2 of chain input"]);
}

fn interface(key: u32, name: &[u8]) -> Vec<(String, Vec<u8>)> {
    vec![
        expression("meta", &[number(2, key), number(1, 1)]),
        expression("cmp", &[number(1, 1), number(2, 0), value(3, name)]),
    ]
}

/// `-m conntrack --ctstate …`
fn tracked(states: u16) -> Vec<(String, Vec<u8>)> {
    let mut info = vec![0; 146];
    for half in [1, 0, states, 0] {
        info.extend_from_slice(&u16::to_ne_bytes(half));
    }
    vec![expression("match", &[attribute(1, b"conntrack\0"), number(2, 3), attribute(3, &info)])]
}

#[test]
fn a_known_interface_and_state_decide() {
    let arrives = |name: &[u8]| interface(6, name);
    let comment = || vec![expression("match", &[attribute(1, b"comment\0"), number(2, 0)])];
    let rules = with(
        vec![
            rule("input", 1, &[arrives(b"docker0\0"), verdict(ACCEPT, "")]),
            rule("input", 2, &[interface(7, b"wythe0\0"), verdict(ACCEPT, "")]),
            rule("input", 3, &[tracked(2 | 4), verdict(ACCEPT, "")]),
            rule("input", 4, &[arrives(b"wythe0\0"), comment(), verdict(JUMP, "web")]),
            rule("web", 5, &[port_is(443), verdict(ACCEPT, "")]),
        ],
        false,
    );
    let of = |asked: Asked<'_>| {
        let policies = rules.judge(Hook::Input, asked);
        policies[0]
            .judgements
            .iter()
            .map(|j| (j.accept, j.conditions.join(", ")))
            .collect::<Vec<_>>()
    };
    let (drop, accept) = ((Some(false), String::new()), (Some(true), String::new()));
    let leaving = (Some(true), "oifname \"wythe0\"".to_owned());
    let port = (Some(true), "the port is 443".to_owned());
    assert_eq!(of(OUTWARD), [leaving.clone(), port, drop.clone()]);
    let to_lan = Asked { leaves_by: Some("eth0"), port: Some(80), ..OUTWARD };
    assert_eq!(of(to_lan), [drop]);
    let known = of(Asked { state: State::Established, ..to_lan });
    assert_eq!(known, std::slice::from_ref(&accept));
    let answer = Asked { leaves_by: Some("wythe0"), arrives_by: None, ..OUTWARD };
    assert_eq!(of(answer).last(), Some(&accept));
    // `iifname "wy*"` is compared without the zero that ends a name.
    let wide = with(vec![rule("input", 1, &[arrives(b"wy"), verdict(ACCEPT, "")])], false);
    assert!(wide.judge(Hook::Input, OUTWARD)[0].lets_everybody());
    assert!(
        wide.judge(Hook::Input, Asked { arrives_by: Some("eth0"), ..OUTWARD })[0].lets_nobody()
    );
}

#[test]
fn a_chain_of_the_other_family_has_no_say() {
    let mut rules = with(Vec::new(), false);
    rules.chains[0].family = 10;
    assert!(rules.judge(Hook::Input, OUTWARD).is_empty());
    assert_eq!(rules.judge(Hook::Input, Asked { family: Some(10), ..OUTWARD }).len(), 1);
}

#[test]
fn what_a_published_connection_is_known_by_is_read() {
    let dnat = |bits: u32| {
        vec![
            expression("ct", &[number(2, 2), number(1, 1)]),
            expression(
                "bitwise",
                &[number(1, 1), number(2, 1), value(4, &bits.to_ne_bytes()), value(5, &[0; 4])],
            ),
            expression("cmp", &[number(1, 1), number(2, 1), value(3, &[0; 4])]),
        ]
    };
    let rules = with(vec![rule("input", 1, &[dnat(1 << 5), verdict(ACCEPT, "")])], false);
    assert!(rules.judge(Hook::Input, Asked { state: State::Published, ..WEB })[0].lets_everybody());
    assert!(rules.judge(Hook::Input, WEB)[0].lets_nobody());
}
