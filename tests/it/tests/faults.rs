//! At every step of what is done with containers and images, the process that does it is killed,
//! or the kernel refuses, or makes no more processes. Afterwards a daemon starts, records and host agree, the doctor finds
//! nothing, and everything can be removed.
//!
//! Every step is tried by `cargo xtask faults`; without it, some, spread evenly.

#![cfg(target_arch = "x86_64")]
#![expect(clippy::print_stdout, reason = "what was tried, for who looks at a failure")]

use std::{collections::BTreeSet, fs, fs::File, process};

use it::{Fault, Instance, Traced, processes, wait_until, with_fault};

/// How many steps are tried where not all are.
const SOME: u64 = 6;

/// What something goes wrong in.
struct Operation {
    name: &'static str,
    /// What is done before, so that there is something to do it with.
    before: &'static [&'static [&'static str]],
    /// The operation; nothing is the start of a daemon.
    does: &'static [&'static str],
    /// What goes wrong.
    faults: &'static [Fault],
}

/// What can go wrong anywhere.
const ANY: &[Fault] = &[Fault::Kill, Fault::Fail, Fault::NoProcesses];

const CREATE: &[&str] = &[
    "create",
    "--name",
    "victim",
    "-p",
    "18080:80",
    "-v",
    "things:/v",
    "-e",
    "OF=HERE",
    "demo",
    "sleep",
    "infinity",
];
const IMPORT: &[&str] = &["import", "ROOTFS", "small:1"];
const START: &[&str] = &["start", "victim"];

#[test]
fn create() {
    attack(&Operation { name: "create", before: &[], does: CREATE, faults: ANY });
}

#[test]
fn start() {
    attack(&Operation { name: "start", before: &[CREATE], does: START, faults: ANY });
}

#[test]
fn start_without_parent() {
    let faults = &[Fault::Orphan];
    attack(&Operation { name: "start without parent", before: &[CREATE], does: START, faults });
}

#[test]
fn stop() {
    let does = &["stop", "-t", "0", "victim"];
    attack(&Operation { name: "stop", before: &[CREATE, START], does, faults: ANY });
}

#[test]
fn remove() {
    let does = &["rm", "-f", "victim"];
    attack(&Operation { name: "remove", before: &[CREATE, START], does, faults: ANY });
}

#[test]
fn import() {
    attack(&Operation { name: "import", before: &[], does: IMPORT, faults: ANY });
}

#[test]
fn commit() {
    const WRITE: &[&str] = &["run", "--name", "victim", "demo", "sh", "-c", "echo made > /made"];
    const RUNS: &[&str] = &["run", "-d", "--name", "live", "demo", "sleep", "infinity"];
    let does = &["commit", "victim", "small:2"];
    attack(&Operation { name: "commit", before: &[WRITE], does, faults: ANY });
    // One that runs is paused meanwhile, and goes on whatever happens.
    let does = &["commit", "live", "small:2"];
    attack(&Operation { name: "commit of a running one", before: &[RUNS], does, faults: ANY });
}

#[test]
fn garbage_collection() {
    let does = &["rmi", "small:1"];
    attack(&Operation { name: "garbage collection", before: &[IMPORT], does, faults: ANY });
}

#[test]
fn recovery() {
    // One that runs, one that was made, one that is to go when it ends.
    const NEVER: &[&str] = &["create", "--name", "never", "demo", "true"];
    const LEFT: &[&str] = &["run", "-d", "--rm", "--name", "left", "demo", "sleep", "infinity"];
    let before = &[CREATE, START, NEVER, LEFT];
    attack(&Operation { name: "recovery", before, does: &[], faults: ANY });
}

/// Tries the operation with every fault.
fn attack(operation: &Operation) {
    let Some(mut instance) = Instance::start() else { return };
    let rootfs = instance.path("rootfs");
    fs::create_dir_all(rootfs.join("bin")).expect("it is ours");
    fs::write(rootfs.join("bin/true"), vec![7; 100_000]).expect("it is ours");
    let mut tar = process::Command::new("tar");
    tar.arg("-C").arg(&rootfs).arg("-cf");
    assert!(tar.arg(instance.path("rootfs.tar")).arg(".").status().expect("tar runs").success());
    // What the first container makes for all is there.
    instance.ok(&["run", "--rm", "demo", "true"]);
    let usual = broken(&instance.diagnosis());

    for &fault in operation.faults {
        let wanted = wanted();
        let from = match wanted {
            Wanted::This(this, nth) if this == fault => {
                round(&mut instance, operation, nth, fault, &usual);
                continue;
            }
            Wanted::From(this, nth) if this == fault => nth,
            Wanted::This(..) | Wanted::From(..) => continue,
            Wanted::Some | Wanted::All => 1,
        };
        let whole = round(&mut instance, operation, u64::MAX, fault, &usual);
        assert!(whole.struck.is_none());
        assert_eq!(whole.code, 0, "{} is traced and works", operation.name);
        let many = fault != Fault::NoProcesses;
        assert!(!many || whole.steps > 5, "{} has steps", operation.name);
        let some = wanted == Wanted::Some;
        let stride = if some { whole.steps.div_ceil(SOME).max(1) } else { 1 };
        let mut tried = 0;
        // The number of steps varies a little: on until none is met where there was none before.
        for nth in (0..).map(|n| from + n * stride) {
            match round(&mut instance, operation, nth, fault, &usual).struck {
                Some(_) => tried += 1,
                None if nth > whole.steps => break,
                None => {}
            }
        }
        println!("{}: {fault:?} at {tried} of {} steps", operation.name, whole.steps);
        assert!(!many || tried > 3, "{}: the faults strike", operation.name);
    }
}

