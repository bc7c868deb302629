//! `--log-driver` and `--log-opt`: read once, whoever asks, and turned into what a driver is told.
//!
//! Source: Docker's documentation, "Configure logging drivers", and the pages of `json-file`,
//! `local` and `syslog`.

mod syslog;
mod tag;

use std::{collections::BTreeMap, path::PathBuf};

use base::ByteSize;
use serde::{Deserialize, Serialize};
use workload::{LogDriver, LogSpec};

pub use syslog::SyslogOptions;

use crate::{Create, EngineError, plan::invalid};

/// Size and number of files where nobody says: Docker's `local` keeps as much. Docker's
/// `json-file` has no bound at all, and fills disks.
const BYTES_MAX: u64 = 20 << 20;
const FILES_MAX: u32 = 5;

/// Who takes a container's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// Files of our own form.
    #[default]
    Local,
    /// Files of JSON lines.
    JsonFile,
    /// A syslog server.
    Syslog,
}

/// How much of a container's output is kept, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogOptions {
    /// Keep none.
    pub none: bool,
    /// Size of one file.
    pub bytes_max: u64,
    /// Number of files.
    pub files_max: u32,
    /// Whether files of `json-file` that were rotated are compressed.
    pub compress: bool,
    /// Who takes it.
    pub kind: LogKind,
    /// Template of the tag.
    pub tag: Option<String>,
    /// Labels that stand with each entry.
    pub labels: Vec<String>,
    /// Environment variables that stand with each entry.
    pub env: Vec<String>,
    /// The server.
    pub syslog: SyslogOptions,
    /// The options as they were given, to be shown.
    pub given: BTreeMap<String, String>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            none: false,
            bytes_max: BYTES_MAX,
            files_max: FILES_MAX,
            compress: false,
            kind: LogKind::Local,
            tag: None,
            labels: Vec::new(),
            env: Vec::new(),
            syslog: SyslogOptions::default(),
            given: BTreeMap::new(),
        }
    }
}

/// Why options are refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogOptionError {
    /// Docker has it and this build has not.
    #[error("{option} is not built yet: {why}")]
    Unbuilt {
        /// Which.
        option: String,
        /// What would do.
        why: String,
    },
    /// It makes no sense.
    #[error("invalid log option {option}: {why}")]
    Invalid {
        /// Which.
        option: String,
        /// What would be right.
        why: String,
    },
}

