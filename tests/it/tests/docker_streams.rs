//! The stock docker client's streams: run, attach, exec, logs, cp, wait, at a pipe and at a terminal.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    process::Stdio,
    time::Duration,
};

use it::{Instance, Pty, wait_until};

fn start() -> Option<Instance> {
    testkit::need::tool("docker")?;
    let instance = Instance::start()?;
    // The demo image is loaded by whoever asks for it first.
    instance.docker_ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    Some(instance)
}

/// `docker run` without a network, which is quicker.
fn run<'a>(args: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--network", "none"], args].concat()
}

#[test]
fn what_a_container_says_and_its_exit_code_arrive() {
    let Some(instance) = start() else { return };
    let ran = instance.docker(&run(&["--rm", "demo", "sh", "-c", "echo out; nosuch; exit 7"]));
    assert_eq!((ran.code, ran.out.as_str()), (7, "out\n"), "{ran:?}");
    assert!(ran.err.contains("nosuch"), "{ran:?}");
    let none = instance.docker(&run(&["--rm", "demo", "nosuch"]));
    assert_eq!(none.code, 127, "{none:?}");
    assert!(none.err.contains("executable file not found in $PATH"), "{none:?}");
    assert_eq!(instance.docker_ok(&["ps", "-aq"]), "", "all of them are removed");
    instance.remove_all();
}

#[test]
fn standard_input_ends_where_the_client_ends_it() {
    let Some(instance) = start() else { return };
    let text = "line\n".repeat(100_000);
    let mut cat = instance.docker_command(&run(&["-i", "--rm", "demo", "cat"]));
    cat.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut cat = cat.spawn().expect("docker runs");
    let mut input = cat.stdin.take().expect("it is a pipe");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            input.write_all(text.as_bytes()).expect("somebody reads");
            drop(input);
        });
        let out = cat.wait_with_output().expect("it ends");
        assert!(out.status.success());
        assert!(out.stdout == text.as_bytes(), "{} bytes came back", out.stdout.len());
    });
    instance.remove_all();
}

#[test]
fn a_terminal_is_one_in_run_and_in_exec() {
    let Some(instance) = start() else { return };
    let command = instance.docker_command(&run(&["-it", "--name", "box", "demo", "sh"]));
    let mut terminal = Pty::start(command, 31, 101);
    terminal.send("tty -f\n");
    terminal.expect("31 rows, 101 columns");
    terminal.resize(12, 34, "12 rows, 34 columns");
    terminal.send("\x03");
    let command = instance.docker_command(&["exec", "-it", "box", "sh"]);
    let mut other = Pty::start(command, 31, 101);
    other.send("tty\n");
    other.expect("31 rows, 101 columns");
    other.send("exit 5\n");
    assert_eq!(other.code(), 5);
    terminal.send("exit 3\n");
    assert_eq!(terminal.code(), 3);
    instance.remove_all();
}

#[test]
fn who_detaches_leaves_it_running_and_can_come_back() {
    let Some(instance) = start() else { return };
    let command = instance.docker_command(&run(&["-it", "--name", "box", "demo", "sh"]));
    let mut terminal = Pty::start(command, 24, 80);
    terminal.expect("demo$ ");
    terminal.send("\x10\x11");
    assert_eq!(terminal.code(), 0);
    assert_eq!(instance.docker_ok(&["ps", "--format", "{{.Names}}"]), "box");
    let mut terminal = Pty::start(instance.docker_command(&["attach", "box"]), 24, 80);
    terminal.send("tty\n");
    terminal.expect("24 rows, 80 columns");
    terminal.send("exit 6\n");
    assert_eq!(terminal.code(), 6);
    instance.remove_all();
}

