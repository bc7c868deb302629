//! Debian's docker-compose 1.29 brings three services up and down, with a network and a volume.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use it::{Instance, wait_until};

/// docker-compose, on this instance.
fn compose(instance: &Instance, args: &[&str]) -> Command {
    compose_file(instance, "compose.yaml", args)
}

fn compose_file(instance: &Instance, file: &str, args: &[&str]) -> Command {
    let file = format!("{}/tests/docker_compose/{file}", env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new("docker-compose");
    command.args(["--file", &file, "--project-name", "stack", "--no-ansi"]).args(args);
    command.stdin(Stdio::null()).env("DOCKER_HOST", instance.docker_host());
    command.env("DOCKER_CONFIG", instance.path("docker-config")).env("COMPOSE_API_VERSION", "auto");
    command
}

fn ok(instance: &Instance, args: &[&str]) -> String {
    let output = compose(instance, args).output().expect("docker-compose runs");
    let (out, err) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {out}{err}\n{}", instance.daemon_log());
    format!("{out}{err}")
}

#[test]
fn a_stack_of_three_services_comes_up_talks_and_goes_down() {
    if testkit::need::tool("docker-compose").is_none() || testkit::need::tool("docker").is_none() {
        return;
    }
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    ok(&instance, &["up", "-d"]);
    let names = instance.docker_ok(&["ps", "--format", "{{.Names}}", "--filter", "status=running"]);
    let mut names: Vec<_> = names.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["stack_db_1", "stack_web_1", "stack_worker_1"]);

    // By the service's name and by its alias, over the network that is only theirs.
    for host in ["db", "store"] {
        let mut fetch = compose(&instance, &["exec", "-T", "web", "nc", host, "8080"]);
        let mut fetch =
            fetch.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs");
        let mut input = fetch.stdin.take().expect("it is a pipe");
        write!(input, "GET /state HTTP/1.0\r\n\r\n").expect("it is read");
        drop(input);
        let answer = fetch.wait_with_output().expect("it ends").stdout;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.starts_with("HTTP/1.") && answer.ends_with("kept\n"), "{host}: {answer:?}");
    }
    assert!(ok(&instance, &["logs", "worker"]).contains("working"));
    wait_until("the worker is healthy", || {
        let health = ["inspect", "--format", "{{.State.Health.Status}}", "stack_worker_1"];
        instance.docker_ok(&health) == "healthy"
    });
    assert!(ok(&instance, &["ps"]).contains("stack_web_1"));

    // What has not changed stays as it is; what is stopped comes back with its volume.
    let before = instance.docker_ok(&["ps", "-q", "--no-trunc"]);
    ok(&instance, &["up", "-d"]);
    assert_eq!(instance.docker_ok(&["ps", "-q", "--no-trunc"]), before);
    ok(&instance, &["restart", "-t", "0", "db"]);
    ok(&instance, &["stop", "-t", "0"]);
    ok(&instance, &["start"]);
    ok(&instance, &["up", "-d", "--scale", "worker=2"]);
    assert_eq!(instance.docker_ok(&["ps", "-q"]).lines().count(), 4);

    ok(&instance, &["down", "-v", "-t", "0"]);
    assert_eq!(instance.docker_ok(&["ps", "-aq"]), "");
    assert_eq!(instance.docker_ok(&["volume", "ls", "-q"]), "");
    let networks = instance.docker_ok(&["network", "ls", "--format", "{{.Name}}"]);
    assert!(!networks.contains("stack"), "{networks}");
    instance.remove_all();
}

/// `docker-compose up`, attached to two services that stay and one that ends with code 3; what it
/// prints goes to a file.
fn up(instance: &Instance, busybox: &Path, flags: &[&str]) -> Child {
    let mut up = compose_file(instance, "attached.yaml", &[&["up"], flags].concat());
    let said = File::create(instance.path("said")).expect("it can be made");
    up.stdout(said.try_clone().expect("it is open")).stderr(said);
    up.env("PYTHONUNBUFFERED", "1").env("BUSYBOX", busybox).spawn().expect("docker-compose runs")
}