impl LogOptions {
    /// Reads a driver's name and its options.
    ///
    /// # Errors
    /// [`LogOptionError`] names the option.
    pub fn parse<'a>(
        driver: Option<&str>,
        options: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<LogOptions, LogOptionError> {
        let mut log = LogOptions::default();
        match driver {
            None | Some("" | "local") => {}
            Some("json-file") => log.kind = LogKind::JsonFile,
            Some("syslog") => log.kind = LogKind::Syslog,
            Some("none") => log.none = true,
            Some(other) => {
                return Err(LogOptionError::Unbuilt {
                    option: format!("--log-driver {other}"),
                    why: "use local, json-file, syslog or none".to_owned(),
                });
            }
        }
        for (name, value) in options {
            log.set(name, value)?;
            log.given.insert(name.to_owned(), value.to_owned());
        }
        let sized = log.given.contains_key("max-size");
        if log.kind == LogKind::JsonFile && sized && !log.given.contains_key("max-file") {
            // As Docker: who bounds the file has one.
            log.files_max = 1;
        }
        if log.compress && log.files_max < 2 {
            let why = "there is nothing to compress when max-file is less than 2";
            return Err(invalid_option("compress", "true", why));
        }
        Ok(log)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), LogOptionError> {
        let files = !self.none && self.kind != LogKind::Syslog;
        let invalid = |why: &str| invalid_option(name, value, why);
        match name {
            "max-size" if files => {
                self.bytes_max = match value {
                    "-1" => u64::MAX,
                    _ => positive(value.parse::<ByteSize>().ok().map(ByteSize::bytes))
                        .ok_or_else(|| invalid("write a size above 0 such as 10m, or -1"))?,
                };
            }
            "max-file" if files => {
                let count = value.parse::<u32>().ok().filter(|count| *count > 0);
                self.files_max = count.ok_or_else(|| invalid("write a number of files above 0"))?;
            }
            "compress" if files => self.set_compress(value)?,
            "mode" if !matches!(value, "blocking" | "non-blocking") => {
                return Err(invalid("use blocking or non-blocking"));
            }
            // No driver here ever holds the container back.
            "mode" => {}
            "max-buffer-size" => {
                let bytes = positive(value.parse::<ByteSize>().ok().map(ByteSize::bytes));
                let bytes = bytes.ok_or_else(|| invalid("write a size above 0 such as 4m"))?;
                self.syslog.waiting_bytes_max = bytes;
            }
            "tag" if !self.none => {
                tag::check(value).map_err(|why| invalid(&why))?;
                self.tag = Some(value.to_owned());
            }
            "labels" if !self.none => self.labels = list(value),
            "env" if !self.none => self.env = list(value),
            "labels-regex" | "env-regex" if !self.none => {
                return Err(unbuilt(name, "name them with labels and env"));
            }
            _ if self.kind == LogKind::Syslog && name.starts_with("syslog-") => {
                self.syslog.set(name, value)?;
            }
            _ => {
                let why = format!("unknown log opt for {} log driver", self.driver_name());
                return Err(invalid(&why));
            }
        }
        Ok(())
    }

    /// Docker's `local` compresses files that were rotated unless told not to, which nobody can
    /// see there: ours stay as they are.
    fn set_compress(&mut self, value: &str) -> Result<(), LogOptionError> {
        let wanted = match value {
            "true" => true,
            "false" => false,
            _ => return Err(invalid_option("compress", value, "use true or false")),
        };
        self.compress = wanted && self.kind == LogKind::JsonFile;
        Ok(())
    }

    /// The driver's name.
    pub fn driver_name(&self) -> &'static str {
        match self.kind {
            _ if self.none => "none",
            LogKind::Local => "local",
            LogKind::JsonFile => "json-file",
            LogKind::Syslog => "syslog",
        }
    }

    /// Whether what was recorded can be read again.
    pub fn can_be_read(&self) -> bool {
        !self.none && self.kind != LogKind::Syslog
    }
}

/// Who logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logger<'a> {
    pub(crate) id: &'a base::ContainerId,
    pub(crate) name: &'a str,
    pub(crate) image_id: &'a str,
    pub(crate) config: &'a Create,
}

impl Logger<'_> {
    /// What stands with each entry: tag, labels, variables.
    pub(crate) fn attributes(&self) -> BTreeMap<String, String> {
        let log = &self.config.log;
        let labels = log
            .labels
            .iter()
            .filter_map(|name| Some((name.clone(), self.config.labels.get(name)?.clone())));
        let env = log.env.iter().filter_map(|name| {
            let mut all = self.config.env.iter().rev().filter_map(|line| line.split_once('='));
            all.find(|(other, _)| other == name)
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
        });
        let mut attributes: BTreeMap<_, _> = labels.chain(env).collect();
        if let Some(tag) = &log.tag {
            attributes.insert("tag".to_owned(), tag::render(tag, self));
        }
        attributes
    }

    /// What a driver is told; nothing if no log is kept. It may look up names, which blocks.
    ///
    /// # Errors
    /// If a server has no address.
    pub(crate) fn spec(&self, path: PathBuf) -> Result<Option<LogSpec>, EngineError> {
        let log = &self.config.log;
        if log.none {
            return Ok(None);
        }
        let driver = match log.kind {
            LogKind::Local => LogDriver::Local,
            LogKind::JsonFile => LogDriver::Json {
                attributes: self.attributes().into_iter().collect(),
                compress: log.compress,
            },
            LogKind::Syslog => {
                let tag = log.tag.as_deref().unwrap_or("{{.ID}}");
                let tag = tag::render(tag, self);
                let server = log.syslog.server(tag);
                LogDriver::Syslog(server.map_err(|why| invalid("log driver syslog", why))?)
            }
        };
        let (bytes_max, files_max) = (log.bytes_max, log.files_max.max(1));
        Ok(Some(LogSpec { path, bytes_max, files_max, driver }))
    }
}

