//! Files in and out of containers: cp, diff, export, commit, and what a hostile one cannot do.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    process::{Command, Stdio},
};

use it::{Instance, wait_until};

/// An instance with an image `box`: busybox and its names.
fn with_box() -> Option<Instance> {
    let busybox = testkit::need::tool("busybox")?;
    testkit::need::tool("tar")?;
    let instance = Instance::start()?;
    let root = instance.path("box");
    for name in ["bin", "etc", "tmp", "data"] {
        fs::create_dir_all(root.join(name)).expect("a directory");
    }
    fs::copy(busybox, root.join("bin/busybox")).expect("it can be copied");
    for name in ["sh", "cat", "ln", "mkdir", "mv", "rm", "sleep", "stat", "touch", "test", "mkfifo"]
    {
        symlink("busybox", root.join("bin").join(name)).expect("a link");
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").expect("a file");
    fs::write(root.join("etc/motd"), "welcome\n").expect("a file");
    let tar = instance.path("box.tar");
    let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
    assert!(made.expect("tar runs").success());
    instance.ok(&["import", "-c", "CMD [\"sleep\", \"1000\"]", text(&tar), "box"]);
    Some(instance)
}

fn text(path: &std::path::Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

fn idle(instance: &Instance, name: &str) {
    instance.ok(&["run", "-d", "--init", "--name", name, "--network", "none", "box"]);
}

fn sh(instance: &Instance, name: &str, script: &str) -> String {
    instance.ok(&["exec", name, "sh", "-c", script])
}

#[test]
fn files_are_copied_in_and_out_of_running_paused_and_stopped_containers() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1");
    let local = instance.path("local");
    fs::create_dir_all(local.join("dir/sub")).expect("a directory");
    fs::write(local.join("dir/sub/file"), "one").expect("a file");
    std::os::unix::fs::chown(local.join("dir/sub/file"), Some(12), Some(34)).expect("we are root");
    let dir = local.join("dir");
    let at = |path: &str| format!("c1:{path}");

    instance.ok(&["cp", text(&dir), &at("/tmp")]);
    assert_eq!(
        sh(&instance, "c1", "cat /tmp/dir/sub/file; stat -c %u:%g /tmp/dir/sub/file"),
        "one0:0"
    );
    instance.ok(&["cp", "-a", text(&dir), &at("/tmp/kept")]);
    assert_eq!(sh(&instance, "c1", "stat -c %u:%g /tmp/kept/sub/file"), "12:34");

    instance.ok(&["pause", "c1"]);
    let out = local.join("paused");
    instance.ok(&["cp", &at("/tmp/kept/sub/file"), text(&out)]);
    assert_eq!(fs::metadata(&out).expect("it came").uid(), 0);
    instance.ok(&["unpause", "c1"]);

    instance.ok(&["stop", "-t", "0", "c1"]);
    instance.ok(&["cp", text(&out), &at("/etc/motd")]);
    instance.ok(&["cp", "-a", &at("/tmp/kept/."), text(&local.join("contents"))]);
    let kept = fs::metadata(local.join("contents/sub/file")).expect("it came");
    assert_eq!((kept.uid(), kept.gid()), (12, 34));
    instance.ok(&["start", "c1"]);
    assert_eq!(sh(&instance, "c1", "cat /etc/motd"), "one");
    // A container that was never started has its files too.
    instance.ok(&["create", "--name", "new", "box"]);
    instance.ok(&["cp", "new:/etc/motd", text(&local.join("motd"))]);
    assert_eq!(fs::read_to_string(local.join("motd")).expect("it came"), "welcome\n");
    instance.remove_all();
}

#[test]
fn what_cannot_be_copied_is_refused_in_dockers_words() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1");
    let local = instance.path("local");
    fs::create_dir_all(local.join("dir")).expect("a directory");
    fs::write(local.join("file"), "x").expect("a file");
    let (dir, file) = (local.join("dir"), local.join("file"));
    for (args, want) in [
        (["c1:/nothing", text(&dir)], "Could not find the file /nothing in container c1"),
        ([text(&file), "c1:/no/such/file"], "Could not find the file /no/such in container c1"),
        ([text(&file), "c1:/nothing/"], "no such directory"),
        ([text(&dir), "c1:/etc/passwd"], "cannot copy directory"),
        (["c1:/etc", text(&file)], "cannot copy directory"),
        (["c1:/etc", "c1:/tmp"], "copying between containers is not supported"),
        ([text(&file), text(&dir)], "must specify at least one container source"),
        (["/no/such", "c1:/tmp"], "lstat /no/such: no such file or directory"),
        (["c1:/etc/passwd", "/no/such/file"], "invalid output path: directory \"/no/such\""),
        (["-", "c1:/etc/passwd"], "must be a directory"),
        (["no-such:/etc", text(&dir)], "No such container: no-such"),
    ] {
        let ran = instance.run(&[&["cp"], &args[..]].concat());
        assert_eq!(ran.code, 1, "{args:?}: {ran:?}");
        assert!(ran.err.contains(want), "{args:?}: {ran:?}");
    }
    let only = ["run", "-d", "--init", "--read-only", "--name", "ro", "--network", "none", "box"];
    instance.ok(&only);
    for _ in 0..2 {
        let ran = instance.run(&["cp", text(&file), "ro:/tmp/x"]);
        assert!(ran.err.contains("container rootfs is marked read-only"), "{ran:?}");
        instance.ok(&["stop", "-t", "0", "ro"]);
    }
    instance.remove_all();
}

