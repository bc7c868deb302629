//! Debian's docker-compose 1.29 brings three services up and down, with a network and a volume.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use it::{Instance, wait_until};

/// docker-compose, on this instance.
fn compose(instance: &Instance, args: &[&str]) -> Command {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_compose/compose.yaml");
    let mut command = Command::new("docker-compose");
    command.args(["--file", file, "--project-name", "stack", "--no-ansi"]).args(args);
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
