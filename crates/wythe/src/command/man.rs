//! `man`: one page per command.

use std::path::{Path, PathBuf};

use clap_mangen::Man;

use crate::{cli, error::CliError, output};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where the pages go; without it, wythe(1) goes to standard output
    #[arg(value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl Args {
    pub(super) fn run(&self) -> Result<u8, CliError> {
        let pages = pages(cli::definition(), "wythe");
        let Some(directory) = &self.directory else {
            if let Some((_, text)) = pages.first() {
                output::print(&String::from_utf8_lossy(text))?;
            }
            return Ok(0);
        };
        std::fs::create_dir_all(directory).map_err(|error| failed(directory, error))?;
        for (name, text) in pages {
            let path = directory.join(name);
            std::fs::write(&path, text).map_err(|error| failed(&path, error))?;
        }
        Ok(0)
    }
}

fn failed(path: &Path, error: std::io::Error) -> CliError {
    CliError::io(format!("write {}", path.display()), error)
}

/// File names and texts: the command's own page first, then its subcommands'.
fn pages(command: clap::Command, name: &str) -> Vec<(String, Vec<u8>)> {
    let subcommands: Vec<_> =
        command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned().collect();
    let mut text = Vec::new();
    Man::new(command.name(name.to_owned()).display_name(name.to_owned()))
        .render(&mut text)
        .expect("writing to memory cannot fail");
    let mut pages = vec![(format!("{name}.1"), text)];
    for sub in subcommands {
        let full = format!("{name}-{}", sub.get_name());
        pages.extend(self::pages(sub, &full));
    }
    pages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command() {
        let pages = pages(cli::definition(), "wythe");
        let page = |name: &str| pages.iter().find(|(file, _)| file == name);
        let (_, run) = page("wythe-run.1").unwrap();
        let text = String::from_utf8_lossy(run).replace("\\-", "-");
        assert!(text.contains("--memory-swap"), "{text}");
        assert!(page("wythe-container-ls.1").is_some());
        assert!(page("wythe-shim.1").is_none());
    }
}
