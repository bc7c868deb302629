//! Where the fuzz targets get in; not an interface for anybody else.

use std::{io, path::PathBuf};

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::{
    cli::{self, Cli},
    create::{Flags, Surroundings},
    template::{Template, Value},
};

/// A host without files and variables.
struct Nowhere;

impl Surroundings for Nowhere {
    fn variable(&self, _: &str) -> Option<String> {
        None
    }

    fn read(&self, _: &str) -> io::Result<String> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn directory(&self) -> io::Result<PathBuf> {
        Ok("/".into())
    }
}

#[derive(Debug, clap::Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Run {
    #[command(flatten)]
    flags: Flags,
}

/// The words of a whole command line: understood or refused.
pub fn command_line(words: &[&str]) {
    let command = cli::with_docker_switches(cli::definition());
    let words = std::iter::once("wythe").chain(words.iter().copied());
    if let Ok(matches) = command.try_get_matches_from(words) {
        let _ = Cli::from_arg_matches(&matches);
    }
}

/// The words after `run`: a container, or refused.
pub fn run_flags(words: &[&str]) {
    let command = cli::with_docker_switches(Run::command());
    let Ok(matches) = command.try_get_matches_from(words) else { return };
    let Ok(run) = Run::from_arg_matches(&matches) else { return };
    if let Ok(create) = run.flags.request(&Nowhere) {
        let sent = serde_json::to_vec(&create).expect("a request is always JSON");
        let received: engine::Create = serde_json::from_slice(&sent).expect("it was just written");
        assert_eq!(received, create, "a request changes on its way to the daemon");
    }
}

/// A `--format` template, applied to a value.
pub fn format(template: &str) {
    let json = r#"{"Name": "web", "Ports": [80, 443], "Labels": {"a": "b"}, "Nil": null}"#;
    let value: Value = serde_json::from_str(json).expect("it is JSON");
    if let Ok(template) = Template::parse(template) {
        let _ = template.render(&value);
    }
}
