//! Images from the command line: import, load, save, tag, remove; a real Debian.

use std::{fs, path::PathBuf, process::Command};

use it::{Instance, Pty, debian};

#[test]
fn debian_is_imported_and_runs() {
    let (Some(tar), Some(instance)) = (debian(), Instance::start()) else { return };
    instance.ok(&["import", "--name", "debian", &tar.to_string_lossy()]);
    let listed = instance.ok(&["images"]);
    assert!(listed.contains("debian") && listed.contains("latest"), "{listed}");
    let version =
        instance.ok(&["run", "--rm", "--network", "none", "debian", "apt-get", "--version"]);
    assert!(version.starts_with("apt "), "{version}");
}

#[test]
fn bash_in_debian_is_driven_through_a_terminal() {
    let (Some(tar), Some(instance)) = (debian(), Instance::start()) else { return };
    instance.ok(&["import", "--name", "debian", &tar.to_string_lossy()]);
    let command = instance.command(&["run", "-it", "--rm", "--network", "none", "debian", "bash"]);
    let mut terminal = Pty::start(command, 40, 120);
    terminal.expect("# ");
    terminal.send("echo $((6 * 7)) $(stty size)\n");
    terminal.expect("42 40 120");
    // Job control works: the shell is the leader of the terminal's session.
    terminal.send("sleep 100\n");
    std::thread::sleep(std::time::Duration::from_millis(200));
    terminal.send("\x03");
    terminal.expect("^C");
    terminal.send("exit 9\n");
    assert_eq!(terminal.code(), 9);
}

#[test]
fn an_image_is_saved_loaded_tagged_and_removed() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    let id = instance.ok(&["images", "-q", "--no-trunc", "demo"]);
    let file = instance.path("demo.tar");
    instance.ok(&["save", "-o", &file.to_string_lossy(), "demo"]);
    instance.ok(&["tag", "demo", "example.test/team/demo:v2"]);
    instance.ok(&["rmi", "demo"]);
    let gone = instance.ok(&["rmi", "example.test/team/demo:v2"]);
    assert!(
        gone.contains("Untagged: example.test/team/demo:v2") && gone.contains("Deleted: "),
        "{gone}"
    );
    assert_eq!(instance.ok(&["images", "-q"]), "");
    for pack in [&["cat"][..], &["gzip", "-c"], &["zstd", "-qc"]] {
        let packed =
            Command::new(pack[0]).args(&pack[1..]).arg(&file).output().expect("it is installed");
        let ran = instance.run_with(&["load"], &packed.stdout);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains("Loaded image: demo:latest"), "{ran:?}");
        assert_eq!(instance.ok(&["images", "-q", "--no-trunc", "demo"]), id, "the same image");
        instance.ok(&["rmi", "demo"]);
    }
}

#[test]
fn a_broken_archive_is_refused_and_leaves_nothing() {
    let Some(instance) = Instance::start() else { return };
    let ran = instance.run_with(&["load"], b"this is no archive");
    assert_ne!(ran.code, 0, "{ran:?}");
    let evil = instance.path("evil.tar");
    let make = "import sys, tarfile, io\n\
                t = tarfile.open(sys.argv[1], 'w')\n\
                i = tarfile.TarInfo('../../escaped'); i.size = 1\n\
                t.addfile(i, io.BytesIO(b'x')); t.close()";
    let Some(python) = testkit::need::tool("python3") else { return };
    let made = Command::new(python).args(["-c", make]).arg(&evil).status().expect("python runs");
    assert!(made.success());
    let ran = instance.run(&["import", "--name", "evil", &evil.to_string_lossy()]);
    assert_ne!(ran.code, 0, "{ran:?}");
    assert!(ran.err.contains("escaped"), "the entry is named: {ran:?}");
    assert_eq!(instance.ok(&["images", "-q"]), "");
    assert!(fs::metadata(instance.path("escaped")).is_err());
}

#[test]
fn an_image_tells_its_history() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["create", "--network", "none", "demo", "true"]);
    let table = instance.ok(&["history", "demo"]);
    assert!(table.starts_with("IMAGE") && table.contains("CREATED BY"), "{table}");
    let ids = instance.ok(&["image", "history", "-q", "--no-trunc", "demo"]);
    let id = instance.ok(&["images", "-q", "--no-trunc", "demo"]);
    assert_eq!(ids.lines().next(), Some(id.as_str()));
    let sizes = instance.ok(&["history", "--human=false", "--format", "{{.Size}}", "demo"]);
    let sum: u64 = sizes.lines().map(|size| size.parse::<u64>().expect("a number")).sum();
    assert_eq!(instance.inspect("demo", "{{.Size}}"), sum.to_string());
}

