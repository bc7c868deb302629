//! `wythe oci` under other engines.

use std::{fs, process::Command};

use it::Instance;

#[test]
fn podman_runs_containers_over_wythe() {
    if !testkit::need::root() {
        return;
    }
    let (Some(podman), Some(busybox), Some(_)) = (
        testkit::need::tool("podman"),
        testkit::need::tool("busybox"),
        testkit::need::tool("conmon"),
    ) else {
        return;
    };
    let dir = tempfile::Builder::new().prefix("wythe-podman-").tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("rootfs/bin")).expect("the directory is ours");
    fs::copy(busybox, path("rootfs/bin/busybox")).expect("busybox is a file");
    for applet in ["sh", "true", "sleep", "cat"] {
        std::os::unix::fs::symlink("busybox", path("rootfs/bin").join(applet)).expect("a link");
    }
    let tar = Command::new("tar")
        .arg("-C")
        .arg(path("rootfs"))
        .arg("-cf")
        .arg(path("rootfs.tar"))
        .arg(".")
        .status();
    assert!(tar.expect("tar runs").success());
    // Called by this name, the program takes runc's command line.
    std::os::unix::fs::symlink(Instance::program(), path("wythe-oci")).expect("a link");
    fs::write(
        path("containers.conf"),
        "[containers]\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1024:1024\"]\n",
    )
    .expect("a file");
    let podman = |args: &[&str]| {
        let mut command = Command::new(&podman);
        command.arg("--root").arg(path("store")).arg("--runroot").arg(path("run"));
        command.arg("--tmpdir").arg(path("tmp")).stdin(std::process::Stdio::null());
        command.args([
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ]);
        command.arg("--runtime").arg(path("wythe-oci")).args(args);
        command.env("CONTAINERS_CONF", path("containers.conf"));
        let output = command.output().expect("podman runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let tar = path("rootfs.tar").to_string_lossy().into_owned();
    assert_eq!(podman(&["import", &tar, "box"]).0, Some(0));
    let ran = podman(&[
        "run",
        "--rm",
        "--network",
        "none",
        "box",
        "/bin/sh",
        "-c",
        "echo from inside; exit 4",
    ]);
    assert_eq!((ran.0, ran.1.as_str()), (Some(4), "from inside"), "{ran:?}");
    let ran =
        podman(&["run", "-d", "--name", "idle", "--network", "none", "box", "/bin/sleep", "1000"]);
    assert_eq!(ran.0, Some(0), "{ran:?}");
    let ran = podman(&["exec", "idle", "/bin/sh", "-c", "echo joined"]);
    assert_eq!((ran.0, ran.1.as_str()), (Some(0), "joined"), "{ran:?}");
    let ran = podman(&["rm", "-f", "-t", "0", "idle"]);
    assert_eq!(ran.0, Some(0), "{ran:?}");
    podman(&["rmi", "-f", "-a"]);
}
