//! Templates as tokens.

use super::TemplateError;

/// Longest template, in bytes.
const TEMPLATE_BYTES_MAX: usize = 64 << 10;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// What stands outside actions.
    Text(String),
    /// `{{`
    Open,
    /// `}}`
    Close,
    /// A word: a keyword, a function, `true`, `nil`.
    Word(String),
    /// `.Name`, or `.` alone with an empty name. True if blank stands before it, which tells a new
    /// operand from a further field of the last one.
    Field(String, bool),
    /// `$name`, `$` alone with an empty name.
    Variable(String),
    /// A quoted string, unquoted.
    Quoted(String),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// One of `( ) | , = :=`.
    Sign(&'static str),
}

/// The tokens of a template.
pub(super) fn lex(text: &str) -> Result<Vec<Token>, TemplateError> {
    if text.len() > TEMPLATE_BYTES_MAX {
        let most = format!("the template is longer than {TEMPLATE_BYTES_MAX} bytes");
        return Err(TemplateError::new(most));
    }
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let (outside, action) = match rest.split_once("{{") {
            Some((outside, action)) => (outside, Some(action)),
            None => (rest, None),
        };
        let mut outside = if trim { outside.trim_start() } else { outside };
        let Some(mut action) = action else {
            push_text(&mut tokens, outside);
            return Ok(tokens);
        };
        if let Some(inner) = action.strip_prefix("- ") {
            outside = outside.trim_end();
            action = inner;
        }
        push_text(&mut tokens, outside);
        if let Some(comment) = action.trim_start().strip_prefix("/*") {
            let (_, after) =
                comment.split_once("*/").ok_or_else(|| TemplateError::new("unclosed comment"))?;
            let after = after.trim_start();
            (trim, rest) = match (after.strip_prefix("-}}"), after.strip_prefix("}}")) {
                (Some(rest), _) => (true, rest),
                (None, Some(rest)) => (false, rest),
                (None, None) => return Err(TemplateError::new("comment ends before closing }}")),
            };
            continue;
        }
        tokens.push(Token::Open);
        (trim, rest) = inside(action, &mut tokens)?;
        tokens.push(Token::Close);
    }
}

fn push_text(tokens: &mut Vec<Token>, text: &str) {
    if !text.is_empty() {
        tokens.push(Token::Text(text.to_owned()));
    }
}

/// The tokens of one action; whether the text after it is trimmed, and that text.
fn inside<'a>(action: &'a str, tokens: &mut Vec<Token>) -> Result<(bool, &'a str), TemplateError> {
    let mut rest = action;
    let mut blank = true;
    loop {
        let trimmed = rest.trim_start();
        blank = blank || trimmed.len() < rest.len();
        if blank && let Some(after) = trimmed.strip_prefix("-}}") {
            return Ok((true, after));
        }
        if let Some(after) = trimmed.strip_prefix("}}") {
            return Ok((false, after));
        }
        let (token, after) = token(trimmed, blank)?;
        tokens.push(token);
        rest = after;
        blank = false;
    }
}

fn token(text: &str, blank: bool) -> Result<(Token, &str), TemplateError> {
    const SIGNS: [&str; 6] = [":=", "=", "(", ")", "|", ","];
    for sign in SIGNS {
        if let Some(rest) = text.strip_prefix(sign) {
            return Ok((Token::Sign(sign), rest));
        }
    }
    let Some(first) = text.chars().next() else {
        return Err(TemplateError::new("unclosed action"));
    };
    match first {
        '"' => quoted(text),
        '`' => {
            let inner = text.get(1..).unwrap_or_default();
            let (inner, rest) = inner
                .split_once('`')
                .ok_or_else(|| TemplateError::new("unterminated raw quoted string"))?;
            Ok((Token::Quoted(inner.to_owned()), rest))
        }
        '.' if !text
            .get(1..)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) =>
        {
            let (name, rest) = word(text.get(1..).unwrap_or_default());
            Ok((Token::Field(name.to_owned(), blank), rest))
        }
        '$' => {
            let (name, rest) = word(text.get(1..).unwrap_or_default());
            Ok((Token::Variable(name.to_owned()), rest))
        }
        '0'..='9' | '+' | '-' | '.' => number(text),
        first if first.is_alphabetic() || first == '_' => {
            let (name, rest) = word(text);
            Ok((Token::Word(name.to_owned()), rest))
        }
        other => Err(TemplateError::new(format!("unexpected {other:?} in command"))),
    }
}

fn word(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}

fn number(text: &str) -> Result<(Token, &str), TemplateError> {
    let body = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_');
    let sign = usize::from(text.starts_with(['+', '-']));
    let digits = text.get(sign..).unwrap_or_default();
    let end = sign + digits.find(|c| !body(c)).unwrap_or(digits.len());
    let (written, rest) = text.split_at(end);
    let bad = || TemplateError::new(format!("bad number syntax: {written:?}"));
    if let Ok(number) = written.parse() {
        return Ok((Token::Int(number), rest));
    }
    let number: f64 = written.parse().map_err(|_| bad())?;
    if number.is_finite() { Ok((Token::Float(number), rest)) } else { Err(bad()) }
}

fn quoted(text: &str) -> Result<(Token, &str), TemplateError> {
    let mut out = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => {
                let rest = text.get(at + 1..).unwrap_or_default();
                return Ok((Token::Quoted(out), rest));
            }
            '\n' => break,
            '\\' => match letters.next() {
                Some((_, 'n')) => out.push('\n'),
                Some((_, 't')) => out.push('\t'),
                Some((_, 'r')) => out.push('\r'),
                Some((_, same @ ('"' | '\\' | '\''))) => out.push(same),
                Some((_, other)) => {
                    return Err(TemplateError::new(format!("unknown escape \\{other}")));
                }
                None => break,
            },
            other => out.push(other),
        }
    }
    Err(TemplateError::new("unterminated quoted string"))
}
