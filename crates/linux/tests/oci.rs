//! The OCI command line over the driver: containers from bundles, as runc's callers run them.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

#[path = "oci/bundle.rs"]
mod bundle;
#[path = "oci/console.rs"]
mod console;
#[path = "oci/engines.rs"]
mod engines;
#[path = "oci/escapes.rs"]
mod escapes;
#[path = "oci/files.rs"]
mod files;
#[path = "oci/hooks.rs"]
mod hooks;
#[path = "oci/lifecycle.rs"]
mod lifecycle;
#[path = "oci/process.rs"]
mod process;
#[path = "oci/resources.rs"]
mod resources;

use std::{fs, process::Stdio};

use bundle::{Bundle, Said, program, said, until};
use serde_json::json;

#[test]
fn run_answers_with_what_the_command_says_and_leaves_nothing() {
    let Some(bundle) = Bundle::new("echo hello $WORD; exit 7") else { return };
    bundle.change(|config| config["process"]["env"] = json!(["PATH=/bin", "WORD=world"]));
    assert_eq!(bundle.oci(["run", "box"]), said(7, "hello world\n"));
    assert_eq!(bundle.oci(["list", "-q"]), said(0, ""));
    bundle.delete();
}

#[test]
fn a_container_without_a_cgroups_path_has_a_group_by_its_name() {
    let Some(bundle) = Bundle::new("cat /proc/self/cgroup") else { return };
    bundle.change(|config| drop(config["linux"].as_object_mut().unwrap().remove("cgroupsPath")));
    let id = bundle.cgroup();
    let ran = bundle.oci(["run", &id]);
    assert!(ran.stdout.contains(&format!(":/wythe-oci-{id}\n")), "{ran:?}");
    // Version 2 has it at the top, version 1 once for each controller.
    let top = std::path::Path::new("/sys/fs/cgroup");
    let controllers = std::fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    let name = format!("wythe-oci-{id}");
    let places = controllers.chain([top.to_owned()]).map(|place| place.join(&name));
    let left: Vec<_> = places.filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_kept_container_is_there_until_it_is_deleted() {
    let Some(bundle) = Bundle::new("exit 3") else { return };
    assert_eq!(bundle.oci(["run", "--keep", "box"]), said(3, ""));
    assert_eq!(bundle.status(), "stopped");
    assert_eq!(bundle.oci(["run", "box"]).code, Some(1));
    assert_eq!(bundle.oci(["delete", "box"]), said(0, ""));
    assert_eq!(bundle.oci(["run", "box"]), said(3, ""));
}

#[test]
fn a_container_lives_from_create_to_delete() {
    let Some(bundle) = Bundle::new("echo started; exec sleep 1000") else { return };
    bundle.change(|config| config["annotations"] = json!({"org.example.key": "value"}));
    bundle.create();
    let state = bundle.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["pid"], bundle.pid());
    assert_eq!(state["bundle"], bundle.text("").trim_end_matches('/'));
    assert_eq!(state["rootfs"], bundle.text("rootfs"));
    assert_eq!(state["annotations"], json!({"org.example.key": "value"}));
    assert_eq!(bundle.output(), "");

    assert_eq!(bundle.oci(["start", "box"]), said(0, ""));
    until(|| bundle.output() == "started\n");
    assert_eq!(bundle.status(), "running");
    let again = bundle.oci(["start", "box"]);
    assert!(again.stderr.contains("cannot start an already running container"), "{again:?}");
    let early = bundle.oci(["delete", "box"]);
    assert_eq!(early.code, Some(1));
    assert!(early.stderr.contains("cannot delete container box that is not stopped: running"));

    assert_eq!(bundle.oci(["kill", "box", "KILL"]), said(0, ""));
    bundle.await_status("stopped");
    assert_eq!(bundle.state()["pid"], 0);
    let late = bundle.oci(["kill", "box"]);
    assert!(late.code == Some(1) && late.stderr.contains("container not running"), "{late:?}");
    assert_eq!(bundle.oci(["kill", "--all", "box", "9"]), said(0, ""));
    let late = bundle.oci(["start", "box"]);
    assert!(late.stderr.contains("cannot start a container that has stopped"), "{late:?}");
    assert_eq!(bundle.oci(["delete", "box"]), said(0, ""));
    bundle.delete();
}

#[test]
fn a_created_container_is_deleted_without_force() {
    let Some(bundle) = Bundle::new("sleep 1000") else { return };
    bundle.create();
    let pid = bundle.pid();
    assert_eq!(bundle.oci(["delete", "box"]), said(0, ""));
    until(|| !fs::exists(format!("/proc/{pid}/exe")).unwrap());
    bundle.delete();
}

