//! Reads which cgroup file systems are mounted, and where this process stands in each.
//!
//! Pure: text in, table out. Sources: proc_pid_mountinfo(5), cgroups(7).

use std::path::PathBuf;

use crate::controller::Controller;

/// One mounted cgroup file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mounted {
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// Which group of the hierarchy its top is, as this process's cgroup namespace names it.
    pub(crate) root: String,
    /// Whether it can only be read.
    pub(crate) read_only: bool,
    /// Its controllers and name, sorted and joined by commas; empty for version 2.
    pub(crate) identity: String,
    /// Which hierarchy it is.
    pub(crate) kind: Kind,
    /// The group this process stands in, named as `root` is.
    pub(crate) own: Option<String>,
}

/// Which hierarchy a file system shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Version 1 with these controllers; none for a named hierarchy (`name=systemd`) or one of
    /// controllers that limit nothing we know.
    One(Vec<Controller>),
    /// Version 2.
    Two,
}

impl Mounted {
    /// Whether this process stands elsewhere than at the top.
    pub(crate) fn own_is_below(&self) -> bool {
        self.own.as_ref().is_some_and(|own| *own != self.root)
    }

    /// A path of `/proc/PID/cgroup`, seen from the top of this mount: `wythe/a`.
    pub(crate) fn relative<'a>(&self, path: &'a str) -> Option<&'a str> {
        let below = path.strip_prefix(self.root.trim_end_matches('/'))?;
        (below.is_empty() || below.starts_with('/')).then(|| below.trim_start_matches('/'))
    }
}

/// All cgroup file systems of `/proc/self/mountinfo`, each hierarchy once: of several mounts of
/// one hierarchy the one that shows most of it, and of those the first.
pub(crate) fn parse(mountinfo: &str, own: &str) -> Vec<Mounted> {
    let mut found: Vec<Mounted> = Vec::new();
    for mounted in mountinfo.lines().filter_map(|line| parse_line(line, own)) {
        match found.iter_mut().find(|known| known.identity == mounted.identity) {
            None => found.push(mounted),
            Some(known) if better(&mounted, known) => *known = mounted,
            Some(_) => {}
        }
    }
    found
}

fn better(new: &Mounted, known: &Mounted) -> bool {
    (new.read_only, new.root.len()) < (known.read_only, known.root.len())
}

fn parse_line(line: &str, own: &str) -> Option<Mounted> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point, options) = (mount.next()?, mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    let (fstype, _source, super_options) =
        (filesystem.next()?, filesystem.next()?, filesystem.next()?);
    let read_only = |options: &str| options.split(',').any(|option| option == "ro");

    let (identity, kind) = match fstype {
        "cgroup2" => (String::new(), Kind::Two),
        "cgroup" => {
            let names = hierarchy_names(super_options);
            let known = names.iter().filter_map(|name| Controller::from_v1_name(name)).collect();
            (names.join(","), Kind::One(known))
        }
        _ => return None,
    };
    Some(Mounted {
        point: PathBuf::from(unescape(point)),
        root: unescape(root),
        read_only: read_only(options) || read_only(super_options),
        own: own_path(own, &identity),
        identity,
        kind,
    })
}

/// The controllers and the name of a version 1 hierarchy, sorted, from its mount options.
fn hierarchy_names(super_options: &str) -> Vec<&str> {
    /// Mount options that say how, not what (cgroup1_show_options in the kernel).
    const OTHER: [&str; 7] =
        ["rw", "ro", "noprefix", "xattr", "clone_children", "cpuset_v2_mode", "favordynmods"];
    let mut names: Vec<&str> = super_options
        .split(',')
        .filter(|option| !OTHER.contains(option) && !option.starts_with("release_agent="))
        .collect();
    names.sort_unstable();
    names
}

/// The path on the line of `/proc/PID/cgroup` for this hierarchy.
pub(crate) fn own_path(text: &str, identity: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (number, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let mut names: Vec<&str> = controllers.split(',').collect();
        names.sort_unstable();
        let version_2 = number == "0" && controllers.is_empty();
        let same = if identity.is_empty() { version_2 } else { names.join(",") == identity };
        same.then(|| path.to_owned())
    })
}

/// Undoes mountinfo's octal escapes (`\040` for a space).
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match byte.filter(u8::is_ascii) {
            Some(byte) => {
                out.push(char::from(byte));
                out.push_str(part.get(3..).unwrap_or_default());
            }
            None => {
                out.push('\\');
                out.push_str(part);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A recorded tree: one line per mount, with what placement depends on.
    fn check(mountinfo: &str, own: &str, expected: &str) {
        let mut text = String::new();
        for Mounted { point, root, read_only, kind, own, .. } in parse(mountinfo, own) {
            let own = own.as_deref().unwrap_or("-");
            let mode = if read_only { "ro" } else { "rw" };
            text += &format!("{} {mode} {kind:?} root={root} own={own}\n", point.display());
        }
        assert_eq!(text, expected);
    }

    #[test]
    fn a_hybrid_tree_with_comounted_controllers_is_read() {
        check(
            "\
26 23 0:23 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
27 26 0:24 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
28 26 0:25 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
30 26 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
31 26 0:28 / /sys/fs/cgroup/net_cls,net_prio rw shared:16 - cgroup cgroup rw,net_cls,net_prio
",
            "\
5:net_cls,net_prio:/
4:cpuacct,cpu:/user.slice
1:name=systemd:/system.slice/wythe.service
0::/system.slice/wythe.service
",
            "\
/sys/fs/cgroup/unified rw Two root=/ own=/system.slice/wythe.service
/sys/fs/cgroup/systemd rw One([]) root=/ own=/system.slice/wythe.service
/sys/fs/cgroup/cpu,cpuacct rw One([Cpu, Cpuacct]) root=/ own=/user.slice
/sys/fs/cgroup/net_cls,net_prio rw One([]) root=/ own=/
",
        );
    }

    #[test]
    fn of_two_mounts_of_a_hierarchy_the_one_that_shows_more_is_taken() {
        check(
            "\
1 0 0:1 /docker/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
2 0 0:1 / /mnt/my\\040memory rw - cgroup cgroup rw,memory
",
            "4:memory:/docker/a\n",
            "/mnt/my memory rw One([Memory]) root=/ own=/docker/a\n",
        );
    }

    #[test]
    fn a_version_2_tree_is_read() {
        check(
            "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/init.scope\n",
            "/sys/fs/cgroup rw Two root=/ own=/init.scope\n",
        );
    }

    #[test]
    fn paths_are_seen_from_the_top_of_the_mount() {
        let mounted = |root: &str| Mounted {
            point: "/c".into(),
            root: root.into(),
            read_only: false,
            identity: String::new(),
            kind: Kind::Two,
            own: None,
        };
        assert_eq!(mounted("/").relative("/a/b"), Some("a/b"));
        assert_eq!(mounted("/a").relative("/a/b"), Some("b"));
        assert_eq!(mounted("/a").relative("/a"), Some(""));
        assert_eq!(mounted("/a").relative("/ab"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(mountinfo in ".{0,200}", own in ".{0,80}") {
            parse(&mountinfo, &own);
        }

        #[test]
        fn any_line_of_the_right_shape_is_found(point in "/[a-z\\\\0-9]{0,12}") {
            let line = format!("1 0 0:1 / {point} rw - cgroup2 none rw");
            prop_assert_eq!(parse(&line, "").len(), 1);
        }
    }
}
