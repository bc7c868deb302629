//! The shell's grammar: a line to a program. Pure, but for the table of exported variables.

use std::{env, sync::Mutex};

/// Pipelines, each with the condition under which it runs.
pub(super) type Program = Vec<(Join, Pipeline)>;

/// When a pipeline runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Join {
    Always,
    And,
    Or,
}

/// Commands, each reading what the one before writes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Pipeline {
    pub(super) stages: Vec<Stage>,
    pub(super) background: bool,
}

/// One command with its redirections.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) words: Vec<Word>,
    pub(super) redirects: Vec<Redirect>,
}

/// Where a stream goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    From(String),
    To { path: String, append: bool, error_too: bool },
}

/// Pieces of a word, joined after expansion.
pub(super) type Word = Vec<Piece>;

/// A piece of a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// Text as it is; quoted text keeps a word alive even if it is empty.
    Text { text: String, quoted: bool },
    /// The value of a variable, `?` for the last exit code.
    Variable { name: String, quoted: bool },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(Word),
    Operator(&'static str),
}

/// Operators, longest first.
const OPERATORS: [&str; 9] = ["2>&1", "&&", "||", ">>", ";", "|", "&", "<", ">"];

/// Reads one line.
pub(super) fn parse(line: &str) -> Result<Program, String> {
    let mut program = Program::new();
    let (mut join, mut pipeline, mut stage) = (Join::Always, Pipeline::default(), Stage::default());
    let mut tokens = tokens(line)?.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            Token::Word(word) => stage.words.push(word),
            Token::Operator("2>&1") => match stage.redirects.last_mut() {
                Some(Redirect::To { error_too, .. }) => *error_too = true,
                _ => return Err("2>&1 is understood only after > FILE".to_owned()),
            },
            Token::Operator(op @ ("<" | ">" | ">>")) => {
                let Some(Token::Word(word)) = tokens.next() else {
                    return Err(format!("{op} wants a file"));
                };
                let path = expand(&word, 0).unwrap_or_default();
                stage.redirects.push(match op {
                    "<" => Redirect::From(path),
                    _ => Redirect::To { path, append: op == ">>", error_too: false },
                });
            }
            Token::Operator("|") => pipeline.stages.push(take_stage(&mut stage, "|")?),
            Token::Operator(op) => {
                pipeline.stages.push(take_stage(&mut stage, op)?);
                pipeline.background = op == "&";
                program.push((join, std::mem::take(&mut pipeline)));
                join = match op {
                    "&&" => Join::And,
                    "||" => Join::Or,
                    _ => Join::Always,
                };
                if tokens.peek().is_none() && join != Join::Always {
                    return Err(format!("{op} wants a command after it"));
                }
            }
        }
    }
    if !stage.words.is_empty() || !pipeline.stages.is_empty() {
        pipeline.stages.push(take_stage(&mut stage, "|")?);
        program.push((join, pipeline));
    }
    Ok(program)
}

fn take_stage(stage: &mut Stage, before: &str) -> Result<Stage, String> {
    if stage.words.is_empty() {
        return Err(format!("there is no command at \"{before}\""));
    }
    Ok(std::mem::take(stage))
}

fn tokens(line: &str) -> Result<Vec<Token>, String> {
    let (mut tokens, mut rest) = (Vec::new(), line.trim_start());
    while !rest.is_empty() && !rest.starts_with('#') {
        if let Some(op) = OPERATORS.iter().find(|op| rest.starts_with(**op)) {
            tokens.push(Token::Operator(op));
            rest = rest.get(op.len()..).unwrap_or_default();
        } else {
            let (word, after) = word(rest)?;
            tokens.push(Token::Word(word));
            rest = after;
        }
        rest = rest.trim_start();
    }
    Ok(tokens)
}

