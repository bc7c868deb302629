//! What a plan names: descriptors, facts, identities.

use std::{
    ffi::CString,
    fs::File,
    io::{self, Read as _},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::Errno,
    mount::{OpenTreeFlags, open_tree},
};
use sys::{
    clone::{self, Namespaces},
    mount::{Change, set_attributes},
    namespace,
};
use workload::{ContainerSpec, DriverError, IdMap, ProcessSpec, RootFs, UserMap, UserSpec};

use crate::{
    op::Slot,
    plan::{Facts, Identity, Source},
};

use super::super::error::OciError;

/// Largest user database that is read, in bytes.
const PASSWD_BYTES_MAX: u64 = 1 << 20;

/// Descriptors that are there already.
pub(super) struct Given {
    pub(super) cgroup_files: Vec<OwnedFd>,
    pub(super) gate: Option<OwnedFd>,
    /// A process of the container that is joined.
    pub(super) target: Option<OwnedFd>,
}

/// The descriptors of a plan, in its order.
pub(super) fn table(sources: &[Source], given: Given) -> Result<Vec<OwnedFd>, DriverError> {
    let Given { cgroup_files, mut gate, mut target } = given;
    let mut cgroup_files = cgroup_files.into_iter();
    let missing = || io::Error::from(Errno::BADF);
    let one = |source: &Source| -> Result<OwnedFd, DriverError> {
        let (what, opened) = match source {
            // They stand in the plan in their own order.
            Source::CgroupFile(_) => {
                ("open the cgroup".to_owned(), cgroup_files.next().ok_or_else(missing))
            }
            Source::Start => ("open the FIFO".to_owned(), gate.take().ok_or_else(missing)),
            Source::Target => ("open the process".to_owned(), target.take().ok_or_else(missing)),
            Source::Namespace(path) => (format!("open {}", path.display()), open_file(path)),
            Source::Root(RootFs::Directory(path)) => {
                (format!("open root {}", path.display()), tree(path, true))
            }
            Source::Bind { path, recursive, change, travel, idmap } => {
                let opened = bind(path, *recursive, [*change, *travel], idmap.as_ref());
                (format!("bind {}", path.display()), opened)
            }
            Source::Stream(_) | Source::Network | Source::Init | Source::Root(_) => {
                ("prepare a descriptor".to_owned(), Err(missing()))
            }
        };
        opened.map_err(|error| DriverError::step(what, &error))
    };
    sources.iter().map(one).collect()
}

/// A detached copy of the mount at a path, changed.
fn bind(
    path: &Path,
    recursive: bool,
    changes: [Change; 2],
    idmap: Option<&UserMap>,
) -> io::Result<OwnedFd> {
    let mount = tree(path, recursive)?;
    if let Some(map) = idmap {
        let namespace = mapped_namespace(map)?;
        let change = Change { recursive, ..Change::default() };
        set_attributes(mount.as_fd(), change, Some(namespace.as_fd()))?;
    }
    for change in changes {
        set_attributes(mount.as_fd(), change, None)?;
    }
    Ok(mount)
}

/// A user namespace with these maps. It needs a process to be made, and none to exist.
fn mapped_namespace(map: &UserMap) -> io::Result<OwnedFd> {
    let child = clone::spawn(Namespaces(Namespaces::USER), None, || {
        // Until it is killed.
        let _ = rustix::event::poll(&mut [], None);
        0
    })?;
    let file = |name: &str| format!("/proc/{}/{name}", child.pid);
    let made = std::fs::write(file("uid_map"), map_lines(&map.uids))
        .and_then(|()| std::fs::write(file("gid_map"), map_lines(&map.gids)))
        .and_then(|()| open_file(Path::new(&file("ns/user"))));
    super::end(&child.pidfd);
    made
}

fn open_file(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

/// A detached copy of the mount at a path.
fn tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    Ok(open_tree(CWD, path, flags)?)
}

