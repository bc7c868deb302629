//! `prune`: containers and images that nobody uses go.
//!
//! Source: docker/cli, `cli/command/{container,image,system}/prune.go` (behaviour).

use std::io::{self, BufRead as _};

use base::clock::Timestamp;
use engine::{Change, LabelCondition, Prune, Pruned, VolumesPruned};

use crate::{
    connect::Endpoint,
    error::CliError,
    output::{self, human},
    show::familiar,
    time,
};

/// What every `prune` takes.
#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Provide filter values (e.g. "label=<key>=<value>", "until=<timestamp>")
    #[arg(long, value_name = "filter")]
    pub(super) filter: Vec<String>,
    /// Do not prompt for confirmation
    #[arg(short, long)]
    pub(super) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ContainerArgs {
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImageArgs {
    /// Remove all unused images, not just dangling ones
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    common: Common,
}

impl ContainerArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let prune = conditions(&self.common.filter, Timestamp::now(), false)?;
        if !self.common.agreed("WARNING! This will remove all stopped containers.\n")? {
            return Ok(0);
        }
        let pruned = to.connect().await?.prune_containers(prune).await?;
        tell_containers(&pruned)?;
        tell_total(pruned.bytes)
    }
}

impl ImageArgs {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let prune = conditions(&self.common.filter, Timestamp::now(), true)?;
        let prune = Prune { all: prune.all || self.all, ..prune };
        let warning = match prune.all {
            true => {
                "WARNING! This will remove all images without at least one container associated \
                 to them.\n"
            }
            false => "WARNING! This will remove all dangling images.\n",
        };
        if !self.common.agreed(warning)? {
            return Ok(0);
        }
        let pruned = to.connect().await?.prune_images(prune).await?;
        tell_images(&pruned)?;
        tell_total(pruned.bytes)
    }
}

impl Common {
    /// Whether it shall be done: asked for, unless that was said before.
    pub(super) fn agreed(&self, warning: &str) -> Result<bool, CliError> {
        if self.force {
            return Ok(true);
        }
        output::print(&format!("{warning}Are you sure you want to continue? [y/N] "))?;
        let mut answer = String::new();
        io::stdin()
            .lock()
            .read_line(&mut answer)
            .map_err(|error| CliError::io("read the answer", error))?;
        Ok(answer.trim().eq_ignore_ascii_case("y"))
    }
}

/// Reads conditions; `dangling` is one of images.
pub(super) fn conditions(
    texts: &[String],
    now: Timestamp,
    dangling: bool,
) -> Result<Prune, CliError> {
    let mut prune = Prune::default();
    for text in texts {
        let bad = |why: String| CliError::Usage(format!("invalid filter '{text}': {why}"));
        let (kind, value) =
            text.split_once('=').ok_or_else(|| bad("write kind=value".to_owned()))?;
        match kind {
            "until" if prune.until.is_some() => {
                return Err(bad("more than one until filter specified".to_owned()));
            }
            "until" => prune.until = Some(Timestamp(time::moment(value, now).map_err(bad)?)),
            "label" => prune.with.push(label(value)),
            "label!" => prune.without.push(label(value)),
            "dangling" if dangling => match value {
                "true" | "1" => prune.all = false,
                "false" | "0" => prune.all = true,
                _ => return Err(bad("use true or false".to_owned())),
            },
            _ => return Err(bad("use until, label or label!".to_owned())),
        }
    }
    Ok(prune)
}

fn label(text: &str) -> LabelCondition {
    let (key, value) = match text.split_once('=') {
        Some((key, value)) => (key, Some(value.to_owned())),
        None => (text, None),
    };
    LabelCondition { key: key.to_owned(), value }
}

/// The containers that went, if any.
pub(super) fn tell_containers(pruned: &Pruned) -> Result<(), CliError> {
    if pruned.containers.is_empty() {
        return Ok(());
    }
    let ids: Vec<&str> = pruned.containers.iter().map(|id| id.as_str()).collect();
    output::print(&format!("Deleted Containers:\n{}\n\n", ids.join("\n")))
}

/// The references and images that went, if any.
pub(super) fn tell_images(pruned: &Pruned) -> Result<(), CliError> {
    if pruned.images.is_empty() {
        return Ok(());
    }
    let line = |change: &Change| match change {
        Change::Untagged(name) => format!("untagged: {}\n", familiar(name)),
        Change::Deleted(id) => format!("deleted: {id}\n"),
        // Pruning brings nothing.
        Change::Loaded(name) => format!("loaded: {name}\n"),
    };
    let lines: String = pruned.images.iter().map(line).collect();
    output::print(&format!("Deleted Images:\n{lines}\n"))
}

/// The volumes that went, if any.
pub(super) fn tell_volumes(pruned: &VolumesPruned) -> Result<(), CliError> {
    if pruned.names.is_empty() {
        return Ok(());
    }
    output::print(&format!("Deleted Volumes:\n{}\n\n", pruned.names.join("\n")))
}

/// How much is free again.
pub(super) fn tell_total(bytes: u64) -> Result<u8, CliError> {
    output::line(&format!("Total reclaimed space: {}", human::total(bytes)))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(texts: &[&str], dangling: bool) -> Result<Prune, CliError> {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        conditions(&texts, Timestamp(10_000_000_000_000), dangling)
    }

    #[test]
    fn conditions_are_read_as_docker_reads_them() {
        let prune = read(&["until=1h", "label=a", "label=b=1", "label!=c=2=3"], false).unwrap();
        assert_eq!(prune.until, Some(Timestamp(6_400_000_000_000)));
        assert_eq!(prune.with, [label("a"), label("b=1")]);
        assert_eq!(prune.without, [label("c=2=3")]);
        assert_eq!(prune.without[0].value.as_deref(), Some("2=3"));
        assert!(read(&["dangling=false"], true).unwrap().all);
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for bad in [&["until"][..], &["until=soon"], &["until=1h", "until=2h"], &["name=a"]] {
            assert!(read(bad, true).is_err(), "{bad:?}");
        }
        assert!(read(&["dangling=true"], false).is_err());
    }
}