#[test]
fn signals_reach_the_command_by_name_and_number() {
    for signal in ["SIGUSR1", "usr1", "10"] {
        let script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.01; done";
        let Some(bundle) = Bundle::new(script) else { return };
        bundle.start();
        until(|| bundle.output() == "ready\n");
        assert_eq!(bundle.oci(["kill", "box", signal]), said(0, ""));
        until(|| bundle.output() == "ready\ngot it\n");
        bundle.await_status("stopped");
    }
}

#[test]
fn kill_all_reaches_every_process() {
    let script = "sleep 1000 & sleep 1000 & trap '' TERM; while :; do sleep 0.01; done";
    let Some(bundle) = Bundle::new(script) else { return };
    bundle.start();
    let pids = || -> Vec<u32> {
        serde_json::from_str(&bundle.oci(["ps", "-f", "json", "box"]).stdout).unwrap()
    };
    until(|| pids().len() >= 3);
    assert_eq!(bundle.oci(["kill", "-a", "box", "TERM"]), said(0, ""));
    until(|| pids().len() <= 2);
    assert_eq!(bundle.status(), "running");
    bundle.delete();
}

#[test]
fn a_foreground_run_passes_signals_on() {
    let script = "trap 'echo stopped; exit 9' TERM; echo ready; while :; do sleep 0.01; done";
    let Some(bundle) = Bundle::new(script) else { return };
    let output = fs::File::create(bundle.path("output")).unwrap();
    let mut run = bundle.command(["run", "box"]).stdout(output).spawn().unwrap();
    until(|| bundle.output() == "ready\n");
    let pid = rustix::process::Pid::from_child(&run);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(run.wait().unwrap().code(), Some(9));
    assert_eq!(bundle.output(), "ready\nstopped\n");
}

#[test]
fn a_detached_run_is_left_running() {
    let Some(bundle) = Bundle::new("sleep 1000") else { return };
    let mut run = bundle.command(["run", "-d", "--pid-file", &bundle.text("pid"), "box"]);
    assert!(run.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    assert_eq!(bundle.status(), "running");
    assert_eq!(bundle.state()["pid"], bundle.pid());
    bundle.delete();
}

#[test]
fn exec_joins_the_container() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    assert_eq!(bundle.oci(["exec", "box", "sh", "-c", "echo in; exit 4"]), said(4, "in\n"));
    assert_eq!(bundle.oci(["exec", "box", "sh", "-c", "kill -9 $$"]).code, Some(137));
    let flags = ["exec", "-e", "A=b", "--cwd", "/bin", "-u", "7:8", "box"];
    let shell = ["sh", "-c", "echo $A $PWD $(id -u):$(id -g)"];
    assert_eq!(bundle.oci(flags.into_iter().chain(shell)), said(0, "b /bin 7:8\n"));
    let ps = bundle.oci(["exec", "box", "ps", "-o", "comm"]);
    assert!(ps.stdout.contains("sleep"), "{ps:?}");
    let process = json!({
        "user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/bin/echo", "from a file"],
    });
    fs::write(bundle.path("process.json"), process.to_string()).unwrap();
    let by_file = ["exec", "-p", &bundle.text("process.json"), "box"];
    assert_eq!(bundle.oci(by_file), said(0, "from a file\n"));
    bundle.delete();
}

#[test]
fn a_command_that_is_not_there_is_named() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    let missing = bundle.oci(["exec", "box", "nope"]);
    assert_eq!(missing.code, Some(255));
    assert!(missing.stderr.contains("exec: \\\"nope\\\": executable file not found in $PATH"));
    bundle.delete();
    bundle.change(|config| config["process"]["args"] = json!(["nope"]));
    for verb in ["run", "create"] {
        let missing = bundle.oci([verb, "box"]);
        assert_eq!(missing.code, Some(1), "{missing:?}");
        assert!(missing.stderr.contains("executable file not found in $PATH"), "{missing:?}");
        bundle.delete();
    }
}