#[test]
fn archives_go_through_standard_streams() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1");
    sh(
        &instance,
        "c1",
        "mkdir /data/d; echo x >/data/d/f; ln /data/d/f /data/d/g; mkfifo /data/d/p",
    );
    let out = instance.command(&["cp", "c1:/data/d", "-"]).output().expect("it runs");
    assert!(out.status.success(), "{out:?}");
    let mut list = Command::new("tar");
    let list = list.arg("-tv").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut list = list.expect("tar runs");
    list.stdin.take().expect("a pipe").write_all(&out.stdout).expect("tar reads");
    let list = list.wait_with_output().expect("tar ends");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.contains("d/g link to d/f") && list.contains("prw"), "{list}");

    let mut copy = instance.command(&["cp", "-", "c1:/tmp"]);
    let mut copy = copy.stdin(Stdio::piped()).spawn().expect("it runs");
    copy.stdin.take().expect("a pipe").write_all(&out.stdout).expect("it reads");
    assert!(copy.wait().expect("it ends").success());
    assert_eq!(sh(&instance, "c1", "cat /tmp/d/g; test -p /tmp/d/p && echo pipe"), "x\npipe");
    instance.remove_all();
}

#[test]
fn a_hostile_container_shows_and_touches_nothing_of_the_host() {
    let Some(instance) = with_box() else { return };
    let secret = instance.path("secret");
    fs::create_dir_all(secret.join("b")).expect("a directory");
    fs::write(secret.join("b/file"), "SECRET").expect("a file");
    idle(&instance, "c1");
    let script = format!(
        "mkdir -p /data/a/b; echo inside >/data/a/b/file; ln -s {} /data/link; \
         ln -s ../../../../../..{} /data/up; ln -s /proc/1/root /data/proc",
        secret.display(),
        secret.display()
    );
    sh(&instance, "c1", &script);
    let local = instance.path("local");
    fs::create_dir_all(&local).expect("a directory");
    for path in ["/data/link/b/file", "/data/up/b/file", "/../../../../../../etc/shadow"] {
        let ran = instance.run(&["cp", &format!("c1:{path}"), text(&local)]);
        assert_ne!(ran.code, 0, "{path}: {ran:?}");
    }
    let ran = instance.run(&["cp", "-L", "c1:/data/up/.", text(&local)]);
    assert_ne!(ran.code, 0, "{ran:?}");

    // It swaps a directory for a link that leads out, without end.
    let race = "while :; do mv /data/a /data/t; mv /data/link /data/a; mv /data/a /data/link; \
                mv /data/t /data/a; done";
    instance.ok(&["exec", "-d", "c1", "sh", "-c", race]);
    let new = instance.path("new");
    fs::write(&new, "written").expect("a file");
    for number in 0..25 {
        let to = local.join(format!("{number}"));
        instance.run(&["cp", "c1:/data/a/b/file", text(&to)]);
        if let Ok(copied) = fs::read_to_string(&to) {
            assert_eq!(copied, "inside\n", "round {number}");
        }
        instance.run(&["cp", text(&new), "c1:/data/a/b/new"]);
    }
    assert_eq!(fs::read_to_string(secret.join("b/file")).expect("it stays"), "SECRET");
    assert!(!secret.join("b/new").exists(), "it was written outside");
    instance.remove_all();
}

/// Whoever commits may be interrupted: the container must not stand still for ever.
#[test]
fn a_container_goes_on_when_its_commit_is_interrupted() {
    let Some(instance) = with_box() else { return };
    let fill = "busybox head -c 64000000 /dev/urandom >/fill; echo filled; sleep 1000";
    instance.ok(&["run", "-d", "--name", "live", "--network", "none", "box", "sh", "-c", fill]);
    wait_until("it has files", || instance.ok(&["logs", "live"]) == "filled");
    let state = || instance.ok(&["inspect", "--format", "{{.State.Status}}", "live"]);
    let mut commit = instance.client(&["commit", "live", "made:2"]).spawn().expect("it starts");
    wait_until("it is paused", || state() == "paused");
    commit.kill().expect("it runs");
    commit.wait().expect("it was started");
    wait_until("it goes on", || state() == "running");
    assert_eq!(instance.ok(&["exec", "live", "cat", "/etc/motd"]), "welcome");
    instance.remove_all();
}

