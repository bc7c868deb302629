//! Environment variables and labels: from flags, from files, from our own environment.

use std::collections::BTreeMap;

use super::{FlagError, Surroundings};

/// `-e` and `--env-file`, which `exec` has too.
#[derive(Debug, clap::Args)]
pub(crate) struct EnvFlags {
    /// Set environment variables
    #[arg(short, long, value_name = "list", value_parser = variable)]
    env: Vec<String>,
    /// Read in a file of environment variables
    #[arg(long, value_name = "list")]
    env_file: Vec<String>,
}

impl EnvFlags {
    /// `NAME=value` each: files first, flags after. A bare `NAME` takes the value it has here,
    /// and is left out where it has none.
    pub(crate) fn resolve(&self, around: &dyn Surroundings) -> Result<Vec<String>, FlagError> {
        let mut all = Vec::new();
        for path in &self.env_file {
            all.extend(lines("env-file", path, around)?);
        }
        all.extend(self.env.iter().cloned());
        let value = |entry: String| match entry.contains('=') {
            true => Some(entry),
            false => around.variable(&entry).map(|value| format!("{entry}={value}")),
        };
        Ok(all.into_iter().filter_map(value).collect())
    }
}

fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.starts_with('=') {
        return Err("an environment variable has a name: write NAME=value".to_owned());
    }
    Ok(text.to_owned())
}

/// `--label` and `--label-file`.
#[derive(Debug, clap::Args)]
pub(super) struct LabelFlags {
    /// Set meta data on a container
    #[arg(short, long, value_name = "list")]
    label: Vec<String>,
    /// Read in a line delimited file of labels
    #[arg(long, value_name = "list")]
    label_file: Vec<String>,
}

impl LabelFlags {
    pub(super) fn resolve(
        &self,
        around: &dyn Surroundings,
    ) -> Result<BTreeMap<String, String>, FlagError> {
        let mut all = Vec::new();
        for path in &self.label_file {
            all.extend(lines("label-file", path, around)?);
        }
        all.extend(self.label.iter().cloned());
        let split = |label: String| match label.split_once('=') {
            Some((key, value)) => (key.to_owned(), value.to_owned()),
            None => (label, String::new()),
        };
        Ok(all.into_iter().map(split).collect())
    }
}

/// The entries of a file with one `NAME=value` or `NAME` per line; empty lines and lines that
/// begin with `#` say nothing.
///
/// Source: docker/cli, `pkg/kvfile`.
fn lines(
    flag: &'static str,
    path: &str,
    around: &dyn Surroundings,
) -> Result<Vec<String>, FlagError> {
    let text = around.read(path).map_err(|source| FlagError::File {
        flag,
        path: path.to_owned(),
        source,
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let mut entries = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let name = line.split_once('=').map_or(line, |(name, _)| name);
        if name.is_empty() || name.contains(char::is_whitespace) {
            let why = format!("line {}: \"{name}\" is not a variable's name", number + 1);
            return Err(FlagError::invalid(flag, path, why));
        }
        entries.push(line.to_owned());
    }
    Ok(entries)
}
