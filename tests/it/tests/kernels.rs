//! Kernels for virtual machines from the command line, without a daemon.

use std::fs;

use it::Instance;

/// The beginning of an executable, and what a kernel says first.
fn kernel(release: &str) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    bytes.extend([2, 0, 62, 0]);
    bytes.extend(format!("Linux version {release} (x@y) #1 SMP\n\0").bytes());
    bytes
}

/// What lies in the store.
fn kept(instance: &Instance) -> Vec<String> {
    let entries = fs::read_dir(instance.path("data").join("kernels"));
    let names = entries.into_iter().flatten().flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name != "lock").collect()
}

#[test]
fn kernels_are_imported_listed_chosen_and_removed_without_a_daemon() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    for (file, release) in [("one", "6.1.1-a"), ("two", "6.1.2-b")] {
        let path = instance.path(file);
        fs::write(&path, kernel(release)).unwrap();
        let path = path.to_str().unwrap();
        assert_eq!(instance.ok(&["kernel", "import", path, "--name", file]), file);
    }
    let ls = || {
        let format = "{{.Name}} {{.State}} {{.Release}}";
        let mut lines: Vec<String> =
            instance.ok(&["kernel", "ls", "--format", format]).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    instance.ok(&["kernel", "default", "one"]);
    assert_eq!(ls(), ["one default 6.1.1-a", "two  6.1.2-b"]);
    assert_eq!(instance.ok(&["kernel", "default", "6.1.2-b"]), "two");
    assert_eq!(ls(), ["one  6.1.1-a", "two default 6.1.2-b"]);
    let refused = instance.run(&["kernel", "rm", "two", "three"]);
    assert_eq!((refused.code, refused.out.as_str()), (1, "two\n"), "{refused:?}");
    assert!(refused.err.contains("no such kernel: three"), "{refused:?}");
    // One that was changed is shown as that and not used.
    let digest = kept(&instance).into_iter().find(|name| name.len() == 64).unwrap();
    let file = instance.path("data").join("kernels").join(&digest).join("vmlinuz");
    fs::write(&file, kernel("6.1.1-b")).unwrap();
    assert_eq!(ls(), ["one default 6.1.1-a"]);
    let verified = instance.ok(&["kernel", "ls", "--verify", "--format", "{{.State}}"]);
    assert_eq!(verified, "damaged: vmlinuz was changed: its digest is another");
    instance.ok(&["kernel", "rm", &digest]);
    assert_eq!(kept(&instance), [] as [&str; 0]);
    assert!(!instance.has_daemon());
}

#[test]
fn a_kernel_that_does_not_come_leaves_nothing() {
    let Some(instance) = Instance::without_daemon() else { return };
    // Nobody serves at port 1.
    let mirror = "http://127.0.0.1:1/debian bookworm";
    let ran = instance.run(&["kernel", "pull", "--mirror", mirror]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(
        ran.err.contains("cannot fetch http://127.0.0.1:1/debian/dists/bookworm/InRelease"),
        "{ran:?}"
    );
    let ran = instance.run(&["kernel", "pull", "--mirror", "bookworm"]);
    assert!(ran.err.contains("names no mirror"), "{ran:?}");
    let file = instance.path("file");
    fs::write(&file, "no kernel").unwrap();
    let ran = instance.run(&["kernel", "import", file.to_str().unwrap()]);
    assert!(ran.err.contains("file is no kernel that can be started"), "{ran:?}");
    assert_eq!(kept(&instance), [] as [&str; 0]);
    let config = instance.ok(&["kernel", "build", "--print-config"]);
    assert!(config.contains("CONFIG_EROFS_FS=y"));
}
