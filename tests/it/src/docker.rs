//! Docker's own clients, against an instance.

use std::process::{Command, Stdio};

use crate::{Instance, Ran, instance::ran};

impl Instance {
    /// Where Docker's clients are served, as `DOCKER_HOST` has it.
    pub fn docker_host(&self) -> String {
        format!("unix://{}", self.path("run/docker.sock").display())
    }

    /// The stock docker client on this instance's daemon, which must run.
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(args).stdin(Stdio::null()).env("DOCKER_HOST", self.docker_host());
        // Nothing of whoever runs the tests: no context, no credentials.
        command.env("DOCKER_CONFIG", self.path("docker-config")).env_remove("DOCKER_CONTEXT");
        command
    }

    /// Runs the stock docker client to its end.
    pub fn docker(&self, args: &[&str]) -> Ran {
        ran(self.docker_command(args).output().expect("docker runs"))
    }

    /// Runs the stock docker client, which must succeed, and gives its output without the last
    /// line's end.
    ///
    /// # Panics
    /// If it does not succeed.
    pub fn docker_ok(&self, args: &[&str]) -> String {
        let ran = self.docker(args);
        assert_eq!(ran.code, 0, "docker {args:?}: {ran:?}");
        ran.out.trim_end().to_owned()
    }
}
