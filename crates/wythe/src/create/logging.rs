//! Flags about the log.

use base::ByteSize;
use engine::{Create, LogOptions};

use super::FlagError;

#[derive(Debug, clap::Args)]
pub(super) struct LogFlags {
    /// Logging driver for the container (json-file and local are the same, or none)
    #[arg(long, value_name = "string")]
    log_driver: Option<String>,
    /// Log driver options (max-size, max-file)
    #[arg(long, value_name = "list")]
    log_opt: Vec<String>,
}

impl LogFlags {
    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        let mut log = LogOptions::default();
        match self.log_driver.as_deref() {
            None | Some("" | "json-file" | "local") => {}
            Some("none") => log.none = true,
            Some(other) => {
                let what = "use json-file, local or none";
                return Err(FlagError::unbuilt(format!("--log-driver {other}"), what));
            }
        }
        for option in &self.log_opt {
            set(&mut log, option)?;
        }
        create.log = log;
        Ok(())
    }
}

fn set(log: &mut LogOptions, option: &str) -> Result<(), FlagError> {
    let invalid = |why: &str| FlagError::invalid("log-opt", option, why);
    let (key, value) = option.split_once('=').ok_or_else(|| invalid("write name=value"))?;
    match key {
        "max-size" => {
            let size: ByteSize = value.parse().map_err(|_| invalid("write a size such as 10m"))?;
            log.bytes_max = Some(size.bytes())
                .filter(|bytes| *bytes > 0)
                .ok_or_else(|| invalid("the size must be above 0"))?;
        }
        "max-file" => {
            let count: u32 = value.parse().map_err(|_| invalid("write a number of files"))?;
            log.files_max = Some(count)
                .filter(|count| *count > 0)
                .ok_or_else(|| invalid("at least one file is kept"))?;
        }
        // Rotated files stay as they are: compressing them changes nothing that can be seen.
        "compress" if value == "true" || value == "false" => {}
        _ => {
            let what = "use max-size or max-file";
            return Err(FlagError::unbuilt(format!("--log-opt {key}"), what));
        }
    }
    Ok(())
}
