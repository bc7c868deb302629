//! The store, with kernels that are only as long as they must be.

use std::{fs, os::unix::fs::MetadataExt as _};

use tempfile::TempDir;

use super::*;
use crate::{
    image::tests::{bzimage, elf},
    modules::tests::module,
};

const RELEASE: &str = "6.1.0-9-cloud-amd64";

struct Around {
    directory: TempDir,
    store: Store,
}

fn around() -> Around {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::new(directory.path().join("kernels"));
    Around { directory, store }
}

impl Around {
    fn file(&self, path: &str, content: &[u8]) -> PathBuf {
        let path = self.directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn draft(&self, kernel: &[u8], name: Option<&str>) -> Draft {
        Draft {
            vmlinuz: self.file("in/vmlinuz", kernel),
            config: None,
            modules: None,
            name: name.map(str::to_owned),
            source: Source::Imported { file: "vmlinuz".to_owned() },
            created: 100,
        }
    }

    fn add(&self, draft: &Draft) -> Result<Added, StoreError> {
        self.store.add(self.store.stage()?, draft)
    }

    fn import(&self, release: &str, name: Option<&str>) -> Kernel {
        self.add(&self.draft(&bzimage(release), name)).unwrap().kernel
    }

    /// What lies in the store that is no kernel, but for the lock.
    fn left_over(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.store.root).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.len() != 64 && name != "lock" && name != "default").collect()
    }
}

#[test]
fn a_kernel_is_kept_with_its_executable_and_the_modules_it_needs() {
    let around = around();
    let erofs = module("erofs", RELEASE, "libcrc32c", "");
    around.file("mod/kernel/fs/erofs.ko", &erofs);
    around.file(
        "mod/kernel/lib/libcrc32c.ko.zst",
        &zstd::encode_all(&module("libcrc32c", RELEASE, "", "")[..], 1).unwrap(),
    );
    around.file("mod/kernel/sound.ko", &module("sound", RELEASE, "", ""));
    around.file(
        "mod/modules.builtin",
        b"kernel/fs/ext4/ext4.ko\nkernel/drivers/block/virtio-blk.ko\n",
    );
    let draft = Draft {
        config: Some(around.file("in/config", b"CONFIG_64BIT=y\n")),
        modules: Some(around.directory.path().join("mod")),
        ..around.draft(&bzimage(RELEASE), None)
    };
    let added = around.add(&draft).unwrap();
    let kernel = added.kernel;
    assert!(added.new);
    assert_eq!(kernel.manifest.name, format!("imported-{RELEASE}"));
    let paths: Vec<&str> = kernel.manifest.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(paths, ["config", "modules/erofs.ko", "modules/libcrc32c.ko", "vmlinux", "vmlinuz"]);
    assert_eq!(fs::read(kernel.boot_file()).unwrap(), elf(RELEASE));
    assert_eq!(fs::read(kernel.vmlinuz()).unwrap(), bzimage(RELEASE));
    assert_eq!(fs::read(kernel.config().unwrap()).unwrap(), b"CONFIG_64BIT=y\n");
    let names: Vec<&str> =
        kernel.modules(&["erofs", "ext4"]).iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["libcrc32c", "erofs"]);
    assert_eq!(fs::read(kernel.module_file(kernel.modules(&["erofs"])[1])).unwrap(), erofs);
    assert!(kernel.modules(&["sound"]).is_empty());
    assert!(added.missing.contains(&"virtio_net".to_owned()));
    assert!(!added.missing.contains(&"virtio_blk".to_owned()), "{:?}", added.missing);
    // What was read back is what was written.
    assert_eq!(around.store.kernels().unwrap(), std::slice::from_ref(&kernel));
    around.store.verify(&kernel).unwrap();
    assert_eq!(around.left_over(), [] as [&str; 0]);
}

#[test]
fn an_executable_is_started_as_it_came() {
    let around = around();
    let kernel = around.add(&around.draft(&elf("6.1.0"), Some("mine"))).unwrap().kernel;
    assert_eq!(kernel.boot_file(), kernel.vmlinuz());
    assert_eq!(kernel.config(), None);
}

