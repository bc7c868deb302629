//! A container to be misused, and ways to misuse it.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command};

use it::Instance;

/// An instance with an image `box`: busybox under all its names, and `attack`.
pub(crate) fn with_box() -> Option<Instance> {
    with_changed_box(|_| {})
}

/// The same with a root file system that was changed before it was packed.
pub(crate) fn with_changed_box(change: impl FnOnce(&Path)) -> Option<Instance> {
    let busybox = testkit::need::tool("busybox")?;
    testkit::need::tool("tar")?;
    let instance = Instance::start()?;
    let root = instance.path("box");
    for name in ["bin", "etc", "tmp", "mnt", "proc", "sys", "dev"] {
        fs::create_dir_all(root.join(name)).expect("a directory");
    }
    fs::copy(&busybox, root.join("bin/busybox")).expect("it can be copied");
    let list = Command::new(busybox).arg("--list").output().expect("busybox runs");
    for name in String::from_utf8_lossy(&list.stdout).lines().filter(|name| *name != "busybox") {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    fs::copy(testkit::attack(), root.join("bin/attack")).expect("it can be copied");
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("a file");
    change(&root);
    let tar = instance.path("box.tar");
    let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
    assert!(made.expect("tar runs").success());
    instance.ok(&["import", "-c", "CMD [\"sleep\", \"1000\"]", text(&tar), "box"]);
    Some(instance)
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// Starts a container that waits to be misused.
pub(crate) fn idle(instance: &Instance, name: &str, flags: &[&str]) {
    let run = ["run", "-d", "--init", "--name", name, "--network", "none"];
    instance.ok(&[&run, flags, &["box"]].concat());
}

/// What a script in the container says, on both streams.
pub(crate) fn sh(instance: &Instance, name: &str, script: &str) -> String {
    let script = format!("{{ {script}\n}} 2>&1");
    instance.run(&["exec", name, "sh", "-c", &script]).out
}

/// The answers of system calls made in a container; calls are separated by ` , `.
pub(crate) fn attack(instance: &Instance, name: &str, calls: &[(&str, &str)]) {
    let line: Vec<&str> = calls.iter().map(|(call, _)| *call).collect();
    let said = sh(instance, name, &format!("attack {}", line.join(" , ")));
    let got: Vec<(&str, &str)> = line.iter().copied().zip(said.lines()).collect();
    assert_eq!(got, calls, "{said}");
}

/// A process's parent: for a container's own, the shim.
pub(crate) fn parent(pid: u32) -> u32 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:")).expect("all have one");
    line.trim().parse().expect("it is a number")
}

pub(crate) fn main_pid(instance: &Instance, name: &str) -> u32 {
    instance.inspect(name, "{{.State.Pid}}").parse().expect("it is a number")
}
