//! `kernel …`: the kernels that virtual machines start with.
//!
//! They lie in the data root under a lock of their own, so no daemon is asked: the next machine
//! finds what is there.

use clap::Subcommand;
use kernels::{Settings, Store};
use workload::Isolation;

use crate::{
    connect::Endpoint,
    error::{CliError, chain},
    output,
    paths::Roots,
};

mod build;
mod default;
mod import;
mod ls;
mod progress;
mod pull;
mod rm;

/// Environment variable that names the mirrors, with commas between them.
const MIRROR_VARIABLE: &str = "WYTHE_DEBIAN_MIRROR";

/// Where the settings of all instances of a host are.
const HOST_SETTINGS: &str = "/etc/wythe";

/// What can be done with kernels.
#[derive(Debug, Subcommand)]
pub(crate) enum KernelCommand {
    /// Build the minimal kernel from Debian's source of Linux
    Build(build::Args),
    /// Show or choose the kernel that is used unless another is named
    Default(default::Args),
    /// Add a kernel from files
    Import(import::Args),
    /// List kernels
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Download Debian's kernel for virtual machines
    Pull(pull::Args),
    /// Remove one or more kernels
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
}

impl KernelCommand {
    pub(super) fn run(self, endpoint: &Endpoint) -> Result<u8, CliError> {
        let store = store(&endpoint.roots);
        match self {
            KernelCommand::Build(args) => args.run(&endpoint.roots, &store),
            KernelCommand::Default(args) => args.run(&store),
            KernelCommand::Import(args) => args.run(&store),
            KernelCommand::Ls(args) => args.run(&store),
            KernelCommand::Pull(args) => args.run(&endpoint.roots, &store),
            KernelCommand::Rm(args) => args.run(&store),
        }
    }
}

/// Where an instance keeps its kernels.
pub(crate) fn store(roots: &Roots) -> Store {
    Store::new(roots.data.join("kernels"))
}

/// Whether there is a kernel for machines.
pub(super) fn is_there(to: &Endpoint) -> Result<bool, CliError> {
    Ok(store(&to.roots).default().map_err(|error| failed(&error))?.is_some())
}

/// Fetches Debian's kernel if a machine is asked for and there is none, as an image is that is
/// missing.
pub(super) async fn needed(
    to: &Endpoint,
    create: &engine::Create,
    quiet: bool,
) -> Result<(), CliError> {
    // One that is named is there, or the driver says that it is not.
    let named = create.machine.kernel.is_some();
    if create.isolation != Isolation::Vm || named || is_there(to)? {
        return Ok(());
    }
    if !quiet {
        output::complain("Unable to find a kernel for machines locally");
    }
    let settings = From { mirror: Vec::new(), keyring: None }.settings(&to.roots)?;
    progress::beside(quiet, async |tell| {
        kernels::pull(&store(&to.roots), &settings, None, now(), tell)
            .await
            .map_err(|error| failed(&error))
    })
    .await
}

/// Where kernels and sources come from.
#[derive(Debug, clap::Args)]
struct From {
    /// Fetch from this archive and suite instead of Debian's, such as
    /// "https://mirror.example/debian bookworm"; may be given several times
    #[arg(long, value_name = "url suite")]
    mirror: Vec<String>,
    /// Trust the OpenPGP keys in this file instead of Debian's
    #[arg(long, value_name = "file")]
    keyring: Option<std::path::PathBuf>,
}

impl From {
    /// What flags say, else the environment, else `kernels.toml`.
    fn settings(&self, roots: &Roots) -> Result<Settings, CliError> {
        let host = std::path::Path::new(HOST_SETTINGS);
        let mut settings = Settings::read(&[&roots.data, host]).map_err(|error| failed(&error))?;
        let variable = std::env::var(MIRROR_VARIABLE).unwrap_or_default();
        if !self.mirror.is_empty() {
            settings.mirrors = Settings::mirrors(self.mirror.iter().map(String::as_str))
                .map_err(|why| CliError::Usage(format!("--mirror: {why}")))?;
        } else if !variable.is_empty() {
            settings.mirrors = Settings::mirrors(variable.split(','))
                .map_err(|why| CliError::Usage(format!("{MIRROR_VARIABLE}: {why}")))?;
        }
        if let Some(keyring) = &self.keyring {
            settings.keyring = Some(keyring.clone());
        }
        Ok(settings)
    }
}

/// An error of the store's, with all its causes.
fn failed(error: &dyn std::error::Error) -> CliError {
    CliError::Usage(chain(error))
}

/// Now, in seconds since 1970.
fn now() -> u64 {
    base::clock::Timestamp::now().seconds()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mirrors_of_flags_go_before_those_of_files() {
        let data = tempfile::tempdir().unwrap();
        let roots = Roots { data: data.path().to_owned(), run: "/r".into() };
        let text = "mirrors = [\"http://a.example/debian trixie\"]\nkeyring = \"/a\"\n";
        std::fs::write(data.path().join("kernels.toml"), text).unwrap();
        let from = |mirror: &[&str]| From {
            mirror: mirror.iter().map(|it| (*it).to_owned()).collect(),
            keyring: None,
        };
        let settings = from(&[]).settings(&roots).unwrap();
        assert_eq!(settings.mirrors[0].suite, "trixie");
        let settings = from(&["https://b.example/debian sid"]).settings(&roots).unwrap();
        assert_eq!(settings.mirrors[0].to_string(), "https://b.example/debian sid");
        assert_eq!(settings.keyring.as_deref(), Some(std::path::Path::new("/a")));
        let error = from(&["b.example"]).settings(&roots).unwrap_err();
        assert!(error.to_string().contains("--mirror"), "{error}");
    }
}