#[test]
fn an_exec_has_streams_of_its_own_and_an_exit_code() {
    let Some(instance) = start() else { return };
    instance.docker_ok(&run(&["-d", "--name", "box", "demo", "sleep", "1000"]));
    assert_eq!(instance.docker_ok(&["exec", "-e", "A=b", "box", "sh", "-c", "echo $A"]), "b");
    assert_eq!(instance.docker(&["exec", "box", "sh", "-c", "exit 9"]).code, 9);
    assert_eq!(instance.docker(&["exec", "box", "nosuch"]).code, 127);
    assert_eq!(instance.docker(&["exec", "-d", "box", "true"]).code, 0);
    let ran = instance.docker(&["exec", "nobody", "true"]);
    assert!(ran.err.contains("No such container: nobody"), "{ran:?}");
    instance.docker_ok(&["pause", "box"]);
    let ran = instance.docker(&["exec", "box", "true"]);
    assert!(ran.err.contains("is paused, unpause the container first"), "{ran:?}");
    instance.docker_ok(&["unpause", "box"]);
    instance.remove_all();
}

#[test]
fn logs_are_followed_across_a_restart_of_the_daemon_and_of_the_container() {
    let Some(mut instance) = start() else { return };
    let say = "echo first; sleep 1000";
    instance.docker_ok(&run(&["-d", "--name", "box", "demo", "sh", "-c", say]));
    let follow = |instance: &Instance| {
        let mut logs = instance.docker_command(&["logs", "-f", "box"]);
        let mut logs = logs.stdout(Stdio::piped()).spawn().expect("docker runs");
        let lines = BufReader::new(logs.stdout.take().expect("it is a pipe")).lines();
        (logs, lines)
    };
    let (mut logs, mut lines) = follow(&instance);
    assert_eq!(lines.next().expect("a line").expect("text"), "first");
    instance.docker_ok(&["restart", "-t", "0", "box"]);
    assert_eq!(lines.next().expect("a line").expect("text"), "first");
    assert!(logs.try_wait().expect("it is our child").is_none(), "it goes on");
    logs.kill().expect("it runs");
    logs.wait().expect("it ends");
    instance.kill_daemon();
    instance.start_daemon();
    let (mut logs, mut lines) = follow(&instance);
    for _ in 0..2 {
        assert_eq!(lines.next().expect("a line").expect("text"), "first");
    }
    instance.docker_ok(&["kill", "box"]);
    assert!(logs.wait().expect("it ends").success());
    instance.docker_ok(&["rm", "box"]);
    instance.remove_all();
}

#[test]
fn files_are_copied_both_ways() {
    let Some(instance) = start() else { return };
    let dir = instance.path("copied");
    std::fs::create_dir_all(dir.join("sub")).expect("a directory");
    std::fs::write(dir.join("sub/file"), "content").expect("a file");
    instance.docker_ok(&run(&["-d", "--name", "box", "demo", "sleep", "1000"]));
    let from = dir.to_str().expect("text").to_owned();
    instance.docker_ok(&["cp", &from, "box:/tmp/there"]);
    assert_eq!(instance.docker_ok(&["exec", "box", "cat", "/tmp/there/sub/file"]), "content");
    let back = instance.path("back");
    instance.docker_ok(&["cp", "box:/tmp/there", back.to_str().expect("text")]);
    assert_eq!(std::fs::read_to_string(back.join("sub/file")).expect("it is there"), "content");
    let ran = instance.docker(&["cp", "box:/none", "-"]);
    assert!(ran.code == 1 && ran.err.contains("Could not find the file /none"), "{ran:?}");
    assert!(instance.docker_ok(&["diff", "box"]).contains("A /tmp/there/sub/file"));
    instance.docker_ok(&["rm", "-f", "box"]);
    instance.remove_all();
}

#[test]
fn copied_files_belong_to_the_containers_user_if_that_is_asked_for() {
    let Some(instance) = start() else { return };
    let file = instance.path("file");
    std::fs::write(&file, "content").expect("a file");
    let from = file.to_str().expect("text");
    instance.docker_ok(&run(&["-d", "--user", "demo", "--name", "box", "demo", "sleep", "1000"]));
    instance.docker_ok(&["cp", "-a", from, "box:/tmp/one"]);
    instance.docker_ok(&["kill", "box"]);
    instance.docker_ok(&["cp", "-a", from, "box:/tmp/two"]);
    instance.docker_ok(&["start", "box"]);
    let listed = instance.docker_ok(&["exec", "box", "ls", "-l", "/tmp/one", "/tmp/two"]);
    assert_eq!(listed.matches(" 1000  1000 ").count(), 2, "{listed}");
    instance.docker_ok(&["rm", "-f", "box"]);
    instance.docker_ok(&["create", "--user", "nobody-else", "--name", "box", "demo", "true"]);
    let ran = instance.docker(&["cp", "-a", from, "box:/tmp/three"]);
    assert!(ran.code == 1 && ran.err.contains("unable to find user nobody-else"), "{ran:?}");
    instance.docker_ok(&["rm", "box"]);
    instance.remove_all();
}

