//! The one definition of the command line: parsing, help, completions and man pages come from it.

use std::{ffi::OsString, path::PathBuf, process::ExitCode};

use clap::{
    ArgMatches, Args as _, CommandFactory as _, FromArgMatches as _, builder::Styles,
    error::ErrorKind,
};

use crate::{
    command::{self, Command},
    connect::Endpoint,
    error::{CliError, chain},
    output::{self, style},
    paths::{self, HOST_VARIABLE, Roots, Surroundings},
};

/// Containers, virtual machines and more behind one command
#[derive(Debug, clap::Parser)]
#[command(
    name = "wythe",
    version,
    disable_version_flag = true,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true,
    styles = Styles::plain(),
    max_term_width = 100,
    after_help = "Run 'wythe COMMAND --help' for more information on a command."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags before the command.
#[derive(Debug, clap::Args)]
struct Global {
    /// Daemon socket to connect to
    #[arg(short = 'H', long, value_name = "string", value_parser = paths::socket)]
    host: Option<PathBuf>,
    /// Where the daemon keeps images and containers
    #[arg(long, value_name = "dir")]
    data_root: Option<PathBuf>,
    /// Where the daemon keeps its socket and what ends with a reboot
    #[arg(long, value_name = "dir")]
    run_root: Option<PathBuf>,
    /// Enable debug mode
    #[arg(short = 'D', long)]
    debug: bool,
    /// Set the logging level ("debug", "info", "warn", "error", "fatal")
    #[arg(short, long, value_name = "string", default_value = "info", hide = true)]
    log_level: String,
    /// Print version information and quit
    #[arg(short = 'v', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

impl Global {
    fn endpoint(&self) -> Result<Endpoint, CliError> {
        let around = Surroundings::own();
        let roots = Roots::resolve(self.data_root.clone(), self.run_root.clone(), &around)
            .map_err(CliError::Usage)?;
        let named = match (&self.host, std::env::var(HOST_VARIABLE)) {
            (Some(host), _) => Some(host.clone()),
            (None, Ok(host)) if !host.is_empty() => {
                let bad = |why| CliError::Usage(format!("{HOST_VARIABLE}=\"{host}\": {why}"));
                Some(paths::socket(&host).map_err(bad)?)
            }
            (None, _) => None,
        };
        let shared = Roots::shared_socket(self.run_root.is_some());
        Ok(Endpoint { roots, named, shared, debug: self.debug })
    }
}

/// The definition as help, man pages and completions show it.
pub(crate) fn definition() -> clap::Command {
    Cli::command()
}

/// The same command whose switches take a value too, as Docker's do: `--rm=false`, `-t=1`.
pub(crate) fn with_docker_switches(command: clap::Command) -> clap::Command {
    command
        .mut_args(|arg| {
            if !matches!(arg.get_action(), clap::ArgAction::SetTrue) {
                return arg;
            }
            arg.action(clap::ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .value_name(SWITCH)
                .value_parser(switch)
                .default_value("false")
                .default_missing_value("true")
                .hide_default_value(true)
        })
        .mut_subcommands(with_docker_switches)
}

/// What stands for a switch's value in help until [`help`] takes it out.
const SWITCH: &str = "bool";

/// Go's `strconv.ParseBool`.
fn switch(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("it is neither true nor false".to_owned()),
    }
}

/// Help shows a switch as a switch; blanks keep the columns.
fn help(rendered: &str) -> String {
    let shown = format!("[=<{SWITCH}>]");
    rendered.replace(&shown, &" ".repeat(shown.len()))
}

/// What the words mean.
fn parse(args: &[OsString]) -> Result<ArgMatches, clap::Error> {
    if let Some(matches) = parse_alone(args) {
        return Ok(matches);
    }
    with_docker_switches(definition()).try_get_matches_from(args)
}

/// The same for a command that is asked for often and named first, by its part of the definition
/// alone: to build all of it takes longer than to start a container. Whatever is not understood
/// is left to the whole definition, which knows how to say so.
fn parse_alone(args: &[OsString]) -> Option<ArgMatches> {
    let command = command::alone(args.get(1)?.to_str()?)?;
    if args.iter().any(|word| word == "--help" || word == "-h") {
        return None;
    }
    let whole = clap::Command::new("wythe")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_version_flag(true)
        .disable_help_flag(true);
    let whole = Global::augment_args(whole).subcommand(with_docker_switches(command));
    whole.try_get_matches_from(args).ok()
}

/// Parses, carries out, prints what went wrong, and says how the process ends.
pub(crate) fn main(args: Vec<OsString>) -> ExitCode {
    let matches = match parse(&args) {
        Ok(matches) => matches,
        Err(error) => return ExitCode::from(tell_usage(&error, &args)),
    };
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => return ExitCode::from(tell_usage(&error, &args)),
    };
    let codes = cli.command.codes();
    let result = cli.global.endpoint().and_then(|endpoint| command::run(cli.command, &endpoint));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            tell(&error);
            ExitCode::from(codes(&error))
        }
    }
}

