//! Layers are mounted once, shared, found again, and never left behind.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use base::Digest;
use proptest::prelude::*;
use rustix::{
    fs::CWD,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
        fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
    },
};

use super::*;
use crate::{
    Store,
    fixture::{Scratch, TestLayer, layer, load, simple},
    layer::{Attributes, Device, DeviceClass, Entry, EntryKind, tar_write::TarWriter},
    store::digest_of,
};

const FORMS: [Form; 3] =
    [Form::Erofs(Attach::File), Form::Erofs(Attach::Loop), Form::Directory(Marks::Trusted)];

fn mounted_below(dir: &Path) -> usize {
    let run = dir.join("run/layers").canonicalize().unwrap();
    mountinfo::below(&run).unwrap().len()
}

fn layers(store: &Store, name: &str) -> Vec<Digest> {
    store.image(name, None).unwrap().layers
}

fn read(dir: &Path, name: &str) -> String {
    fs::read_to_string(dir.join(name)).unwrap()
}

#[test]
fn layers_of_every_form_become_directories_top_first() {
    if !testkit::need::root() {
        return;
    }
    for form in FORMS {
        let scratch = Scratch::with(form);
        let store = scratch.open();
        let stack = [layer("a", "one"), layer("a", "two"), layer("a", "one")];
        load(&store, &simple("web:1", &stack)).unwrap();
        let dirs = store.mount("c1", &layers(&store, "web:1")).unwrap();
        // The lower of the two that are the same is not needed.
        assert_eq!(dirs.iter().map(|dir| read(dir, "a")).collect::<Vec<_>>(), ["one", "two"]);
        store.unmount("c1");
        store.unmount_idle();
        assert_eq!(mounted_below(scratch.dir.path()), 0, "{form:?}");
    }
}

#[test]
fn two_containers_share_one_mount_and_the_last_one_frees_it() {
    if !testkit::need::root() {
        return;
    }
    let scratch = Scratch::with(Form::Erofs(Attach::File));
    let store = scratch.open();
    load(&store, &simple("web:1", &[layer("a", "one")])).unwrap();
    let stack = layers(&store, "web:1");
    let first = store.mount("c1", &stack).unwrap();
    assert_eq!(store.mount("c1", &stack).unwrap(), first);
    assert_eq!(store.mount("c2", &stack).unwrap(), first);
    assert_eq!(mounted_below(scratch.dir.path()), 1);
    store.unmount("c1");
    store.unmount_idle();
    assert_eq!(mounted_below(scratch.dir.path()), 1, "c2 still has it");
    // A layer that is mounted for somebody is not deleted, whatever becomes of its image.
    store.remove("web:1", true, &[], &[]).unwrap();
    assert_eq!(read(&first[0], "a"), "one");
    assert!(store.layer_path(&stack[0]).exists());
    store.unmount("c2");
    store.collect(&[]).unwrap();
    assert_eq!(mounted_below(scratch.dir.path()), 0);
    assert!(!store.layer_path(&stack[0]).exists());
}

#[test]
fn the_next_daemon_takes_over_what_is_mounted() {
    if !testkit::need::root() {
        return;
    }
    for form in [Form::Erofs(Attach::File), Form::Erofs(Attach::Loop)] {
        let scratch = Scratch::with(form);
        let store = scratch.open();
        load(&store, &simple("web:1", &[layer("a", "one"), layer("b", "two")])).unwrap();
        let stack = layers(&store, "web:1");
        let dirs = store.mount("c1", &stack).unwrap();
        drop(store);
        let store = scratch.open();
        assert_eq!(store.audit(&[], false).unwrap().mounted.len(), 2);
        assert_eq!(store.mount("c1", &stack[..1]).unwrap(), dirs[1..]);
        assert_eq!(mounted_below(scratch.dir.path()), 2);
        store.unmount_idle();
        assert_eq!(mounted_below(scratch.dir.path()), 1);
        store.unmount("c1");
        store.unmount_idle();
        assert_eq!(mounted_below(scratch.dir.path()), 0);
    }
}

