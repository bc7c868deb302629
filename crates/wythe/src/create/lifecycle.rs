//! Flags about what happens over a container's life: restarts and health checks.

use std::time::Duration;

use engine::{Create, HealthCheck, HealthTest, RestartPolicy};

use super::{FlagError, value};

#[derive(Debug, clap::Args)]
pub(super) struct LifecycleFlags {
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string", default_value = "no")]
    restart: RestartPolicy,
    /// Command to run to check health
    #[arg(long, value_name = "string")]
    health_cmd: Option<String>,
    /// Time between running the check (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_interval: Option<Duration>,
    /// Maximum time to allow one check to run (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_timeout: Option<Duration>,
    /// Consecutive failures needed to report unhealthy
    #[arg(long, value_name = "int")]
    health_retries: Option<u32>,
    /// Start period for the container to initialize before starting health-retries countdown
    /// (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_start_period: Option<Duration>,
    /// Time between running the check during the start period (ms|s|m|h) (default 0s)
    #[arg(long, value_name = "duration", value_parser = value::duration)]
    health_start_interval: Option<Duration>,
    /// Disable any container-specified HEALTHCHECK
    #[arg(long)]
    no_healthcheck: bool,
}

impl LifecycleFlags {
    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        if create.auto_remove && self.restart != RestartPolicy::No {
            return Err(FlagError::Conflict("cannot specify both --restart and --rm".to_owned()));
        }
        create.restart = self.restart;
        create.health = self.health()?;
        Ok(())
    }

    fn health(self) -> Result<Option<HealthCheck>, FlagError> {
        // 0 is as if the flag were not there.
        let some = |time: Option<Duration>| time.filter(|time| !time.is_zero());
        let check = HealthCheck {
            test: match self.health_cmd.filter(|line| !line.is_empty()) {
                Some(line) => HealthTest::Shell(line),
                None => HealthTest::Inherit,
            },
            interval: some(self.health_interval),
            timeout: some(self.health_timeout),
            start_period: some(self.health_start_period),
            start_interval: some(self.health_start_interval),
            retries: self.health_retries.filter(|most| *most > 0),
            shell: None,
        };
        let asked = check != HealthCheck::default();
        match (self.no_healthcheck, asked) {
            (true, true) => {
                let both = "--no-healthcheck conflicts with --health-* options".to_owned();
                Err(FlagError::Conflict(both))
            }
            (true, false) => Ok(Some(HealthCheck { test: HealthTest::None, ..check })),
            (false, true) => Ok(Some(check)),
            (false, false) => Ok(None),
        }
    }
}
