//! Hostile roots: links at, above and below what is to be made.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::symlink,
    },
    path::Path,
};

use super::*;

fn root(directory: &Path) -> OwnedFd {
    fs::File::open(directory).unwrap().into()
}

fn made(directory: &Path, path: &str, make: Make) -> Result<OwnedFd> {
    find_or_make(root(directory).as_fd(), &CString::new(path).unwrap(), make)
}

#[test]
fn what_is_missing_is_made() {
    let top = tempfile::tempdir().unwrap();
    made(top.path(), "/a/b//c", Make::Directory).unwrap();
    made(top.path(), "/a/f", Make::File).unwrap();
    made(top.path(), "/a/f", Make::File).unwrap();
    made(top.path(), "/", Make::Directory).unwrap();
    assert!(top.path().join("a/b/c").is_dir());
    assert!(top.path().join("a/f").is_file());
}

#[test]
fn links_never_lead_out_of_the_root() {
    let top = tempfile::tempdir().unwrap();
    let (inside, outside) = (top.path().join("in"), top.path().join("out"));
    fs::create_dir_all(&inside).unwrap();
    fs::create_dir_all(&outside).unwrap();
    symlink(&outside, inside.join("absolute")).unwrap();
    symlink("../out", inside.join("relative")).unwrap();
    symlink("../../../../../../etc", inside.join("etc")).unwrap();
    for path in ["/absolute/x", "/relative/x", "/etc/x", "/../out/x", "/relative/../../out/y"] {
        // Inside the root it is made, or it is an error; outside nothing appears.
        let _ = made(&inside, path, Make::File);
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert!(inside.join(outside.strip_prefix("/").unwrap()).join("x").is_file());
    assert!(inside.join("out/x").is_file());
}

#[test]
fn links_to_nowhere_are_made_to_lead_somewhere() {
    let top = tempfile::tempdir().unwrap();
    fs::create_dir(top.path().join("etc")).unwrap();
    symlink("../run/resolve/stub.conf", top.path().join("etc/resolv.conf")).unwrap();
    symlink("/var/deep/run", top.path().join("run")).unwrap();
    made(top.path(), "/etc/resolv.conf", Make::File).unwrap();
    assert!(top.path().join("var/deep/run/resolve/stub.conf").is_file());
}

#[test]
fn links_in_a_circle_and_long_paths_are_errors() {
    let top = tempfile::tempdir().unwrap();
    symlink("b", top.path().join("a")).unwrap();
    symlink("a", top.path().join("b")).unwrap();
    assert_eq!(made(top.path(), "/a/x", Make::File).unwrap_err(), Errno::LOOP);
    let long = format!("/{}", "x/".repeat(3000));
    assert!(made(top.path(), &long, Make::Directory).is_err());
}

#[test]
fn magic_links_are_refused() {
    let proc = root(Path::new("/proc"));
    let opened = open(proc.as_fd(), c"/self/fd/0", OFlags::PATH);
    assert_eq!(opened.unwrap_err(), Errno::LOOP);
}

#[test]
fn the_parent_and_the_name_of_a_path() {
    let top = tempfile::tempdir().unwrap();
    let fd = root(top.path());
    let (_, name) = parent_of(fd.as_fd(), c"/dev/null").unwrap();
    assert_eq!(name, c"null");
    assert!(top.path().join("dev").is_dir());
    assert_eq!(parent_of(fd.as_fd(), c"x").unwrap().1, c"x");
    for bad in [c"/", c"/dev/..", c"/dev/", c""] {
        assert!(parent_of(fd.as_fd(), bad).is_err(), "{bad:?}");
    }
}