#[test]
fn a_paused_container_stands_still_until_it_is_resumed() {
    let Some(bundle) = Bundle::new("while :; do echo x; sleep 0.01; done") else { return };
    bundle.start();
    until(|| !bundle.output().is_empty());
    assert_eq!(bundle.oci(["pause", "box"]), said(0, ""));
    assert_eq!(bundle.status(), "paused");
    let before = bundle.output();
    let exec = bundle.oci(["exec", "box", "true"]);
    assert_eq!(exec.code, Some(255));
    assert!(exec.stderr.contains("cannot exec in a paused container"), "{exec:?}");
    assert_eq!(bundle.oci(["pause", "box"]).code, Some(1));
    assert_eq!(bundle.output(), before);
    assert_eq!(bundle.oci(["resume", "box"]), said(0, ""));
    assert_eq!(bundle.status(), "running");
    until(|| bundle.output() != before);
    let again = bundle.oci(["resume", "box"]);
    assert!(again.stderr.contains("container not paused"), "{again:?}");
    assert_eq!(bundle.oci(["pause", "box"]), said(0, ""));
    // Killing what is paused works as if it were not.
    assert_eq!(bundle.oci(["kill", "box", "KILL"]), said(0, ""));
    bundle.await_status("stopped");
    bundle.delete();
}

#[test]
fn limits_can_be_changed() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.change(|config| config["linux"]["resources"]["pids"] = json!({"limit": 50}));
    bundle.start();
    let threads = "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.1 & done; wait";
    assert_eq!(bundle.oci(["exec", "box", "sh", "-c", threads]), said(0, ""));
    assert_eq!(bundle.oci(["update", "--pids-limit", "4", "box"]), said(0, ""));
    let refused = bundle.oci(["exec", "box", "sh", "-c", threads]);
    assert!(refused.stderr.contains("fork"), "{refused:?}");
    let mut command = bundle.command(["update", "-r", "-", "box"]);
    let mut update = command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = update.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, br#"{"pids": {"limit": -1}}"#).unwrap();
    drop(stdin);
    assert!(update.wait().unwrap().success());
    assert_eq!(bundle.oci(["exec", "box", "sh", "-c", threads]), said(0, ""));
    bundle.delete();
}

#[test]
fn containers_and_processes_are_listed() {
    let Some(bundle) = Bundle::new("exec sleep 1234") else { return };
    assert_eq!(bundle.oci(["list", "-f", "json"]), said(0, "null\n"));
    bundle.start();
    let pid = bundle.pid().to_string();
    let list = bundle.oci(["list"]).stdout;
    let words: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(words[..3], ["box", &pid, "running"]);
    assert_eq!(words[5], "root");
    let list: serde_json::Value =
        serde_json::from_str(&bundle.oci(["list", "-f", "json"]).stdout).unwrap();
    assert_eq!(list[0]["id"], "box");
    assert_eq!(bundle.oci(["ps", "--format", "json", "box"]), said(0, &format!("[{pid}]\n")));
    let Some(_) = testkit::need::tool("ps") else { return };
    let ps = bundle.oci(["ps", "box"]).stdout;
    assert_eq!(ps.lines().count(), 2, "{ps}");
    assert!(ps.contains("sleep 1234"), "{ps}");
}

#[test]
fn ids_differ_inside_and_bind_mounts_can_map_them() {
    let script = "cat /proc/self/uid_map; stat -c %u:%g /data; stat -c %u /mapped";
    let Some(bundle) = Bundle::new(script) else { return };
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    let owned = |name: &str, id: u32| {
        fs::create_dir_all(bundle.path(name)).unwrap();
        std::os::unix::fs::chown(bundle.path(name), Some(id), Some(id)).unwrap();
    };
    owned("rootfs", 100_000);
    owned("data", 100_007);
    owned("mapped", 5);
    // The way to the root file system must be open to the mapped root.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(bundle.path(""), open).unwrap();
    bundle.change(|config| {
        config["linux"]["uidMappings"] = map.clone();
        config["linux"]["gidMappings"] = map.clone();
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({"type": "user"}));
        config["root"]["readonly"] = false.into();
        let mounts = config["mounts"].as_array_mut().unwrap();
        mounts.push(json!({
            "destination": "/data", "source": "data", "type": "bind", "options": ["bind", "ro"],
        }));
        mounts.push(json!({
            "destination": "/mapped", "source": "mapped", "type": "bind",
            "options": ["bind", "idmap"], "uidMappings": map, "gidMappings": map,
        }));
    });
    let ran = bundle.oci(["run", "box"]);
    let mut lines = ran.stdout.lines();
    let words: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
    assert_eq!(words, ["0", "100000", "65536"], "{ran:?}");
    assert_eq!(lines.collect::<Vec<_>>(), ["7:7", "5"], "{ran:?}");
}

