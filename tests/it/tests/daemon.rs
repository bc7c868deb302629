//! The daemon is killed, and nothing is lost.

use it::{Instance, cgroups, wait_until};

#[test]
fn containers_outlive_a_killed_daemon_with_logs_and_exit_codes() {
    let Some(mut instance) = Instance::start() else { return };
    let run = |instance: &Instance, name: &str, script: &str| {
        instance.ok(&["run", "-d", "--init", "--name", name, "demo", "sh", "-c", script])
    };
    run(&instance, "stays", "echo before; sleep 0.6; echo while dead; sleep infinity");
    run(&instance, "ends", "echo going; sleep 0.3; exit 23");
    let address = instance.inspect("stays", "{{.NetworkSettings.IPAddress}}");
    let pid = instance.inspect("stays", "{{.State.Pid}}");
    instance.kill_daemon();
    std::thread::sleep(std::time::Duration::from_millis(900));
    instance.start_daemon();

    assert_eq!(
        instance.inspect("stays", "{{.State.Status}} {{.State.Pid}}"),
        format!("running {pid}")
    );
    assert_eq!(instance.inspect("stays", "{{.NetworkSettings.IPAddress}}"), address);
    assert_eq!(instance.ok(&["logs", "stays"]), "before\nwhile dead");
    assert_eq!(instance.inspect("ends", "{{.State.Status}} {{.State.ExitCode}}"), "exited 23");
    assert_eq!(instance.ok(&["wait", "ends"]), "23");
    assert_eq!(instance.ok(&["exec", "stays", "echo", "still"]), "still");
    // Nobody else gets its address.
    let other = instance.ok(&["run", "-d", "--name", "other", "demo", "sleep", "infinity"]);
    assert_eq!(other.len(), 64);
    assert_ne!(instance.inspect("other", "{{.NetworkSettings.IPAddress}}"), address);
    instance.ok(&["stop", "stays"]);
    assert_eq!(instance.inspect("stays", "{{.State.ExitCode}}"), "143");
}

#[test]
fn a_daemon_killed_under_load_leaves_records_and_host_agreeing() {
    let Some(mut instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "demo", "true"]);
    for round in 0..4_u64 {
        let clients: Vec<_> = (0..6)
            .map(|n| {
                let name = format!("load-{round}-{n}");
                let mut command =
                    instance.command(&["run", "-d", "--name", &name, "demo", "sleep", "infinity"]);
                // A client that is told which daemon to use starts none of its own.
                let socket = format!("unix://{}", instance.path("run/wythe.sock").display());
                command.env("WYTHE_HOST", socket);
                command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
                command.spawn().expect("the program runs")
            })
            .collect();
        std::thread::sleep(std::time::Duration::from_millis(15 + 20 * round));
        instance.kill_daemon();
        for mut client in clients {
            drop(client.wait());
        }
        instance.start_daemon();
    }
    // What was half-made is still being undone when the daemon answers again.
    wait_until("records and host agree", || {
        let listed = instance.ok(&["ps", "-a", "--no-trunc", "--format", "{{.ID}} {{.State}}"]);
        listed.lines().all(|line| {
            let (id, state) = line.split_once(' ').expect("two words");
            cgroups(id).is_empty() != (state == "running")
        })
    });
    for id in instance.ok(&["ps", "-q", "--no-trunc"]).lines() {
        assert_eq!(instance.ok(&["exec", id, "echo", "alive"]), "alive");
    }
    instance.remove_all();
    wait_until("links and rules are gone", || {
        instance.links() == ["lo"] && instance.rules().is_empty()
    });
    assert_eq!(std::fs::read_dir(instance.path("data/containers")).map_or(0, Iterator::count), 0);
}

#[test]
fn a_killed_shim_takes_its_container_along_and_nothing_stays() {
    let Some(instance) = Instance::start() else { return };
    let id = instance.ok(&["run", "-d", "--name", "orphan", "demo", "sleep", "infinity"]);
    let pid = instance.inspect("orphan", "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let shim =
        status.lines().find_map(|line| line.strip_prefix("PPid:\t")).expect("it has a parent");
    let shim = shim.parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(shim, rustix::process::Signal::KILL).expect("it runs");
    wait_until("the loss is seen", || instance.inspect("orphan", "{{.State.Status}}") == "exited");
    assert_eq!(instance.inspect("orphan", "{{.State.ExitCode}}"), "255");
    wait_until("nothing is left of it", || cgroups(&id).is_empty());
    instance.ok(&["start", "orphan"]);
    assert_eq!(instance.ok(&["exec", "orphan", "echo", "again"]), "again");
}
