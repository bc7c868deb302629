//! Every command that the README shows runs as it is written.

use std::{os::unix::fs::symlink, path::Path, process::Command};

use it::{Instance, Pty};

#[test]
fn every_command_of_the_readme_runs() {
    let Some(instance) = Instance::start() else { return };
    let Some(debian) = std::env::var_os("WYTHE_TEST_DEBIAN") else {
        assert!(std::env::var_os("CI").is_none(), "CI must have WYTHE_TEST_DEBIAN");
        return;
    };
    symlink(Instance::program(), instance.path("wythe")).expect("the directory is ours");
    symlink(debian, instance.path("rootfs.tar")).expect("the directory is ours");
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    instance.ok(&["save", "-o", &instance.path("image.tar").to_string_lossy(), "demo"]);
    let commands = commands();
    assert!(commands.len() >= 12, "the README shows what it can do: {commands:?}");
    let docker = testkit::need::tool("docker").is_some();
    for line in commands {
        if !docker && line.starts_with("docker") {
            continue;
        }
        let command = shell(&instance, &line);
        let code = if line.contains(" -it ") {
            let mut terminal = Pty::start(command, 24, 80);
            terminal.send("exit\n");
            terminal.code()
        } else {
            let output = { command }.output().expect("a shell runs");
            output.status.code().unwrap_or(255)
        };
        assert_eq!(code, 0, "{line}");
    }
}

/// Lines that call our program, or Docker's client; those that build it are what CI does.
fn commands() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let text = std::fs::read_to_string(readme).expect("the README is there");
    let lines = text.lines().filter_map(|line| line.strip_prefix("$ "));
    lines
        .filter(|line| ["wythe ", "docker "].iter().any(|p| line.starts_with(p)))
        .map(str::to_owned)
        .collect()
}

fn shell(instance: &Instance, line: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = instance.command(&[]);
    let environment: Vec<_> =
        command.get_envs().map(|(k, v)| (k.to_owned(), v.map(ToOwned::to_owned))).collect();
    command = Command::new("sh");
    command.args(["-c", line]).current_dir(instance.path("."));
    for (name, value) in environment {
        command.env(name, value.unwrap_or_default());
    }
    command.env("DOCKER_HOST", instance.docker_host());
    command.env("DOCKER_CONFIG", instance.path("docker-config"));
    command.env("PATH", format!("{}:{path}", instance.path("").display()));
    command
}