/// An archive of one image for two architectures, made by a tool that is not ours.
fn two_platforms(instance: &Instance) -> Option<String> {
    platforms(instance, &["amd64", "arm64"])
}

/// An archive of one image for these architectures.
fn platforms(instance: &Instance, architectures: &[&str]) -> Option<String> {
    let script = r#"
import hashlib, io, json, sys, tarfile
blobs = {}
def put(data, media, **more):
    digest = hashlib.sha256(data).hexdigest()
    blobs[digest] = data
    return {"mediaType": media, "digest": "sha256:" + digest, "size": len(data), **more}
def layer(text):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("built-for"); info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    return out.getvalue()
oci = "application/vnd.oci.image."
manifests = []
for arch in sys.argv[2:]:
    tar = layer(arch.encode())
    config = {"os": "linux", "architecture": arch, "config": {"Cmd": ["/built-for"]},
              "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest()]}}
    manifest = {"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
                "config": put(json.dumps(config).encode(), oci + "config.v1+json"),
                "layers": [put(tar, oci + "layer.v1.tar")]}
    manifests.append(put(json.dumps(manifest).encode(), oci + "manifest.v1+json",
                         platform={"os": "linux", "architecture": arch}))
index = {"schemaVersion": 2, "mediaType": oci + "index.v1+json", "manifests": manifests}
entry = put(json.dumps(index).encode(), oci + "index.v1+json",
            annotations={"io.containerd.image.name": "docker.io/library/multi:1"})
files = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
         "index.json": json.dumps({"schemaVersion": 2, "manifests": [entry]}).encode()}
files.update(("blobs/sha256/" + digest, data) for digest, data in blobs.items())
with tarfile.open(sys.argv[1], "w") as tar:
    for name, data in files.items():
        info = tarfile.TarInfo(name); info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
"#;
    let python = testkit::need::tool("python3")?;
    let file = instance.path("multi.tar");
    let made = Command::new(python).args(["-c", script]).arg(&file).args(architectures).status();
    assert!(made.expect("python runs").success());
    Some(file.to_string_lossy().into_owned())
}

#[test]
fn of_several_platforms_the_one_asked_for_is_taken_and_a_missing_one_names_the_others() {
    let Some(instance) = Instance::start() else { return };
    let Some(archive) = two_platforms(&instance) else { return };
    instance.ok(&["load", "-i", &archive]);
    let arch = |platform| {
        let format = "{{.Architecture}}";
        instance.ok(&["image", "inspect", "--platform", platform, "--format", format, "multi:1"])
    };
    assert_eq!((arch("linux/amd64").as_str(), arch("arm64").as_str()), ("amd64", "arm64"));
    let tree = instance.ok(&["images", "--tree"]);
    assert!(tree.contains("├─ linux/amd64") && tree.contains("└─ linux/arm64"), "{tree}");

    let missing = instance.run(&["create", "--platform", "linux/s390x", "multi:1"]);
    assert_ne!(missing.code, 0, "{missing:?}");
    let want = "is not for linux/s390x, but for linux/amd64, linux/arm64";
    assert!(missing.err.contains(want), "{missing:?}");
    for args in [
        &["history", "--platform", "linux/s390x", "multi:1"][..],
        &["save", "--platform", "linux/s390x", "-o", "/dev/null/x", "multi:1"],
    ] {
        assert_ne!(instance.run(args).code, 0, "{args:?}");
    }
    // What was asked for needs no warning, and is what the container is made of.
    let asked = instance.run(&["create", "--name", "arm", "--platform", "linux/arm64", "multi:1"]);
    assert!(asked.code == 0 && asked.err.is_empty(), "{asked:?}");
    let id = "{{.Id}}";
    let arm = instance.ok(&["image", "inspect", "--platform", "arm64", "--format", id, "multi:1"]);
    assert_eq!(instance.inspect("arm", "{{.Image}}"), arm);
    instance.ok(&["rm", "arm"]);

    let file = instance.path("arm.tar").to_string_lossy().into_owned();
    instance.ok(&["save", "--platform", "linux/arm64", "-o", &file, "multi:1"]);
    instance.ok(&["rmi", "multi:1"]);
    let missing = instance.run(&["load", "-i", &file, "--platform", "linux/amd64"]);
    assert!(missing.code != 0 && missing.err.contains("linux/amd64"), "{missing:?}");
    instance.ok(&["load", "-i", &file]);
    let warned = instance.run(&["create", "multi:1"]);
    let want = "The requested image's platform (linux/arm64) does not match the detected host \
                platform (linux/amd64)";
    assert!(warned.code == 0 && warned.err.contains(want), "{warned:?}");
}