#[test]
fn few_idle_layers_stay_mounted() {
    if !testkit::need::root() {
        return;
    }
    let scratch = Scratch::with(Form::Erofs(Attach::File));
    let store = scratch.open();
    let stack: Vec<_> = (0..=IDLE_MAX).map(|n| layer("a", &n.to_string())).collect();
    load(&store, &simple("web:1", &stack)).unwrap();
    store.mount("c1", &layers(&store, "web:1")).unwrap();
    store.unmount("c1");
    assert_eq!(mounted_below(scratch.dir.path()), IDLE_MAX);
    store.unmount_idle();
    assert_eq!(mounted_below(scratch.dir.path()), 0);
}

#[test]
fn a_layer_is_made_again_when_the_form_changes_or_its_file_is_lost() {
    if !testkit::need::root() {
        return;
    }
    let mut scratch = Scratch::with(Form::Erofs(Attach::File));
    let store = scratch.open();
    load(&store, &simple("web:1", &[layer("a", "one").gzipped()])).unwrap();
    let stack = layers(&store, "web:1");
    drop(store);
    scratch.form = Form::Directory(Marks::Trusted);
    let store = scratch.open();
    let dirs = store.mount("c1", &stack).unwrap();
    assert_eq!(read(&dirs[0], "a"), "one");
    store.collect(&[]).unwrap();
    assert!(store.audit(&[], true).unwrap().extra.is_empty());
    let unknown = store.mount("c2", &[digest_of(b"unknown")]).unwrap_err();
    assert_eq!(unknown.kind(), base::ErrorKind::NotFound);
}

#[test]
fn a_layer_that_is_damaged_leaves_nothing_mounted() {
    if !testkit::need::root() {
        return;
    }
    let scratch = Scratch::with(Form::Erofs(Attach::File));
    let store = scratch.open();
    load(&store, &simple("web:1", &[layer("a", "one"), layer("b", "two")])).unwrap();
    let stack = layers(&store, "web:1");
    fs::write(store.layer_path(&stack[0]), b"no file system").unwrap();
    assert!(matches!(store.mount("c1", &stack), Err(MountError::Mount { .. })));
    store.unmount_idle();
    assert_eq!(mounted_below(scratch.dir.path()), 0);
    assert!(store.audit(&[], false).unwrap().mounted.is_empty());
}

/// Under overlayfs device nodes and set-user-id files of a layer work, though the layer's own
/// mount forbids them; and a container goes on when its layers are unmounted.
#[test]
fn overlayfs_sees_devices_and_outlives_the_mount() {
    if !testkit::need::root() {
        return;
    }
    for form in [Form::Erofs(Attach::File), Form::Erofs(Attach::Loop)] {
        let scratch = Scratch::with(form);
        let store = scratch.open();
        load(&store, &simple("web:1", &[with_device(), layer("a", "one")])).unwrap();
        let dirs = store.mount("c1", &layers(&store, "web:1")).unwrap();
        let merged = scratch.dir.path().join("merged");
        overlay(&dirs, scratch.dir.path(), &merged);
        store.unmount("c1");
        store.unmount_idle();
        assert_eq!(mounted_below(scratch.dir.path()), 0);
        let null = fs::metadata(merged.join("null")).unwrap();
        assert!(null.file_type().is_char_device() && null.rdev() == 0x103);
        let opened = fs::write(merged.join("null"), b"x");
        let setuid = fs::metadata(merged.join("su")).unwrap().mode();
        let text = read(&merged, "a");
        unmount(&merged, UnmountFlags::DETACH).unwrap();
        opened.unwrap();
        assert_eq!((setuid & 0o7777, text.as_str()), (0o4755, "one"));
    }
}

fn with_device() -> TestLayer {
    let mut tar = TarWriter::new(Vec::new());
    let attributes = Attributes { mode: 0o666, ..Attributes::default() };
    let null = Device { class: DeviceClass::Character, major: 1, minor: 3 };
    let entry = Entry { path: b"null".to_vec(), attributes, kind: EntryKind::Device(null) };
    tar.entry(&entry).unwrap();
    let attributes = Attributes { mode: 0o4755, ..Attributes::default() };
    let kind = EntryKind::File { size: 0, segments: None };
    tar.entry(&Entry { path: b"su".to_vec(), attributes, kind }).unwrap();
    let blob = tar.finish().unwrap();
    TestLayer { diff_id: digest_of(&blob), blob, ..layer("x", "") }
}

