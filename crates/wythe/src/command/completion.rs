//! `completion`: a script for the shell.

use clap_complete::Shell;

use crate::{cli, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl Args {
    pub(super) fn run(&self) -> Result<u8, CliError> {
        output::print(&script(self.shell))?;
        Ok(0)
    }
}

fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "wythe", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_completes_commands_and_flags() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let text = script(shell);
            for word in ["unpause", "memory-swap", "no-trunc"] {
                assert!(text.contains(word), "{shell} lacks {word}");
            }
        }
    }
}