/// Which faults are tried.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Some,
    All,
    This(Fault, u64),
    From(Fault, u64),
}

/// `WYTHE_FAULTS` is `all`, one to look at again, such as `kill 12`, `fail 7` or `pids 3`, or all
/// of a kind from one on: `fail 79..`.
fn wanted() -> Wanted {
    let text = std::env::var("WYTHE_FAULTS").unwrap_or_default();
    let Some((kind, nth)) = text.split_once(' ') else {
        return if text == "all" { Wanted::All } else { Wanted::Some };
    };
    let fault = match kind {
        "kill" => Fault::Kill,
        "fail" => Fault::Fail,
        "pids" => Fault::NoProcesses,
        "orphan" => Fault::Orphan,
        other => panic!("{other:?} is no fault"),
    };
    match nth.strip_suffix("..") {
        Some(from) => Wanted::From(fault, from.parse().expect("a number")),
        None => Wanted::This(fault, nth.parse().expect("a number")),
    }
}

/// Does the operation with one fault in it, looks, and clears everything away.
fn round(
    instance: &mut Instance,
    operation: &Operation,
    nth: u64,
    fault: Fault,
    usual: &BTreeSet<String>,
) -> Traced {
    let tar = instance.path("rootfs.tar").display().to_string();
    let here = instance.path("").display().to_string();
    let words = |args: &[&'static str]| -> Vec<String> {
        let words = args.iter();
        words.map(|arg| arg.replace("ROOTFS", &tar).replace("HERE", &here)).collect()
    };
    for args in operation.before {
        let args = words(args);
        instance.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }
    let recovery = operation.does.is_empty();
    let (mut command, pids) = if recovery {
        instance.kill_daemon();
        let mut pids = instance.own_processes();
        let daemon = instance.start_daemon_stopped();
        pids.push(i32::try_from(daemon).expect("a process id"));
        (until_it_serves(instance, daemon), pids)
    } else {
        let args = words(operation.does);
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        (instance.client(&args), instance.own_processes())
    };
    let said = instance.path("said");
    let file = File::create(&said).expect("it is ours");
    command.stdout(file.try_clone().expect("it can be doubled")).stderr(file);
    let traced = with_fault(&Instance::program(), &pids, command, nth, fault);
    let said = fs::read_to_string(said).expect("it was written");
    let what = format!(
        "{} {nth}: {fault:?} at {:?}: {} {said}",
        operation.name, traced.struck, traced.code
    );
    println!("{what}");
    assert!(traced.code == 0 || !said.trim().is_empty() || recovery, "no word: {what}");

    if instance.has_daemon() {
        instance.wait_until_agreed(&what);
        // What went wrong once goes right the next time, and leaves nothing to warn of.
        let next = instance.run(&["create", "--name", "next", "demo", "true"]);
        assert_eq!((next.code, next.err.as_str()), (0, ""), "{what}");
    } else {
        let log = instance.daemon_log();
        let killed = [Fault::Kill, Fault::Orphan].contains(&fault);
        assert!(killed || recovery, "the daemon is gone: {what}\n{log}");
    }
    instance.kill_daemon();
    if fault == Fault::Orphan && traced.struck.is_some() {
        // Without anybody's help.
        let here = here.trim_end_matches('/');
        wait_until(&format!("nobody outlives it: {what}"), || processes(here).is_empty());
    }
    instance.start_daemon();
    instance.wait_until_agreed(&what);
    let diagnosis = instance.diagnosis();
    assert_eq!(diagnosis["leftovers"], serde_json::json!([]), "{what}");
    assert_eq!(&broken(&diagnosis), usual, "{what}: {diagnosis}");
    sweep(instance, &what);
    traced
}

/// Waits for a daemon, or for its end.
fn until_it_serves(instance: &Instance, daemon: u32) -> process::Command {
    let script =
        format!("until \"$0\" ps; do [ -e /proc/{daemon}/exe ] || exit 1; sleep 0.02; done");
    let mut command = process::Command::new("sh");
    command.args(["-c", &script]).arg(Instance::program());
    let socket = format!("unix://{}", instance.path("run/wythe.sock").display());
    command.env("WYTHE_HOST", socket).env("WYTHE_RUN", instance.path("run"));
    command
}

/// Removes everything, after which nothing is there.
fn sweep(instance: &Instance, what: &str) {
    instance.remove_all();
    for (list, remove) in [
        (&["volume", "ls", "-q"][..], &["volume", "rm"][..]),
        (&["images", "-q", "--filter", "reference=small"], &["rmi", "-f"]),
    ] {
        for name in instance.ok(list).lines() {
            instance.ok(&[remove, &[name]].concat());
        }
    }
    let network = || (instance.links(), instance.rules());
    wait_until(&format!("links and rules are gone: {what}"), || {
        network() == (vec!["lo".to_owned()], String::new())
    });
    for directory in ["data/containers", "data/trash", "run/containers"] {
        let names = fs::read_dir(instance.path(directory)).into_iter().flatten().flatten();
        let names: Vec<_> = names.map(|entry| entry.file_name()).collect();
        assert!(names.is_empty(), "{directory}: {names:?}: {what}");
    }
}

/// What the doctor calls broken: this host's own troubles, and ours.
fn broken(diagnosis: &serde_json::Value) -> BTreeSet<String> {
    let findings = diagnosis["findings"].as_array().expect("a list");
    let broken = findings.iter().filter(|found| found["works"] == false);
    broken.map(|found| found["subject"].as_str().expect("text").to_owned()).collect()
}
