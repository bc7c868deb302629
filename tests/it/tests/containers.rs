//! Containers from the command line: run, exec, logs, limits, exit codes, leftovers.

use it::{Instance, Pty, cgroups, wait_until};

#[test]
fn the_first_command_of_the_readme_starts_a_daemon_and_reports() {
    let Some(instance) = Instance::without_daemon() else { return };
    let ran = instance.run(&["run", "--network", "none", "demo"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.out.contains("Hello from inside a Wythe sandbox"), "{ran:?}");
    assert!(ran.out.contains("process 1 of 1"), "{ran:?}");
    instance.remove_all();
    let pid = std::fs::read_to_string(instance.path("run/daemon.lock")).expect("it holds the lock");
    let pid =
        pid.trim().parse().ok().and_then(rustix::process::Pid::from_raw).expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("the daemon runs");
}

#[test]
fn exit_codes_are_dockers() {
    let Some(instance) = Instance::start() else { return };
    let run = |args: &[&str]| {
        let all: Vec<&str> =
            ["run", "--rm", "--network", "none"].iter().chain(args).copied().collect();
        instance.run(&all)
    };
    assert_eq!(run(&["demo", "sh", "-c", "exit 3"]).code, 3);
    assert_eq!(run(&["demo", "no-such-command"]).code, 127);
    assert_eq!(run(&["demo", "/etc/passwd"]).code, 126);
    assert_eq!(run(&["demo", "sh", "-c", "kill -9 1; sleep 5"]).code & 0x7f, 0);
    let missing = run(&["no-such-image"]);
    assert_eq!(missing.code, 125, "{missing:?}");
    assert!(missing.err.contains("no-such-image"), "{missing:?}");
    assert_eq!(run(&["--isolation", "wasm", "demo"]).code, 125);
    assert_eq!(instance.run(&["run", "--no-such-flag", "demo"]).code, 125);
    assert_eq!(instance.ok(&["ps", "-aq"]), "", "a run that failed leaves no container");

    for words in [
        &["exec", "nobody", "true"][..],
        &["container", "exec", "nobody", "true"],
        &["start", "nobody"],
        &["start", "-a", "nobody"],
        &["stop", "nobody"],
        &["kill", "nobody"],
        &["rm", "nobody"],
        &["logs", "nobody"],
        &["top", "nobody"],
        &["wait", "nobody"],
        &["attach", "nobody"],
    ] {
        let ran = instance.run(words);
        let why = "Error response from daemon: No such container: nobody";
        assert!(ran.code == 1 && ran.err.contains(why), "{words:?}: {ran:?}");
    }
    instance.ok(&["create", "--network", "none", "--name", "idle", "demo"]);
    let ran = instance.run(&["exec", "idle", "true"]);
    let why = "Error response from daemon: container idle is not running";
    assert!(ran.code == 1 && ran.err.contains(why), "{ran:?}");
    instance.ok(&["run", "-d", "--network", "none", "--name", "up", "demo", "sleep", "infinity"]);
    assert_eq!(instance.run(&["exec", "up", "no-such-command"]).code, 127);
    assert_eq!(instance.run(&["exec", "up", "/etc/passwd"]).code, 126);
    instance.ok(&["pause", "up"]);
    let ran = instance.run(&["exec", "up", "true"]);
    assert!(ran.code == 1 && ran.err.contains("is paused"), "{ran:?}");
    instance.ok(&["unpause", "up"]);
}

#[test]
fn top_takes_the_options_of_the_hosts_ps() {
    let Some(instance) = Instance::start() else { return };
    let run = ["run", "-d", "--network", "none", "--name", "web", "demo", "sleep", "1000"];
    instance.ok(&run);
    let pid = instance.inspect("web", "{{.State.Pid}}");
    for options in
        [&["-eo", "pid,args"][..], &["-o", "pid,args"], &["-e", "-o", "pid", "-o", "args"]]
    {
        let table = instance.ok(&[&["top", "web"], options].concat());
        let (heading, line) = table.split_once('\n').expect("a heading and a line");
        assert!(heading.starts_with("PID") && heading.ends_with("COMMAND"), "{table}");
        let (first, rest) = line.split_once(' ').expect("two columns");
        assert_eq!((first, rest.trim()), (pid.as_str(), "sleep 1000"), "{table}");
    }
    for (options, said) in [
        (&["-eo", "comm"][..], "PID"),
        (&["-o", "ppid=PID"], "not allowed"),
        (&["--no-such-option"], "ps failed"),
    ] {
        let ran = instance.run(&[&["top", "web"], options].concat());
        assert!(ran.code == 1 && ran.err.contains(said), "{ran:?}");
    }
    let mut without = instance.command(&["top", "web", "-eo", "pid,comm"]);
    without.env("PATH", instance.path("nowhere"));
    let output = without.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("the host has no ps"), "{said}");
}