#[test]
fn the_stock_client_takes_platforms_of_one_image_away_and_the_others_stay() {
    let Some(instance) = Instance::start() else { return };
    if testkit::need::tool("docker").is_none() {
        return;
    }
    let four = ["amd64", "arm64", "riscv64", "s390x"];
    let Some(archive) = platforms(&instance, &four) else { return };
    let there = || {
        let tree = instance.ok(&["images", "--tree"]);
        let has = |arch: &&str| tree.contains(&format!(" linux/{arch} "));
        four.into_iter().filter(has).collect::<Vec<_>>().join(" ")
    };
    instance.docker_ok(&["load", "-q", "-i", &archive]);
    assert_eq!(there(), "amd64 arm64 riscv64 s390x");
    let id = "{{.Id}}";
    let arm = instance.ok(&["image", "inspect", "--platform", "arm64", "--format", id, "multi:1"]);
    let gone = instance.docker_ok(&["rmi", "--platform", "linux/arm64", "multi:1"]);
    assert_eq!(gone.lines().next(), Some(format!("Deleted: {arm}").as_str()));
    assert_eq!(there(), "amd64 riscv64 s390x");
    let again = instance.docker(&["rmi", "--platform", "linux/arm64", "multi:1"]);
    assert!(again.code == 1 && again.err.contains("not for linux/arm64"), "{again:?}");

    // A container of one of them is in the way of that one alone.
    let create = ["create", "--platform", "linux/s390x", "--name", "user", "multi:1"];
    instance.ok(&create);
    let used = instance.docker(&["rmi", "--platform", "linux/s390x", "multi:1"]);
    assert!(used.code == 1 && used.err.contains("(must be forced)"), "{used:?}");
    let both = ["rmi", "--platform", "linux/riscv64,linux/s390x", "multi:1"];
    assert_eq!(instance.docker(&both).code, 1);
    assert_eq!(there(), "amd64 riscv64 s390x", "all or nothing");
    instance.ok(&["rm", "user"]);

    // Of what is here, two are saved; the index comes along, and the rest can join them.
    let two = instance.path("two.tar").to_string_lossy().into_owned();
    let save = ["save", "--platform", "linux/amd64,linux/s390x", "-o", &two, "multi:1"];
    instance.ok(&save);
    instance.docker_ok(&both);
    assert_eq!(there(), "amd64");
    // The last one takes the name along.
    let last = instance.docker_ok(&["rmi", "--platform", "linux/amd64", "multi:1"]);
    assert!(last.starts_with("Untagged: multi:1\nDeleted: "), "{last}");
    instance.docker_ok(&["load", "-q", "-i", &two]);
    assert_eq!(there(), "amd64 s390x");
    let load = ["load", "--platform", "linux/riscv64", "--platform", "arm64", "-i", &archive];
    instance.ok(&load);
    assert_eq!(there(), "amd64 arm64 riscv64 s390x");
    instance.ok(&["rmi", "--platform", "amd64", "--platform", "s390x", "multi:1"]);
    assert_eq!(there(), "arm64 riscv64");
}

/// Whether something is mounted on this directory, in the namespace of the tests.
fn mounted(path: &std::path::Path) -> bool {
    let table = fs::read_to_string("/proc/self/mountinfo").expect("proc is mounted");
    let path = path.to_string_lossy().into_owned();
    table.lines().any(|line| line.split(' ').nth(4) == Some(&path))
}

