//! What others do to our rules and to the bridge is noticed and undone.

use std::{sync::mpsc, thread, time::Duration};

use net::{Fault, Heard};

use crate::{
    ports,
    world::{HOST, HOST6, OUTSIDE6, World, ask_tcp, serve_tcp, sh},
};

#[test]
fn what_is_flushed_or_removed_comes_back_by_itself() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    serve_tcp(&a.namespace, 80);
    serve_tcp(&world.outside, 81);
    let held = world.net.reserve(&ports(&["8080:80"]), true).unwrap();
    let forwards: Vec<_> =
        held.iter().map(|one| one.forward(a.address, Some(a.address6)).unwrap()).collect();
    world.net.publish(&[&world.network], &forwards).unwrap();
    let faults = || world.net.faults(&world.network, &["a"]).unwrap();
    assert_eq!(faults(), []);

    let (mut watch, watching) = world.net.watch(&world.network).unwrap();
    let (tell, told) = mpsc::channel();
    thread::scope(|scope| {
        let keeper = scope.spawn(|| {
            let mut needless = 0;
            while let Some(heard) = watch.wait() {
                if heard.loss && watch.settle(Duration::from_millis(20)) {
                    let before = faults();
                    if before.is_empty() {
                        // The end of a removal that was mended in its midst.
                        needless += 1;
                        continue;
                    }
                    tell.send(before).unwrap();
                    world
                        .net
                        .restore(&world.network, &["a"], &[&world.network], &forwards)
                        .unwrap();
                    assert!(world.net.heed(&watch, &world.network).unwrap());
                    tell.send(faults()).unwrap();
                }
            }
            needless
        });
        let table = |family| Fault::Table(family, "wythe".to_owned());
        let bridge = || world.network.bridge.clone();
        let cases = [
            ("nft flush ruleset", vec![table("ip"), table("ip6")]),
            ("nft flush chain ip wythe forward", vec![table("ip")]),
            ("nft flush set ip6 wythe subnets", vec![table("ip6")]),
            ("ip link del wythe0", vec![Fault::Bridge(bridge())]),
            ("ip link set wythe0 down", vec![Fault::Down(bridge())]),
            ("ip addr flush dev wythe0", Vec::new()),
        ];
        for (what, expected) in &cases {
            sh(&world.host, what);
            let before = told.recv_timeout(Duration::from_secs(10)).expect(what);
            assert!(expected.iter().all(|fault| before.contains(fault)), "{what}: {before:?}");
            assert_ne!(before, [], "{what}");
            assert_eq!(told.recv_timeout(Duration::from_secs(10)).expect(what), [], "{what}");
            assert!(ask_tcp(&world.outside, HOST, 8080).is_some(), "{what}");
            assert_eq!(ask_tcp(&world.outside, HOST6, 8080), Some(OUTSIDE6.to_string()), "{what}");
            assert!(ask_tcp(&a.namespace, crate::world::OUTSIDE, 81).is_some(), "{what}");
        }
        drop(watching);
        let needless = keeper.join().unwrap();
        assert!(needless <= cases.len(), "what he did himself is heard: {needless} times");
    });
    assert!(told.try_recv().is_err(), "nobody hears what he did himself");
}

#[test]
fn own_changes_are_not_heard_and_those_of_others_are_told_apart() {
    let Some(world) = World::new() else { return };
    let a = world.container("a");
    let (mut watch, watching) = world.net.watch(&world.network).unwrap();
    let held = world.net.reserve(&ports(&["8080:80"]), false).unwrap();
    let forwards: Vec<_> = held.iter().filter_map(|one| one.forward(a.address, None)).collect();
    world.net.publish(&[&world.network], &forwards).unwrap();
    world.net.publish(&[&world.network], &[]).unwrap();
    world.net.restore(&world.network, &["a"], &[&world.network], &[]).unwrap();
    let b = world.container("b");
    drop(b);
    sh(&world.host, "nft add table inet fw");
    assert_eq!(watch.wait(), Some(Heard { rules: true, loss: false }));
    sh(&world.host, "nft delete table ip6 wythe");
    assert_eq!(watch.wait(), Some(Heard { rules: true, loss: true }));
    drop(watching);
    assert_eq!(watch.wait(), None);
    assert!(!watch.settle(Duration::from_secs(60)));
}