#[test]
fn changes_are_listed_exported_and_committed() {
    let Some(instance) = with_box() else { return };
    let script = "echo new >/etc/new; rm /etc/motd; rm -r /data; mkdir /data; echo y >/data/y; \
                  touch /tmp/x; ln /etc/new /etc/again";
    instance.ok(&[
        "run",
        "--name",
        "c1",
        "-e",
        "A=b",
        "--network",
        "none",
        "box",
        "sh",
        "-c",
        script,
    ]);
    let diff = instance.ok(&["diff", "c1"]);
    let lines: Vec<_> = diff.lines().collect();
    for want in ["C /etc", "A /etc/new", "D /etc/motd", "A /data/y", "A /tmp/x"] {
        assert!(lines.contains(&want), "{want} in {diff}");
    }
    for engine in ["/etc/hosts", "/proc", "/dev", "/sys"] {
        assert!(!lines.iter().any(|line| line.ends_with(engine)), "{engine} in {diff}");
    }

    let archive = instance.path("export.tar");
    instance.ok(&["export", "-o", text(&archive), "c1"]);
    let list = Command::new("tar").arg("-tf").arg(&archive).output().expect("tar runs");
    let list = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(list.lines().any(|line| line == "etc/new"), "{list}");
    assert!(!list.contains("etc/motd"), "{list}");

    let commit = ["commit", "-a", "me", "-m", "said", "-c", "CMD [\"cat\", \"/etc/again\"]", "c1"];
    let id = instance.ok(&[&commit[..], &["made:1"]].concat());
    assert!(id.starts_with("sha256:"), "{id}");
    let run = ["run", "--rm", "--network", "none", "made:1"];
    assert_eq!(instance.ok(&run), "new");
    let gone = [&run[..], &["sh", "-c", "test -e /etc/motd || echo gone; echo $A"]].concat();
    assert_eq!(instance.ok(&gone), "gone\nb");
    let wrong = instance.run(&["commit", "-c", "FROM x", "c1", "wrong"]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(!instance.ok(&["images"]).contains("wrong"), "nothing is half-made");

    let saved = instance.path("made.tar");
    instance.ok(&["save", "-o", text(&saved), "made:1"]);
    if testkit::need::tool("skopeo").is_some() {
        let inspected = Command::new("skopeo")
            .args(["inspect", "--config"])
            .arg(format!("docker-archive:{}", saved.display()))
            .output()
            .expect("skopeo runs");
        let config = String::from_utf8_lossy(&inspected.stdout).into_owned();
        assert!(inspected.status.success(), "{inspected:?}");
        assert!(config.contains("/etc/again") && config.contains("said"), "{config}");
    }
    instance.ok(&["rmi", "made:1"]);
    instance.ok(&["load", "-i", text(&saved)]);
    assert_eq!(instance.ok(&run), "new");
    instance.remove_all();
}

#[test]
fn modes_and_holes_and_binds_are_as_they_were() {
    let Some(instance) = with_box() else { return };
    let host = instance.path("host");
    fs::create_dir(&host).expect("a directory");
    fs::write(host.join("bound"), "bound").expect("a file");
    let bind = format!("{}:/data", host.display());
    instance.ok(&["run", "-d", "--init", "--name", "c1", "-v", &bind, "--network", "none", "box"]);
    let local = instance.path("local");
    let file = fs::File::create(&local).expect("a file");
    std::os::unix::fs::FileExt::write_all_at(&file, b"end", 64 << 20).expect("a hole");
    fs::set_permissions(&local, fs::Permissions::from_mode(0o4711)).expect("it is ours");
    for _ in 0..2 {
        instance.ok(&["cp", text(&local), "c1:/data/sparse"]);
        let there = fs::metadata(host.join("sparse")).expect("it went through the bind");
        assert_eq!((there.len(), there.mode() & 0o7777), ((64 << 20) + 3, 0o4711));
        assert!(there.blocks() < 1024, "holes stay: {}", there.blocks());
        fs::remove_file(host.join("sparse")).expect("it is there");
        let out = instance.path("out");
        instance.ok(&["cp", "c1:/data/bound", text(&out)]);
        assert_eq!(fs::read_to_string(out).expect("it came"), "bound");
        instance.ok(&["stop", "-t", "0", "c1"]);
    }
    instance.remove_all();
}