#[test]
fn nothing_is_left_of_a_kernel_that_was_refused() {
    let around = around();
    around.import("6.1.0", None);
    let said = |draft: &Draft| base::chain(&around.add(draft).unwrap_err());
    assert!(said(&around.draft(b"no kernel", None)).contains("vmlinuz is no kernel"));
    assert!(said(&around.draft(&bzimage("6.1.0"), Some("a/b"))).contains("no name for a kernel"));
    around.file("mod/a/erofs.ko", &module("erofs", "5.10.0", "", ""));
    let modules = Some(around.directory.path().join("mod"));
    let draft = Draft { modules: modules.clone(), ..around.draft(&bzimage("6.1.0"), None) };
    assert!(said(&draft).contains("module erofs is for kernel 5.10.0, and this is 6.1.0"));
    around.file("mod/a/erofs.ko", &module("erofs", "6.1.0", "nowhere", ""));
    let draft = Draft { modules, ..around.draft(&bzimage("6.1.0"), None) };
    assert!(said(&draft).contains("module nowhere is missing"));
    let absent = Draft { vmlinuz: "/nowhere/vmlinuz".into(), ..draft };
    assert!(said(&absent).contains("/nowhere/vmlinuz"));
    assert_eq!(around.store.list().unwrap().len(), 1);
    assert_eq!(around.left_over(), [] as [&str; 0]);
}

#[test]
fn the_same_kernel_is_kept_once_and_a_name_belongs_to_one() {
    let around = around();
    let first = around.import("6.1.0", Some("one"));
    let again = around.add(&around.draft(&bzimage("6.1.0"), Some("two"))).unwrap();
    assert!(!again.new);
    assert_eq!(again.kernel.digest, first.digest);
    assert_eq!(around.store.find("two").unwrap().digest, first.digest);
    assert!(matches!(around.store.find("one"), Err(StoreError::NotFound(_))));
    let other = around.import("6.2.0", Some("two"));
    assert_eq!(around.store.find("two").unwrap().digest, other.digest);
    let hex = first.digest.hex();
    for name in [&hex[..12], &hex[..4], &format!("sha256:{hex}"), "6.1.0"] {
        assert_eq!(around.store.find(name).unwrap().digest, first.digest, "{name}");
    }
    assert!(matches!(around.store.find(&hex[..3]), Err(StoreError::NotFound(_))));
}

#[test]
fn a_damaged_kernel_is_named_and_not_used() {
    let around = around();
    let kernel = around.import("6.1.0", Some("one"));
    around.store.verify(&kernel).unwrap();
    let file = kernel.vmlinuz();
    let whole = fs::read(&file).unwrap();
    // Another content of the same length is found by reading it.
    let mut other = whole.clone();
    other[600] ^= 1;
    fs::write(&file, &other).unwrap();
    let damaged = around.store.verify(&kernel).unwrap_err();
    assert!(base::chain(&damaged).contains("vmlinuz was changed"), "{damaged:?}");
    fs::write(&file, &whole[..700]).unwrap();
    let [Entry::Damaged { name, damage }] = &around.store.list().unwrap()[..] else { panic!() };
    assert_eq!(*name, kernel.digest.hex());
    assert!(damage.to_string().contains("vmlinuz has 700 bytes"), "{damage}");
    assert!(around.store.kernels().unwrap().is_empty());
    assert!(around.store.default().unwrap().is_none());
    assert!(matches!(around.store.find(&name[..12]), Err(StoreError::Damaged { .. })));
    // It is mended by the same kernel, and can be removed.
    assert!(around.import("6.1.0", Some("one")).vmlinuz().metadata().unwrap().len() > 700);
    fs::write(kernel.directory.join("manifest.json"), "{\"version\": 2}").unwrap();
    let entries = around.store.list().unwrap();
    let [Entry::Damaged { damage, .. }] = &entries[..] else { panic!("{entries:?}") };
    assert!(damage.to_string().contains("only a later Wythe"), "{damage}");
    around.store.remove(&name[..12]).unwrap();
    assert!(around.store.list().unwrap().is_empty());
    assert_eq!(around.left_over(), [] as [&str; 0]);
}

#[test]
fn a_kernel_under_the_name_of_another_is_not_used() {
    let around = around();
    let kernel = around.import("6.1.0", None);
    fs::rename(&kernel.directory, around.store.root.join("0".repeat(64))).unwrap();
    let [Entry::Damaged { damage: Damage::Name, .. }] = around.store.list().unwrap()[..] else {
        panic!()
    };
}