/// The word at the front, and what follows it.
fn word(text: &str) -> Result<(Word, &str), String> {
    let (mut word, mut rest) = (Word::new(), text);
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        match c {
            '\'' => {
                let (text, after) = after.split_once('\'').ok_or("a ' is not closed")?;
                word.push(Piece::Text { text: text.to_owned(), quoted: true });
                rest = after;
            }
            '"' => {
                let (text, after) = after.split_once('"').ok_or("a \" is not closed")?;
                word.push(Piece::Text { text: String::new(), quoted: true });
                pieces(text, true, &mut word);
                rest = after;
            }
            '`' | '(' | ')' | '{' | '}' => {
                return Err(format!("{c} is more than this small shell can do"));
            }
            c if c.is_whitespace() || ";|&<>".contains(c) => break,
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || ";|&<>'\"`(){}".contains(c));
                let (plain, after) = rest.split_at(end.unwrap_or(rest.len()));
                pieces(plain, false, &mut word);
                rest = after;
            }
        }
    }
    Ok((word, rest))
}

/// Splits text at its `$NAME`s.
fn pieces(text: &str, quoted: bool, word: &mut Word) {
    let mut parts = text.split('$');
    let plain = |text: &str| Piece::Text { text: text.to_owned(), quoted };
    word.extend(parts.next().filter(|t| !t.is_empty()).map(plain));
    for part in parts {
        let end = match part.strip_prefix('?') {
            Some(_) => 1,
            None => {
                part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len())
            }
        };
        let (name, rest) = part.split_at(end);
        word.push(match name {
            "" => plain("$"),
            name => Piece::Variable { name: name.to_owned(), quoted },
        });
        word.extend(Some(rest).filter(|t| !t.is_empty()).map(plain));
    }
}

/// A word's text, or nothing where only empty variables without quotes are in it.
pub(super) fn expand(word: &Word, last: u8) -> Option<String> {
    let (mut text, mut alive) = (String::new(), false);
    for piece in word {
        match piece {
            Piece::Text { text: t, quoted } => {
                alive |= *quoted;
                text.push_str(t);
            }
            Piece::Variable { name, quoted } => {
                alive |= *quoted;
                text.push_str(&if name == "?" { last.to_string() } else { value(name) });
            }
        }
    }
    (alive || !text.is_empty()).then_some(text)
}

/// Variables exported by this shell. A table of our own: changing the process's environment is
/// not safe where threads may read it.
static EXPORTED: Mutex<Vec<(String, String)>> = Mutex::new(Vec::new());

pub(super) fn export(name: &str, value: &str) {
    let mut all = EXPORTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    all.retain(|(known, _)| known != name);
    all.push((name.to_owned(), value.to_owned()));
}

pub(super) fn exported() -> Vec<(String, String)> {
    EXPORTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
}

fn value(name: &str) -> String {
    let own = exported().into_iter().find(|(known, _)| known == name).map(|(_, value)| value);
    own.or_else(|| env::var(name).ok()).unwrap_or_default()
}

/// Whether this can be a variable's name.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        let program = parse(line).unwrap();
        program[0].1.stages[0].words.iter().filter_map(|w| expand(w, 7)).collect()
    }

    #[test]
    fn quotes_keep_words_together_and_variables_are_filled_in() {
        assert_eq!(
            words("echo 'a  b' \"c $? d\" e$? '$?' \"\""),
            ["echo", "a  b", "c 7 d", "e7", "$?", ""]
        );
    }

    #[test]
    fn joins_pipes_and_redirections_are_told_apart() {
        let program = parse("a && b | c > f 2>&1; d &").unwrap();
        assert_eq!(
            program.iter().map(|(j, _)| *j).collect::<Vec<_>>(),
            [Join::Always, Join::And, Join::Always]
        );
        assert_eq!(program[1].1.stages.len(), 2);
        let to = Redirect::To { path: "f".into(), append: false, error_too: true };
        assert_eq!(program[1].1.stages[1].redirects, [to]);
        assert!(program[2].1.background);
    }

    #[test]
    fn what_it_cannot_do_is_an_error() {
        for bad in ["$(date)", "a |", "| a", "a &&", "'a", "a >", "f() { b; }", "a 2>&1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
