//! The user namespace of this process: which ids it knows.
//!
//! Source: user_namespaces(7), proc_pid_uid_map(5).

use std::{fs, io};

/// A stretch of ids that are known inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first, as it is called inside.
    pub inside: u32,
    /// The first, as it is called in the namespace around.
    pub outside: u32,
    /// How many follow one another.
    pub count: u32,
}

/// The ids of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// Users.
    pub uids: Vec<Range>,
    /// Groups.
    pub gids: Vec<Range>,
    /// Whether a process may change which groups it is in.
    pub setgroups: bool,
}

impl Ids {
    /// Those of the calling process's namespace.
    ///
    /// # Errors
    /// Where `/proc` cannot be read.
    pub fn own() -> io::Result<Ids> {
        let ranges = |file| Ok::<_, io::Error>(parse(&fs::read_to_string(file)?));
        let setgroups = fs::read_to_string("/proc/self/setgroups")?;
        Ok(Ids {
            uids: ranges("/proc/self/uid_map")?,
            gids: ranges("/proc/self/gid_map")?,
            setgroups: setgroups.trim() == "allow",
        })
    }

    /// Those of a namespace that knows the calling process's user and group, by their own names.
    pub fn alone() -> Ids {
        let one = |id| vec![Range { inside: id, outside: id, count: 1 }];
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        Ids { uids: one(uid.as_raw()), gids: one(gid.as_raw()), setgroups: false }
    }

    /// Whether it knows every id by its own name: the namespace that a host boots with does.
    pub fn is_initial(&self) -> bool {
        let all = [Range { inside: 0, outside: 0, count: u32::MAX }];
        self.uids == all && self.gids == all
    }

    /// Whether a user is known inside.
    pub fn has_uid(&self, uid: u32) -> bool {
        self.uids.iter().any(|range| range.has(uid))
    }

    /// Whether a group is known inside.
    pub fn has_gid(&self, gid: u32) -> bool {
        self.gids.iter().any(|range| range.has(gid))
    }
}

impl Range {
    fn has(self, inside: u32) -> bool {
        inside >= self.inside && inside - self.inside < self.count
    }
}

/// Whether the calling process is in a user namespace that knows some ids only. Where `/proc`
/// cannot be read it is taken for the host's own.
pub fn is_confined() -> bool {
    Ids::own().is_ok_and(|ids| !ids.is_initial())
}

/// Three numbers a line; lines that are none are passed over.
fn parse(text: &str) -> Vec<Range> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse::<u32>().ok());
        let mut next = || numbers.next().flatten();
        Some(Range { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &str) -> Ids {
        Ids { uids: parse(text), gids: parse(text), setgroups: true }
    }

    #[test]
    fn the_initial_namespace_knows_all_ids() {
        assert!(ids("         0          0 4294967295\n").is_initial());
        assert!(!ids("0 1000 1\n").is_initial());
        assert!(!ids("").is_initial());
    }

    #[test]
    fn ids_are_known_by_their_ranges() {
        let ids = ids("0 1000 1\n1 100000 65536\n");
        for (uid, known) in [(0, true), (1, true), (65_536, true), (65_537, false)] {
            assert_eq!(ids.has_uid(uid), known, "{uid}");
            assert_eq!(ids.has_gid(uid), known, "{uid}");
        }
    }
}