#[test]
fn waiting_clients_learn_how_it_ended() {
    let Some(instance) = start() else { return };
    instance.docker_ok(&run(&["-d", "-i", "--name", "box", "demo", "cat"]));
    let wait = instance.docker_command(&["wait", "box"]).stdout(Stdio::piped()).spawn();
    let wait = wait.expect("docker runs");
    instance.docker_ok(&["stop", "-t", "0", "box"]);
    let said = wait.wait_with_output().expect("it ends").stdout;
    assert_eq!(String::from_utf8_lossy(&said).trim(), "137");
    // It has ended: the answer is there at once, and a second stop changes nothing.
    assert_eq!(instance.docker_ok(&["wait", "box"]), "137");
    assert_eq!(instance.docker_ok(&["stop", "box"]), "box");
    let ran = instance.docker(&["kill", "box"]);
    assert!(ran.err.contains("is not running"), "{ran:?}");
    instance.docker_ok(&["rm", "box"]);
    instance.remove_all();
}

/// An HTTP request as it goes over the wire, and the beginning of what comes back.
fn raw(instance: &Instance, request: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(instance.path("run/docker.sock")).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it can wait");
    stream.write_all(request.as_bytes()).expect("it is read");
    let mut head = vec![0; 4096];
    let length = stream.read(&mut head).expect("an answer");
    head.truncate(length);
    (stream, String::from_utf8_lossy(&head).into_owned())
}

#[test]
fn a_hijacked_stream_that_is_cut_leaves_the_container_and_nothing_else() {
    let Some(instance) = start() else { return };
    instance.docker_ok(&run(&["-d", "--name", "box", "demo", "cat", "/dev/zero"]));
    let attach = "POST /containers/box/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n\
                  Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
    for _ in 0..20 {
        let (stream, head) = raw(&instance, attach);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains("application/vnd.docker.multiplexed-stream"), "{head}");
        drop(stream);
    }
    assert_eq!(instance.docker_ok(&["inspect", "--format", "{{.State.Status}}", "box"]), "running");
    // Clients that stay away from what they asked for hold nobody up either.
    let before = "POST /containers/later/attach?stream=1&stdout=1&stderr=1 HTTP/1.1\r\nHost: d\r\n\
                  Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n";
    instance.docker_ok(&["create", "--network", "none", "--name", "later", "demo", "true"]);
    drop(raw(&instance, before));
    instance.docker_ok(&["start", "later"]);
    wait_until("it has run", || {
        instance.docker_ok(&["inspect", "--format", "{{.State.Status}}", "later"]) == "exited"
    });
    instance.docker_ok(&["rm", "-f", "box", "later"]);
    instance.remove_all();
}

#[test]
fn a_client_that_asks_for_no_upgrade_gets_the_streams_in_the_answer() {
    let Some(instance) = start() else { return };
    instance.docker_ok(&["create", "--network", "none", "--name", "box", "demo", "echo", "hi"]);
    let attach = "POST /v1.41/containers/box/attach?stream=1&stdout=1&stderr=1 HTTP/1.0\r\n\
                  Content-Length: 0\r\n\r\n";
    let mut stream = UnixStream::connect(instance.path("run/docker.sock")).expect("it listens");
    stream.write_all(attach.as_bytes()).expect("it is read");
    wait_until("it has been attached to", || {
        instance.docker_ok(&["events", "--since", "1h", "--until", "0s"]).contains("attach")
    });
    instance.docker_ok(&["start", "box"]);
    let mut said = Vec::new();
    stream.read_to_end(&mut said).expect("it ends");
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(said.contains("application/vnd.docker.raw-stream"), "{said}");
    assert!(said.ends_with("\x01\0\0\0\0\0\0\x03hi\n"), "{said:?}");
    instance.docker_ok(&["rm", "box"]);
    instance.remove_all();
}
