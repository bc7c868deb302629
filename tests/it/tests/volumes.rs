//! Volumes from the command line: what they are filled with, who has them, copies, archives.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use it::{Instance, wait_until};

/// Runs the demo image without a network.
fn run(instance: &Instance, args: &[&str]) -> it::Ran {
    let all = ["run", "--network", "none"].iter().chain(args).copied();
    instance.run(&all.collect::<Vec<_>>())
}

/// As [`run`], to be removed at its end; it must succeed.
fn once(instance: &Instance, args: &[&str]) -> String {
    let ran = run(instance, &[&["--rm"], args].concat());
    assert_eq!(ran.code, 0, "{args:?}: {ran:?}");
    ran.out.trim_end().to_owned()
}

/// Where a volume's content is.
fn content(instance: &Instance, volume: &str) -> PathBuf {
    instance.ok(&["volume", "inspect", "--format", "{{.Mountpoint}}", volume]).into()
}

/// An image with a volume at `/data` and files in it, made with tar(1) and `import`.
fn import_image(instance: &Instance, name: &str, busybox: &Path) -> io::Result<()> {
    let root = instance.path("root");
    fs::create_dir_all(root.join("data/sub"))?;
    fs::write(root.join("data/file"), "from the image\n")?;
    fs::write(root.join("data/sub/deep"), "deep\n")?;
    symlink("/etc/passwd", root.join("data/link"))?;
    symlink("/data", root.join("elsewhere"))?;
    std::os::unix::fs::chown(root.join("data"), Some(1234), Some(5678))?;
    fs::create_dir(root.join("bin"))?;
    fs::copy(busybox, root.join("bin/busybox"))?;
    for applet in ["sh", "cat", "ls", "touch", "stat", "sleep", "id"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    let archive = instance.path("root.tar");
    let tar = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status();
    assert!(tar?.success());
    let archive = archive.to_str().expect("it is text");
    instance.ok(&["import", "-c", "VOLUME /data", "-c", "CMD [\"sh\"]", archive, name]);
    Ok(())
}

#[test]
fn a_volume_outlives_its_containers_and_is_not_removed_under_them() {
    let Some(instance) = Instance::start() else { return };
    assert_eq!(instance.ok(&["volume", "create", "--label", "tier=back", "db"]), "db");
    once(&instance, &["-v", "db:/srv", "demo", "sh", "-c", "echo kept > /srv/file"]);
    assert_eq!(once(&instance, &["-v", "db:/srv:ro", "demo", "cat", "/srv/file"]), "kept");
    let refused =
        run(&instance, &["--rm", "-v", "db:/srv:ro", "demo", "sh", "-c", "echo x > /srv/y"]);
    assert_ne!(refused.code, 0, "{refused:?}");
    let id = instance.ok(&["create", "--network", "none", "-v", "db:/srv", "--name", "cc", "demo"]);
    let in_use = instance.run(&["volume", "rm", "db"]);
    let want = format!("wythe: Error response from daemon: remove db: volume is in use - [{id}]\n");
    assert_eq!((in_use.code, in_use.err), (1, want));
    let mounts = "{{range .Mounts}}{{.Type}} {{.Name}} {{.Destination}} {{.Driver}} {{.Mode}} {{.RW}}{{end}}";
    assert_eq!(instance.inspect("cc", mounts), "volume db /srv local z true");
    assert_eq!(instance.inspect("cc", "{{.HostConfig.Binds}}"), "[db:/srv]");
    assert_eq!(instance.ok(&["ps", "-aq", "--no-trunc", "--filter", "volume=db"]), id);
    instance.ok(&["rm", "-v", "cc"]);
    assert_eq!(instance.ok(&["volume", "ls", "-q"]), "db", "a named volume stays");
    assert_eq!(instance.ok(&["volume", "rm", "db"]), "db");
    let missing = instance.run(&["volume", "inspect", "db"]);
    assert_eq!(missing.code, 1);
    assert!(missing.err.contains("get db: no such volume"), "{missing:?}");
    assert_eq!(instance.run(&["volume", "rm", "-f", "db"]).code, 0);
    let bad = run(&instance, &["--rm", "-v", "a/b:/srv", "demo"]);
    assert_eq!(bad.code, 125);
    assert!(bad.err.contains("includes invalid characters"), "{bad:?}");
}

#[test]
fn anonymous_volumes_go_when_they_are_asked_to() {
    let Some(instance) = Instance::start() else { return };
    let list = || instance.ok(&["volume", "ls", "-q"]).lines().count();
    once(&instance, &["-v", "/srv", "demo", "true"]);
    assert_eq!(list(), 0, "--rm takes them along");
    instance.ok(&["create", "--network", "none", "-v", "/srv", "--name", "one", "demo"]);
    let volume = instance.ok(&["volume", "ls", "-q"]);
    assert_eq!(volume.len(), 64, "{volume}");
    let label = "{{json .Labels}}";
    let label = instance.ok(&["volume", "inspect", "-f", label, &volume]);
    assert_eq!(label, "{\"com.docker.volume.anonymous\":\"\"}");
    // A second container has it too: the first does not take it along.
    instance.ok(&[
        "create",
        "--network",
        "none",
        "--volumes-from",
        "one:ro",
        "--name",
        "two",
        "demo",
    ]);
    assert_eq!(
        instance.inspect("two", "{{range .Mounts}}{{.Name}} {{.RW}}{{end}}"),
        format!("{volume} false")
    );
    instance.ok(&["rm", "-v", "one"]);
    assert_eq!(list(), 1);
    instance.ok(&["rm", "two"]);
    assert_eq!(list(), 1, "without -v it stays");
    fs::write(content(&instance, &volume).join("file"), "12345").unwrap();
    assert_eq!(instance.ok(&["volume", "ls", "-q", "-f", "dangling=true"]), volume);
    instance.ok(&["volume", "create", "named"]);
    let pruned = instance.ok(&["volume", "prune", "-f"]);
    assert!(
        pruned.starts_with(&format!("Deleted Volumes:\n{volume}\n\nTotal reclaimed space: ")),
        "{pruned}"
    );
    assert_eq!(instance.ok(&["volume", "ls", "-q"]), "named");
    // A container that cannot be made leaves none.
    instance.ok(&["create", "--network", "none", "--name", "taken", "demo"]);
    let taken = run(&instance, &["--name", "taken", "-v", "/srv", "demo"]);
    assert_ne!(taken.code, 0);
    assert_eq!(instance.ok(&["volume", "ls", "-q"]), "named");
    assert_eq!(
        instance.ok(&["volume", "prune", "-fa", "--filter", "label=no"]),
        "Total reclaimed space: 0B"
    );
    instance.ok(&["volume", "prune", "-af"]);
    assert_eq!(list(), 0);
}

#[test]
fn an_empty_volume_is_filled_from_the_image_once() {
    let Some(mut instance) = Instance::start() else { return };
    let (Some(_), Some(busybox)) = (testkit::need::tool("tar"), testkit::need::tool("busybox"))
    else {
        return;
    };
    import_image(&instance, "full", &busybox).unwrap();
    // VOLUME of the image, and through a link of the image.
    assert_eq!(
        once(&instance, &["full", "cat", "/data/file", "/data/sub/deep"]),
        "from the image\ndeep"
    );
    assert_eq!(instance.ok(&["volume", "ls", "-q"]), "", "--rm takes it along");
    assert_eq!(
        once(&instance, &["-v", "vv:/elsewhere", "full", "cat", "/elsewhere/file"]),
        "from the image"
    );
    let path = content(&instance, "vv");
    let top = fs::metadata(&path).unwrap();
    assert_eq!((top.uid(), top.gid()), (1234, 5678), "owners come along");
    fs::write(path.join("file"), "changed\n").unwrap();
    instance.kill_daemon();
    instance.start_daemon();
    assert_eq!(once(&instance, &["-v", "vv:/data", "full", "cat", "/data/file"]), "changed");
    // Not filled: nocopy, and a start after the first.
    assert_eq!(once(&instance, &["-v", "nn:/data:nocopy", "full", "ls", "/data"]), "");
    instance.ok(&[
        "run",
        "--network",
        "none",
        "--name",
        "again",
        "-v",
        "nn:/data",
        "full",
        "ls",
        "/data",
    ]);
    assert_eq!(instance.ok(&["logs", "again"]), "file\nlink\nsub");
    for name in fs::read_dir(content(&instance, "nn")).unwrap() {
        let name = name.unwrap().path();
        if name.is_dir() && !name.is_symlink() {
            fs::remove_dir_all(name)
        } else {
            fs::remove_file(name)
        }
        .unwrap();
    }
    instance.ok(&["start", "-a", "again"]);
    assert_eq!(fs::read_dir(content(&instance, "nn")).unwrap().count(), 0);
    let over = run(&instance, &["--rm", "-v", "xx:/data/file", "full", "ls"]);
    assert!(over.code != 0 && over.err.contains("existing file"), "{over:?}");
    // Memory as a volume is filled too, and gone with its last user.
    instance.ok(&[
        "volume",
        "create",
        "-o",
        "type=tmpfs",
        "-o",
        "device=tmpfs",
        "-o",
        "o=size=8m",
        "mem",
    ]);
    assert_eq!(
        once(&instance, &["-v", "mem:/data", "full", "cat", "/data/file"]),
        "from the image"
    );
}

#[test]
fn parts_ids_and_propagation_are_as_asked() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["volume", "create", "vv"]);
    let path = content(&instance, "vv");
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::write(path.join("a/b/file"), "part\n").unwrap();
    symlink("/etc", path.join("out")).unwrap();
    let mount = |text: &str, command: &[&str]| {
        run(&instance, &[&["--rm", "--mount", text, "demo"], command].concat())
    };
    let part = mount("type=volume,src=vv,dst=/srv,volume-subpath=a/b", &["cat", "/srv/file"]);
    assert_eq!((part.code, part.out.as_str()), (0, "part\n"), "{part:?}");
    for bad in ["out", "missing"] {
        let ran = mount(&format!("type=volume,src=vv,dst=/srv,volume-subpath={bad}"), &["true"]);
        assert!(ran.code == 125 && ran.err.contains("cannot access path"), "{ran:?}");
    }
    let map = "uids=0-1000-1;gids=0-1001-1";
    let write = ["sh", "-c", "echo x > /srv/mapped"];
    let user = ["--rm", "--user", "1000:1001", "--mount"];
    let text = format!("type=volume,src=vv,dst=/srv,idmap={map}");
    let ran = run(&instance, &[&user[..], &[&text, "demo"], &write].concat());
    if ran.code == 0 {
        // Root's on disk, the user's inside, both ways.
        let made = fs::metadata(path.join("mapped")).unwrap();
        assert_eq!((made.uid(), made.gid()), (0, 0), "{ran:?}");
    } else {
        assert!(ran.err.contains("cannot map ids"), "{ran:?}");
    }
    let text = format!("type=bind,src={},dst=/srv,idmap", path.display());
    let none = mount(&text, &["true"]);
    assert!(none.code != 0 && none.err.contains("user namespace"), "{none:?}");
    let nfs = instance.run(&["volume", "create", "-o", "type=nfs", "-o", "device=:/x", "far"]);
    assert!(nfs.code == 1 && nfs.err.contains("type nfs are not built"), "{nfs:?}");
    let driver = run(&instance, &["--rm", "--volume-driver", "far", "-v", "xx:/srv", "demo"]);
    assert!(driver.err.contains("plugin \"far\" not found"), "{driver:?}");
    let bound = instance.path("bound");
    fs::create_dir(&bound).unwrap();
    let device = format!("device={}", bound.display());
    instance.ok(&["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "bound"]);
    once(&instance, &["-v", "bound:/srv", "demo", "sh", "-c", "echo x > /srv/file"]);
    assert_eq!(fs::read_to_string(bound.join("file")).unwrap(), "x\n");
}

#[test]
fn snapshots_bring_back_what_was() {
    let Some(instance) = Instance::start() else { return };
    let write = |text: &str| {
        once(
            &instance,
            &["-v", "db:/srv", "demo", "sh", "-c", &format!("echo {text} > /srv/file")],
        );
    };
    write("one");
    let taken = instance.run(&["volume", "snapshot", "db"]);
    assert_eq!((taken.code, taken.out.as_str()), (0, "s1\n"), "{taken:?}");
    assert!(
        taken.err.is_empty() || taken.err == "copied, as this file system has no reflinks\n",
        "{taken:?}"
    );
    write("two");
    let keep = "trap 'exit 0' TERM; sleep infinity";
    instance.ok(&[
        "run",
        "-d",
        "--init",
        "--network",
        "none",
        "--name",
        "user",
        "-v",
        "db:/srv",
        "demo",
        "sh",
        "-c",
        keep,
    ]);
    let live = instance.run(&["volume", "snapshot", "db", "live"]);
    assert!(live.code == 0 && live.err.contains("as a power cut would have left it"), "{live:?}");
    let still = instance.run(&["volume", "snapshot", "--pause", "db", "still"]);
    assert!(still.code == 0 && !still.err.contains("power cut"), "{still:?}");
    assert_eq!(instance.inspect("user", "{{.State.Status}}"), "running");
    let refused = instance.run(&["volume", "restore", "db", "s1"]);
    assert!(
        refused.code == 1 && refused.err.contains("while containers that run use it"),
        "{refused:?}"
    );
    instance.ok(&["rm", "-f", "user"]);
    instance.ok(&["volume", "restore", "db", "s1"]);
    assert_eq!(once(&instance, &["-v", "db:/srv", "demo", "cat", "/srv/file"]), "one");
    assert_eq!(instance.ok(&["volume", "snapshots", "-q", "db"]), "s1\nlive\nstill");
    instance.ok(&["volume", "snapshots", "--rm", "live", "db"]);
    assert_eq!(instance.ok(&["volume", "snapshots", "-q", "db"]), "s1\nstill");
    instance.ok(&["volume", "clone", "db", "copy"]);
    assert_eq!(once(&instance, &["-v", "copy:/srv", "demo", "cat", "/srv/file"]), "one");
}

#[test]
fn archives_go_out_and_in_and_hostile_ones_do_not() {
    let Some(instance) = Instance::start() else { return };
    let Some(_) = testkit::need::tool("tar") else { return };
    instance.ok(&["volume", "create", "vv"]);
    let path = content(&instance, "vv");
    fs::create_dir(path.join("sub")).unwrap();
    fs::write(path.join("sub/.wh.file"), "plain\n").unwrap();
    fs::hard_link(path.join("sub/.wh.file"), path.join("twice")).unwrap();
    symlink("nowhere", path.join("link")).unwrap();
    let archive = instance.path("v.tar");
    let archive = archive.to_str().unwrap();
    instance.ok(&["volume", "export", "-o", archive, "vv"]);
    assert_eq!(instance.ok(&["volume", "import", "-i", archive, "ww"]), "ww");
    let copy = content(&instance, "ww");
    assert_eq!(fs::read_to_string(copy.join("sub/.wh.file")).unwrap(), "plain\n");
    assert_eq!(fs::metadata(copy.join("twice")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(copy.join("link")).unwrap(), Path::new("nowhere"));
    let full = instance.run(&["volume", "import", "-i", archive, "ww"]);
    assert!(full.code == 1 && full.err.contains("is not empty"), "{full:?}");
    let tar = |script: &str| {
        let dir = instance.path("hostile");
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let ran = Command::new("sh").arg("-c").arg(script).current_dir(&dir).status().unwrap();
        assert!(ran.success(), "{script}");
        fs::read(dir.join("t.tar")).unwrap()
    };
    let outside = instance.path("outside");
    fs::create_dir(&outside).unwrap();
    let out = outside.display();
    for (script, why) in [
        ("echo x > a; tar -cPf t.tar --transform 's,^a,../../a,' a".to_owned(), Some("a")),
        ("mknod a b 8 0; tar -cf t.tar a".to_owned(), Some("device node 8:0")),
        (
            format!(
                "ln -s {out} a; tar -cf t.tar a; rm a; mkdir a; echo x > a/b; tar -rf t.tar a/b"
            ),
            None,
        ),
        ("echo x > a; tar -cPf t.tar --transform 's,^a,/abs,' a".to_owned(), None),
        ("echo garbage > t.tar".to_owned(), Some("")),
    ] {
        let archive = tar(&script);
        let ran = instance.run_with(&["volume", "import", "--force", "ww"], &archive);
        match why {
            Some(why) => {
                assert!(ran.code == 1 && ran.err.contains(why), "{script}: {ran:?}");
                assert!(copy.join("sub/.wh.file").exists(), "{script}: nothing has changed");
            }
            // Taken for what it says, inside.
            None => assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{script}: {ran:?}"),
        }
        if why.is_none() {
            instance.ok(&[
                "volume",
                "import",
                "--force",
                "-i",
                instance.path("v.tar").to_str().unwrap(),
                "ww",
            ]);
        }
    }
    assert!(!Path::new("/abs").exists());
}

#[test]
fn a_killed_daemon_finds_its_volumes_and_their_users_again() {
    let Some(mut instance) = Instance::start() else { return };
    let keep = [
        "-d", "--init", "-v", "db:/srv", "-v", "/anon", "--name", "user", "demo", "sleep",
        "infinity",
    ];
    assert_eq!(run(&instance, &keep).code, 0);
    let anonymous = instance.inspect(
        "user",
        "{{range .Mounts}}{{if eq .Destination \"/anon\"}}{{.Name}}{{end}}{{end}}",
    );
    instance.kill_daemon();
    instance.start_daemon();
    let in_use = instance.run(&["volume", "rm", "db"]);
    assert!(in_use.err.contains("volume is in use"), "{in_use:?}");
    instance.ok(&["volume", "snapshot", "db"]);
    let refused = instance.run(&["volume", "restore", "db", "s1"]);
    assert!(refused.err.contains("while containers that run use it"), "{refused:?}");
    instance.ok(&["rm", "-fv", "user"]);
    wait_until("the anonymous volume is gone", || {
        instance.run(&["volume", "inspect", &anonymous]).code == 1
    });
    instance.ok(&["volume", "restore", "db", "s1"]);
    instance.ok(&["volume", "rm", "db"]);
}