fn overlay(lower: &[PathBuf], scratch: &Path, target: &Path) {
    let (upper, work) = (scratch.join("upper"), scratch.join("work"));
    for dir in [&upper, &work, &target.to_owned()] {
        fs::create_dir(dir).unwrap();
    }
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for dir in lower {
        fsconfig_set_string(&context, "lowerdir+", dir).unwrap();
    }
    fsconfig_set_string(&context, "upperdir", &upper).unwrap();
    fsconfig_set_string(&context, "workdir", &work).unwrap();
    fsconfig_create(&context).unwrap();
    let none = MountAttrFlags::empty();
    let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none).unwrap();
    move_mount(&mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
}

#[test]
fn the_probe_finds_what_works_and_leaves_nothing() {
    if !testkit::need::root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let (form, findings) = probe(scratch.path());
    assert_eq!(form, Form::Erofs(Attach::File), "{findings:?}");
    assert!(findings.len() == 1 && findings[0].works);
    assert_eq!(scratch.path().read_dir().unwrap().count(), 0);
    // The store on its own chooses the same.
    let dir = Scratch::new();
    let options = crate::Options { form: None, ..dir.options() };
    let store = Store::open(&options).unwrap();
    assert_eq!((store.form(), store.findings()), (form, findings.as_slice()));
}

#[test]
fn long_paths_are_mounted_too() {
    if !testkit::need::root() {
        return;
    }
    let scratch = Scratch::with(Form::Erofs(Attach::File));
    let mut options = scratch.options();
    options.data = scratch.dir.path().join("d".repeat(200)).join("e".repeat(200));
    let store = Store::open(&options).unwrap();
    load(&store, &simple("web:1", &[layer("a", "one")])).unwrap();
    let dirs = store.mount("c1", &layers(&store, "web:1")).unwrap();
    assert_eq!(read(&dirs[0], "a"), "one");
    store.unmount("c1");
    store.unmount_idle();
}

/// A file system of two MiB at a store's data, unmounted in the end.
struct Small(PathBuf);

impl Small {
    fn new(dir: &Path) -> Small {
        fs::create_dir(dir).unwrap();
        let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&context, "size", "2m").unwrap();
        fsconfig_create(&context).unwrap();
        let none = MountAttrFlags::empty();
        let mount = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none).unwrap();
        move_mount(&mount, "", CWD, dir, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).unwrap();
        Small(dir.to_owned())
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        unmount(&self.0, UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_is_said_and_leaves_room_again() {
    if !testkit::need::root() {
        return;
    }
    let scratch = Scratch::new();
    let _small = Small::new(&scratch.dir.path().join("data"));
    let store = scratch.open();
    load(&store, &simple("small:1", &[layer("a", "one")])).unwrap();
    let had = store.audit(&[], true).unwrap();
    // Fits as a blob, but not as a layer beside it; then not even as a blob.
    for bytes in [1_500_000, 5_000_000] {
        let large = simple("large:1", &[layer("a", &"x".repeat(bytes))]);
        let error = load(&store, &large).unwrap_err();
        assert_eq!(error.kind(), base::ErrorKind::Exhausted, "{error}");
        assert_eq!(store.audit(&[], true).unwrap(), had);
    }
    load(&store, &simple("small:2", &[layer("a", "two")])).unwrap();
}

proptest! {
    #[test]
    fn a_stack_has_every_layer_once_at_its_highest_place(numbers in prop::collection::vec(0..5_u8, 0..12)) {
        let layers: Vec<_> = numbers.iter().map(|n| Digest::from_sha256([*n; 32])).collect();
        let stack = stack(&layers);
        let mut seen = BTreeSet::new();
        prop_assert!(stack.iter().all(|layer| seen.insert(*layer)));
        prop_assert_eq!(&seen, &layers.iter().copied().collect());
        let last = |layer: &Digest| layers.iter().rposition(|l| l == layer);
        prop_assert!(stack.windows(2).all(|pair| last(&pair[0]) > last(&pair[1])));
    }
}