fn said(instance: &Instance) -> String {
    fs::read_to_string(instance.path("said")).expect("it was made")
}

/// How it ended, and what it has said.
fn ended(instance: &Instance, mut up: Child) -> (ExitStatus, String) {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = up.try_wait().expect("it is ours") {
            return (status, said(instance));
        }
        if Instant::now() > end {
            up.kill().expect("it is ours");
            panic!("docker-compose does not end: {}\n{}", said(instance), instance.daemon_log());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A service's lines, in order and without the prefix.
fn lines_of(said: &str, service: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.split_once(" | "));
    let own = lines.filter(|(prefix, _)| prefix.trim_end() == format!("{service}_1"));
    own.map(|(_, line)| line.to_owned()).collect()
}

#[test]
fn attached_it_shows_what_all_services_say_and_ctrl_c_stops_them_in_order() {
    let Some(busybox) = testkit::need::tool("busybox") else { return };
    if testkit::need::tool("docker-compose").is_none() || testkit::need::tool("docker").is_none() {
        return;
    }
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    // The second time, the containers are there, and what they said before is not shown again.
    for _ in 0..2 {
        let up = up(&instance, &busybox, &[]);
        wait_until("one service has ended", || {
            let said = said(&instance);
            said.contains("stack_job_1 exited with code 3")
                && lines_of(&said, "db") == ["db is there"]
                && lines_of(&said, "web") == ["web is there"]
        });
        let running = ["ps", "--format", "{{.Names}}", "--filter", "status=running"];
        assert_eq!(instance.docker_ok(&running).lines().count(), 2, "the others go on");
        let pid = rustix::process::Pid::from_child(&up);
        rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
        let (status, said) = ended(&instance, up);
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("Gracefully stopping..."), "{said}");
        assert_eq!(instance.docker_ok(&["ps", "-q"]), "", "all are stopped: {said}");
        assert!(!said.contains("Traceback"), "{said}");
        assert_eq!(lines_of(&said, "job"), ["job begins", "job is done"], "{said}");
        for service in ["db", "web", "job"] {
            let name = format!("stack_{service}_1");
            let code = instance.docker_ok(&["inspect", "--format", "{{.State.ExitCode}}", &name]);
            assert_eq!(code, if service == "job" { "3" } else { "0" }, "{service}: {said}");
        }
        let die = ["--filter", "event=die", "--format", "{{.Actor.Attributes.name}}"];
        let events = [&["events", "--since", "1h", "--until", "0s"], &die[..]].concat();
        // The client asks in whole seconds.
        wait_until("who is depended on is told to have ended last", || {
            let died = instance.docker_ok(&events);
            died.lines().rev().take(2).eq(["stack_db_1", "stack_web_1"])
        });
    }
    let down =
        compose_file(&instance, "attached.yaml", &["down"]).env("BUSYBOX", &busybox).output();
    assert!(down.expect("docker-compose runs").status.success());
    assert_eq!(instance.docker_ok(&["ps", "-aq"]), "");
    instance.remove_all();
}

#[test]
fn attached_it_ends_with_the_first_service_and_with_the_code_of_the_one_asked_for() {
    let Some(busybox) = testkit::need::tool("busybox") else { return };
    if testkit::need::tool("docker-compose").is_none() || testkit::need::tool("docker").is_none() {
        return;
    }
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    for (flags, code) in [
        (&["--abort-on-container-exit"][..], 3),
        (&["--exit-code-from", "job"], 3),
        (&["--exit-code-from", "web"], 0),
    ] {
        let (status, said) = ended(&instance, up(&instance, &busybox, flags));
        assert_eq!(status.code(), Some(code), "{flags:?}: {said}");
        assert!(said.contains("Aborting on container exit..."), "{flags:?}: {said}");
        assert!(lines_of(&said, "job").contains(&"job is done".to_owned()), "{flags:?}: {said}");
        assert_eq!(instance.docker_ok(&["ps", "-q"]), "", "{flags:?}: the others were stopped");
    }
    instance.ok(&["container", "prune", "-f"]);
    instance.remove_all();
}
