//! Filling, parts and memory: what takes root, and what a hostile volume or image tries.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};

use rustix::{
    fs::{FileType, Gid, Mode, Uid, XattrFlags, chownat, mknodat},
    io::Errno,
};

use super::*;

fn filled(volume: &str, from: &str) -> Use {
    Use { fill_from: Some(from.into()), ..wanted(volume) }
}

/// Two layers with a bit of everything below `/srv`.
fn layers(dir: &TempDir) -> Vec<PathBuf> {
    let (bottom, top) = (dir.path().join("bottom"), dir.path().join("top"));
    let srv = bottom.join("srv");
    fs::create_dir_all(srv.join("sub")).unwrap();
    fs::create_dir_all(top.join("srv")).unwrap();
    fs::write(srv.join("sub/file"), "from below").unwrap();
    fs::hard_link(srv.join("sub/file"), srv.join("link")).unwrap();
    fs::write(srv.join("hidden"), "x").unwrap();
    symlink("/etc/passwd", srv.join("absolute")).unwrap();
    fs::set_permissions(srv.join("sub/file"), fs::Permissions::from_mode(0o4755)).unwrap();
    let hole = fs::File::create(srv.join("sparse")).unwrap();
    hole.set_len(8 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&hole, b"end", (8 << 20) - 3).unwrap();
    fs::write(top.join("srv/file"), "from above").unwrap();
    rustix::fs::setxattr(top.join("srv/file"), "user.key", b"value", XattrFlags::empty()).ok();
    let whiteout = top.join("srv/hidden");
    mknodat(rustix::fs::CWD, whiteout, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    symlink("/srv", top.join("by-link")).unwrap();
    symlink("../../../../../etc", top.join("out")).unwrap();
    fs::write(top.join("plain"), "").unwrap();
    let owner = (Some(Uid::from_raw(7)), Some(Gid::from_raw(8)));
    chownat(rustix::fs::CWD, top.join("srv"), owner.0, owner.1, rustix::fs::AtFlags::empty())
        .unwrap();
    fs::set_permissions(top.join("srv"), fs::Permissions::from_mode(0o750)).unwrap();
    vec![top, bottom]
}

#[test]
fn an_empty_volume_is_filled_with_what_the_layers_have_together() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, layers) = (store(&dir), layers(&dir));
    store.create(new("db")).unwrap();
    let path = store.mount("a", &[filled("db", "/by-link")], &layers).unwrap().remove(0);
    assert_eq!(read(&path, "file"), "from above");
    assert_eq!(read(&path, "sub/file"), "from below");
    assert!(!path.join("hidden").exists(), "a layer above has removed it");
    let (file, link) = (path.join("sub/file"), path.join("link"));
    assert_eq!(fs::metadata(&file).unwrap().ino(), fs::metadata(link).unwrap().ino());
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o4755);
    assert_eq!(fs::read_link(path.join("absolute")).unwrap(), Path::new("/etc/passwd"));
    let sparse = fs::metadata(path.join("sparse")).unwrap();
    assert!(sparse.len() == 8 << 20 && sparse.blocks() * 512 < 1 << 20, "{}", sparse.blocks());
    let top = fs::metadata(&path).unwrap();
    assert_eq!((top.uid(), top.gid(), top.mode() & 0o7777), (7, 8, 0o750));
    let mut value = [0; 8];
    match rustix::fs::getxattr(path.join("file"), "user.key", &mut value[..]) {
        Ok(length) => assert_eq!(&value[..length], b"value"),
        Err(error) => assert!([Errno::NODATA, Errno::NOTSUP].contains(&error), "{error}"),
    }
    // What is in it stays, whatever an image has.
    fs::remove_dir_all(path.join("sub")).unwrap();
    store.mount("b", &[filled("db", "/srv")], &layers).unwrap();
    assert!(!path.join("sub").exists());
}

#[test]
fn links_of_an_image_do_not_lead_out_of_it() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, layers) = (store(&dir), layers(&dir));
    store.create(new("db")).unwrap();
    for nowhere in ["/out", "/missing", "/plain/below"] {
        let path = store.mount("a", &[filled("db", nowhere)], &layers).unwrap().remove(0);
        assert_eq!(fs::read_dir(path).unwrap().count(), 0, "{nowhere}");
    }
    let error = store.mount("a", &[filled("db", "/plain")], &layers).unwrap_err();
    assert!(error.to_string().starts_with("cannot mount volume over existing file"), "{error}");
    assert!(store.inner().active.is_empty(), "a mount that failed leaves nothing");
}

