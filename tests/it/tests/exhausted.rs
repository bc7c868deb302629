//! The host runs out of something: what cannot be done is said, the daemon goes on, and when the
//! host is well again so is everything.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use it::{Instance, Ran, wait_until};
use testkit::need;

const RUN: &[&str] = &["run", "-d", "demo", "sleep", "infinity"];

/// Runs a shell command, which must succeed.
fn shell(script: &str, arguments: &[&str]) {
    let status = Command::new("sh").args(["-ec", script, "sh"]).args(arguments).status();
    assert!(status.expect("sh runs").success(), "{script} {arguments:?}");
}

/// Runs the client, but not for ever: a daemon in trouble may be unable to take its call.
fn attempt(instance: &Instance, args: &[&str]) -> Ran {
    let client = instance.client(args);
    let mut command = Command::new("timeout");
    command.arg("10").arg(client.get_program()).args(client.get_args());
    for (name, value) in client.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().expect("timeout runs");
    Ran {
        code: output.status.code().unwrap_or(255),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Everything works, nothing is left over, and nothing is warned of.
fn well(instance: &mut Instance, what: &str) {
    let ran = instance.run(RUN);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{what}");
    instance.wait_until_agreed(what);
    instance.kill_daemon();
    instance.start_daemon();
    instance.wait_until_agreed(what);
    assert_eq!(instance.diagnosis()["leftovers"], serde_json::json!([]), "{what}");
}

/// An instance whose data root is a small disk of its own, which goes with its mount namespace.
fn on_a_small_disk() -> Option<Instance> {
    let mut instance = Instance::without_daemon()?;
    need::tool("mkfs.ext4")?;
    let (disk, data) = (instance.path("disk"), instance.path("data"));
    fs::create_dir(&data).expect("it is ours");
    let script = "truncate -s 96M \"$1\" && mkfs.ext4 -qF \"$1\"";
    shell(script, &[&disk.display().to_string()]);
    let mount = format!("mount -o loop {} {}", disk.display(), data.display());
    instance.start_daemon_with(&format!(
        "exec unshare -m sh -c '{mount} && exec \"$0\" daemon' \"$0\""
    ));
    Some(instance)
}

/// A path as the daemon sees it.
fn seen_by_daemon(instance: &Instance, name: &str) -> PathBuf {
    let path = instance.path(name);
    let beneath = path.strip_prefix("/").expect("it is absolute");
    Path::new("/proc").join(instance.daemon_pid().to_string()).join("root").join(beneath)
}

#[test]
fn a_full_disk_stops_what_is_new_and_no_more() {
    let Some(instance) = on_a_small_disk() else { return };
    let runs = instance.ok(RUN);
    let filler = seen_by_daemon(&instance, "data/filler");
    let mut file = fs::File::create(&filler).expect("there is room");
    for bytes in [1 << 20, 4096, 1] {
        while file.write_all(&vec![0; bytes]).is_ok() {}
    }
    for _ in 0..3 {
        let ran = attempt(&instance, RUN);
        assert!(ran.err.contains("No space left on device"), "{ran:?}");
    }
    // What is there can be used, stopped and removed, which makes room.
    assert_eq!(instance.ok(&["exec", &runs, "echo", "alive"]), "alive");
    instance.ok(&["stop", "-t", "0", &runs]);
    instance.remove_all();
    drop(file);
    fs::remove_file(filler).expect("it is ours");
    let ran = instance.run(RUN);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "with room again");
    instance.wait_until_agreed("with room again");
    assert_eq!(instance.diagnosis()["leftovers"], serde_json::json!([]));
}

#[test]
fn a_read_only_data_root_is_said_and_got_over() {
    let Some(mut instance) = Instance::start() else { return };
    // None that runs: a daemon joins the mounts of those it finds.
    let made = instance.ok(&["create", "demo", "true"]);
    instance.kill_daemon();
    let data = instance.path("data").display().to_string();
    let script = "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; exec \"$0\" daemon";
    let daemon = instance.command(&[]);
    let mut command = Command::new("timeout");
    command
        .args(["30", "unshare", "-m", "-n", "sh", "-ec", script])
        .arg(Instance::program())
        .arg(&data);
    for (name, value) in daemon.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    let output = command.output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("Read-only file system"), "{said}");
    instance.start_daemon();
    assert_eq!(instance.ok(&["ps", "-aq", "--no-trunc"]), made);
    well(&mut instance, "writable again");
}

