//! Words to flags and operands, by a table, in the way runc's users are used to.
//!
//! Long flags may begin with one dash or two, values follow after `=` or as the next word, and
//! flags may stand behind operands unless a command says otherwise; `--` ends them. Pure.

mod table;

use std::fmt::Write as _;

pub(super) use table::{COMMANDS, GLOBAL};

/// A flag of a command.
#[derive(Debug)]
pub(super) struct Flag {
    /// Its name without dashes.
    long: &'static str,
    /// Its one-letter form.
    short: Option<&'static str>,
    /// What its value is called in help, or `None` for a flag that is only there or not.
    value: Option<&'static str>,
    help: &'static str,
}

/// What a command takes.
#[derive(Debug)]
pub(super) struct Syntax {
    pub(super) name: &'static str,
    /// Its operands, as help shows them.
    operands: &'static str,
    about: &'static str,
    flags: &'static [Flag],
    /// Fewest and most operands.
    count: (usize, usize),
    /// Whether the first operand ends the flags, because the rest is somebody else's.
    in_order: bool,
}

/// What a command does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Create,
    Start,
    Run,
    Exec,
    Kill,
    Delete,
    State,
    List,
    Ps,
    Pause,
    Resume,
    Update,
    Spec,
    Features,
}

/// Why words are not a command line.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum UsageError {
    /// A flag that the command does not have.
    #[error("{command}: flag provided but not defined: {flag}")]
    UnknownFlag {
        /// The command.
        command: &'static str,
        /// As it was typed.
        flag: String,
    },
    /// A flag at the end that needs a value.
    #[error("{command}: flag needs an argument: --{flag}")]
    NoValue {
        /// The command.
        command: &'static str,
        /// The flag.
        flag: &'static str,
    },
    /// A value that is not of the right kind.
    #[error("{command}: invalid value \"{value}\" for --{flag}: {why}")]
    Value {
        /// The command.
        command: &'static str,
        /// The flag.
        flag: &'static str,
        /// What was given.
        value: String,
        /// What would be right.
        why: &'static str,
    },
    /// Too few or too many operands.
    #[error("{command}: {given} arguments given; usage: {command} {operands}")]
    Operands {
        /// The command.
        command: &'static str,
        /// How many there were.
        given: usize,
        /// The operands it takes.
        operands: &'static str,
    },
    /// There is no such command.
    #[error("no command \"{given}\"; there are: {}", names())]
    UnknownCommand {
        /// What was typed.
        given: String,
    },
    /// No command at all.
    #[error("no command given; there are: {}", names())]
    NoCommand,
    /// A word that is no text.
    #[error("argument {0:?} is not valid UTF-8")]
    NotText(std::ffi::OsString),
}

/// A command line, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    command: &'static str,
    /// In the order given.
    values: Vec<(&'static str, String)>,
    pub(super) operands: Vec<String>,
}

impl Parsed {
    /// Whether a flag without a value was given, and not as `=false`.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.value(flag).is_some_and(|value| value == "true")
    }

    /// The last value given for a flag; an empty one counts as none, as in runc.
    pub(super) fn value(&self, flag: &str) -> Option<&str> {
        self.values(flag).last().filter(|value| !value.is_empty())
    }

    /// Every value given for a flag.
    pub(super) fn values(&self, flag: &str) -> impl Iterator<Item = &str> {
        self.values.iter().filter(move |(name, _)| *name == flag).map(|(_, value)| value.as_str())
    }

    /// The number given for a flag.
    pub(super) fn number<T: std::str::FromStr>(
        &self,
        flag: &'static str,
    ) -> Result<Option<T>, UsageError> {
        let read = |value: &str| value.parse().map_err(|_| self.wrong(flag, value, "not a number"));
        self.value(flag).map(read).transpose()
    }

    /// A complaint about a value.
    pub(super) fn wrong(&self, flag: &'static str, value: &str, why: &'static str) -> UsageError {
        UsageError::Value { command: self.command, flag, value: value.to_owned(), why }
    }

    /// The first operand: the container, where a command takes one.
    pub(super) fn container(&self) -> &str {
        self.operands.first().map_or("", String::as_str)
    }
}

/// Takes the words of one command apart. Words that its operands' end leaves over are returned
/// by [`Parsed::operands`] too: the count decides.
pub(super) fn parse(
    syntax: &'static Syntax,
    words: impl IntoIterator<Item = String>,
) -> Result<Parsed, UsageError> {
    let mut parsed = Parsed { command: syntax.name, values: Vec::new(), operands: Vec::new() };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'));
        match name {
            Some("") if word == "--" => parsed.operands.extend(words.by_ref()),
            None | Some("") => {
                parsed.operands.push(word);
                if syntax.in_order {
                    parsed.operands.extend(words.by_ref());
                }
            }
            Some(name) => {
                let (flag, given) = syntax.find(name, &word)?;
                let value = syntax.value(flag, given, &mut words)?;
                parsed.values.push((flag.long, value));
            }
        }
    }
    let given = parsed.operands.len();
    if parsed.has("help") {
        return Ok(parsed);
    }
    if given < syntax.count.0 || given > syntax.count.1 {
        let (command, operands) = (syntax.name, syntax.operands);
        return Err(UsageError::Operands { command, given, operands });
    }
    Ok(parsed)
}

