//! A shim is killed: everything in its container goes with it, with and without a daemon.

use std::{fs, path::Path};

use it::{Instance, wait_until};
use rustix::process::{Pid, Signal, kill_process};

/// Kinds of containers whose process takes another way to its command.
const KINDS: [&[&str]; 6] = [
    &[],
    &["--user", "1000:1000", "--cap-drop", "all"],
    &["--security-opt", "no-new-privileges"],
    &["--security-opt", "seccomp=unconfined"],
    &["--privileged"],
    &["--init"],
];

/// The process id of the container's first process, and its parent's.
fn of(instance: &Instance, id: &str) -> (i32, i32) {
    let pid = instance.inspect(id, "{{.State.Pid}}").parse().expect("a number");
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:\t"));
    (pid, parent.expect("it has one").parse().expect("a number"))
}

fn kill(pid: i32) {
    let pid = Pid::from_raw(pid).expect("a process id");
    kill_process(pid, Signal::KILL).expect("it runs");
}

fn runs(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

#[test]
fn who_is_in_a_container_does_not_outlive_its_shim() {
    let Some(mut instance) = Instance::start() else { return };
    let run: &[&str] = &["demo", "sh", "-c", "sleep 10000; true"];
    let ids: Vec<_> =
        KINDS.iter().map(|kind| instance.ok(&[&["run", "-d"], *kind, run].concat())).collect();
    // One goes while a daemon looks on: how it ended is not known, and that is said.
    let with_daemon = instance.ok(&["run", "-d", "demo", "sleep", "infinity"]);
    let (pid, shim) = of(&instance, &with_daemon);
    kill(shim);
    wait_until("it has ended with its shim", || !runs(pid));
    wait_until("its end is known", || {
        instance.inspect(&with_daemon, "{{.State.Status}}") == "exited"
    });
    let of: Vec<_> = ids.iter().map(|id| of(&instance, id)).collect();
    // Everything inside, children and what was executed there too.
    instance.ok(&["exec", "-d", &ids[0], "sleep", "20000"]);
    let inside: Vec<i32> = ids
        .iter()
        .flat_map(|id| {
            let top = instance.ok(&["top", id]);
            let pids = top.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1));
            pids.map(|pid| pid.parse().expect("a number")).collect::<Vec<_>>()
        })
        .collect();
    assert!(inside.len() > ids.len() * 2, "{inside:?}");
    instance.kill_daemon();
    of.iter().for_each(|(_, shim)| kill(*shim));
    wait_until("everybody has ended", || !inside.iter().any(|pid| runs(*pid)));
    instance.start_daemon();
    instance.wait_until_agreed("after the shims' death");
    assert_eq!(instance.ok(&["ps", "-q"]), "");
    assert_eq!(instance.diagnosis()["leftovers"], serde_json::json!([]));
}