#[test]
fn a_data_root_that_becomes_read_only_stops_what_is_new_and_no_more() {
    let Some(mut instance) = on_a_small_disk() else { return };
    let runs = instance.ok(RUN);
    let pid = instance.inspect(&runs, "{{.State.Pid}}");
    // What ext4 does when the disk under it fails. Source: ext4(5), `abort`.
    let script = "exec nsenter -m -t \"$1\" mount -o remount,abort \"$2\"";
    let data = instance.path("data").display().to_string();
    shell(script, &[&instance.daemon_pid().to_string(), &data]);
    for _ in 0..3 {
        let ran = attempt(&instance, RUN);
        assert!(ran.code != 0 && ran.err.contains("Read-only file system"), "{ran:?}");
    }
    assert_eq!(instance.ok(&["ps", "-q", "--no-trunc"]), runs);
    let findings = instance.diagnosis()["findings"].to_string();
    assert!(findings.contains("the last change could not be recorded"), "{findings}");
    assert!(findings.contains("Read-only file system"), "{findings}");
    // It is stopped all the same, though nobody can write that down.
    instance.ok(&["stop", "-t", "0", &runs]);
    assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "it runs on");
    assert!(instance.has_daemon(), "{}", instance.daemon_log());
    // Only a new mount makes it writable: this one ends with those who use it.
    instance.kill_daemon();
    end_all(&instance);
}

#[test]
fn damaged_records_are_said_kept_and_got_over() {
    let Some(mut instance) = Instance::start() else { return };
    let runs = instance.ok(RUN);
    let pid = instance.inspect(&runs, "{{.State.Pid}}");
    instance.ok(&["create", "demo", "true"]);
    let all = instance.ok(&["ps", "-aq", "--no-trunc"]);
    instance.kill_daemon();
    instance.start_daemon();
    instance.kill_daemon();
    let path = instance.path("data/records.redb");
    let whole = fs::read(&path).expect("it is there");
    let damages: [fn(&mut Vec<u8>); 3] = [
        |bytes| bytes.truncate(0),
        |bytes| bytes.truncate(bytes.len() / 3),
        |bytes| bytes.iter_mut().skip(300).for_each(|byte| *byte = 0),
    ];
    for damage in damages {
        let mut damaged = whole.clone();
        damage(&mut damaged);
        fs::write(&path, &damaged).expect("there is room");
        // Both the one who would start a daemon and the doctor say it.
        for asks in [&["ps"][..], &["doctor"]] {
            let command = || instance.command(asks).output();
            let output = instance.on_network(command).expect("it runs");
            let said = [output.stdout, output.stderr].concat();
            let said = String::from_utf8_lossy(&said);
            assert!(!output.status.success(), "{said}");
            let told = ["records", "are damaged", "Nothing has been changed", "move it away"];
            assert!(told.iter().all(|told| said.contains(told)), "{said}");
        }
        assert_eq!(fs::read(&path).expect("it is there"), damaged, "it is as it was");
        assert!(Path::new(&format!("/proc/{pid}/exe")).exists(), "it runs on");
    }
    fs::write(&path, &whole).expect("there is room");
    instance.start_daemon();
    assert_eq!(instance.ok(&["ps", "-aq", "--no-trunc"]), all);
    assert_eq!(instance.ok(&["ps", "-q", "--no-trunc"]), runs);
    // Without the records what they spoke of is found and cleared away.
    instance.kill_daemon();
    fs::remove_file(&path).expect("it is there");
    for journal in ["data/records.journal.a", "data/records.journal.b"] {
        fs::remove_file(instance.path(journal)).expect("it is there");
    }
    instance.start_daemon();
    assert_eq!(instance.ok(&["ps", "-aq"]), "");
    assert_ne!(instance.diagnosis()["leftovers"], serde_json::json!([]));
    instance.run(&["doctor", "--repair"]);
    assert!(!Path::new(&format!("/proc/{pid}/exe")).exists(), "it is still there");
    well(&mut instance, "without the records");
}

/// Ends every process of an instance without a daemon.
fn end_all(instance: &Instance) {
    wait_until("its processes have been ended", || {
        let processes = instance.own_processes();
        for pid in processes.iter().filter_map(|pid| rustix::process::Pid::from_raw(*pid)) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        processes.is_empty()
    });
}

#[test]
fn a_write_that_was_torn_by_the_end_is_passed_over() {
    let Some(mut instance) = Instance::start() else { return };
    let runs = instance.ok(RUN);
    instance.kill_daemon();
    for journal in ["data/records.journal.a", "data/records.journal.b"] {
        let path = instance.path(journal);
        let whole = fs::read(&path).expect("it is there");
        let mut file = fs::OpenOptions::new().append(true).open(&path).expect("it is there");
        // The beginning of another record, as a power cut leaves it.
        file.write_all(&whole[whole.len().min(16)..whole.len().min(90)]).expect("there is room");
        file.write_all(&[0xff; 7]).expect("there is room");
    }
    fs::write(instance.path("data/records.redb.new"), "half").expect("there is room");
    instance.start_daemon();
    assert_eq!(instance.ok(&["ps", "-q", "--no-trunc"]), runs);
    well(&mut instance, "after torn writes");
}

/// A control group of version 1 around the daemon; removed when it is empty.
struct Around(PathBuf);

impl Around {
    fn new(controller: &str, instance: &Instance) -> Option<Around> {
        let root = Path::new("/sys/fs/cgroup").join(controller);
        let name = instance.path("");
        let group = root.join(format!("around-{}", name.file_name()?.to_str()?));
        root.is_dir().then(|| {
            fs::create_dir(&group).expect("we are root");
            Around(group)
        })
    }

