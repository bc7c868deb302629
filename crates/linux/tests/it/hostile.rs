//! Root file systems that want out.

use std::{fs, os::unix::fs::symlink};

use workload::{Bind, Mount, MountFlags, MountSource, ProcessSpec};

use crate::fixture::Fixture;

#[test]
fn links_at_mount_targets_lead_nowhere_outside() {
    let Some(mut fixture) = Fixture::new() else { return };
    let outside = fixture.home.path().join("outside");
    fs::create_dir(&outside).unwrap();
    for name in ["proc", "sys", "dev"] {
        fs::remove_dir(fixture.lower().join(name)).unwrap();
    }
    symlink("/etc", fixture.lower().join("proc")).unwrap();
    symlink(&outside, fixture.lower().join("dev")).unwrap();
    symlink("../../../../..", fixture.lower().join("sys")).unwrap();
    let before = fs::read_dir(&outside).unwrap().count();
    // Whether it starts or not: nothing outside is touched.
    let _ = fixture.run(fixture.sh("true"));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), before);
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(outside.to_str().unwrap()));
    fixture.container.mounts.clear();
}

#[test]
fn a_working_directory_behind_a_leaked_descriptor_is_refused() {
    let Some(fixture) = Fixture::new() else { return };
    for number in 0..20 {
        let cwd = format!("/proc/self/fd/{number}");
        let spec = ProcessSpec { cwd: cwd.into(), ..fixture.sh("pwd; ls /") };
        assert!(fixture.run(spec).is_err(), "{number}");
    }
}

#[test]
fn a_null_device_that_is_none_masks_nothing() {
    let Some(mut fixture) = Fixture::new() else { return };
    let file = fixture.home.path().join("fake");
    fs::write(&file, "").unwrap();
    let bind = Bind { path: file, recursive: false, idmap: None };
    fixture.container.mounts.push(Mount {
        target: "/dev/null".into(),
        source: MountSource::Bind(bind),
        flags: MountFlags::default(),
        propagation: None,
    });
    let error = fixture.run(fixture.sh("true")).unwrap_err().to_string();
    assert!(error.contains("/dev/null"), "{error}");
}

#[test]
fn a_failed_start_leaves_nothing() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.container.mounts.push(Mount {
        target: "/x".into(),
        source: MountSource::Other {
            fstype: "nope".into(),
            source: "nope".into(),
            options: Vec::new(),
        },
        flags: MountFlags::default(),
        propagation: None,
    });
    let error = fixture.run(fixture.sh("true")).unwrap_err().to_string();
    assert!(error.starts_with("mount nope on /x: "), "{error}");
    let id = fixture.sandbox.id.to_string();
    for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        assert!(!hierarchy.path().join("wythe-test").join(&id).exists());
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(fixture.home.path().to_str().unwrap()));
}
