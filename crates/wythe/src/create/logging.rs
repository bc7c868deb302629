//! Flags about the log.

use engine::{Create, LogOptionError, LogOptions};

use super::FlagError;

#[derive(Debug, clap::Args)]
pub(super) struct LogFlags {
    /// Logging driver for the container (local, json-file, syslog or none)
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Log driver options
    #[arg(long, value_name = "list")]
    log_opt: Vec<String>,
}

impl LogFlags {
    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        let mut options = Vec::new();
        for option in &self.log_opt {
            let bad = || FlagError::invalid("log-opt", option, "write name=value");
            options.push(option.split_once('=').ok_or_else(bad)?);
        }
        create.log = LogOptions::parse(self.log_driver.as_deref(), options)?;
        Ok(())
    }
}

impl From<LogOptionError> for FlagError {
    fn from(error: LogOptionError) -> FlagError {
        match error {
            LogOptionError::Unbuilt { option, why } => FlagError::unbuilt(option, why),
            LogOptionError::Invalid { option, why } => FlagError::invalid("log-opt", &option, why),
        }
    }
}
