//! Ways out through files: of images, at mount targets, in volumes.

use std::{fs, os::unix::fs::symlink, process::Command};

use crate::fixture::{idle, sh, text, with_box, with_changed_box};

#[test]
fn entries_of_an_image_stay_inside() {
    let Some(instance) = with_box() else { return };
    let outside = instance.path("outside");
    fs::create_dir(&outside).expect("a directory");
    let parts = instance.path("parts");
    fs::create_dir(&parts).expect("a directory");
    fs::write(parts.join("file"), "planted").expect("a file");
    symlink(&outside, parts.join("way")).expect("a link");
    let tar = instance.path("evil.tar");
    let out = outside.display();
    let names = [
        ("way", "way".to_owned()),
        ("file", "way/through".to_owned()),
        ("file", format!("../../../../../../../..{out}/up")),
        ("file", format!("{out}/absolute")),
        ("file", format!("etc/../../../../../../..{out}/between")),
    ];
    for (number, (part, name)) in names.iter().enumerate() {
        let mut pack = Command::new("tar");
        pack.arg("-P").arg(if number == 0 { "-cf" } else { "-rf" }).arg(&tar);
        pack.arg("-C").arg(&parts).arg(format!("--transform=flags=r;s,^{part}$,{name},")).arg(part);
        assert!(pack.status().expect("tar runs").success());
    }
    let ran = instance.run(&["import", text(&tar), "evil"]);
    assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0, "{ran:?}");
    if ran.code == 0 {
        instance.run(&["run", "--rm", "--network", "none", "evil", "/nothing"]);
        assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0);
    }
}

#[test]
fn mount_targets_stay_inside_whatever_they_lead_to() {
    let Some(instance) = with_changed_box(|root| {
        let outside = root.parent().expect("it has one").join("outside");
        symlink(&outside, root.join("absolute")).expect("a link");
        symlink(format!("../../../../../..{}", outside.display()), root.join("up"))
            .expect("a link");
    }) else {
        return;
    };
    let outside = instance.path("outside");
    let (source, shared) = (instance.path("source"), instance.path("shared"));
    for directory in [&outside, &source, &shared] {
        fs::create_dir(directory).expect("a directory");
    }
    fs::write(source.join("mark"), "").expect("a file");
    let from = source.display();
    for target in ["/absolute/made", "/up/made", "/absolute"] {
        let bind = format!("{from}:{target}");
        let run =
            ["run", "--rm", "--network", "none", "-v", &bind, "-w", "/up/work", "box", "true"];
        let ran = instance.run(&run);
        assert_eq!(ran.code, 0, "{target}: {ran:?}");
        assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0, "{target}");
    }
    let bind = format!("{from}:/mnt/../../../../up/made");
    let ran = instance.run(&["run", "--rm", "--network", "none", "-v", &bind, "box", "true"]);
    assert!(ran.code == 125 && ran.err.contains("mount path must be absolute"), "{ran:?}");
    // One container swaps a directory for a link while others mount beneath it.
    fs::create_dir(shared.join("a")).expect("a directory");
    symlink(&outside, shared.join("link")).expect("a link");
    let bind = format!("{}:/s", shared.display());
    idle(&instance, "swaps", &["-v", &bind]);
    let race = "cd /s; while :; do mv a t; mv link a; mv a link; mv t a; done";
    instance.ok(&["exec", "-d", "swaps", "sh", "-c", race]);
    let nested = format!("{from}:/s/a/made");
    for _ in 0..12 {
        let run = ["run", "--rm", "--network", "none", "-v", &bind, "-v", &nested];
        instance.run(&[&run[..], &["-w", "/s/a/work", "box", "true"]].concat());
        assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0);
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("it can be read");
    assert!(!mounts.contains(text(&outside)));
    instance.remove_all();
}

