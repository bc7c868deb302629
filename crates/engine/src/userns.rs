//! Which ids of the host stand for a container's own. Pure but for [`Pool::read`].
//!
//! A container that asks for a user namespace without saying which ids gets a stretch that no
//! other container has, so that whoever breaks out of one is nobody on the host and nobody in the
//! others. What is on disk keeps its owners: layers are seen through an id map.

use std::fs;

use workload::{IdMap, UserMap};

use crate::{Create, EngineError, plan::invalid};

/// How many ids a container has.
const COUNT: u32 = 65_536;
/// The ids of hosts that grant none in particular: above those that systemd hands out to its own
/// containers, below those that many programs take for negative. Source: systemd's
/// "Users, Groups, UIDs and GIDs on systemd Systems".
const POOL: Pool = Pool { first: 0x7000_0000, count: 0x1000_0000 };
/// Whom hosts grant ids in `/etc/subuid` and `/etc/subgid` for containers of root's, as podman
/// reads them.
const OWNER: &str = "containers";

/// Ids that are for containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    first: u32,
    count: u32,
}

impl Pool {
    /// What the host grants.
    pub(crate) fn read() -> Pool {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        granted(&text("/etc/subuid"), &text("/etc/subgid"))
    }
}

/// The stretch that both files grant, if there is room for a container in it.
fn granted(subuid: &str, subgid: &str) -> Pool {
    let stretch = |text: &str| {
        text.lines().find_map(|line| {
            let (first, count) = line.strip_prefix(OWNER)?.strip_prefix(':')?.split_once(':')?;
            Some(Pool { first: first.trim().parse().ok()?, count: count.trim().parse().ok()? })
        })
    };
    let both = stretch(subuid).filter(|pool| stretch(subgid) == Some(*pool));
    both.filter(|pool| pool.count >= COUNT && pool.first.checked_add(pool.count).is_some())
        .unwrap_or(POOL)
}

/// Chooses the ids of a container that left them open; `others` are those of every other one and
/// `seed` is where the search begins, so that two that are made at once do not meet.
///
/// # Errors
/// If there are no more, or if the engine is in a user namespace itself.
pub(crate) fn choose<'m>(
    config: &mut Create,
    confined: bool,
    pool: Pool,
    others: impl Iterator<Item = &'m UserMap>,
    seed: u64,
) -> Result<(), EngineError> {
    let Some(map) = &mut config.user_map else { return Ok(()) };
    if confined {
        let why = "containers of an ordinary user are in his user namespace already: use host";
        return Err(invalid("userns", why.to_owned()));
    }
    if !map.uids.is_empty() {
        return Ok(());
    }
    let taken: Vec<IdMap> =
        others.flat_map(|map| map.uids.iter().chain(&map.gids)).copied().collect();
    let stretches = u64::from(pool.count / COUNT);
    let free = (0..stretches)
        .filter_map(|offset| u32::try_from((seed + offset) % stretches).ok())
        .map(|stretch| IdMap { inside: 0, outside: pool.first + stretch * COUNT, count: COUNT })
        .find(|wanted| !taken.iter().any(|other| overlap(wanted, other)));
    let none = || invalid("userns", "every stretch of ids has a container already".to_owned());
    let free = free.ok_or_else(none)?;
    (map.uids, map.gids) = (vec![free], vec![free]);
    Ok(())
}

fn overlap(one: &IdMap, other: &IdMap) -> bool {
    let end = |map: &IdMap| u64::from(map.outside) + u64::from(map.count);
    u64::from(one.outside) < end(other) && u64::from(other.outside) < end(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Create {
        Create { user_map: Some(UserMap::default()), ..Create::default() }
    }

    fn chosen(pool: Pool, others: &[UserMap], seed: u64) -> Option<u32> {
        let mut config = open();
        choose(&mut config, false, pool, others.iter(), seed).ok()?;
        let map = config.user_map?;
        assert_eq!(map.uids, map.gids);
        Some(map.uids.first()?.outside)
    }

    #[test]
    fn every_container_has_a_stretch_of_its_own() {
        let pool = Pool { first: 100_000, count: 3 * COUNT + 7 };
        let mut all: Vec<UserMap> = Vec::new();
        for expected in [100_000 + COUNT, 100_000 + 2 * COUNT, 100_000] {
            assert_eq!(chosen(pool, &all, 4), Some(expected));
            let map = vec![IdMap { inside: 0, outside: expected, count: COUNT }];
            all.push(UserMap { uids: map.clone(), gids: map, join: None });
        }
        assert_eq!(chosen(pool, &all, 4), None);
    }

    #[test]
    fn what_was_said_stays_and_nothing_is_nested() {
        let map = vec![IdMap { inside: 0, outside: 5, count: 1 }];
        let said = UserMap { uids: map.clone(), gids: map, join: None };
        let mut config = Create { user_map: Some(said.clone()), ..Create::default() };
        choose(&mut config, false, POOL, std::iter::empty(), 0).unwrap();
        assert_eq!(config.user_map, Some(said));
        assert!(choose(&mut open(), true, POOL, std::iter::empty(), 0).is_err());
        choose(&mut Create::default(), true, POOL, std::iter::empty(), 0).unwrap();
    }

    #[test]
    fn a_grant_counts_if_both_files_have_it() {
        let grant = "me:1:1\ncontainers:200000:1000000\n";
        assert_eq!(granted(grant, grant), Pool { first: 200_000, count: 1_000_000 });
        assert_eq!(granted(grant, "containers:1:1000000"), POOL);
        assert_eq!(granted("containers:4294967290:1000000", ""), POOL);
    }
}