impl Syntax {
    /// The flag that a word without its dashes means, and the value after `=`.
    fn find(&self, name: &str, word: &str) -> Result<(&'static Flag, Option<String>), UsageError> {
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (name, None),
        };
        let is = |flag: &&Flag| flag.long == name || flag.short == Some(name);
        match self.flags.iter().chain(&HELP).find(is) {
            Some(flag) => Ok((flag, value)),
            None => Err(UsageError::UnknownFlag { command: self.name, flag: word.to_owned() }),
        }
    }

    fn value(
        &self,
        flag: &'static Flag,
        given: Option<String>,
        words: &mut impl Iterator<Item = String>,
    ) -> Result<String, UsageError> {
        let (command, flag_name) = (self.name, flag.long);
        if flag.value.is_some() {
            let value = given.or_else(|| words.next());
            return value.ok_or(UsageError::NoValue { command, flag: flag_name });
        }
        match given.as_deref() {
            None | Some("1" | "t" | "T" | "true" | "True" | "TRUE") => Ok("true".into()),
            Some("0" | "f" | "F" | "false" | "False" | "FALSE") => Ok("false".into()),
            Some(_) => Err(UsageError::Value {
                command,
                flag: flag_name,
                value: given.unwrap_or_default(),
                why: "it is on or off: true or false",
            }),
        }
    }

    /// What `--help` prints.
    pub(super) fn help(&self) -> String {
        let mut text = format!("{}\n\nUsage: wythe oci {}", self.about, self.name);
        let _ = writeln!(text, " [flags] {}\n\nFlags:", self.operands);
        for flag in self.flags.iter().chain(&HELP) {
            let short = flag.short.map_or_else(String::new, |short| format!("-{short}, "));
            let value = flag.value.map_or_else(String::new, |value| format!(" {value}"));
            let left = format!("{short}--{}{value}", flag.long);
            let _ = writeln!(text, "  {left:<28} {}", flag.help);
        }
        text
    }
}

/// The flag that every command has.
static HELP: [Flag; 1] =
    [Flag { long: "help", short: Some("h"), value: None, help: "show this help" }];

/// What `wythe oci --help` prints.
pub(super) fn help() -> String {
    let mut text = GLOBAL.help().replace("oci oci", "oci");
    text.push_str("\nCommands:\n");
    for (_, command) in COMMANDS {
        let _ = writeln!(text, "  {:<10} {}", command.name, command.about);
    }
    text
}

fn names() -> String {
    COMMANDS.iter().map(|(_, command)| command.name).collect::<Vec<_>>().join(", ")
}

/// The command of this name.
pub(super) fn command(name: &str) -> Result<&'static (Verb, Syntax), UsageError> {
    let found = COMMANDS.iter().find(|(_, command)| command.name == name);
    found.ok_or_else(|| UsageError::UnknownCommand { given: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(name: &str, line: &str) -> Result<Parsed, UsageError> {
        parse(&command(name).unwrap().1, line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn flags_have_one_dash_or_two_and_values_after_a_space_or_a_sign() {
        for line in ["--bundle /b -d x", "-bundle=/b -detach x", "-b /b --detach=true x"] {
            let parsed = parse_words("run", line).unwrap();
            assert_eq!(parsed.value("bundle"), Some("/b"), "{line}");
            assert!(parsed.has("detach"), "{line}");
            assert_eq!(parsed.container(), "x");
        }
    }

    #[test]
    fn flags_may_stand_behind_the_container_but_for_exec() {
        assert!(parse_words("delete", "x --force").unwrap().has("force"));
        let parsed = parse_words("exec", "-t x ls -t --cwd /").unwrap();
        assert_eq!(parsed.operands, ["x", "ls", "-t", "--cwd", "/"]);
        assert_eq!(parsed.value("cwd"), None);
    }

    #[test]
    fn repeated_flags_keep_every_value_and_the_last_one_counts() {
        let parsed = parse_words("exec", "-e A=1 --env B=2 -u 1 -u 2 x sh").unwrap();
        assert_eq!(parsed.values("env").collect::<Vec<_>>(), ["A=1", "B=2"]);
        assert_eq!(parsed.value("user"), Some("2"));
    }

    #[test]
    fn values_may_begin_with_a_dash() {
        let parsed = parse_words("update", "--memory-swap -1 -r - x").unwrap();
        assert_eq!(parsed.number::<i64>("memory-swap"), Ok(Some(-1)));
        assert_eq!(parsed.value("resources"), Some("-"));
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (name, line, want) in [
            ("run", "--bogus x", "run: flag provided but not defined: --bogus"),
            ("run", "--bundle", "run: flag needs an argument: --bundle"),
            ("state", "", "state: 0 arguments given; usage: state <container-id>"),
            ("state", "a b", "state: 2 arguments given; usage: state <container-id>"),
            (
                "run",
                "--detach=maybe x",
                "run: invalid value \"maybe\" for --detach: it is on or off: true or false",
            ),
        ] {
            assert_eq!(parse_words(name, line).unwrap_err().to_string(), want);
        }
    }

    #[test]
    fn help_names_every_flag() {
        for (_, command) in COMMANDS {
            let help = command.help();
            for flag in command.flags {
                assert!(help.contains(&format!("--{}", flag.long)), "{}", flag.long);
            }
        }
    }
}