/// What a volume is filled from is a path of the image's, and what a container gets of a volume is a
/// path of whoever shares it.
#[test]
fn volumes_are_filled_and_divided_inside() {
    let Some(instance) = with_changed_box(|root| {
        let secret = root.parent().expect("it has one").join("secret");
        fs::create_dir(&secret).expect("a directory");
        fs::write(secret.join("file"), "SECRET").expect("a file");
        symlink(&secret, root.join("absolute")).expect("a link");
        symlink(format!("../../../../..{}", secret.display()), root.join("up")).expect("a link");
    }) else {
        return;
    };
    for (volume, target) in [("v1", "/absolute"), ("v2", "/up")] {
        let mount = format!("{volume}:{target}");
        let run = ["run", "--rm", "--network", "none", "-v", &mount, "box", "ls", "-A", target];
        let ran = instance.run(&run);
        assert!(!ran.out.contains("file"), "{ran:?}");
    }
    idle(&instance, "swaps", &["-v", "v3:/s"]);
    let secret = instance.path("secret");
    let made = format!("mkdir -p /s/a; echo inside >/s/a/file; ln -s {} /s/link", secret.display());
    assert_eq!(sh(&instance, "swaps", &made), "");
    let mount = "type=volume,src=v3,dst=/x,volume-subpath=a";
    let run = ["run", "--rm", "--network", "none", "--mount", mount, "box", "cat", "/x/file"];
    assert_eq!(instance.ok(&run), "inside");
    let race = "cd /s; while :; do mv a t; mv link a; mv a link; mv t a; done";
    instance.ok(&["exec", "-d", "swaps", "sh", "-c", race]);
    for _ in 0..12 {
        let ran = instance.run(&run);
        assert!(!ran.out.contains("SECRET"), "{ran:?}");
    }
    instance.remove_all();
}

/// CVE-2019-19921: where `/proc` is a link into a volume, who shares the volume moves the mount
/// away before its dangerous files are covered.
#[test]
fn a_root_whose_proc_is_a_link_is_refused() {
    let Some(instance) = with_changed_box(|root| {
        fs::remove_dir(root.join("proc")).expect("it is empty");
        symlink("/mnt", root.join("proc")).expect("a link");
    }) else {
        return;
    };
    let ran = instance.run(&["run", "--rm", "--network", "none", "box", "true"]);
    assert!(ran.code == 125 && ran.err.contains("mount proc on /proc"), "{ran:?}");
}

/// CVE-2025-52565: the terminal is bound on `/dev/console`, which somebody made a link to what is
/// to be covered later.
#[test]
fn a_console_that_is_a_link_uncovers_nothing() {
    let Some(instance) = with_box() else { return };
    let dev = instance.path("dev");
    fs::create_dir(&dev).expect("a directory");
    symlink("/proc/keys", dev.join("console")).expect("a link");
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let made = Command::new("cp").arg("-a").arg(format!("/dev/{name}")).arg(&dev).status();
        assert!(made.expect("cp runs").success());
    }
    let bind = format!("{}:/dev", dev.display());
    let script = "test -s /proc/keys && echo OUT; test $(head -c 9 /proc/keys | wc -c) = 0 || \
                  echo OUT; echo x >/proc/sys/kernel/core_pattern && echo OUT; echo done";
    let run = ["run", "--rm", "-t", "--network", "none", "-v", &bind];
    // Whoever brings a /dev of his own brings the terminals with it.
    let pts = ["-v", "/dev/pts:/dev/pts", "box", "sh", "-c", script];
    let ran = instance.run(&[&run[..], &pts].concat());
    assert!(ran.out.contains("done") && !ran.out.contains("OUT"), "{ran:?}");
}

#[test]
fn a_working_directory_that_is_swapped_stays_inside() {
    let Some(instance) = with_box() else { return };
    idle(&instance, "c1", &[]);
    let outside = instance.path("outside");
    fs::create_dir(&outside).expect("a directory");
    let up = format!("../../../../../..{}", outside.display());
    sh(&instance, "c1", &format!("mkdir -p /w/a; ln -s {up} /w/link"));
    let race = "cd /w; while :; do mv a t; mv link a; mv a link; mv t a; done";
    instance.ok(&["exec", "-d", "c1", "sh", "-c", race]);
    for number in 0..20 {
        let directory = format!("/w/a/{number}");
        let ran = instance.run(&["exec", "-w", &directory, "c1", "sh", "-c", "pwd -P; echo >here"]);
        assert!(ran.code != 0 || ran.out.starts_with('/'), "{ran:?}");
        assert_eq!(fs::read_dir(&outside).expect("it is there").count(), 0);
    }
    instance.remove_all();
}
