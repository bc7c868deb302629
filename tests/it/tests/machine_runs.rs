//! Containers in machines, as users have them: beside others on a network, by docker's client, with
//! volumes; and what is said when a machine ends.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
};

use it::{debian, instance_with_kernel, wait_until};
use rustix::fs::{SeekFrom, seek};

/// What a web server answers; nothing if none does.
fn get(port: u16) -> Option<String> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).ok()?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    socket.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn a_machine_is_a_neighbour_like_any_other() {
    let Some(instance) = instance_with_kernel() else { return };
    if testkit::need::tool("docker").is_none() {
        return;
    }
    let ok = |args: &[&str]| instance.ok(args);
    let docker = |args: &[&str]| instance.docker_ok(args);
    ok(&["network", "create", "n1"]);
    ok(&["run", "-d", "--name", "near", "--network", "n1", "demo", "httpd"]);
    let data = instance.path("shared");
    std::fs::create_dir(&data).unwrap();
    let share = format!("{}:/shared", data.display());
    // The first one of its kind is booted.
    let mut machine = vec!["run", "-d", "--name", "vm", "--isolation", "vm", "--network", "n1"];
    machine.extend(["--memory", "128m", "-v", &share, "-p", "18080:80", "demo", "httpd"]);
    docker(&machine);
    assert_eq!(docker(&["inspect", "-f", "{{.HostConfig.Isolation}}", "vm"]), "hyperv");

    // It has a kernel of its own, and what was asked for.
    let here = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_ne!(docker(&["exec", "vm", "uname", "-r"]), here.trim());
    let limit = docker(&["exec", "vm", "cat", "/sys/fs/cgroup/memory.max"]);
    assert_eq!(limit, (128 << 20).to_string());
    let failed = instance.docker(&["exec", "vm", "sh", "-c", "exit 7"]);
    assert_eq!(failed.code, 7, "{failed:?}");

    // Both ways by name, and from outside by its port.
    for (from, to) in [("near", "vm"), ("vm", "near")] {
        let ask = ["exec", "-i", from, "nc", to, "80"];
        let ran = instance.run_with(&ask, b"GET / HTTP/1.0\r\n\r\n");
        assert!(ran.out.starts_with("HTTP/1.0 200"), "{from} to {to}: {ran:?}");
    }
    instance.on_network(|| {
        wait_until("the published port answers", || {
            get(18080).is_some_and(|answer| answer.starts_with("HTTP/1.0 200"))
        });
    });

    // Files of the host, both ways.
    docker(&["exec", "vm", "sh", "-c", "echo inside > /shared/from"]);
    assert_eq!(std::fs::read_to_string(data.join("from")).unwrap(), "inside\n");
    std::fs::write(data.join("to"), "outside\n").unwrap();
    assert_eq!(docker(&["exec", "vm", "cat", "/shared/to"]), "outside");

    // What it changes is there when it is started again, and another one begins with the image.
    docker(&["exec", "vm", "sh", "-c", "echo kept > /kept"]);
    docker(&["restart", "-t", "0", "vm"]);
    assert_eq!(docker(&["exec", "vm", "cat", "/kept"]), "kept");
    let other = ["run", "--rm", "--isolation", "vm", "--memory", "128m", "demo", "cat", "/kept"];
    assert_ne!(instance.run(&other).code, 0);
    instance.remove_all();
    ok(&["network", "rm", "n1"]);
}

#[test]
fn a_panic_is_told_as_what_it_is_and_disturbs_nobody() {
    let Some(instance) = instance_with_kernel() else { return };
    let ok = |args: &[&str]| instance.ok(args);
    let none = ["--isolation", "vm", "--network", "none"];
    let run = |name: &str, more: &[&str]| {
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(none);
        words.extend(more);
        words.extend(["demo", "sleep", "1000"]);
        ok(&words);
    };
    run("neighbour", &[]);
    run("victim", &["--privileged"]);
    let crash = ["exec", "--privileged", "victim", "sh", "-c", "echo c > /proc/sysrq-trigger"];
    assert_ne!(instance.run(&crash).code, 0);
    wait_until("the end is noticed", || {
        instance.inspect("victim", "{{.State.Status}}") == "exited"
    });
    assert_eq!(instance.inspect("victim", "{{.State.Error}}"), "the machine's kernel panicked");
    assert_eq!(instance.inspect("victim", "{{.State.ExitCode}}"), "255");
    assert_eq!(ok(&["exec", "neighbour", "echo", "still here"]), "still here");
    // It can be started again.
    ok(&["start", "victim"]);
    assert_eq!(ok(&["exec", "victim", "echo", "back"]), "back");
    instance.remove_all();
}