#[test]
fn a_detached_container_is_listed_logged_joined_stopped_and_removed() {
    let Some(instance) = Instance::start() else { return };
    let script = "echo to-out; echo started $NAME; sleep infinity";
    let id = instance.ok(&[
        "run",
        "-d",
        "--init",
        "--name",
        "web",
        "-e",
        "NAME=value",
        "--network",
        "none",
        "demo",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(id.len(), 64, "{id}");
    wait_until("it has written", || instance.ok(&["logs", "web"]).contains("started value"));
    assert_eq!(instance.ok(&["logs", "web"]), "to-out\nstarted value");
    assert_eq!(instance.ok(&["logs", "--tail", "1", "web"]), "started value");
    let listed = instance.ok(&["ps"]);
    assert!(
        listed.contains(&id[..12]) && listed.contains("Up ") && listed.contains("web"),
        "{listed}"
    );
    assert_eq!(instance.ok(&["exec", "web", "echo", "joined"]), "joined");
    assert_eq!(instance.run(&["exec", "web", "sh", "-c", "exit 5"]).code, 5);
    assert_eq!(instance.run(&["exec", "web", "nothing"]).code, 127);
    let echoed = instance.run_with(&["exec", "-i", "web", "cat"], b"through\n");
    assert_eq!((echoed.code, echoed.out.as_str()), (0, "through\n"));
    assert_eq!(instance.inspect("web", "{{.State.Status}}"), "running");
    let in_the_way = instance.run(&["rm", "web"]);
    assert_ne!(in_the_way.code, 0, "{in_the_way:?}");
    assert!(in_the_way.err.contains("web") || in_the_way.err.contains(&id), "{in_the_way:?}");
    instance.ok(&["stop", "-t", "20", "web"]);
    assert_eq!(instance.inspect("web", "{{.State.Status}} {{.State.ExitCode}}"), "exited 143");
    assert_eq!(instance.ok(&["wait", "web"]), "143");
    instance.ok(&["start", "web"]);
    assert_eq!(instance.inspect("web", "{{.State.Running}}"), "true");
    instance.ok(&["kill", "web"]);
    assert_eq!(instance.ok(&["wait", "web"]), "137");
    assert_eq!(instance.ok(&["rm", "web"]), "web");
    assert_eq!(instance.ok(&["ps", "-aq"]), "");
    assert_eq!(cgroups(&id), Vec::<std::path::PathBuf>::new());
}

#[test]
fn logs_are_followed_to_the_end() {
    let Some(instance) = Instance::start() else { return };
    let script = "echo one; sleep 0.2; echo two; sleep 0.2; echo three";
    instance.ok(&[
        "run",
        "-d",
        "--name",
        "talker",
        "--network",
        "none",
        "demo",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(instance.ok(&["logs", "-f", "talker"]), "one\ntwo\nthree");
}

#[test]
fn standard_streams_go_both_ways_and_stay_apart() {
    let Some(instance) = Instance::start() else { return };
    let input: Vec<u8> = (0..200_000_u32).flat_map(|n| format!("{n}\n").into_bytes()).collect();
    let ran = instance.run_with(&["run", "-i", "--rm", "--network", "none", "demo", "cat"], &input);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(ran.out.as_bytes() == input, "{} of {} bytes came back", ran.out.len(), input.len());
    let ran = instance.run(&["run", "--rm", "--network", "none", "demo", "cat", "/missing"]);
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("/missing"), "{ran:?}");
}

#[test]
fn a_shell_at_a_terminal_resizes_and_passes_its_exit_code_through() {
    let Some(instance) = Instance::start() else { return };
    let command = instance.command(&["run", "-it", "--rm", "--network", "none", "demo", "sh"]);
    let mut terminal = Pty::start(command, 31, 101);
    terminal.expect("demo$ ");
    terminal.send("tty -f\n");
    terminal.expect("31 rows, 101 columns");
    terminal.resize(12, 34, "12 rows, 34 columns");
    // Process 1 has no handler for it, and so only the tool in front of it ends.
    terminal.send("\x03");
    terminal.expect("demo$ ");
    terminal.send("exit 7\n");
    assert_eq!(terminal.code(), 7);
    assert_eq!(instance.ok(&["ps", "-aq"]), "");
}

#[test]
fn a_memory_hog_is_killed_and_reported() {
    let Some(instance) = Instance::start() else { return };
    let hog = [
        "run",
        "-m",
        "32m",
        "--name",
        "hog",
        "--network",
        "none",
        "demo",
        "stress",
        "--memory",
        "512m",
    ];
    let ran = instance.run(&hog);
    assert_eq!(ran.code, 137, "{ran:?}");
    assert_eq!(instance.inspect("hog", "{{.State.OOMKilled}} {{.State.ExitCode}}"), "true 137");
}

#[test]
fn mistyped_names_are_answered_with_a_suggestion() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["create", "--name", "database", "--network", "none", "demo"]);
    let ran = instance.run(&["start", "databse"]);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("databse") && ran.err.contains("database"), "{ran:?}");
    let ran = instance.run(&["rnu", "demo"]);
    assert!(ran.code != 0 && ran.err.contains("run"), "{ran:?}");
}

#[test]
fn a_name_is_taken_once() {
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["create", "--name", "one", "--network", "none", "demo"]);
    let ran = instance.run(&["create", "--name", "one", "--network", "none", "demo"]);
    assert!(ran.code != 0 && ran.err.contains("already in use"), "{ran:?}");
}