#[test]
fn namespaces_of_another_container_can_be_joined() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.start();
    let pid = bundle.pid();
    let join =
        |kind: &str, file: &str| json!({"type": kind, "path": format!("/proc/{pid}/ns/{file}")});
    let group = format!("/{}-guest", bundle.cgroup());
    bundle.change(|config| {
        config["linux"]["cgroupsPath"] = group.into();
        config["process"]["args"] = json!(["sh", "-c", "readlink /proc/self/ns/net; ps -o comm"]);
        config["linux"]["namespaces"] = json!([
            {"type": "mount"}, join("network", "net"), join("pid", "pid"), join("uts", "uts"),
            join("ipc", "ipc"),
        ]);
    });
    let network = fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let ran = bundle.oci(["run", "guest"]);
    assert_eq!(ran.stdout.lines().next(), network.to_str(), "{ran:?}");
    assert!(ran.stdout.contains("sleep"), "{ran:?}");
    bundle.oci(["delete", "-f", "box"]);
}

#[test]
fn a_policy_of_system_calls_holds_for_the_command_and_for_who_joins() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    bundle.change(|config| {
        config["root"]["readonly"] = false.into();
        config["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "syscalls": [
                {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            ],
        });
    });
    bundle.start();
    let status = bundle.oci(["exec", "box", "grep", "^Seccomp:", "/proc/self/status"]);
    assert_eq!(status, said(0, "Seccomp:\t2\n"));
    let status = bundle.oci(["exec", "box", "grep", "^Seccomp:", "/proc/1/status"]);
    assert_eq!(status, said(0, "Seccomp:\t2\n"));
    bundle.delete();
}

#[test]
fn descriptors_are_passed_on_when_asked() {
    let Some(bundle) = Bundle::new("cat <&3") else { return };
    fs::write(bundle.path("data"), "preserved\n").unwrap();
    let script = r#"exec 3<data; "$0" --root state run --preserve-fds 1 box"#;
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg(script).arg(program()).current_dir(bundle.path(""));
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert_eq!(Said::from(output), said(0, "preserved\n"));
    let none = bundle.oci(["run", "box"]);
    assert_ne!(none.code, Some(0), "{none:?}");
}

#[test]
fn a_container_whose_maker_was_killed_can_be_deleted() {
    let Some(bundle) = Bundle::new("sleep 1000") else { return };
    // The maker waits for a hook that never ends.
    bundle.change(|config| {
        config["hooks"] = json!({"createRuntime": [{
            "path": "/bin/sh", "args": ["sh", "-c", "echo $$ > at-hook; exec sleep 1000"],
        }]});
    });
    let mut create = bundle.command(["create", "box"]).spawn().unwrap();
    until(|| fs::read_to_string(bundle.path("at-hook")).is_ok_and(|text| text.ends_with('\n')));
    create.kill().unwrap();
    create.wait().unwrap();
    let hook = fs::read_to_string(bundle.path("at-hook")).unwrap().trim().parse().unwrap();
    let hook = rustix::process::Pid::from_raw(hook).unwrap();
    rustix::process::kill_process(hook, rustix::process::Signal::KILL).unwrap();
    bundle.await_status("stopped");
    assert_eq!(bundle.oci(["delete", "box"]), said(0, ""));
    bundle.delete();
}

#[test]
fn a_kill_at_any_moment_leaves_what_delete_understands() {
    let Some(bundle) = Bundle::new("exec sleep 1000") else { return };
    for step in 0..40 {
        let verb: &[&str] = if step % 2 == 0 { &["create", "box"] } else { &["run", "-d", "box"] };
        let mut command = bundle.command(verb);
        let mut made = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // From before its first system call to after its last.
        std::thread::sleep(std::time::Duration::from_micros(500 * step));
        made.kill().unwrap();
        made.wait().unwrap();
        bundle.delete();
    }
}

#[test]
fn errors_go_to_the_log_in_its_format() {
    let Some(bundle) = Bundle::new("true") else { return };
    let log = bundle.text("log");
    let state = bundle.oci(["--log", &log, "--log-format", "json", "state", "nope"]);
    assert_eq!((state.code, state.stderr.as_str()), (Some(1), "container does not exist: nope\n"));
    let line: serde_json::Value = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container does not exist: nope");
    let state = bundle.oci(["state", "nope"]);
    assert!(state.stderr.contains("level=error msg=\"container does not exist: nope\""));
    assert_eq!(bundle.oci(["delete", "nope"]).code, Some(1));
    assert_eq!(bundle.oci(["delete", "--force", "nope"]), said(0, ""));
    assert_eq!(bundle.oci(["frobnicate"]).code, Some(3));
    assert_eq!(bundle.oci(["run", "a/b"]).code, Some(1));
    let refused = bundle.oci(["--systemd-cgroup", "list"]);
    assert!(refused.stderr.contains("--systemd-cgroup is not supported"), "{refused:?}");
}
