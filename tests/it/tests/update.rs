//! Limits and policies changed under containers, and what is waited for.

use std::{fs, path::PathBuf};

use it::{Instance, wait_until};

/// A file of the control group that a container's first process is in, whichever version.
fn group_file(instance: &Instance, name: &str, controller: &str, files: [&str; 2]) -> String {
    let pid = instance.inspect(name, "{{.State.Pid}}");
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let path = path.trim_start_matches('/');
        let (top, file) = match controllers.split(',').any(|one| one == controller) {
            true => (PathBuf::from("/sys/fs/cgroup").join(controller), files[0]),
            false if controllers.is_empty() => (PathBuf::from("/sys/fs/cgroup"), files[1]),
            false => return None,
        };
        fs::read_to_string(top.join(path).join(file)).ok()
    };
    let found = groups.lines().find_map(group);
    found.unwrap_or_else(|| panic!("no {controller} in {groups}")).trim().to_owned()
}

fn memory(instance: &Instance, name: &str) -> String {
    group_file(instance, name, "memory", ["memory.limit_in_bytes", "memory.max"])
}

fn pids(instance: &Instance, name: &str) -> String {
    group_file(instance, name, "pids", ["pids.max", "pids.max"])
}

fn run(instance: &Instance, name: &str, flags: &[&str]) {
    let all = ["run", "-d", "--init", "--network", "none", "--name", name];
    instance.ok(&[&all[..], flags, &["demo", "sleep", "infinity"]].concat());
}

#[test]
fn a_running_container_has_its_new_limits_at_once_and_keeps_them() {
    let Some(mut instance) = Instance::start() else { return };
    run(&instance, "web", &["-m", "64m", "--pids-limit", "50"]);
    run(&instance, "free", &[]);
    let flags = ["-m", "128m", "--memory-swap", "256m", "--pids-limit", "20"];
    let said = instance.ok(&[&["update"][..], &flags, &["web", "free"]].concat());
    assert_eq!(said, "web\nfree", "as Docker says it");
    for name in ["web", "free"] {
        assert_eq!(memory(&instance, name), (128 << 20).to_string(), "{name}");
        assert_eq!(pids(&instance, name), "20", "{name}");
        let shown = instance.inspect(name, "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}");
        assert_eq!(shown, format!("{} 20", 128 << 20));
    }
    instance.ok(&["container", "update", "--pids-limit", "-1", "web"]);
    assert_eq!(pids(&instance, "web"), "max");
    let told =
        instance.ok(&["events", "--since", "1h", "--until", "0s", "--filter", "event=update"]);
    assert_eq!(told.lines().count(), 3, "{told}");
    // A new daemon has them too, and the next start.
    instance.kill_daemon();
    instance.start_daemon();
    instance.ok(&["restart", "-t", "0", "free"]);
    assert_eq!(memory(&instance, "free"), (128 << 20).to_string());
    assert_eq!(pids(&instance, "free"), "20");
}

#[test]
fn a_refused_update_changes_nothing() {
    let Some(instance) = Instance::start() else { return };
    run(&instance, "web", &["-m", "64m", "--pids-limit", "50"]);
    let refused = |flags: &[&str], why: &str| {
        let ran = instance.run(&[&["update"][..], flags, &["web"]].concat());
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{flags:?}: {ran:?}");
        assert!(ran.err.contains(why), "{flags:?}: {ran:?}");
    };
    refused(&[], "one or more flags");
    refused(&["-m", "1m"], "Cannot update container");
    refused(&["-m", "512m"], "smaller than already set memoryswap limit");
    refused(&["-m", "512m", "--memory-swap", "256m"], "larger than memory limit");
    // The number of processes would be granted; the processor is not there.
    let none = ["-m", "32m", "--pids-limit", "9", "--cpuset-cpus", "4095"];
    refused(&none, "Cannot update container");
    assert_eq!(memory(&instance, "web"), (64 << 20).to_string());
    assert_eq!(pids(&instance, "web"), "50");
    let shown = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}} {{.HostConfig.CpusetCpus}}";
    assert_eq!(instance.inspect("web", shown).trim(), format!("{} 50", 64 << 20));
    let some = instance.run(&["update", "--pids-limit", "9", "nobody", "web"]);
    assert_eq!((some.code, some.out.as_str()), (1, "web\n"), "{some:?}");
    assert!(some.err.contains("No such container: nobody"), "{some:?}");
}

#[test]
fn a_stopped_container_has_its_new_limits_when_it_starts() {
    let Some(mut instance) = Instance::start() else { return };
    let all = ["create", "--init", "--network", "none", "--name", "web"];
    instance.ok(&[&all[..], &["demo", "sleep", "infinity"]].concat());
    instance.ok(&["update", "-m", "96m", "--pids-limit", "30", "--cpus", "0.5", "web"]);
    instance.kill_daemon();
    instance.start_daemon();
    instance.ok(&["start", "web"]);
    assert_eq!(memory(&instance, "web"), (96 << 20).to_string());
    assert_eq!(pids(&instance, "web"), "30");
}

#[test]
fn a_restart_policy_is_changed_under_a_running_container() {
    let Some(instance) = Instance::start() else { return };
    run(&instance, "web", &[]);
    instance.ok(&["update", "--restart", "always", "web"]);
    assert_eq!(instance.inspect("web", "{{.HostConfig.RestartPolicy.Name}}"), "always");
    let pid = |instance: &Instance| instance.inspect("web", "{{.State.Pid}}");
    let end = |pid: &str| {
        let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw).expect("it runs");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    };
    let first = pid(&instance);
    end(&first);
    wait_until("it runs again", || !["0", &first].contains(&pid(&instance).as_str()));
    instance.ok(&["update", "--restart", "no", "web"]);
    end(&pid(&instance));
    wait_until("it has ended for good", || {
        instance.inspect("web", "{{.State.Status}} {{.RestartCount}}") == "exited 1"
    });
    let own = ["run", "-d", "--rm", "--init", "--network", "none", "--name", "own", "demo"];
    instance.ok(&[&own[..], &["sleep", "infinity"]].concat());
    let refused = instance.run(&["update", "--restart", "always", "own"]);
    assert!(refused.err.contains("AutoRemove is enabled"), "{refused:?}");
}

#[test]
fn whoever_waits_says_for_what() {
    let Some(instance) = Instance::start() else { return };
    run(&instance, "web", &[]);
    let wait = |condition: &str| {
        let mut command = instance.command(&["wait", "--condition", condition, "web"]);
        command.stdout(std::process::Stdio::piped()).spawn().expect("the program runs")
    };
    let mut removed = wait("removed");
    instance.ok(&["kill", "web"]);
    assert_eq!(instance.ok(&["wait", "web"]), "137");
    assert!(removed.try_wait().expect("it is our child").is_none(), "it is still there");
    instance.ok(&["rm", "web"]);
    let output = removed.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"137\n"[..]));
    let bad = instance.run(&["wait", "--condition", "healthy", "web"]);
    assert!(bad.code != 0 && bad.err.contains("not-running"), "{bad:?}");
}
