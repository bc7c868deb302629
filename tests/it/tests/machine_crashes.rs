//! Machines that go wrong in every way, and a neighbour that notices nothing.

use std::{
    fs,
    time::{Duration, Instant},
};

use it::{Instance, instance_with_kernel, wait_until};

/// How much longer a neighbour's call may take beside machines that go wrong, as a multiple of what
/// it took alone. They have a processor each to themselves and the host has few, so a neighbour
/// shares; it does not wait for them.
const TIMES_MAX: f64 = 15.0;

/// Calls of which the middle one counts.
const CALLS: usize = 15;

/// Switches interrupts off and goes round in a circle: `cli`, `jmp` to itself.
const STUCK: [u8; 3] = [0xfa, 0xeb, 0xfe];

/// What a call into the neighbour takes.
fn latency(instance: &Instance) -> Duration {
    let mut all: Vec<Duration> = (0..CALLS)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(instance.ok(&["exec", "neighbour", "echo", "here"]), "here");
            began.elapsed()
        })
        .collect();
    all.sort_unstable();
    all[CALLS / 2]
}

#[test]
fn machines_that_go_wrong_disturb_nobody() {
    let Some(instance) = instance_with_kernel() else { return };
    let vm = |name: &str, flags: &[&str], command: &[&str]| {
        let mut words = vec!["run", "-d", "--name", name, "--isolation", "vm", "--network", "none"];
        words.extend(flags);
        words.push("demo");
        words.extend(command);
        instance.ok(&words);
    };
    vm("neighbour", &[], &["sleep", "1000"]);
    let alone = latency(&instance);
    let daemon = instance.daemon_pid();

    // One never comes to its first process, with interrupts off.
    let kernel = instance.path("stuck");
    fs::write(&kernel, testkit::kernel::pvh(&STUCK)).unwrap();
    instance.ok(&["kernel", "import", "--name", "stuck", &kernel.to_string_lossy()]);
    let mut hangs = instance.client(&[
        "run",
        "--name",
        "hangs",
        "--isolation",
        "vm",
        "--kernel",
        "stuck",
        "--network",
        "none",
        "demo",
    ]);
    let hangs = hangs.stderr(std::process::Stdio::piped()).spawn().unwrap();
    // One wants more memory than it has, again and again; one fills its disk; one panics.
    let hungry = "while true; do stress --memory 256m --seconds 1; done";
    vm("hungry", &["-m", "64m"], &["sh", "-c", hungry]);
    vm("fills", &[], &["sh", "-c", "cat /dev/zero > /big"]);
    vm("panics", &["--privileged"], &["sleep", "1000"]);
    let crash = ["exec", "--privileged", "panics", "sh", "-c", "echo c > /proc/sysrq-trigger"];
    assert_ne!(instance.run(&crash).code, 0);

    let beside = latency(&instance);
    let times = beside.as_secs_f64() / alone.as_secs_f64();
    assert!(times < TIMES_MAX, "{alone:?} alone, {beside:?} beside machines that go wrong");
    assert_eq!(instance.daemon_pid(), daemon, "the daemon is the same");
    assert_eq!(instance.inspect("fills", "{{.State.Status}}"), "running");
    wait_until("the panic is noticed", || {
        instance.inspect("panics", "{{.State.Error}}") == "the machine's kernel panicked"
    });

    // The one that hangs is given up, and says so.
    let hangs = hangs.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&hangs.stderr);
    assert_eq!(hangs.status.code(), Some(125), "{said}");
    assert!(said.contains("first process"), "{said}");
    assert_eq!(instance.ok(&["exec", "neighbour", "echo", "still here"]), "still here");
    instance.ok(&["rm", "-f", "fills", "hungry"]);
    instance.remove_all();
}
