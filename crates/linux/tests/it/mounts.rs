//! File systems of a container.

use std::{fs, os::unix::fs::symlink};

use workload::{
    Bind, DeviceKind, DeviceNode, Mount, MountFlags, MountSource, Namespace, Propagation,
    PropagationKind, RootFs, Tmpfs,
};

use crate::fixture::Fixture;

fn bind(from: &std::path::Path, to: &str, flags: MountFlags) -> Mount {
    let bind = Bind { path: from.into(), recursive: true, idmap: None };
    Mount { target: to.into(), source: MountSource::Bind(bind), flags, propagation: None }
}

#[test]
fn the_default_mounts_are_there() {
    let Some(fixture) = Fixture::new() else { return };
    let output = fixture.says("cut -d' ' -f2,3 /proc/mounts");
    for line in [
        "/ overlay",
        "/proc proc",
        "/dev tmpfs",
        "/dev/pts devpts",
        "/sys sysfs",
        "/dev/mqueue mqueue",
        "/dev/shm tmpfs",
        "/proc/interrupts",
        "/sys/fs/cgroup ",
    ] {
        assert!(output.contains(line), "{line}: {output}");
    }
}

#[test]
fn devices_and_links_are_there() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.container.devices.push(DeviceNode {
        host: None,
        path: "/dev/made/fifo".into(),
        kind: DeviceKind::Fifo,
        major: 0,
        minor: 0,
        mode: 0o640,
        uid: 33,
        gid: 7,
    });
    let output = fixture.says(
        "echo x > /dev/null; head -c2 /dev/zero | wc -c; stat -c '%F %a %u %g' /dev/made/fifo; \
         stat -c '%t:%T %a' /dev/full; readlink /dev/fd; readlink /dev/ptmx; echo err >/dev/stdout",
    );
    assert_eq!(output, "2\nfifo 640 33 7\n1:7 666\n/proc/self/fd\npts/ptmx\nerr\n");
}

#[test]
fn masked_and_read_only_paths_are_kept() {
    let Some(fixture) = Fixture::new() else { return };
    let output = fixture.says(
        "wc -c < /proc/interrupts; ls /proc/acpi /sys/firmware 2>/dev/null | grep -vc :; \
         echo 1 2>/dev/null > /proc/sys/net/ipv4/ip_forward || echo kept; \
         mkdir /sys/x 2>/dev/null || echo kept",
    );
    assert_eq!(output.lines().next(), Some("0"));
    assert_eq!(output.matches("kept").count(), 2, "{output}");
}

#[test]
fn a_read_only_root_cannot_be_written_but_what_is_on_it_can() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.container.read_only_root = true;
    let tmpfs = Tmpfs { size: None, mode: Some(0o711), options: vec!["uid=33".into()] };
    fixture.container.mounts.push(Mount {
        target: "/run/t".into(),
        source: MountSource::Tmpfs(tmpfs),
        flags: MountFlags::default(),
        propagation: None,
    });
    let output = fixture.says("touch /x 2>&1; touch /run/t/x; stat -c '%a %u' /run/t");
    assert_eq!(output, "touch: /x: Read-only file system\n711 33\n");
}

#[test]
fn binds_of_files_and_directories_with_their_flags() {
    let Some(mut fixture) = Fixture::new() else { return };
    let host = fixture.home.path().join("host");
    fs::create_dir_all(host.join("below")).unwrap();
    fs::write(host.join("file"), "text").unwrap();
    let ro = MountFlags { read_only: true, noexec: true, ..MountFlags::default() };
    fixture.container.mounts.push(bind(&host, "/mnt/rw", MountFlags::default()));
    fixture.container.mounts.push(bind(&host, "/mnt/ro", ro));
    fixture.container.mounts.push(bind(&host.join("file"), "/etc/file", MountFlags::default()));
    let output = fixture.says(
        "cat /etc/file; echo; touch /mnt/rw/made; touch /mnt/ro/no 2>&1; \
         grep ' /mnt/ro ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1-2",
    );
    assert_eq!(output, "text\ntouch: /mnt/ro/no: Read-only file system\nro,noexec\n");
    assert!(host.join("made").exists());
}

#[test]
fn recursive_read_only_reaches_what_is_mounted_below() {
    let Some(mut fixture) = Fixture::new() else { return };
    let rro = MountFlags { recursive_read_only: true, ..MountFlags::default() };
    fixture.container.mounts.push(bind("/dev".as_ref(), "/hostdev", rro));
    let output = fixture.says("touch /hostdev/shm/no 2>&1 | grep -c Read-only");
    assert_eq!(output, "1\n");
}

#[test]
fn propagation_is_as_asked() {
    let Some(mut fixture) = Fixture::new() else { return };
    for (kind, name) in
        [(PropagationKind::Shared, "shared"), (PropagationKind::Unbindable, "unbindable")]
    {
        let mut mount = bind(fixture.home.path(), &format!("/{name}"), MountFlags::default());
        mount.propagation = Some(Propagation { kind, recursive: false });
        fixture.container.mounts.push(mount);
    }
    let output = fixture.says("grep -e ' /shared ' -e ' /unbindable ' /proc/self/mountinfo");
    assert!(output.contains("shared:") && output.contains("unbindable"), "{output}");
}

#[test]
fn the_view_of_the_control_groups_is_the_containers_own() {
    let Some(mut fixture) = Fixture::new() else { return };
    let output =
        fixture.says("ls /sys/fs/cgroup; cat /proc/self/cgroup; mkdir /sys/fs/cgroup/x 2>&1; true");
    assert!(!output.contains("wythe-test"), "{output}");
    assert!(output.contains("Read-only"), "{output}");
    fixture.container.cgroup = Namespace::Host;
    let output = fixture.says("cat /proc/self/cgroup");
    assert!(output.contains("wythe-test"), "{output}");
}

#[test]
fn a_directory_is_used_in_place() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.container.root = RootFs::Directory(fixture.lower());
    fixture.says("touch /made");
    assert!(fixture.lower().join("made").exists());
}

#[test]
fn nothing_of_the_containers_mounts_appears_on_the_host() {
    let Some(fixture) = Fixture::new() else { return };
    fixture.says("true");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(fixture.home.path().to_str().unwrap()));
}

#[test]
fn links_to_nowhere_in_the_image_are_followed_inside() {
    let Some(mut fixture) = Fixture::new() else { return };
    symlink("../run/resolve/stub", fixture.lower().join("etc/resolv.conf")).unwrap();
    let file = fixture.home.path().join("resolv");
    fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    fixture.container.mounts.push(bind(&file, "/etc/resolv.conf", MountFlags::default()));
    assert_eq!(fixture.says("cat /etc/resolv.conf"), "nameserver 127.0.0.1\n");
}
