//! The flags of `run` and `create`, and the container they describe.
//!
//! Two steps: [`Flags`] is what was typed, each value already of its own type; [`Flags::request`]
//! is what it means, one complete [`engine::Create`]. The second step reads the files and the
//! environment that flags name, through [`Surroundings`].

use engine::Create;

mod env;
mod identity;
mod lifecycle;
mod logging;
mod namespaces;
mod network;
mod port;
mod process;
mod resources;
mod security;
mod storage;
mod surroundings;
mod unbuilt;
pub(crate) mod value;

pub(crate) use env::EnvFlags;
pub(crate) use identity::{PullPolicy, architecture};
pub(crate) use surroundings::{Host, Surroundings};
pub(crate) use value::{duration, memory_swap, nano_cpus, signal, size};

#[cfg(test)]
mod tests;

/// What was typed.
#[derive(Debug, clap::Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    identity: identity::IdentityFlags,
    #[command(flatten)]
    process: process::ProcessFlags,
    #[command(flatten)]
    network: network::NetworkFlags,
    #[command(flatten)]
    storage: storage::StorageFlags,
    #[command(flatten)]
    resources: resources::ResourceFlags,
    #[command(flatten)]
    security: security::SecurityFlags,
    #[command(flatten)]
    namespaces: namespaces::NamespaceFlags,
    #[command(flatten)]
    logging: logging::LogFlags,
    #[command(flatten)]
    lifecycle: lifecycle::LifecycleFlags,
    #[command(flatten)]
    unbuilt: unbuilt::UnbuiltFlags,
    /// Write the container ID to the file
    #[arg(long, value_name = "string")]
    pub(crate) cidfile: Option<std::path::PathBuf>,
    /// Automatically remove the container when it exits
    #[arg(long)]
    pub(crate) rm: bool,
    /// Print usage; -h is the host name
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Image, command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE")]
    image_and_command: Vec<String>,
}

/// Why the flags describe no container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlagError {
    /// A value makes no sense.
    #[error("invalid argument \"{given}\" for \"--{flag}\": {why}")]
    Invalid {
        /// Which flag.
        flag: &'static str,
        /// What was given.
        given: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// Docker has the flag and this build does not.
    #[error("{flag} is not built yet: {what}")]
    Unbuilt {
        /// The flag, or the flag and its value.
        flag: String,
        /// What it would take.
        what: String,
    },
    /// Two flags contradict each other.
    #[error("conflicting options: {0}")]
    Conflict(String),
    /// A file that a flag names cannot be read.
    #[error("cannot read {path}, named by --{flag}")]
    File {
        /// Which flag.
        flag: &'static str,
        /// Which file.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
}

impl FlagError {
    fn invalid(flag: &'static str, given: &str, why: impl Into<String>) -> FlagError {
        FlagError::Invalid { flag, given: given.to_owned(), why: why.into() }
    }

    fn unbuilt(flag: impl Into<String>, what: impl Into<String>) -> FlagError {
        FlagError::Unbuilt { flag: flag.into(), what: what.into() }
    }
}

impl Flags {
    /// What was typed means this container.
    ///
    /// # Errors
    /// [`FlagError`].
    pub(crate) fn request(self, around: &dyn Surroundings) -> Result<Create, FlagError> {
        self.unbuilt.refuse()?;
        let mut create = Create { auto_remove: self.rm, ..Create::default() };
        let mut words = self.image_and_command.into_iter();
        create.image = words.next().unwrap_or_default();
        create.command = words.collect();
        self.identity.apply(&mut create, around)?;
        self.process.apply(&mut create, around)?;
        self.network.apply(&mut create)?;
        self.storage.apply(&mut create, around)?;
        self.resources.apply(&mut create)?;
        self.security.apply(&mut create, around)?;
        self.namespaces.apply(&mut create)?;
        self.logging.apply(&mut create)?;
        self.lifecycle.apply(&mut create)?;
        Ok(create)
    }

    /// When the image is pulled, and whether silently.
    ///
    /// # Errors
    /// [`FlagError`].
    pub(crate) fn pull(&self) -> Result<(PullPolicy, bool), FlagError> {
        self.identity.pull()
    }

    /// Whether a terminal was asked for, and whether standard input stays open.
    pub(crate) fn terminal_and_stdin(&self) -> (bool, bool) {
        (self.process.tty, self.process.interactive)
    }
}

/// Flags that are refused by name, and what they wait for.
#[cfg(test)]
pub(crate) fn unbuilt_flags() -> impl Iterator<Item = (&'static str, &'static str)> {
    unbuilt::names()
}