    fn start(&self, instance: &mut Instance) {
        let procs = self.0.join("cgroup.procs").display().to_string();
        instance.start_daemon_with(&format!("echo $$ > {procs}; exec \"$0\" daemon"));
    }

    fn set(&self, file: &str, value: &str) {
        fs::write(self.0.join(file), value).expect("the kernel takes it");
    }

    fn get(&self, file: &str) -> u64 {
        let text = fs::read_to_string(self.0.join(file)).expect("it is there");
        text.trim().parse().expect("a number")
    }

    /// Lets everybody out, and ends.
    fn end(self) {
        let outside = self.0.parent().expect("it has a parent").join("cgroup.procs");
        wait_until("nobody is in the group", || {
            let procs = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
            procs.lines().for_each(|pid| drop(fs::write(&outside, pid)));
            fs::remove_dir(&self.0).is_ok()
        });
    }
}

#[test]
fn without_process_ids_nothing_is_half_made() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    let Some(around) = Around::new("pids", &instance) else { return };
    around.start(&mut instance);
    instance.ok(&["run", "--rm", "demo", "true"]);
    // From none at all to enough; each start needs the most at another moment.
    for more in 0..5 {
        around.set("pids.max", &(around.get("pids.current") + more).to_string());
        let ran = attempt(&instance, RUN);
        around.set("pids.max", "max");
        let words = ["Resource temporarily unavailable", "run out of processes"];
        assert!(ran.code == 0 || words.iter().any(|it| ran.err.contains(it)), "{ran:?}");
        assert!(instance.has_daemon(), "{more} more: {}", instance.daemon_log());
        instance.wait_until_agreed("with process ids again");
    }
    well(&mut instance, "with process ids again");
    around.end();
}

#[test]
fn a_daemon_that_panics_at_its_start_is_not_waited_for() {
    let Some(instance) = Instance::without_daemon() else { return };
    let Some(around) = Around::new("pids", &instance) else { return };
    let procs = around.0.join("cgroup.procs").display().to_string();
    // One for the client, one for the daemon, and none or few for the threads that it needs: what
    // makes them panics.
    let mut panics = 0;
    for most in 2..6 {
        around.set("pids.max", &most.to_string());
        let script = "echo $$ > \"$1\"; exec timeout 20 \"$0\" ps";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(Instance::program()).arg(&procs);
        command.env("WYTHE_DATA", instance.path("data")).env("WYTHE_RUN", instance.path("run"));
        let output = instance.on_network(|| command.output()).expect("sh runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let log = instance.path("data/daemon.log").display().to_string();
        assert_ne!(output.status.code(), Some(124), "it is waited for: {said}");
        if said.contains("it panicked: ") {
            let told = ["could not be started", "Resource temporarily unavailable", &log];
            assert!(told.iter().all(|told| said.contains(told)), "{said}");
            panics += 1;
        }
    }
    assert!(panics > 0, "no daemon panicked");
    around.set("pids.max", "max");
    let start = || instance.command(&["ps"]).output();
    let output = instance.on_network(start).expect("it runs");
    assert!(output.status.success(), "{output:?}");
    end_all(&instance);
    around.end();
}

#[test]
fn without_descriptors_nothing_is_half_made() {
    let Some(mut instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "demo", "true"]);
    let daemon = instance.daemon_pid().to_string();
    let limit = |soft: &str| {
        shell("exec prlimit --pid \"$1\" --nofile=\"$2\":", &[&daemon, soft]);
    };
    for more in [0, 1, 2, 4, 6, 8, 12] {
        let open = fs::read_dir(format!("/proc/{daemon}/fd")).expect("it runs").count();
        limit(&(open + more).to_string());
        let ran = attempt(&instance, RUN);
        assert!(ran.code == 0 || more == 0 || !ran.err.is_empty(), "{more}: {ran:?}");
        limit("4096");
        assert!(instance.has_daemon(), "{more} more: {}", instance.daemon_log());
        instance.wait_until_agreed("with descriptors again");
    }
    well(&mut instance, "with descriptors again");
}

#[test]
fn without_memory_whoever_is_killed_leaves_nothing_behind() {
    let Some(mut instance) = Instance::without_daemon() else { return };
    let Some(around) = Around::new("memory", &instance) else { return };
    around.start(&mut instance);
    instance.ok(&["run", "--rm", "demo", "true"]);
    for more in [0, 128 << 10, 1 << 20, 4 << 20] {
        let limit = around.get("memory.usage_in_bytes") + more;
        around.set("memory.limit_in_bytes", &limit.to_string());
        drop(attempt(&instance, RUN));
        around.set("memory.limit_in_bytes", "-1");
        if !instance.has_daemon() {
            instance.kill_daemon();
            around.start(&mut instance);
        }
        instance.wait_until_agreed("with memory again");
    }
    well(&mut instance, "with memory again");
    around.end();
}
