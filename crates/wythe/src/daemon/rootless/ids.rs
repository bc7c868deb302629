//! Which ids an ordinary user's namespace has. Pure but for [`Host::read`].
//!
//! Source: subuid(5), subgid(5), newuidmap(1).

use std::{env, fs, path::PathBuf};

/// Ranges of one user that are used; the kernel takes 340 lines, and one is the user himself.
const RANGES_MAX: usize = 339;

/// Inside, outside, how many.
pub(crate) type Range = (u32, u32, u32);

/// What the host says of a user.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub(super) passwd: String,
    pub(super) subuid: String,
    pub(super) subgid: String,
    pub(super) gid: u32,
    /// Whether both helpers are installed.
    pub(super) helpers: bool,
}

/// The ids to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) uids: Vec<Range>,
    pub(super) gids: Vec<Range>,
    pub(super) gid: u32,
    /// What would have to be granted for more.
    pub(super) lacks: Option<String>,
}

impl Plan {
    /// Whether there is more than the user himself.
    pub(super) fn has_ranges(&self) -> bool {
        self.uids.len() > 1
    }
}

impl Host {
    pub(super) fn read() -> Host {
        let text = |path| fs::read_to_string(path).unwrap_or_default();
        Host {
            passwd: text("/etc/passwd"),
            subuid: text("/etc/subuid"),
            subgid: text("/etc/subgid"),
            gid: rustix::process::getegid().as_raw(),
            helpers: ["newuidmap", "newgidmap"].iter().all(|name| find(name).is_some()),
        }
    }
}

/// The path of a program.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut files = env::split_paths(&path).chain(usual).map(|directory| directory.join(name));
    files.find(|file| file.is_file())
}

/// This user as root, and behind him the ids that were granted to him.
pub(super) fn plan(uid: u32, host: &Host) -> Plan {
    let name = user_name(&host.passwd, uid);
    let ranges = |text: &str, own: u32| {
        let mut inside = 1;
        let mut all = vec![(0, own, 1)];
        for (outside, count) in granted(text, name, uid).take(RANGES_MAX) {
            all.push((inside, outside, count));
            inside += count;
        }
        all
    };
    let alone = |lacks: String| Plan {
        uids: vec![(0, uid, 1)],
        gids: vec![(0, host.gid, 1)],
        gid: host.gid,
        lacks: Some(lacks),
    };
    let (uids, gids) = (ranges(&host.subuid, uid), ranges(&host.subgid, host.gid));
    let who = name.map_or_else(|| uid.to_string(), str::to_owned);
    if uids.len() == 1 || gids.len() == 1 {
        return alone(format!(
            "users: containers have root alone, whom everything belongs to; more takes ranges in \
             /etc/subuid and /etc/subgid (`usermod --add-subuids 100000-165535 --add-subgids \
             100000-165535 {who}`) and a new start of the daemon"
        ));
    }
    if !host.helpers {
        let what = "users: containers have root alone, though /etc/subuid grants more: newuidmap \
                    and newgidmap are not installed (package uidmap)";
        return alone(what.to_owned());
    }
    Plan { uids, gids, gid: host.gid, lacks: None }
}

/// Ranges granted to a user by name or number; what overflows the ids is cut off.
fn granted<'t>(
    text: &'t str,
    name: Option<&'t str>,
    uid: u32,
) -> impl Iterator<Item = (u32, u32)> + 't {
    let mut left = u32::MAX - 1;
    text.lines().filter_map(move |line| {
        let mut fields = line.trim().split(':');
        let who = fields.next()?;
        let his = Some(who) == name || who.parse() == Ok(uid);
        let start = fields.next().filter(|_| his)?.parse::<u32>().ok()?;
        let count = fields.next()?.parse::<u32>().ok()?.min(u32::MAX - start).min(left);
        left -= count;
        (count > 0).then_some((start, count))
    })
}

fn user_name(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(subuid: &str, subgid: &str) -> Host {
        let passwd = "root:x:0:0::/root:/bin/sh\nme:x:1000:1000::/home/me:/bin/sh\n".to_owned();
        let (subuid, subgid) = (subuid.to_owned(), subgid.to_owned());
        Host { passwd, subuid, subgid, gid: 1001, helpers: true }
    }

    #[test]
    fn ranges_follow_the_user_himself() {
        let text = "you:5:5\nme:100000:65536\n1000:300000:10\nme:bad:1\n";
        let plan = plan(1000, &host(text, "me:200000:65536\n"));
        assert_eq!(plan.uids, [(0, 1000, 1), (1, 100_000, 65_536), (65_537, 300_000, 10)]);
        assert_eq!(plan.gids, [(0, 1001, 1), (1, 200_000, 65_536)]);
        assert!(plan.has_ranges() && plan.lacks.is_none());
    }

    #[test]
    fn without_a_grant_the_user_is_alone_and_told_why() {
        let lone = plan(1000, &host("you:5:5\n", "me:1:1"));
        assert_eq!((lone.uids, lone.gids), (vec![(0, 1000, 1)], vec![(0, 1001, 1)]));
        assert!(lone.lacks.unwrap().contains("usermod --add-subuids"));
        let mut without = host("me:100000:65536", "me:100000:65536");
        without.helpers = false;
        assert!(plan(1000, &without).lacks.unwrap().contains("package uidmap"));
    }

    #[test]
    fn ranges_that_overflow_are_cut() {
        let plan = plan(7, &host("7:4294967290:100\n7:1:4294967295\n", "7:1:1"));
        let end = plan.uids.iter().map(|(inside, _, count)| u64::from(*inside) + u64::from(*count));
        assert!(end.max().unwrap() <= u64::from(u32::MAX));
    }
}
