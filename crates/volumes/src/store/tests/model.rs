//! Random operations, with a model in memory beside them and the store reopened in between.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Op {
    Create(u8),
    Remove(u8),
    Hold(u8, u8),
    Release(u8),
    Write(u8, u8),
    Snapshot(u8, u8),
    Restore(u8, u8),
    RemoveSnapshot(u8, u8),
    Clone(u8, u8),
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let (v, s, u) = (0..3_u8, 0..2_u8, 0..2_u8);
    prop_oneof![
        3 => v.clone().prop_map(Op::Create),
        1 => v.clone().prop_map(Op::Remove),
        1 => (u.clone(), v.clone()).prop_map(|(u, v)| Op::Hold(u, v)),
        1 => u.prop_map(Op::Release),
        3 => (v.clone(), any::<u8>()).prop_map(|(v, b)| Op::Write(v, b)),
        2 => (v.clone(), s.clone()).prop_map(|(v, s)| Op::Snapshot(v, s)),
        2 => (v.clone(), s.clone()).prop_map(|(v, s)| Op::Restore(v, s)),
        1 => (v.clone(), s).prop_map(|(v, s)| Op::RemoveSnapshot(v, s)),
        1 => (v.clone(), v).prop_map(|(a, b)| Op::Clone(a, b)),
        1 => Just(Op::Reopen),
    ]
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    content: Option<u8>,
    snapshots: BTreeMap<u8, Option<u8>>,
}

fn v(number: u8) -> String {
    format!("v{number}")
}

fn s(number: u8) -> String {
    format!("s{number}")
}

fn content(path: &Path) -> Option<u8> {
    fs::read(path.join("file")).ok().map(|bytes| bytes[0])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn the_store_is_what_the_model_says(ops in prop::collection::vec(op(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut real = store(&dir);
        let mut model: BTreeMap<u8, Model> = BTreeMap::new();
        let mut users: BTreeMap<u8, BTreeSet<u8>> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Create(n) => {
                    real.create(new(&v(n))).unwrap();
                    model.entry(n).or_default();
                }
                Op::Remove(n) => {
                    let used = users.get(&n).is_some_and(|users| !users.is_empty());
                    let goes = model.contains_key(&n) && !used;
                    prop_assert_eq!(real.remove(&v(n)).is_ok(), goes);
                    if goes {
                        model.remove(&n);
                    }
                }
                Op::Hold(u, n) => {
                    let goes = model.contains_key(&n);
                    prop_assert_eq!(real.hold(&u.to_string(), [v(n).as_str()]).is_ok(), goes);
                    if goes {
                        users.entry(n).or_default().insert(u);
                    }
                }
                Op::Release(u) => {
                    real.release(&u.to_string());
                    for users in users.values_mut() {
                        users.remove(&u);
                    }
                }
                Op::Write(n, byte) => if let Some(model) = model.get_mut(&n) {
                    fs::write(real.get(&v(n)).unwrap().path.join("file"), [byte]).unwrap();
                    model.content = Some(byte);
                },
                Op::Snapshot(n, k) => {
                    let goes = model.get(&n).is_some_and(|m| !m.snapshots.contains_key(&k));
                    prop_assert_eq!(real.snapshot(&v(n), Some(&s(k))).is_ok(), goes);
                    if let Some(model) = model.get_mut(&n).filter(|_| goes) {
                        model.snapshots.insert(k, model.content);
                    }
                }
                Op::Restore(n, k) => {
                    let kept = model.get(&n).and_then(|m| m.snapshots.get(&k)).copied();
                    prop_assert_eq!(real.restore(&v(n), &s(k)).is_ok(), kept.is_some());
                    if let (Some(kept), Some(model)) = (kept, model.get_mut(&n)) {
                        model.content = kept;
                    }
                }
                Op::RemoveSnapshot(n, k) => {
                    let there = model.get_mut(&n).is_some_and(|m| m.snapshots.remove(&k).is_some());
                    prop_assert_eq!(real.remove_snapshot(&v(n), &s(k)).is_ok(), there);
                }
                Op::Clone(from, to) => {
                    let goes = model.contains_key(&from) && !model.contains_key(&to);
                    prop_assert_eq!(real.clone_volume(&v(from), &v(to)).is_ok(), goes);
                    if goes {
                        let content = model[&from].content;
                        model.insert(to, Model { content, ..Model::default() });
                    }
                }
                Op::Reopen => {
                    drop(real);
                    real = store(&dir);
                    for (n, users) in &users {
                        for u in users {
                            real.hold(&u.to_string(), [v(*n).as_str()]).unwrap();
                        }
                    }
                }
            }
            let listed: Vec<_> = real.list().iter().map(|volume| volume.name.to_string()).collect();
            prop_assert_eq!(listed, model.keys().map(|n| v(*n)).collect::<Vec<_>>());
            for (n, model) in &model {
                prop_assert_eq!(content(&real.get(&v(*n)).unwrap().path), model.content);
                let snapshots = real.snapshots(&v(*n)).unwrap();
                prop_assert_eq!(snapshots.len(), model.snapshots.len());
            }
        }
    }
}
