//! Flags about what happens over a container's life: restarts.

use engine::{Create, RestartPolicy};

use super::FlagError;

#[derive(Debug, clap::Args)]
pub(super) struct LifecycleFlags {
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string", default_value = "no")]
    restart: RestartPolicy,
}

impl LifecycleFlags {
    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        if create.auto_remove && self.restart != RestartPolicy::No {
            return Err(FlagError::Conflict("cannot specify both --restart and --rm".to_owned()));
        }
        create.restart = self.restart;
        Ok(())
    }
}
