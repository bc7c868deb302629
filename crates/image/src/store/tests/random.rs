//! Whatever is done, in whatever order: what is needed is there, and nothing else.

use std::thread;

use proptest::prelude::*;

use crate::{
    Store,
    fixture::{Scratch, layer, load, now, simple},
    store::ContainerUse,
};

#[derive(Clone, Debug)]
enum Step {
    Load { name: u8, layers: Vec<u8> },
    Tag { from: u8, to: u8 },
    Remove { name: u8, force: bool },
    Container { name: u8 },
    Gone,
    Collect,
    Prune { all: bool },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..4_u8, prop::collection::vec(0..5_u8, 0..4))
            .prop_map(|(name, layers)| Step::Load { name, layers }),
        1 => (0..4_u8, 0..4_u8).prop_map(|(from, to)| Step::Tag { from, to }),
        2 => (0..4_u8, any::<bool>()).prop_map(|(name, force)| Step::Remove { name, force }),
        1 => (0..4_u8).prop_map(|name| Step::Container { name }),
        1 => Just(Step::Gone),
        1 => Just(Step::Collect),
        1 => any::<bool>().prop_map(|all| Step::Prune { all }),
        1 => Just(Step::Reopen),
    ]
}

fn archive(name: u8, layers: &[u8]) -> Vec<u8> {
    let layers: Vec<_> = layers.iter().map(|n| layer("a", &n.to_string())).collect();
    simple(&format!("i{name}:1"), &layers)
}

fn run(store: Store, scratch: &Scratch, step: &Step, containers: &mut Vec<ContainerUse>) -> Store {
    let named = |name: &u8| format!("i{name}:1");
    match step {
        Step::Load { name, layers } => drop(load(&store, &archive(*name, layers)).unwrap()),
        Step::Tag { from, to } => drop(store.tag(&named(from), &named(to), now())),
        Step::Remove { name, force } => drop(store.remove(&named(name), *force, &[], containers)),
        Step::Container { name } => {
            if let Ok(image) = store.image(&named(name), None) {
                let container = format!("c{name}");
                let (image, layers) = (image.id, image.layers);
                containers.push(ContainerUse { container, image, layers, running: false });
            }
        }
        Step::Gone => drop(containers.pop()),
        Step::Collect => drop(store.collect(containers).unwrap()),
        Step::Prune { all } => drop(store.prune(*all, &|_| true, containers).unwrap()),
        Step::Reopen => {
            drop(store);
            return scratch.open();
        }
    }
    store
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn what_is_needed_stays_and_the_rest_goes(steps in prop::collection::vec(step(), 1..24)) {
        let scratch = Scratch::new();
        let mut store = scratch.open();
        let mut containers = Vec::new();
        for step in &steps {
            store = run(store, &scratch, step, &mut containers);
            let audit = store.audit(&containers, true).unwrap();
            prop_assert!(audit.is_sound(), "{step:?}: {audit:?}");
            for layer in containers.iter().flat_map(|c| &c.layers) {
                prop_assert!(store.layer_path(layer).exists(), "{step:?} took a container's layer");
            }
        }
        store.collect(&containers).unwrap();
        let audit = store.audit(&containers, true).unwrap();
        prop_assert!(audit.extra.is_empty(), "{audit:?}");
    }
}

#[test]
fn loads_at_the_same_time_as_collections_all_succeed() {
    let scratch = Scratch::new();
    let store = scratch.open();
    thread::scope(|scope| {
        for name in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..6 {
                    load(store, &archive(name, &[0, 1, name, round % 3])).unwrap();
                    if round % 2 == 0 {
                        store.remove(&format!("i{name}:1"), true, &[], &[]).unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..40 {
                store.collect(&[]).unwrap();
            }
        });
    });
    store.collect(&[]).unwrap();
    let audit = store.audit(&[], true).unwrap();
    assert!(audit.is_sound() && audit.extra.is_empty(), "{audit:?}");
    let names: usize = store.list().unwrap().iter().map(|row| row.tags.len()).sum();
    assert_eq!(names, 4);
}
