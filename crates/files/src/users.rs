//! Users and groups, looked up in a root's own `/etc/passwd` and `/etc/group`.
//!
//! Both files are the container's: they are opened beneath its root, read up to a limit, and
//! lines that are not entries are passed over.
//!
//! Source: passwd(5), group(5); the rules are those of Docker's `--user` and `--group-add`.

use std::{io::Read, os::fd::BorrowedFd};

use rustix::fs::{FileType, OFlags};

use crate::{beneath, object::Object};

/// Who somebody is, looked up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
    /// Home directory.
    pub home: String,
}

/// A name that is nobody's, or an id that may not be given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoSuchUser(String);

const PASSWD: &[u8] = b"/etc/passwd";
const GROUP: &[u8] = b"/etc/group";
/// Longest user database that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Largest id that may be given by number: the kernel's ids are unsigned, but the last ones
/// have meanings (`(uid_t) -1`), and Docker draws the line here.
const ID_MAX: u32 = i32::MAX.unsigned_abs();

/// The two files' texts.
struct Database {
    passwd: String,
    group: String,
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Database {
    fn of(root: BorrowedFd<'_>) -> Database {
        Database { passwd: read(root, PASSWD), group: read(root, GROUP) }
    }

    fn users(&self) -> impl Iterator<Item = User<'_>> {
        self.passwd.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { name, uid, gid, home: fields.nth(1).unwrap_or_default() })
        })
    }

    fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.trim().split(':');
            let name = fields.next().filter(|name| !name.is_empty())?;
            let gid = fields.nth(1)?.parse().ok()?;
            Some(Group { name, gid, members: fields.next().unwrap_or_default() })
        })
    }
}

/// Looks up `user[:group]`, each a name or a number, and further groups; an empty user is root.
///
/// # Errors
/// [`NoSuchUser`] for a name that is in neither file, or an id that is too large.
pub fn look_up(
    root: BorrowedFd<'_>,
    user: &str,
    groups: &[String],
) -> Result<Identity, NoSuchUser> {
    named(&Database::of(root), user, groups)
}

/// The home directory of the user with this id.
pub fn home_of(root: BorrowedFd<'_>, uid: u32) -> String {
    let database = Database { passwd: read(root, PASSWD), group: String::new() };
    home_or_root(database.users().find(|user| user.uid == uid).map(|user| user.home))
}

fn named(database: &Database, spec: &str, more: &[String]) -> Result<Identity, NoSuchUser> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let wanted = if user.is_empty() { "0" } else { user };
    let number: Option<u32> = wanted.parse().ok();
    let entry = database.users().find(|entry| entry.name == user || number == Some(entry.uid));
    let mut identity = match (&entry, number) {
        (Some(entry), _) => Identity {
            uid: entry.uid,
            gid: entry.gid,
            groups: Vec::new(),
            home: home_or_root(Some(entry.home)),
        },
        (None, Some(uid)) => Identity { uid, home: home_or_root(None), ..Identity::default() },
        (None, None) => return Err(missing("user", user, "passwd")),
    };
    if !group.is_empty() {
        identity.gid = group_id(database, group)?;
    } else if let Some(entry) = &entry {
        let member = |group: &Group<'_>| group.members.split(',').any(|name| name == entry.name);
        identity.groups = database.groups().filter(member).map(|group| group.gid).collect();
    }
    for group in more {
        let gid = group_id(database, group)?;
        if !identity.groups.contains(&gid) {
            identity.groups.push(gid);
        }
    }
    if [identity.uid, identity.gid].iter().chain(&identity.groups).any(|id| *id > ID_MAX) {
        return Err(NoSuchUser(format!("uids and gids must be in range 0-{ID_MAX}")));
    }
    Ok(identity)
}

fn group_id(database: &Database, name: &str) -> Result<u32, NoSuchUser> {
    let number: Option<u32> = name.parse().ok();
    let entry = database.groups().find(|group| group.name == name || number == Some(group.gid));
    entry.map(|group| group.gid).or(number).ok_or_else(|| missing("group", name, "group"))
}

fn home_or_root(home: Option<&str>) -> String {
    home.filter(|home| !home.is_empty()).unwrap_or("/").to_owned()
}

fn missing(what: &str, name: &str, file: &str) -> NoSuchUser {
    NoSuchUser(format!("unable to find {what} {name}: no matching entries in {file} file"))
}

/// A user database, or an empty one if there is none that can be read: a FIFO or a device in its
/// place must not hold anybody up.
fn read(root: BorrowedFd<'_>, path: &[u8]) -> String {
    let found = beneath::open_in_root(root, path, OFlags::PATH).and_then(Object::new);
    let found = found.ok().filter(|found| found.kind() == FileType::RegularFile);
    // What was looked at, and not what stands there by now: to open a device may do things.
    let Some(file) = found.and_then(|found| found.open_file().ok()) else { return String::new() };
    let mut text = Vec::new();
    match file.take(FILE_BYTES_MAX).read_to_end(&mut text) {
        Ok(_) => String::from_utf8_lossy(&text).into_owned(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::fd::AsFd as _};

    use super::*;

    fn database() -> Database {
        Database {
            passwd: "root:x:0:0:root:/root:/bin/sh\n\
                     # comment\n\
                     broken:x:no:1:\n\
                     web:x:33:33:www:/var/www:/bin/false\n\
                     1000:x:5:5::/odd:/bin/sh\n"
                .into(),
            group: "root:x:0:\nwww:x:33:\naudio:x:29:web,root\nplug:x:46:web\n".into(),
        }
    }

    fn look(spec: &str, more: &[&str]) -> Result<(u32, u32, Vec<u32>, String), String> {
        let more: Vec<String> = more.iter().map(|name| (*name).to_owned()).collect();
        named(&database(), spec, &more)
            .map(|found| (found.uid, found.gid, found.groups, found.home))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn users_and_groups_are_found_as_docker_finds_them() {
        let ok =
            |uid, gid, groups: &[u32], home: &str| Ok((uid, gid, groups.to_vec(), home.into()));
        assert_eq!(look("", &[]), ok(0, 0, &[29], "/root"));
        assert_eq!(look("web", &[]), ok(33, 33, &[29, 46], "/var/www"));
        assert_eq!(look("33", &[]), ok(33, 33, &[29, 46], "/var/www"));
        assert_eq!(look("web:audio", &[]), ok(33, 29, &[], "/var/www"));
        assert_eq!(look("web:77", &["plug", "5"]), ok(33, 77, &[46, 5], "/var/www"));
        assert_eq!(look("4242", &[]), ok(4242, 0, &[], "/"));
        assert_eq!(look("1000", &[]), ok(5, 5, &[], "/odd"), "names come before numbers");
        assert_eq!(look(":www", &[]), ok(0, 33, &[], "/root"));
    }

    #[test]
    fn unknown_names_and_large_numbers_are_refused_in_dockers_words() {
        let cases = [
            ("nobody", "unable to find user nobody: no matching entries in passwd file"),
            ("web:x", "unable to find group x: no matching entries in group file"),
            ("2147483648", "uids and gids must be in range 0-2147483647"),
            ("-1", "unable to find user -1: no matching entries in passwd file"),
        ];
        for (spec, text) in cases {
            assert_eq!(look(spec, &[]).unwrap_err(), text);
        }
    }

    #[test]
    fn databases_that_are_no_files_read_as_empty() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("etc/passwd")).unwrap();
        let fd = File::open(root.path()).unwrap();
        assert_eq!(read(fd.as_fd(), PASSWD), "");
        assert_eq!(read(fd.as_fd(), GROUP), "");
    }
}
