//! Colour, on a terminal and unless `NO_COLOR` is set (no-color.org).

use std::io::{IsTerminal as _, stderr};

use anstyle::{AnsiColor, Style};

/// A word that announces an error.
pub(crate) fn error(word: &str) -> String {
    paint(word, AnsiColor::Red.on_default().bold())
}

/// A word that announces a warning.
pub(crate) fn warning(word: &str) -> String {
    paint(word, AnsiColor::Yellow.on_default().bold())
}

/// What is as it should be.
pub(crate) fn good(word: &str) -> String {
    paint(word, AnsiColor::Green.on_default())
}

/// What is not.
pub(crate) fn bad(word: &str) -> String {
    paint(word, AnsiColor::Red.on_default())
}

fn paint(word: &str, style: Style) -> String {
    if colourful() { format!("{style}{word}{style:#}") } else { word.to_owned() }
}

fn colourful() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    stderr().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
}
