//! Commands that this build does not have.

use crate::{cli, error::CliError};

/// Docker's commands that come later, and what they wait for.
pub(crate) const UNBUILT: &[(&str, &str)] = &[
    ("build", "building images"),
    ("builder", "building images"),
    ("buildx", "building images"),
    ("checkpoint", "checkpoints"),
    ("compose", "Compose"),
    ("config", "Swarm, which Wythe leaves to Kubernetes"),
    ("context", "contexts; use --host"),
    ("manifest", "registries"),
    ("node", "Swarm, which Wythe leaves to Kubernetes"),
    ("plugin", "plug-ins"),
    ("search", "registries"),
    ("secret", "Swarm, which Wythe leaves to Kubernetes"),
    ("service", "Swarm, which Wythe leaves to Kubernetes"),
    ("stack", "Swarm, which Wythe leaves to Kubernetes"),
    ("swarm", "Swarm, which Wythe leaves to Kubernetes"),
    ("trust", "signatures"),
];

/// Why these words are no command of ours.
pub(super) fn refuse(words: &[String]) -> CliError {
    let word = words.first().map_or("", String::as_str);
    if let Some((name, what)) = UNBUILT.iter().find(|(name, _)| *name == word) {
        return CliError::Unbuilt(format!("'wythe {name}' is not built yet: {what}"));
    }
    let definition = cli::definition();
    let built = definition.get_subcommands().filter(|command| !command.is_hide_set());
    let names = built.map(clap::Command::get_name).chain(UNBUILT.iter().map(|(name, _)| *name));
    let meant = match api::closest(word, names) {
        Some(name) => format!("\n  Did you mean '{name}'?"),
        None => String::new(),
    };
    CliError::Usage(format!(
        "unknown command: wythe {word}{meant}\n\nRun 'wythe --help' for more information"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(word: &str) -> (String, u8) {
        let error = refuse(&[word.to_owned()]);
        (error.to_string(), error.code())
    }

    #[test]
    fn later_commands_are_refused_by_name_and_typos_mended() {
        let (text, code) = said("build");
        assert!(text.contains("'wythe build' is not built yet") && code == 125, "{text}");
        let (text, code) = said("rnu");
        assert!(text.contains("Did you mean 'run'?") && code == 1, "{text}");
        let (text, _) = said("frobnicate");
        assert!(!text.contains("Did you mean"), "{text}");
    }

    #[test]
    fn what_is_built_is_not_called_unbuilt() {
        for command in cli::definition().get_subcommands() {
            let name = command.get_name();
            assert!(UNBUILT.iter().all(|(unbuilt, _)| *unbuilt != name), "{name}");
        }
    }
}