#[test]
fn a_copy_that_a_kill_interrupted_is_undone_or_finished() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let layers = layers(&dir);
    let volume = store(&dir).create(new("db")).unwrap();
    let home = volume.path.parent().unwrap().to_owned();
    // Killed while it was copied.
    fs::create_dir(home.join("populating")).unwrap();
    fs::write(home.join("populating/half"), "x").unwrap();
    let opened = store(&dir);
    assert!(!home.join("populating").exists());
    assert_eq!(fs::read_dir(&volume.path).unwrap().count(), 0);
    opened.mount("a", &[filled("db", "/srv")], &layers).unwrap();
    assert_eq!(read(&volume.path, "file"), "from above");
    drop(opened);
    // Killed between two renames.
    fs::create_dir(home.join("populated")).unwrap();
    fs::set_permissions(home.join("populated"), fs::Permissions::from_mode(0o701)).unwrap();
    fs::rename(volume.path.join("file"), home.join("populated/file")).unwrap();
    drop(store(&dir));
    assert!(!home.join("populated").exists());
    assert_eq!(read(&volume.path, "file"), "from above");
    assert_eq!(fs::metadata(&volume.path).unwrap().mode() & 0o7777, 0o701);
}

#[test]
fn a_part_of_a_volume_is_bound_beneath_it() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let volume = store.create(new("db")).unwrap();
    fs::create_dir_all(volume.path.join("a/b")).unwrap();
    write(&volume, "a/b/file", "x");
    symlink("/etc", volume.path.join("out")).unwrap();
    symlink("..", volume.path.join("up")).unwrap();
    let part = |path: &str| Use { subpath: Some(path.into()), ..wanted("db") };
    let paths = store.mount("user", &[part("a/b"), part("a/b/file")], &[]).unwrap();
    assert_eq!(read(&paths[0], "file"), "x");
    assert_eq!(fs::read_to_string(&paths[1]).unwrap(), "x");
    for bad in ["out", "up", "../x", "/etc", "missing"] {
        let error = store.mount("other", &[part(bad)], &[]).unwrap_err();
        assert!(matches!(error, VolumeError::Subpath { .. }), "{bad}: {error}");
    }
    // A new process finds what the old one has mounted, and gives it back in the end.
    let again = super::store(&dir);
    again.adopt("user", ["db"]);
    again.unmount_idle();
    assert_eq!(read(&paths[0], "file"), "x");
    again.unmount("user");
    assert!(!paths[0].exists());
    assert_eq!(read(&volume.path, "a/b/file"), "x");
}

#[test]
fn memory_lives_as_long_as_somebody_runs() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (store, layers) = (store(&dir), layers(&dir));
    let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=16m,mode=1700")];
    let options = options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let volume = store.create(NewVolume { options, ..new("cache") }).unwrap();
    store.mount("a", &[filled("cache", "/srv")], &layers).unwrap();
    store.mount("b", &[wanted("cache")], &[]).unwrap();
    assert_eq!(read(&volume.path, "file"), "from above");
    store.unmount("a");
    assert_eq!(read(&volume.path, "file"), "from above");
    assert!(store.snapshot("cache", None).is_err());
    store.unmount("b");
    assert_eq!(fs::read_dir(&volume.path).unwrap().count(), 0);
    store.remove("cache").unwrap();
}

#[test]
fn a_copy_is_like_its_original() {
    if !testkit::need::root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir);
    let volume = store.create(new("db")).unwrap();
    let make = |name: &str, kind, device| {
        mknodat(rustix::fs::CWD, volume.path.join(name), kind, Mode::RUSR, device).unwrap();
    };
    make("pipe", FileType::Fifo, 0);
    make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3));
    make("socket", FileType::Socket, 0);
    store.clone_volume("db", "copy").unwrap();
    let copy = store.get("copy").unwrap().path;
    let kind = |name: &str| fs::symlink_metadata(copy.join(name)).unwrap();
    assert!(kind("pipe").file_type().is_fifo() && kind("socket").file_type().is_socket());
    assert_eq!(kind("null").rdev(), rustix::fs::makedev(1, 3));
}
