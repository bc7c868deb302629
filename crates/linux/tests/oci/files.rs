//! `root`, `mounts`, devices and covered paths.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::{Value, json};

use crate::{bundle::Bundle, process::says};

/// Adds a bind of a directory of the bundle on `/x`.
fn bind(config: &mut Value, options: &[&str]) {
    let mount = json!({"destination": "/x", "type": "none", "source": "data", "options": options});
    config["mounts"].as_array_mut().unwrap().push(mount);
}

/// What the kernel shows of the mount on `/x`: its own options, what it shares, and those of its
/// file system. Source: proc_pid_mountinfo(5).
fn shown(mount: Value) -> Option<[String; 3]> {
    let bundle = Bundle::new("grep ' /x ' /proc/self/mountinfo")?;
    fs::create_dir(bundle.path("data")).unwrap();
    fs::create_dir(bundle.path("rootfs/x")).unwrap();
    bundle.change(|config| config["mounts"].as_array_mut().unwrap().push(mount));
    let ran = bundle.oci(["run", "box"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let (mount, system) = ran.stdout.trim().split_once(" - ").unwrap();
    let mut words = mount.split(' ').skip(5);
    let own = words.next().unwrap().to_owned();
    let shares = words.collect::<Vec<_>>().join(" ");
    Some([own, shares, system.rsplit(' ').next().unwrap().to_owned()])
}

fn has(list: &str, option: &str) -> bool {
    list.split(',').any(|shown| shown == option)
}

#[test]
fn the_root_is_the_bundles_and_can_be_read_only() {
    let Some(bundle) = Bundle::new("cat /word; true > /made || exit 3") else { return };
    fs::rename(bundle.path("rootfs"), bundle.path("elsewhere")).unwrap();
    fs::write(bundle.path("elsewhere/word"), "here\n").unwrap();
    for (path, read_only, code) in [
        ("elsewhere".to_owned(), true, 3),
        ("elsewhere".to_owned(), false, 0),
        (bundle.text("elsewhere"), false, 0),
    ] {
        bundle.change(|config| config["root"] = json!({"path": path, "readonly": read_only}));
        let ran = bundle.oci(["run", "box"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(code), "here\n"), "{ran:?}");
        assert_eq!(bundle.path("elsewhere/made").exists(), !read_only);
    }
}

#[test]
fn mounts_are_made_in_their_order() {
    let Some(bundle) = Bundle::new("cat /x/y/file; ls /x") else { return };
    fs::create_dir(bundle.path("data")).unwrap();
    fs::create_dir(bundle.path("rootfs/x")).unwrap();
    fs::write(bundle.path("data/file"), "bound\n").unwrap();
    let tmpfs = json!({"destination": "/x", "type": "tmpfs", "source": "tmpfs"});
    let bind = json!({
        "destination": "/x/y", "type": "bind", "source": "data", "options": ["bind"],
    });
    let plain = fs::read(bundle.path("config.json")).unwrap();
    for (mounts, want) in [([&tmpfs, &bind], "bound\ny\n"), ([&bind, &tmpfs], "")] {
        fs::write(bundle.path("config.json"), &plain).unwrap();
        bundle.change(|config| {
            config["root"]["readonly"] = false.into();
            config["mounts"].as_array_mut().unwrap().extend(mounts.map(Clone::clone));
        });
        assert_eq!(bundle.oci(["run", "box"]).stdout, want);
    }
}

#[test]
fn options_are_what_the_kernel_shows() {
    let attributes = ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "nosymfollow"];
    let bound = |options: &[&str]| json!({"destination": "/x", "type": "none", "source": "data", "options": options});
    let Some([own, ..]) = shown(bound(&[&["bind"], &attributes[..]].concat())) else { return };
    assert!(attributes.iter().all(|option| has(&own, option)), "{own}");
    let [own, ..] = shown(bound(&["bind"])).unwrap();
    assert!(has(&own, "rw") && !attributes[..4].iter().any(|option| has(&own, option)), "{own}");
    // It is what is shown when neither relatime nor noatime is.
    let [own, ..] = shown(bound(&["bind", "strictatime"])).unwrap();
    assert!(!has(&own, "relatime") && !has(&own, "noatime"), "{own}");

    let tmpfs = ["noexec", "sync", "dirsync", "lazytime", "size=64k", "mode=700"];
    let mount = json!({"destination": "/x", "type": "tmpfs", "source": "t", "options": tmpfs});
    let [own, _, system] = shown(mount).unwrap();
    assert!(has(&own, "noexec"), "{own}");
    for option in ["sync", "dirsync", "lazytime", "size=64k", "mode=700"] {
        assert!(has(&system, option), "{option}: {system}");
    }
}

#[test]
fn a_tmpfs_can_begin_with_the_images_files() {
    let script = "cd /x; cat dir/file; stat -c '%a %u %Y' dir/file; readlink link; stat -c %a .; \
                  echo more >> dir/file; true > /y/new 2>/dev/null || echo kept";
    let Some(bundle) = Bundle::new(script) else { return };
    for at in ["x", "y"] {
        fs::create_dir_all(bundle.path(&format!("rootfs/{at}/dir"))).unwrap();
    }
    let file = bundle.path("rootfs/x/dir/file");
    fs::write(&file, "of the image\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(&file, Some(33), None).unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(&file).unwrap().set_modified(then).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", bundle.path("rootfs/x/link")).unwrap();
    fs::set_permissions(bundle.path("rootfs/x"), fs::Permissions::from_mode(0o750)).unwrap();
    let tmpfs = |at: &str, options: &[&str]| json!({"destination": at, "type": "tmpfs", "source": "tmpfs", "options": options});
    let mounts = |options: &[&str]| {
        let read_only = [options, &["ro"]].concat();
        [tmpfs("/x", options), tmpfs("/y", &read_only), tmpfs("/not/there", options)]
    };
    let plain = fs::read(bundle.path("config.json")).unwrap();
    for (options, mode) in [(&["tmpcopyup"][..], "750"), (&["mode=711", "tmpcopyup"], "711")] {
        fs::write(bundle.path("config.json"), &plain).unwrap();
        bundle.change(|config| {
            config["root"]["readonly"] = false.into();
            config["mounts"].as_array_mut().unwrap().extend(mounts(options));
        });
        let ran = bundle.oci(["run", "box"]);
        let want = format!("of the image\n640 33 1000000\n/etc/passwd\n{mode}\nkept\n");
        assert_eq!(ran.stdout, want, "{ran:?}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "of the image\n");
    }
    // More than the tmpfs holds: said, and nothing runs.
    fs::write(bundle.path("rootfs/x/large"), vec![0; 1 << 20]).unwrap();
    fs::write(bundle.path("config.json"), &plain).unwrap();
    bundle.change(|config| {
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(tmpfs("/x", &["tmpcopyup", "size=64k"]));
    });
    let ran = bundle.oci(["run", "box"]);
    assert!(ran.code != Some(0) && ran.stderr.contains("copy up /x"), "{ran:?}");
}

#[test]
fn options_are_taken_back_by_their_opposites() {
    let pairs = [
        ["ro", "rw"],
        ["nosuid", "suid"],
        ["nodev", "dev"],
        ["noexec", "exec"],
        ["noatime", "atime"],
        ["nodiratime", "diratime"],
        ["nosymfollow", "symfollow"],
        ["strictatime", "nostrictatime"],
    ];
    let mut options = vec!["bind"];
    options.extend(pairs.as_flattened());
    let mount = json!({"destination": "/x", "type": "none", "source": "data", "options": options});
    let Some([own, ..]) = shown(mount) else { return };
    let left: Vec<_> = pairs.iter().filter(|[set, _]| has(&own, set)).collect();
    assert!(left.iter().all(|[set, _]| *set == "strictatime"), "{own}");
    assert!(has(&own, "rw"), "{own}");
}

#[test]
fn options_without_an_effect_are_taken() {
    let options = [
        "bind",
        "defaults",
        "async",
        "relatime",
        "norelatime",
        "nolazytime",
        "nomand",
        "noiversion",
        "loud",
        "silent",
    ];
    let mount = |options: &[&str]| json!({"destination": "/x", "type": "none", "source": "data", "options": options});
    let Some([with, ..]) = shown(mount(&options)) else { return };
    let [without, ..] = shown(mount(&["bind"])).unwrap();
    assert_eq!(with, without);
}

#[test]
fn propagation_is_as_asked() {
    // What a mount that is not shared, or one that is, comes to.
    for (word, want) in [
        ("shared", "shared:"),
        ("rshared", "shared:"),
        ("private", ""),
        ("rprivate", ""),
        ("unbindable", "unbindable"),
        ("runbindable", "unbindable"),
    ] {
        let options = ["rbind", word];
        let mount =
            json!({"destination": "/x", "type": "none", "source": "data", "options": options});
        let Some([_, shares, _]) = shown(mount) else { return };
        assert!(
            shares.starts_with(want) && shares.is_empty() == want.is_empty(),
            "{word}: {shares}"
        );
    }
    // A slave of what the host shares with it.
    for word in ["slave", "rslave"] {
        let script = "mkdir host && mount -t tmpfs t host && mount --make-shared host && \
                      mkdir host/data && exec \"$0\" --root state run box";
        let Some(bundle) = Bundle::new("grep ' /x ' /proc/self/mountinfo") else { return };
        fs::create_dir(bundle.path("rootfs/x")).unwrap();
        bundle.change(|config| {
            let options = json!(["bind", word]);
            config["mounts"].as_array_mut().unwrap().push(json!({
                "destination": "/x", "type": "none", "source": "host/data", "options": options,
            }));
        });
        let mut shell = std::process::Command::new("unshare");
        shell.args(["-m", "sh", "-c", script]).arg(crate::program()).current_dir(bundle.path(""));
        let ran = crate::Said::from(shell.output().unwrap());
        assert!(ran.stdout.contains(" master:"), "{word}: {ran:?}");
    }
    for (word, want) in [("shared", "shared:"), ("unbindable", "unbindable"), ("private", "")] {
        let root = says("grep ' / / \\| /.* / ' /proc/self/mountinfo | head -n 1", |config| {
            config["linux"]["rootfsPropagation"] = word.into();
        });
        let Some(root) = root else { return };
        let shares = root.split(" - ").next().unwrap();
        assert!(shares.contains(want), "{word}: {root}");
        assert!(!want.is_empty() || !shares.contains("shared:"), "{word}: {root}");
    }
    let Some(bundle) = Bundle::new("true") else { return };
    bundle.change(|config| config["linux"]["rootfsPropagation"] = "sideways".into());
    let ran = bundle.oci(["run", "box"]);
    assert!(ran.stderr.contains("linux.rootfsPropagation"), "{ran:?}");
}

#[test]
fn binds_take_along_what_is_mounted_below_if_asked() {
    for (option, want) in [("rbind", "below\n"), ("bind", "")] {
        let Some(bundle) = Bundle::new("ls /x/below") else { return };
        fs::create_dir_all(bundle.path("data/below")).unwrap();
        fs::create_dir(bundle.path("rootfs/x")).unwrap();
        bundle.change(|config| bind(config, &[option]));
        let script = "mount -t tmpfs t data/below && mkdir data/below/below \
                      && exec \"$0\" --root state run box";
        let mut shell = std::process::Command::new("unshare");
        shell.args(["-m", "sh", "-c", script]).arg(crate::program()).current_dir(bundle.path(""));
        assert_eq!(crate::Said::from(shell.output().unwrap()).stdout, want, "{option}");
    }
}

#[test]
fn recursive_read_only_reaches_what_is_mounted_below() {
    for (option, want) in [("rro", "Read-only"), ("ro", "")] {
        let Some(bundle) = Bundle::new("mkdir /x/below/made 2>&1; true") else { return };
        fs::create_dir_all(bundle.path("data/below")).unwrap();
        fs::create_dir(bundle.path("rootfs/x")).unwrap();
        bundle.change(|config| bind(config, &["rbind", option]));
        let script = "mount -t tmpfs t data/below && exec \"$0\" --root state run box";
        let mut shell = std::process::Command::new("unshare");
        shell.args(["-m", "sh", "-c", script]).arg(crate::program()).current_dir(bundle.path(""));
        let ran = crate::Said::from(shell.output().unwrap());
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.stdout.contains(want) && ran.stdout.is_empty() == want.is_empty(), "{ran:?}");
    }
}

#[test]
fn devices_are_made_as_configured() {
    let script = "cd /dev; stat -c '%n %F %t:%T %a %u:%g' made disk pipe null zero full random \
                  urandom tty; for link in fd stdin stdout stderr ptmx; do readlink $link; done";
    let said = says(script, |config| {
        config["linux"]["devices"] = json!([
            {"path": "/dev/made", "type": "c", "major": 10, "minor": 229,
             "fileMode": 0o640, "uid": 7, "gid": 8},
            {"path": "/dev/disk", "type": "b", "major": 200, "minor": 3, "fileMode": 0o600},
            {"path": "/dev/pipe", "type": "p", "fileMode": 0o622},
        ]);
    });
    let want = "made character special file a:e5 640 7:8\n\
                disk block special file c8:3 600 0:0\n\
                pipe fifo 0:0 622 0:0\n\
                null character special file 1:3 666 0:0\n\
                zero character special file 1:5 666 0:0\n\
                full character special file 1:7 666 0:0\n\
                random character special file 1:8 666 0:0\n\
                urandom character special file 1:9 666 0:0\n\
                tty character special file 5:0 666 0:0\n\
                /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n";
    assert!(said.as_ref().is_none_or(|said| said == want), "{said:?}");
}

#[test]
fn paths_are_masked_and_read_only() {
    let script = "cat /secret; ls /hidden; true > /kept/file || echo kept; cat /kept/file; \
                  true > /open && echo open";
    let Some(bundle) = Bundle::new(script) else { return };
    for directory in ["hidden", "kept"] {
        fs::create_dir(bundle.path(&format!("rootfs/{directory}"))).unwrap();
        fs::write(bundle.path(&format!("rootfs/{directory}/file")), "text\n").unwrap();
    }
    fs::write(bundle.path("rootfs/secret"), "secret\n").unwrap();
    fs::set_permissions(bundle.path("rootfs/secret"), fs::Permissions::from_mode(0o666)).unwrap();
    bundle.change(|config| {
        config["root"]["readonly"] = false.into();
        config["linux"]["maskedPaths"] = json!(["/secret", "/hidden", "/proc/nothing"]);
        config["linux"]["readonlyPaths"] = json!(["/kept", "/proc/nothing"]);
    });
    let ran = bundle.oci(["run", "box"]);
    assert_eq!(ran.stdout, "kept\ntext\nopen\n", "{ran:?}");
}
