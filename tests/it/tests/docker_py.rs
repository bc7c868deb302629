//! docker-py, as Debian has it, against the running daemon.

use std::process::Command;

use it::Instance;

/// Debian's own Python has Debian's docker-py, which comes with its docker-compose.
const PYTHON: &str = "/usr/bin/python3";

#[test]
fn a_program_written_against_docker_py_works() {
    if testkit::need::tool("docker-compose").is_none() {
        return;
    }
    let Some(instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker_py/client.py");
    let mut python = Command::new(PYTHON);
    let ran = python.arg(script).env("DOCKER_HOST", instance.docker_host()).output();
    let ran = ran.expect("python3 runs");
    let err = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{err}\n{}", instance.daemon_log());
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "all of it worked\n", "{err}");
    instance.remove_all();
}