/// Prints an error and what would be right.
pub(crate) fn tell(error: &CliError) {
    if error.is_silent() {
        return;
    }
    output::complain(&format!("{} {}", style::error("wythe:"), chain(error)));
    for hint in error.hints() {
        output::complain(&format!("  {hint}"));
    }
}

/// Prints what the parser says: help and version to standard output, all else as an error.
fn tell_usage(error: &clap::Error, args: &[OsString]) -> u8 {
    let text = error.render().to_string();
    let text = help(&text);
    let kind = error.kind();
    if [ErrorKind::DisplayHelp, ErrorKind::DisplayVersion].contains(&kind) {
        return u8::from(output::print(&text).is_err());
    }
    if kind == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        output::complain(text.trim_end());
        return u8::from(args.len() > 1);
    }
    let said = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
    output::complain(&format!("{} {said}", style::error("wythe:")));
    if kind == ErrorKind::MissingRequiredArgument { 1 } else { 125 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
        with_docker_switches(definition()).debug_assert();
    }

    #[test]
    fn a_command_alone_means_what_it_means_in_the_whole_definition() {
        let lines = [
            "wythe run --rm -it=false -e A=B -p 80:80 image sh -c true",
            "wythe run image --help-me",
            "wythe exec -w / one ls --all",
            "wythe create --name one image",
            "wythe ps -aq --filter name=one",
            "wythe rm -f one two",
            "wythe start one",
            "wythe stop -t 1 one",
            "wythe kill -s TERM one",
            "wythe logs -f one",
            "wythe inspect one",
            "wythe wait one",
        ];
        for line in lines {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let alone = parse_alone(&words).unwrap_or_else(|| panic!("{line} is not parsed"));
            let whole = with_docker_switches(definition()).get_matches_from(&words);
            let [alone, whole] = [alone, whole].map(|m| Cli::from_arg_matches(&m).unwrap());
            assert_eq!(format!("{alone:?}"), format!("{whole:?}"));
        }
        for line in ["wythe run --help", "wythe exec one -h", "wythe run --nonsense", "wythe -D ps"]
        {
            let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(parse_alone(&words).is_none(), "{line}");
        }
    }

    #[test]
    fn help_shows_switches_as_switches() {
        let mut command = with_docker_switches(definition());
        let run = command.find_subcommand_mut("run").unwrap();
        let text = help(&run.render_help().to_string());
        assert!(text.contains("--rm "), "{text}");
        assert!(!text.contains("bool"), "{text}");
    }

    #[test]
    fn every_command_says_what_it_does() {
        fn check(command: &clap::Command) {
            for sub in command.get_subcommands() {
                assert!(sub.get_about().is_some(), "{}", sub.get_name());
                let args = sub.get_arguments().filter(|arg| !arg.is_positional());
                for arg in args {
                    assert!(arg.get_help().is_some(), "{} --{}", sub.get_name(), arg.get_id());
                }
                check(sub);
            }
        }
        check(&definition());
    }
}