#[test]
fn an_image_is_mounted_on_a_directory_and_stays_until_it_is_unmounted() {
    let Some(mut instance) = Instance::start() else { return };
    let Some(archive) = two_platforms(&instance) else { return };
    instance.ok(&["load", "-i", &archive]);
    let target = instance.path("here");
    fs::create_dir(&target).expect("it is new");
    let dir = target.to_string_lossy().into_owned();
    assert_eq!(instance.ok(&["image", "mount", "multi:1", &dir]), dir);
    let read = |name: &str| fs::read_to_string(target.join(name));
    assert_eq!(read("built-for").expect("it is mounted"), "amd64");
    let error = fs::write(target.join("new"), "x").expect_err("it is read-only");
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    let own = instance.ok(&["image", "mount", "--platform", "arm64", "multi:1"]);
    assert!(own.starts_with(&*instance.path("run").to_string_lossy()), "{own}");
    assert_eq!(fs::read_to_string(PathBuf::from(&own).join("built-for")).unwrap(), "arm64");
    let listed = instance.ok(&["image", "mount"]);
    assert!(listed.contains(&dir) && listed.contains(&own), "{listed}");

    // In use, before and after the daemon is killed.
    for _ in 0..2 {
        let used = instance.run(&["rmi", "multi:1"]);
        assert!(used.code != 0 && used.err.contains("is mounted at"), "{used:?}");
        let pruned = instance.ok(&["system", "prune", "-af"]);
        assert_eq!(pruned, "Total reclaimed space: 0B");
        instance.kill_daemon();
        instance.start_daemon();
    }
    // Forced, it loses its name and no file.
    instance.ok(&["rmi", "-f", "multi:1"]);
    instance.ok(&["image", "prune", "-f"]);
    instance.kill_daemon();
    instance.start_daemon();
    assert_eq!(read("built-for").expect("it is mounted"), "amd64");
    let layers = || fs::read_dir(instance.path("data/content/layers")).unwrap().count();
    assert_eq!(layers(), 2);

    instance.ok(&["image", "unmount", &own]);
    assert!(!PathBuf::from(&own).exists(), "what was made for it is gone");
    let other = instance.run(&["image", "unmount", &own]);
    assert!(other.code != 0 && other.err.contains("no image is mounted on"), "{other:?}");
    // By any hand: the store sees that it is gone.
    let umount = Command::new("umount").arg(&target).status();
    assert!(umount.expect("umount runs").success() && !mounted(&target));
    let pruned = instance.ok(&["image", "prune", "-f"]);
    assert!(pruned.contains("Deleted Images:"), "{pruned}");
    assert_eq!(layers(), 0);
    assert_eq!(instance.ok(&["image", "mount", "--format", "{{.Target}}"]), "");
}

#[test]
fn what_cannot_be_mounted_leaves_nothing() {
    let Some(instance) = Instance::start() else { return };
    let Some(archive) = two_platforms(&instance) else { return };
    instance.ok(&["load", "-i", &archive]);
    let target = instance.path("file");
    fs::write(&target, "x").expect("it is ours");
    let dir = target.to_string_lossy().into_owned();
    for args in [
        &["image", "mount", "nothing:1"][..],
        &["image", "mount", "multi:1", &dir],
        &["image", "mount", "multi:1", "/nowhere/at/all"],
        &["image", "mount", "--platform", "linux/s390x", "multi:1"],
        &["image", "unmount", "/proc"],
    ] {
        assert_ne!(instance.run(args).code, 0, "{args:?}");
    }
    assert_eq!(instance.ok(&["image", "mount", "--format", "{{.Target}}"]), "");
    let made = fs::read_dir(instance.path("run/images")).map_or(0, Iterator::count);
    assert_eq!(made, 0, "directories are left");
    instance.ok(&["rmi", "multi:1"]);
}

#[test]
fn an_image_becomes_a_disk_that_linux_mounts() {
    let Some(instance) = Instance::start() else { return };
    let Some(archive) = two_platforms(&instance) else { return };
    instance.ok(&["load", "-i", &archive]);
    let (raw, packed) = (instance.path("disk.img"), instance.path("disk.qcow2"));
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    instance.ok(&["image", "to-disk", "--platform", "arm64", "multi:1", &text(&raw)]);
    let run = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().expect("it is there");
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    if testkit::need::tool("e2fsck").is_some() && testkit::need::tool("debugfs").is_some() {
        run("e2fsck", &["-fn", &text(&raw)]);
        assert_eq!(run("debugfs", &["-R", "cat /built-for", &text(&raw)]), "arm64");
    }
    // The same image is the same disk, in whichever format and size it was asked for.
    let again = instance.path("again.raw");
    instance.ok(&["image", "to-disk", "--platform", "arm64", "multi:1", &text(&again)]);
    assert!(fs::read(&raw).unwrap() == fs::read(&again).unwrap());
    let size = fs::metadata(&raw).unwrap().len().to_string();
    instance.ok(&[
        "image",
        "to-disk",
        "--size",
        &size,
        "--platform=arm64",
        "multi:1",
        &text(&packed),
    ]);
    assert!(fs::metadata(&packed).unwrap().len() < 10 << 20);
    if testkit::need::tool("qemu-img").is_some() {
        run("qemu-img", &["check", &text(&packed)]);
    }

    for (args, why) in [
        (&["--size", "1M", "multi:1", "small.raw"][..], "a disk of 1048576 bytes"),
        (&["multi:1", "disk.vmdk"], "say --format"),
        (&["nothing:1", "no.raw"], "No such image"),
    ] {
        let place = instance.path(args.last().unwrap());
        let mut all = vec!["image", "to-disk"];
        all.extend(&args[..args.len() - 1]);
        let place_text = text(&place);
        all.push(&place_text);
        let refused = instance.run(&all);
        assert!(refused.code != 0 && refused.err.contains(why), "{refused:?}");
        assert!(!place.exists());
    }
}
