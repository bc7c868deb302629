//! Which snapshots go back to which.
//!
//! Pure: what each one goes back to is asked of the caller.

use std::collections::BTreeMap;

use vm::snapshot::CHAIN_MAX;

use crate::name::Name;

/// Those that a snapshot goes back to, the nearest first, or the first that cannot be gone back to:
/// of which nothing is known, or for which the chain is too long. `parent` says what one goes back
/// to, if it knows it.
pub(super) fn older(
    name: &Name,
    parent: impl Fn(&Name) -> Option<Option<Name>>,
) -> Result<Vec<Name>, Name> {
    let mut older = Vec::new();
    while let Some(next) = {
        let last = older.last().unwrap_or(name);
        parent(last).ok_or_else(|| last.clone())?
    } {
        if older.len() + 1 >= CHAIN_MAX {
            return Err(next);
        }
        older.push(next);
    }
    Ok(older)
}

/// What a new snapshot of a machine goes back to that was last saved as, or restored from, `since`:
/// that, if all of its chain is there and has room for one more; else nothing, and it is full.
pub(super) fn base(
    since: Option<&Name>,
    parent: impl Fn(&Name) -> Option<Option<Name>>,
) -> Option<&Name> {
    since.filter(|since| older(since, parent).is_ok_and(|older| older.len() + 2 <= CHAIN_MAX))
}

/// All that go back to a snapshot, however far.
pub(super) fn needing<'a>(name: &Name, parents: &'a BTreeMap<Name, Option<Name>>) -> Vec<&'a Name> {
    let goes_back = |other: &&Name| {
        older(other, |it| parents.get(it).cloned()).is_ok_and(|older| older.contains(name))
    };
    parents.keys().filter(goes_back).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(n: usize) -> Name {
        format!("s{n}").parse().unwrap()
    }

    /// Snapshots of which each goes back to an earlier one that was there, or to none.
    fn tree(parents: &[Option<usize>]) -> BTreeMap<Name, Option<Name>> {
        let parent = |n: usize, to: &Option<usize>| to.filter(|_| n > 0).map(|to| name(to % n));
        parents.iter().enumerate().map(|(n, to)| (name(n), parent(n, to))).collect()
    }

    /// A machine's life: what it does next, saved, saved in full, or gone on from another one.
    #[derive(Clone, Debug)]
    enum Act {
        Save,
        SaveFull,
        Restore(usize),
        Remove(usize),
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            6 => Just(Act::Save),
            1 => Just(Act::SaveFull),
            1 => any::<usize>().prop_map(Act::Restore),
            2 => any::<usize>().prop_map(Act::Remove),
        ]
    }

    proptest! {
        #[test]
        fn whatever_a_machine_goes_through_each_of_its_snapshots_can_be_restored(
            acts in prop::collection::vec(act(), 0..80),
        ) {
            let mut there: BTreeMap<Name, Option<Name>> = BTreeMap::new();
            let mut since: Option<Name> = None;
            for (n, act) in acts.into_iter().enumerate() {
                let some = |n: usize| there.keys().nth(n % there.len().max(1)).cloned();
                match act {
                    Act::Save | Act::SaveFull => {
                        let last = since.as_ref().filter(|_| matches!(act, Act::Save));
                        let parent = base(last, |it| there.get(it).cloned());
                        prop_assert!(parent.is_none() || parent == since.as_ref());
                        let parent = parent.cloned();
                        there.insert(name(n), parent);
                        since = Some(name(n));
                    }
                    Act::Restore(which) => since = some(which).or(since),
                    Act::Remove(which) => if let Some(gone) = some(which)
                        && needing(&gone, &there).is_empty()
                    {
                        there.remove(&gone);
                    },
                }
                for one in there.keys() {
                    let older = older(one, |it| there.get(it).cloned());
                    prop_assert!(older.is_ok_and(|older| older.len() < CHAIN_MAX));
                }
            }
        }

        #[test]
        fn those_that_need_one_are_those_that_lose_something_with_it(
            parents in prop::collection::vec(any::<Option<usize>>(), 1..CHAIN_MAX),
            gone in any::<usize>(),
        ) {
            let all = tree(&parents);
            let gone = name(gone % parents.len());
            let mut left = all.clone();
            left.remove(&gone);
            let broken = left.keys().filter(|one| older(one, |it| left.get(it).cloned()).is_err());
            prop_assert_eq!(needing(&gone, &all), broken.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_chain_has_an_end() {
        let line = |n: usize| tree(&(0..n).map(|n| n.checked_sub(1)).collect::<Vec<_>>());
        let full = line(CHAIN_MAX);
        let parent = |it: &Name| full.get(it).cloned();
        let last = name(CHAIN_MAX - 1);
        assert_eq!(older(&last, parent).unwrap().len(), CHAIN_MAX - 1);
        assert_eq!(base(Some(&last), parent), None);
        assert_eq!(base(Some(&name(CHAIN_MAX - 2)), parent), Some(&name(CHAIN_MAX - 2)));
        // A circle is too long, and what is not there is said.
        assert!(older(&name(0), |_| Some(Some(name(0)))).is_err());
        let lost = |it: &Name| (*it == name(1)).then(|| Some(name(0)));
        assert_eq!(older(&name(1), lost), Err(name(0)));
    }
}
