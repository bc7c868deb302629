//! Flags that Docker has and this build does not: each is known by name, and refused by name.

use clap::{Arg, ArgAction, ArgMatches, Command, error::Error};

use super::FlagError;

/// Name, whether it takes a value, and what is missing.
const UNBUILT: &[(&str, bool, &str)] = &[
    ("annotation", true, "annotations"),
    ("cpu-count", true, "Windows has it"),
    ("cpu-percent", true, "Windows has it"),
    ("gpus", true, "GPU devices"),
    ("io-maxbandwidth", true, "Windows has it"),
    ("io-maxiops", true, "Windows has it"),
    ("kernel-memory", true, "kernels have dropped it"),
    ("link", true, "links; use --network, on which containers find each other by name"),
    ("link-local-ip", true, "link-local addresses of one's own choice"),
    ("runtime", true, "other runtimes; use --isolation"),
    ("storage-opt", true, "storage options"),
    ("use-api-socket", false, "Docker's API"),
];

/// The first of them that was typed.
#[derive(Debug, Default)]
pub(super) struct UnbuiltFlags(Option<(String, &'static str)>);

impl UnbuiltFlags {
    pub(super) fn refuse(&self) -> Result<(), FlagError> {
        match &self.0 {
            None => Ok(()),
            Some((flag, what)) => Err(FlagError::unbuilt(flag, *what)),
        }
    }
}

impl clap::FromArgMatches for UnbuiltFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<UnbuiltFlags, Error> {
        let typed =
            |name: &str| matches.value_source(name) == Some(clap::parser::ValueSource::CommandLine);
        let first = UNBUILT.iter().find(|(name, _, _)| typed(name));
        Ok(UnbuiltFlags(first.map(|(name, _, what)| (format!("--{name}"), *what))))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = UnbuiltFlags::from_arg_matches(matches)?;
        Ok(())
    }
}

impl clap::Args for UnbuiltFlags {
    fn augment_args(command: Command) -> Command {
        let flag = |&(name, takes_value, what): &(&'static str, bool, &'static str)| {
            let action = if takes_value { ArgAction::Append } else { ArgAction::SetTrue };
            Arg::new(name).long(name).action(action).hide(true).help(format!("Not built: {what}"))
        };
        command.args(UNBUILT.iter().map(flag))
    }

    fn augment_args_for_update(command: Command) -> Command {
        UnbuiltFlags::augment_args(command)
    }
}

/// The names, for the table of what is compatible.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = (&'static str, &'static str)> {
    UNBUILT.iter().map(|(name, _, what)| (*name, *what))
}