#[test]
fn a_machine_is_what_was_asked_for() {
    let Some(instance) = instance_with_kernel() else { return };
    let vm = ["run", "--rm", "--isolation", "vm", "--network", "none"];
    let run = |more: &[&str]| instance.run(&[&vm[..], more].concat());
    // The kernel's own words come first, so that what was asked for counts.
    let line = run(&["--kernel-arg", "first=1", "--kernel-arg", "last.one=2", "--accel", "soft"]
        .into_iter()
        .chain(["demo", "cat", "/proc/cmdline"])
        .collect::<Vec<_>>());
    assert!(line.out.trim_end().ends_with("first=1 last.one=2"), "{line:?}");
    // By name, the kernel is found; what is none, or cannot be, is told.
    let all = instance.ok(&["kernel", "ls", "--quiet"]);
    let name = all.lines().next().expect("there is a kernel");
    assert_eq!(run(&["--kernel", name, "demo", "true"]).code, 0);
    for (flags, said) in [
        (["--kernel", "nosuch"], "no such kernel: nosuch"),
        (["--kernel-arg", " "], "kernel argument"),
        (["--accel", "fast"], "use auto, kvm or soft"),
    ] {
        let refused = run(&[&flags[..], &["demo", "true"]].concat());
        assert_eq!(refused.code, 125, "{refused:?}");
        assert!(refused.err.contains(said), "{refused:?}");
    }
    let refused = instance.run(&["run", "--rm", "--kernel", name, "demo", "true"]);
    assert_eq!(refused.code, 125, "{refused:?}");
    assert!(refused.err.contains("isolation container has no machine: use vm"), "{refused:?}");
}

#[test]
fn an_imported_debian_runs_in_a_machine() {
    let (Some(tar), Some(instance)) = (debian(), instance_with_kernel()) else { return };
    instance.ok(&["import", "--name", "debian", &tar.to_string_lossy()]);
    let run = ["run", "--rm", "--isolation", "vm", "debian"];
    // The first machine of the image, and one that begins with its layers.
    for _ in 0..2 {
        let version = instance.ok(&[&run[..], &["apt-get", "--version"]].concat());
        assert!(version.starts_with("apt "), "{version}");
    }
    let script = "set -e; dpkg -l | grep -c ^ii; echo kept > /root/file; perl -e 'print 6 * 7'";
    let seen = instance.ok(&[&run[..], &["sh", "-c", script]].concat());
    assert!(seen.ends_with("42"), "{seen}");
}

#[test]
fn machines_of_an_image_begin_with_its_layers_and_with_nothing_of_anybody() {
    let Some(instance) = instance_with_kernel() else { return };
    let shared = format!("{}:/shared:ro", instance.path("").display());
    let run = ["run", "--rm", "--isolation", "vm", "--accel", "soft"];
    // What is secret is put together in the machine, so that no file of ours has it whole.
    let secret = |what: &str| format!("secret-{what}-{}", "of-somebody");
    let (environment, hostname) = (format!("TOKEN={}", secret("token")), secret("name"));
    let own = ["-e", &environment, "-h", &hostname, "-v", &shared, "--read-only", "demo"];
    let script = format!("ls -a / ; echo {}", secret("argument"));
    let seen = instance.ok(&[&run[..], &own, &["sh", "-c", &script]].concat());
    assert!(seen.contains("shared") && !seen.contains("rehearsal"), "{seen}");
    let warm = fs::read_dir(instance.path("data").join("machines/warm")).unwrap();
    let mut kept: Vec<_> =
        warm.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    kept.sort();
    // What was booted, and what the image's machines begin as.
    let [booted, kept] = &kept[..] else { panic!("{kept:?}") };
    let names = |kept: &Path| {
        let names = fs::read_dir(kept).unwrap().flatten().map(|entry| entry.file_name());
        let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    };
    assert_eq!(names(booted), ["disk", "machine.json", "memory"]);
    assert_eq!(names(kept), ["code", "disk", "machine.json", "memory"]);
    // Thousands of blocks, of some hundred bytes each.
    let bytes = fs::metadata(kept.join("code")).unwrap().len();
    assert!(bytes > 1 << 20, "{bytes}");
    // What everybody has is found there, so others would be.
    assert!(holds(&kept.join("memory"), "wythe-rehearsal"));
    for what in ["token", "name", "argument"] {
        for name in ["memory", "disk", "machine.json", "code"] {
            assert!(!holds(&kept.join(name), &secret(what)), "{what} in {name}");
        }
    }
    // Another one of the image has what it is to have, and the layers as they are.
    let seen = instance.ok(&[&run[..], &["demo", "sh", "-c", "hostname; env; ls -a /"]].concat());
    assert!(seen.contains("bin") && !seen.contains("somebody"), "{seen}");
    assert!(!seen.contains("rehearsal") && !seen.contains("shared"), "{seen}");
}

/// Whether a file has this text; holes have none.
fn holds(path: &Path, text: &str) -> bool {
    let mut grep = Command::new("grep");
    let grep = grep.args(["-q", "-a", "-F", text]).stdin(Stdio::piped()).spawn();
    let mut grep = grep.expect("grep runs");
    let mut file = File::open(path).expect("it is there");
    let mut input = grep.stdin.take().expect("it is a pipe");
    let mut at = 0;
    while let Ok(begin) = seek(&file, SeekFrom::Data(at)) {
        at = seek(&file, SeekFrom::Hole(begin)).expect("data ends");
        file.seek(io::SeekFrom::Start(begin)).expect("it was there");
        // It has found it if it reads no more.
        if io::copy(&mut (&file).take(at - begin), &mut input).is_err() {
            break;
        }
    }
    drop(input);
    grep.wait().expect("it ends").success()
}
