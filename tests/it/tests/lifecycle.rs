//! What happens over a container's life: restarts, health, new limits, waiting.

use it::{Instance, wait_until};

#[test]
fn one_that_fails_is_started_again_until_it_has_failed_often_enough() {
    let Some(instance) = Instance::start() else { return };
    let all = ["run", "-d", "--network", "none", "--name", "job", "--restart", "on-failure:2"];
    let command = ["demo", "sh", "-c", "echo again; exit 3"];
    instance.ok(&[&all[..], &command].concat());
    wait_until("it gives up", || {
        instance.inspect("job", "{{.State.Status}} {{.RestartCount}}") == "exited 2"
    });
    assert_eq!(instance.ok(&["logs", "job"]), "again\nagain\nagain");
    assert_eq!(instance.inspect("job", "{{.State.ExitCode}}"), "3");
    let policy =
        "{{.HostConfig.RestartPolicy.Name}} {{.HostConfig.RestartPolicy.MaximumRetryCount}}";
    assert_eq!(instance.inspect("job", policy), "on-failure 2");
}

#[test]
fn a_container_between_two_runs_says_so_and_is_stopped_for_good() {
    let Some(instance) = Instance::start() else { return };
    let all = ["run", "-d", "--network", "none", "--name", "web", "--restart", "always"];
    instance.ok(&[&all[..], &["demo", "sh", "-c", "exit 1"]].concat());
    wait_until("it has a row of failures", || {
        let listed =
            instance.ok(&["ps", "--format", "{{.Status}}", "--filter", "status=restarting"]);
        listed.starts_with("Restarting (1) ") && listed.ends_with(" ago")
    });
    // Its next attempt is far enough away by now.
    wait_until("it has waited longer", || {
        let count = instance.inspect("web", "{{.RestartCount}}").parse::<u32>().unwrap_or(0);
        count > 4 && instance.inspect("web", "{{.State.Restarting}}") == "true"
    });
    let refused = instance.run(&["rm", "web"]);
    assert!(refused.err.contains("container is restarting: stop the container"), "{refused:?}");
    let refused = instance.run(&["exec", "web", "true"]);
    assert!(refused.err.contains("is restarting, wait until"), "{refused:?}");
    instance.ok(&["stop", "web"]);
    assert_eq!(instance.inspect("web", "{{.State.Status}} {{.State.Running}}"), "exited false");
    let both = instance.run(&["run", "--rm", "--restart", "always", "demo"]);
    assert!(both.err.contains("cannot specify both --restart and --rm"), "{both:?}");
}

#[test]
fn a_killed_daemon_and_a_new_one_start_what_the_policy_says() {
    let Some(mut instance) = Instance::start() else { return };
    let run = |instance: &Instance, name: &str, policy: &str| {
        let all = ["run", "-d", "--init", "--network", "none", "--name", name, "--restart", policy];
        instance.ok(&[&all[..], &["demo", "sleep", "infinity"]].concat());
    };
    run(&instance, "kept", "unless-stopped");
    run(&instance, "stopped", "unless-stopped");
    run(&instance, "always", "always");
    instance.ok(&["stop", "stopped", "always"]);
    let before = instance.inspect("kept", "{{.State.Pid}}");
    instance.kill_daemon();
    // It ends while nobody looks.
    let pid = before.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("it runs");
    instance.start_daemon();
    let status = |name: &str| instance.inspect(name, "{{.State.Status}}");
    wait_until("both run", || status("kept") == "running" && status("always") == "running");
    assert_ne!(instance.inspect("kept", "{{.State.Pid}}"), before);
    assert_eq!(status("stopped"), "exited");
}

#[test]
fn a_container_is_checked_as_its_flags_say() {
    let Some(mut instance) = Instance::start() else { return };
    let all = ["run", "-d", "--init", "--network", "none", "--name", "web"];
    let flags = ["--health-interval", "50ms", "--health-retries", "2"];
    let check = ["--health-cmd", "echo looked; cat /tmp/well"];
    let command = ["demo", "sh", "-c", "echo > /tmp/well; sleep infinity"];
    instance.ok(&[&all[..], &flags, &check, &command].concat());
    let health = |instance: &Instance| instance.inspect("web", "{{.State.Health.Status}}");
    wait_until("it is healthy", || health(&instance) == "healthy");
    let status = instance.ok(&["ps", "--format", "{{.Status}}", "--filter", "health=healthy"]);
    assert!(status.ends_with(" (healthy)"), "{status}");
    instance.ok(&["exec", "web", "rm", "/tmp/well"]);
    wait_until("it is not", || health(&instance) == "unhealthy");
    let last = "{{(index .State.Health.Log 0).ExitCode}} {{(index .State.Health.Log 0).Output}}";
    wait_until("all results are failures", || {
        instance.inspect("web", last).starts_with("1 looked")
    });
    // A killed daemon's successor goes on, from where it was.
    instance.kill_daemon();
    instance.start_daemon();
    assert_eq!(health(&instance), "unhealthy");
    instance.ok(&["exec", "web", "sh", "-c", "echo > /tmp/well"]);
    wait_until("it is healthy again", || health(&instance) == "healthy");
    let since = ["events", "--since", "1h", "--until", "0s", "--filter", "container=web"];
    let told = instance.ok(&[&since[..], &["--format", "{{.Action}}"]].concat());
    assert!(told.contains("health_status: healthy"), "{told}");
    // Nothing of the checks is left among its processes.
    instance.ok(&["pause", "web"]);
    let names = instance.ok(&["top", "web"]);
    instance.ok(&["unpause", "web"]);
    assert!(names.lines().count() <= 5, "{names}");
}

#[test]
fn a_check_that_takes_too_long_is_killed_and_one_can_be_turned_off() {
    let Some(instance) = Instance::start() else { return };
    let all = ["run", "-d", "--init", "--network", "none", "--name", "slow"];
    let flags = [
        "--health-interval",
        "10ms",
        "--health-timeout",
        "100ms",
        "--health-cmd",
        "sleep 1000 & sleep 1001",
    ];
    instance.ok(&[&all[..], &flags, &["demo", "sleep", "infinity"]].concat());
    let health = || instance.inspect("slow", "{{.State.Health.Status}}");
    wait_until("it is unhealthy", || health() == "unhealthy");
    let output = instance.inspect("slow", "{{(index .State.Health.Log 0).Output}}");
    assert!(output.starts_with("Health check exceeded timeout (100ms)"), "{output}");
    // What a check had started went with it: three have been, and of one at most there is more
    // than its end (two words in its shell's line, and a line for each of its children).
    wait_until("one check's processes are there at most", || {
        instance.ok(&["top", "slow"]).matches("sleep 100").count() <= 4
    });
    let off = ["run", "-d", "--network", "none", "--name", "off", "--no-healthcheck", "demo"];
    instance.ok(&off);
    assert_eq!(instance.inspect("off", "{{json .Config.Healthcheck.Test}}"), "[\"NONE\"]");
    let both = instance.run(&["run", "--no-healthcheck", "--health-cmd", "true", "demo"]);
    assert!(both.err.contains("--no-healthcheck conflicts with --health-* options"), "{both:?}");
}