fn positive(bytes: Option<u64>) -> Option<u64> {
    bytes.filter(|bytes| *bytes > 0)
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

fn invalid_option(name: &str, value: &str, why: &str) -> LogOptionError {
    LogOptionError::Invalid { option: format!("{name}={value}"), why: why.to_owned() }
}

fn unbuilt(option: &str, why: &str) -> LogOptionError {
    LogOptionError::Unbuilt { option: format!("--log-opt {option}"), why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(driver: &str, options: &[(&str, &str)]) -> Result<LogOptions, LogOptionError> {
        LogOptions::parse(Some(driver), options.iter().copied())
    }

    #[test]
    fn options_are_honoured_or_refused_by_name() {
        let log = parse("json-file", &[("max-size", "10m"), ("labels", "a, b")]).unwrap();
        assert_eq!((log.bytes_max, log.files_max), (10 << 20, 1));
        assert_eq!((log.labels.len(), log.driver_name()), (2, "json-file"));
        assert_eq!(parse("local", &[("max-size", "-1")]).unwrap().bytes_max, u64::MAX);
        assert_eq!(parse("local", &[("compress", "true")]).unwrap().files_max, FILES_MAX);
        assert!(parse("json-file", &[("compress", "true")]).unwrap().compress);
        for one in [("max-size", "1m"), ("max-file", "1")] {
            let error = parse("json-file", &[one, ("compress", "true")]).unwrap_err().to_string();
            assert!(error.contains("max-file"), "{error}");
        }
        for (driver, name, value, said) in [
            ("local", "max-size", "0", "above 0"),
            ("local", "max-file", "none", "above 0"),
            ("json-file", "compress", "gzip", "use true or false"),
            ("json-file", "env-regex", "^A", "is not built yet"),
            ("json-file", "syslog-address", "udp://x", "unknown log opt for json-file log driver"),
            ("syslog", "max-size", "1m", "unknown log opt for syslog log driver"),
            ("syslog", "syslog-address", "tcp+tls://x", "is not built yet"),
            ("syslog", "syslog-facility", "kernel", "facility"),
            ("syslog", "syslog-tls-cert", "x", "is not built yet"),
            ("local", "mode", "fast", "blocking"),
            ("local", "tag", "{{.Nonsense}}", "Nonsense"),
            ("none", "tag", "x", "none log driver"),
            ("fluentd", "tag", "x", "--log-driver fluentd is not built yet"),
        ] {
            let error = parse(driver, &[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(said), "{driver} {name}={value}: {error}");
        }
    }

    #[test]
    fn attributes_are_those_that_were_named() {
        let id = base::ContainerId::from_random([7; 32]);
        let log = parse(
            "json-file",
            &[("tag", "{{.Name}}/{{.ID}}"), ("labels", "tier,none"), ("env", "A")],
        )
        .unwrap();
        let config = Create {
            log,
            labels: BTreeMap::from([("tier".to_owned(), "front".to_owned())]),
            env: vec!["A=1".to_owned(), "A=2=3".to_owned(), "B=1".to_owned()],
            ..Create::default()
        };
        let logger = Logger { id: &id, name: "web", image_id: "sha256:1", config: &config };
        let want = [
            ("A".to_owned(), "2=3".to_owned()),
            ("tag".to_owned(), format!("web/{}", id.short())),
            ("tier".to_owned(), "front".to_owned()),
        ];
        assert_eq!(logger.attributes(), BTreeMap::from(want));
    }
}