/// Enters namespaces for the time of a clone; answers our own, to return to.
pub(super) fn visit(
    visits: &[(Slot, Namespaces)],
    table: &[OwnedFd],
) -> io::Result<Vec<(OwnedFd, Namespaces)>> {
    let mut ours = Vec::new();
    for (slot, kinds) in visits {
        let name = match kinds.0 {
            Namespaces::NET => "net",
            Namespaces::IPC => "ipc",
            Namespaces::UTS => "uts",
            // Entering one counts for children only, so ours is the one that children get.
            Namespaces::PID => "pid",
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        ours.push((open_file(&PathBuf::from("/proc/self/ns").join(name))?, *kinds));
        let namespace = table.get(slot.0).ok_or(Errno::BADF)?;
        namespace::enter(namespace.as_fd(), *kinds)?;
    }
    Ok(ours)
}

/// Returns to our own namespaces.
pub(super) fn return_to(ours: &[(OwnedFd, Namespaces)]) -> io::Result<()> {
    ours.iter().try_for_each(|(fd, kinds)| namespace::enter(fd.as_fd(), *kinds))
}

/// What the host has, as far as this process cares.
pub(super) fn facts(process: &ProcessSpec) -> Facts {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    // Linux 5.9 has 40 of them; older ones are too old for the rest.
    let last = read("/proc/sys/kernel/cap_last_cap").trim().parse().unwrap_or(40);
    Facts {
        last_capability: last,
        apparmor: process.apparmor.is_some()
            && read("/sys/module/apparmor/parameters/enabled").starts_with('Y'),
        selinux: process.selinux.is_some() && Path::new("/sys/fs/selinux/enforce").exists(),
    }
}

/// Where a user database is looked for.
#[derive(Debug)]
pub(super) enum Root<'a> {
    Directory(&'a Path),
    /// The root directory of this process.
    Process(u32),
    Unknown,
}

impl Root<'_> {
    pub(super) fn of(container: &ContainerSpec) -> Root<'_> {
        match &container.root {
            RootFs::Directory(path) => Root::Directory(path),
            RootFs::Overlay { .. } => Root::Unknown,
        }
    }

    fn passwd(&self) -> Option<String> {
        let directory = match self {
            Root::Directory(path) => path.to_path_buf(),
            Root::Process(pid) => PathBuf::from(format!("/proc/{pid}/root")),
            Root::Unknown => return None,
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(directory, flags, Mode::empty()).ok()?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let path = "etc/passwd";
        let file = rustix::fs::openat2(directory, path, flags, Mode::empty(), resolve).ok()?;
        let mut text = String::new();
        File::from(file).take(PASSWD_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text)
    }
}

/// As whom a process runs. The home directory is looked up only where the environment has none.
pub(super) fn identity(process: &ProcessSpec, root: Root<'_>) -> Identity {
    let UserSpec::Ids { uid, gid, groups } = &process.user else {
        // A configuration names users by number.
        return Identity { home: "/".into(), ..Identity::default() };
    };
    let has_home =
        process.env.iter().any(|entry| entry.strip_prefix("HOME=").is_some_and(|h| !h.is_empty()));
    let home = if has_home { None } else { root.passwd().and_then(|text| home(&text, *uid)) };
    let home = home.unwrap_or_else(|| "/".into());
    Identity { uid: *uid, gid: *gid, groups: groups.clone(), home }
}

/// The home directory of a user in passwd(5).
fn home(passwd: &str, uid: u32) -> Option<String> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let of = fields.nth(2)?.parse::<u32>().ok()?;
        let home = fields.nth(2)?;
        (of == uid && !home.is_empty() && !home.contains('\0')).then(|| home.to_owned())
    })
}

/// The lines of `/proc/PID/uid_map`. Source: user_namespaces(7).
pub(super) fn map_lines(ranges: &[IdMap]) -> String {
    ranges.iter().map(|r| format!("{} {} {}\n", r.inside, r.outside, r.count)).collect()
}

/// Our own environment, for a hook without one.
pub(super) fn own_environment() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(key, value)| {
            Some(format!("{}={}", key.into_string().ok()?, value.into_string().ok()?))
        })
        .collect()
}

/// A string for the kernel.
pub(super) fn c_string(text: &[u8]) -> Result<CString, OciError> {
    CString::new(text).map_err(|error| OciError::io("prepare a hook")(io::Error::from(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn homes_come_from_the_user_database() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbad\nuser:x:7:7::/home/u:/bin/sh\nno:x:8:8:::";
        assert_eq!(home(passwd, 7).as_deref(), Some("/home/u"));
        assert_eq!(home(passwd, 0).as_deref(), Some("/root"));
        assert_eq!(home(passwd, 8), None);
        assert_eq!(home(passwd, 9), None);
    }
}
