//! Images from the command line: import, load, save, tag, remove; a real Debian.

use std::{fs, path::PathBuf, process::Command};

use it::{Instance, Pty};

/// The Debian root file system that `cargo xtask test` makes.
fn debian() -> Option<PathBuf> {
    let tar = std::env::var_os("WYTHE_TEST_DEBIAN").map(PathBuf::from);
    assert!(
        tar.is_some() || std::env::var_os("CI").is_none(),
        "WYTHE_TEST_DEBIAN is not set, and CI must have it: use cargo xtask test"
    );
    tar
}

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