#[test]
fn a_kernel_in_use_is_not_removed() {
    let around = around();
    let kernel = around.import("6.1.0", Some("one"));
    let held = kernel.hold().unwrap();
    let again = held.clone();
    drop(held);
    assert!(matches!(around.store.remove("one"), Err(StoreError::InUse(_))));
    // Another name makes no difference.
    around.store.rename(&kernel, "two").unwrap();
    around.import("6.1.0", Some("three"));
    assert!(matches!(around.store.remove("three"), Err(StoreError::InUse(_))));
    drop(again);
    assert_eq!(around.store.remove("three").unwrap(), kernel.digest);
    assert!(matches!(kernel.hold(), Err(StoreError::NotFound(_))));
    assert!(matches!(around.store.remove("one"), Err(StoreError::NotFound(_))));
}

#[test]
fn without_a_choice_the_minimal_kernel_is_used_then_debians_then_the_youngest() {
    let around = around();
    assert_eq!(around.store.default().unwrap(), None);
    let add = |release: &str, source: Source, created: u64| {
        let draft = Draft { source, created, ..around.draft(&bzimage(release), Some(release)) };
        around.add(&draft).unwrap().kernel
    };
    let default = || around.store.default().unwrap().unwrap().manifest.release;
    let imported = || Source::Imported { file: "a".to_owned() };
    let old = add("6.1.1", imported(), 1);
    add("6.1.2", imported(), 2);
    assert_eq!(default(), "6.1.2");
    let debian = Source::Debian {
        package: "linux".to_owned(),
        version: "1".to_owned(),
        mirror: "m".to_owned(),
    };
    add("6.1.3", debian, 1);
    assert_eq!(default(), "6.1.3");
    add("6.1.4", Source::Built { from: "linux".to_owned() }, 0);
    assert_eq!(default(), "6.1.4");
    around.store.set_default(&old).unwrap();
    assert_eq!(default(), "6.1.1");
    // A choice that is damaged is said, and not passed over.
    fs::write(old.vmlinuz(), "").unwrap();
    assert!(matches!(around.store.default(), Err(StoreError::Damaged { .. })));
    around.store.remove(&old.digest.hex()).unwrap();
    assert_eq!(default(), "6.1.4");
}

#[test]
fn what_a_killed_process_left_is_taken_away_and_what_a_living_one_makes_is_not() {
    let around = around();
    let living = around.store.stage().unwrap();
    let dead = around.store.root.join("tmp.dead");
    fs::create_dir_all(dead.join("kernel")).unwrap();
    fs::write(dead.join("package.deb"), "half").unwrap();
    let other = around.store.stage().unwrap();
    assert!(!dead.exists());
    assert!(living.path().exists() && other.path().exists());
    let (first, second) = (living.path().metadata().unwrap(), other.path().metadata().unwrap());
    assert_ne!(first.ino(), second.ino());
    drop((living, other));
    assert_eq!(around.left_over(), [] as [&str; 0]);
}

#[test]
fn a_manifest_is_as_it_was_written_down() {
    let text = include_str!("../../tests/data/manifest.json");
    let manifest = Manifest::parse(text).unwrap();
    assert_eq!(manifest.text(), text);
    // As `sha256sum` makes it of the lines that `sha256sum` prints of the files.
    let hex = "625484c99ca1167e0bb32c43c2c52689d464b089f8ad6b177594d6082d6e8362";
    assert_eq!(manifest.digest().hex(), hex);
    for (from, to) in [
        ("\"version\": 1", "\"version\": 2"),
        ("\"path\": \"config\"", "\"path\": \"../config\""),
        ("\"path\": \"config\"", "\"path\": \"/config\""),
        ("\"path\": \"config\"", "\"path\": \"x\""),
        ("\"path\": \"vmlinuz\"", "\"path\": \"vmlinuy\""),
        ("\"file\": \"modules/virtio.ko\"", "\"file\": \"/etc/passwd\""),
        ("\"kind\": \"debian\"", "\"kind\": \"other\""),
        ("\"created\"", "\"made\""),
        ("sha256:e3", "sha512:e3"),
    ] {
        assert_ne!(text.replacen(from, to, 1), text, "{from}");
        assert!(Manifest::parse(&text.replacen(from, to, 1)).is_err(), "{to}");
    }
}
