//! Dockerfile instructions that change an image's configuration, as `import --change` takes them.
//!
//! Those that make no layer: `CMD ENTRYPOINT ENV EXPOSE HEALTHCHECK LABEL ONBUILD STOPSIGNAL
//! USER VOLUME WORKDIR`. Pure.
//!
//! Source: Dockerfile reference; moby, `builder/dockerfile`, `validCommitCommands`.

#[cfg(test)]
mod tests;
mod words;

use std::{collections::BTreeMap, path::PathBuf};

use base::ErrorKind;

use self::words::{Pair, pairs, words};
use crate::wire::{ContainerConfig, Empty, Healthcheck};

/// Shell of shell-form commands.
const SHELL: [&str; 2] = ["/bin/sh", "-c"];
/// Ports that one `EXPOSE` may name.
const PORTS_MAX: usize = 1_000;

/// Why an instruction was not applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("change \"{given}\": {why}")]
pub struct ChangeError {
    /// The instruction.
    pub given: String,
    /// What is wrong with it, and what would be right.
    pub why: String,
}

impl ChangeError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// The configuration that these instructions make of nothing.
///
/// # Errors
/// The first instruction that cannot be applied.
pub fn apply<'c>(
    changes: impl IntoIterator<Item = &'c str>,
) -> Result<ContainerConfig, ChangeError> {
    let mut config = ContainerConfig::default();
    apply_to(&mut config, changes)?;
    Ok(config)
}

/// Applies these instructions to a configuration.
///
/// # Errors
/// The first instruction that cannot be applied; those before it are applied.
pub fn apply_to<'c>(
    config: &mut ContainerConfig,
    changes: impl IntoIterator<Item = &'c str>,
) -> Result<(), ChangeError> {
    for change in changes {
        apply_one(config, change).map_err(|why| {
            let given = change.chars().take(200).collect();
            ChangeError { given, why }
        })?;
    }
    Ok(())
}

fn apply_one(config: &mut ContainerConfig, change: &str) -> Result<(), String> {
    let change = change.trim();
    let (name, rest) = change.split_once(char::is_whitespace).unwrap_or((change, ""));
    let rest = rest.trim();
    let instruction = name.to_ascii_uppercase();
    if rest.is_empty() && instruction != "CMD" && instruction != "ENTRYPOINT" {
        return Err(format!("{instruction} needs a value"));
    }
    match instruction.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => {
            config.entrypoint = Some(command(rest));
            // A command that was set before was meant without an entry point.
            config.cmd = None;
        }
        "ENV" => env(config, rest)?,
        "LABEL" => {
            let labels = pairs(rest)?.into_iter().map(|Pair { name, value }| (name, value));
            config.labels.get_or_insert_default().extend(labels);
        }
        "EXPOSE" => {
            let ports = config.exposed_ports.get_or_insert_default();
            for word in words(rest)? {
                expose(ports, &word)?;
            }
        }
        "VOLUME" => {
            let paths = match list(rest) {
                Some(paths) => paths,
                None => words(rest)?,
            };
            let volumes = config.volumes.get_or_insert_default();
            volumes.extend(paths.into_iter().map(|path| (path, Empty {})));
        }
        "USER" => config.user = single(rest)?,
        "STOPSIGNAL" => {
            let signal = single(rest)?;
            if workload::Signal::parse(&signal).is_none() {
                return Err(format!("\"{signal}\" is no signal, such as SIGTERM or 15"));
            }
            config.stop_signal = Some(signal);
        }
        "WORKDIR" => {
            // A relative path is one below the directory before it.
            let joined = PathBuf::from("/").join(&config.working_dir).join(single(rest)?);
            config.working_dir = clean(&joined.to_string_lossy());
        }
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest)?),
        _ => {
            return Err(
                "it is not one of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, \
                 STOPSIGNAL, USER, VOLUME, WORKDIR"
                    .to_owned(),
            );
        }
    }
    Ok(())
}

/// A JSON list of strings.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// A command in exec form, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    match list(text) {
        Some(words) => words,
        None if text.is_empty() => Vec::new(),
        None => SHELL.iter().map(|&word| word.to_owned()).chain([text.to_owned()]).collect(),
    }
}

fn single(text: &str) -> Result<String, String> {
    match words(text)?.as_slice() {
        [word] => Ok(word.clone()),
        _ => Err("it takes one value; quote it if it has spaces".to_owned()),
    }
}

fn env(config: &mut ContainerConfig, text: &str) -> Result<(), String> {
    let env = config.env.get_or_insert_default();
    for Pair { name, value } in pairs(text)? {
        let variable = format!("{name}={value}");
        match env.iter_mut().find(|had| had.split('=').next() == Some(&name)) {
            Some(had) => *had = variable,
            None => env.push(variable),
        }
    }
    Ok(())
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn expose(ports: &mut BTreeMap<String, Empty>, text: &str) -> Result<(), String> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(format!("\"{protocol}\" is not one of tcp, udp, sctp"));
    }
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        return Err(format!("\"{range}\" is no port and no range of ports"));
    };
    let range = first..=last;
    if range.is_empty() || range.len() > PORTS_MAX {
        return Err(format!("{first}-{last} is not a range of 1 to {PORTS_MAX} ports"));
    }
    ports.extend(range.map(|port| (format!("{port}/{protocol}"), Empty {})));
    Ok(())
}

fn healthcheck(text: &str) -> Result<Healthcheck, String> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').ok_or("an option is written --name=value")?;
        match name {
            "interval" => check.interval = duration(value)?,
            "timeout" => check.timeout = duration(value)?,
            "start-period" => check.start_period = duration(value)?,
            "start-interval" => check.start_interval = duration(value)?,
            "retries" => {
                let retries = value.parse::<u32>().map_err(|_| "retries is a number")?;
                check.retries = i64::from(retries);
            }
            _ => return Err(format!("there is no option --{name}")),
        }
        rest = after.trim_start();
    }
    let (kind, rest) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let rest = rest.trim();
    check.test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if rest.is_empty() => vec!["NONE".to_owned()],
        "CMD" if !rest.is_empty() => match list(rest) {
            Some(words) => [vec!["CMD".to_owned()], words].concat(),
            None => vec!["CMD-SHELL".to_owned(), rest.to_owned()],
        },
        _ => return Err("it is NONE, or CMD and a command".to_owned()),
    };
    Ok(check)
}

/// A duration as Go writes it, `1m30s`, in nanoseconds.
///
/// Source: Go, `time.ParseDuration`.
fn duration(text: &str) -> Result<i64, String> {
    let bad = || format!("\"{text}\" is no duration, such as 30s or 1m30s");
    let mut rest = text;
    let mut sum: i64 = 0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?;
        let (number, after) = rest.split_at(unit_at);
        let units = [
            ("ms", 1_000_000),
            ("us", 1_000),
            ("ns", 1),
            ("h", 3_600_000_000_000),
            ("m", 60_000_000_000),
            ("s", 1_000_000_000_i64),
        ];
        let unit = units.iter().find(|(unit, _)| after.starts_with(unit)).ok_or_else(bad)?;
        let number: i64 = number.parse().map_err(|_| bad())?;
        let part = number.checked_mul(unit.1);
        sum = part.and_then(|part| sum.checked_add(part)).ok_or_else(bad)?;
        rest = after.get(unit.0.len()..).unwrap_or_default();
    }
    if text.is_empty() { Err(bad()) } else { Ok(sum) }
}

/// An absolute path without `.`, `..` and doubled slashes, as Go's `path.Clean`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}
