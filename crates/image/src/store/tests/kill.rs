//! A kill at any step: the next opening succeeds, and the store is as before or as after.

use crate::{
    Import, Store,
    fixture::{Scratch, layer, load, now, simple},
    store::Fuse,
};

/// What is visible of a store.
fn seen(store: &Store) -> Vec<String> {
    let rows = store.list().unwrap();
    rows.iter().map(|row| format!("{} {:?}", row.id, row.tags)).collect()
}

/// Prepares a store, then does something with ever more steps allowed, until it succeeds.
fn check(prepare: impl Fn(&Store), act: impl Fn(&Store) -> bool) {
    for steps in 0..200 {
        let scratch = Scratch::new();
        let before = {
            let store = scratch.open();
            prepare(&store);
            seen(&store)
        };
        let fuse = Fuse::after(steps);
        let done = scratch.open_with(fuse).is_ok_and(|store| act(&store));
        let store = scratch.open();
        let after = seen(&store);
        let audit = store.audit(&[], true).unwrap();
        assert!(audit.is_sound(), "after {steps} steps: {audit:?}");
        store.collect(&[]).unwrap();
        let audit = store.audit(&[], true).unwrap();
        assert!(audit.is_sound() && audit.extra.is_empty(), "after {steps} steps: {audit:?}");
        if done {
            assert!(steps > 5, "a change takes more steps than {steps}");
            return;
        }
        // A kill between the change and the answer is a success that nobody heard of; it can be
        // done again unless that is what it was.
        let changed = after != before;
        assert!(act(&store) || changed, "after {steps} steps");
    }
    panic!("it never succeeded");
}

#[test]
fn during_a_load() {
    let archive = simple("web:1", &[layer("a", "one"), layer("b", &"x".repeat(100_000)).gzipped()]);
    check(
        |store| drop(load(store, &simple("had:1", &[layer("a", "one")])).unwrap()),
        |store| load(store, &archive).is_ok(),
    );
}

#[test]
fn during_a_removal() {
    check(
        |store| {
            load(store, &simple("web:1", &[layer("a", "one"), layer("b", "two")])).unwrap();
            load(store, &simple("had:1", &[layer("a", "one")])).unwrap();
        },
        |store| store.remove("web:1", false, &[], &[]).is_ok(),
    );
}

#[test]
fn while_a_name_moves() {
    check(
        |store| {
            load(store, &simple("web:1", &[layer("a", "one")])).unwrap();
            load(store, &simple("had:1", &[layer("a", "two")])).unwrap();
        },
        |store| store.tag("web:1", "had:1", now()).is_ok(),
    );
}

#[test]
fn during_an_import() {
    let rootfs = crate::fixture::tar([("bin/sh", &b"#!"[..])]);
    let import = Import {
        name: Some("debian".parse().unwrap()),
        platform: "linux/amd64".parse().unwrap(),
        changes: Vec::new(),
        message: None,
        now: now(),
    };
    check(
        |store| drop(load(store, &simple("had:1", &[layer("a", "one")])).unwrap()),
        |store| store.import(rootfs.as_slice(), &import, &mut |_| {}).is_ok(),
    );
}

#[test]
fn during_a_prune() {
    check(
        |store| {
            load(store, &simple("web:1", &[layer("a", "one")])).unwrap();
            load(store, &simple("web:1", &[layer("a", "two")])).unwrap();
        },
        |store| store.prune(false, &|_| true, &[]).is_ok(),
    );
}
