//! The functions of templates: Go's own and Docker's.
//!
//! Source: Go's text/template, "Functions"; docker/cli, `templates/templates.go`.

use std::cmp::Ordering;

use super::{TemplateError, Value};

/// Their names, for errors.
const NAMES: [&str; 26] = [
    "and", "eq", "ge", "gt", "html", "index", "join", "json", "le", "len", "lower", "lt", "ne",
    "not", "or", "pad", "print", "printf", "println", "slice", "split", "table", "title",
    "truncate", "upper", "urlquery",
];

/// Longest run of blanks that `pad` makes.
const PAD_MAX: usize = 4096;

/// Whether there is such a function.
pub(super) fn check(name: &str) -> Result<(), TemplateError> {
    if NAMES.contains(&name) {
        return Ok(());
    }
    let hint = match api::closest(name, NAMES) {
        Some(meant) => format!("; did you mean {meant}?"),
        None => String::new(),
    };
    Err(TemplateError::new(format!("function {name:?} not defined{hint}")))
}

/// Calls one.
pub(super) fn call(name: &str, args: &[Value]) -> Result<Value, TemplateError> {
    let wrong = || {
        let kinds: Vec<&str> = args.iter().map(Value::kind).collect();
        TemplateError::new(format!("{name} does not take ({})", kinds.join(", ")))
    };
    let text = |text: String| Ok(Value::Text(text));
    match (name, args) {
        ("json", [value]) => text(value.json()),
        ("upper", [value]) => text(string(value).ok_or_else(wrong)?.to_uppercase()),
        ("lower", [value]) => text(string(value).ok_or_else(wrong)?.to_lowercase()),
        ("title", [value]) => text(title(string(value).ok_or_else(wrong)?)),
        ("join", [Value::List(items), Value::Text(between)]) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            text(items.join(between))
        }
        ("join", [Value::Null, Value::Text(_)]) => text(String::new()),
        ("split", [Value::Text(whole), Value::Text(between)]) => {
            let part = |part: &str| Value::Text(part.to_owned());
            Ok(Value::List(whole.split(between.as_str()).map(part).collect()))
        }
        ("pad", [Value::Text(inner), Value::Int(before), Value::Int(after)]) => {
            let blanks = |n: &i64| " ".repeat(usize::try_from(*n).unwrap_or(0).min(PAD_MAX));
            text(match inner.as_str() {
                "" => String::new(),
                inner => format!("{}{inner}{}", blanks(before), blanks(after)),
            })
        }
        ("truncate", [Value::Text(whole), Value::Int(most)]) => {
            text(whole.chars().take(usize::try_from(*most).unwrap_or(0)).collect())
        }
        ("len", [value]) => Ok(Value::Int(length(value).ok_or_else(wrong)?)),
        ("index", [value, keys @ ..]) => keys.iter().try_fold(value.clone(), |v, k| index(&v, k)),
        ("slice", [value, bounds @ ..]) => slice(value, bounds).ok_or_else(wrong),
        ("not", [value]) => Ok(Value::Bool(!value.is_true())),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            Ok(Value::Bool(rest.iter().any(|other| equal(first, other))))
        }
        ("ne", [a, b]) => Ok(Value::Bool(!equal(a, b))),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = compare(a, b).ok_or_else(wrong)?;
            Ok(Value::Bool(match name {
                "lt" => order == Ordering::Less,
                "le" => order != Ordering::Greater,
                "gt" => order == Ordering::Greater,
                _ => order != Ordering::Less,
            }))
        }
        ("print", args) => text(print(args)),
        ("println", args) => {
            let words: Vec<String> = args.iter().map(Value::to_string).collect();
            text(format!("{}\n", words.join(" ")))
        }
        ("printf", [Value::Text(format), args @ ..]) => text(printf(format, args)?),
        ("html", args) => text(html(&print(args))),
        ("urlquery", args) => text(url_query(&print(args))),
        ("table", _) => Err(TemplateError::new("table stands before the template, not in it")),
        _ => Err(wrong()),
    }
}

fn string(value: &Value) -> Option<&str> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn title(text: &str) -> String {
    let mut start = true;
    let letter = |letter: char| {
        let upper = start && letter.is_alphabetic();
        start = !letter.is_alphanumeric() && letter != '_' && letter != '\'';
        if upper { letter.to_uppercase().collect::<String>() } else { letter.to_string() }
    };
    text.chars().map(letter).collect()
}

/// Go puts blanks between operands when neither is a string.
fn print(args: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in args.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| args.get(at));
        if before.is_some_and(|b| string(b).is_none() && string(value).is_none()) {
            out.push(' ');
        }
        out.push_str(&value.to_string());
    }
    out
}

fn length(value: &Value) -> Option<i64> {
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(fields) => fields.len(),
        Value::Null => 0,
        Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Lookup(_) => return None,
    };
    i64::try_from(length).ok()
}

/// A key that a map lacks gives the empty text, which is what Go's maps of text give.
fn index(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        (Value::List(items), Value::Int(at)) => {
            let item = usize::try_from(*at).ok().and_then(|at| items.get(at));
            item.cloned().ok_or_else(|| {
                let length = items.len();
                TemplateError::new(format!("index {at} is out of range of {length} elements"))
            })
        }
        (Value::Map(_), Value::Text(key)) => {
            Ok(value.get(key).cloned().unwrap_or_else(|| Value::Text(String::new())))
        }
        (Value::Null, _) => Err(TemplateError::new("index of untyped nil")),
        (value, key) => {
            let why = format!("can't index {} with {}", value.kind(), key.kind());
            Err(TemplateError::new(why))
        }
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Option<Value> {
    let length = usize::try_from(length(value)?).ok()?;
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Some(default),
        Some(Value::Int(bound)) => usize::try_from(*bound).ok(),
        Some(_) => None,
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    match value {
        Value::Text(text) => text.get(from..to).map(|part| Value::Text(part.to_owned())),
        Value::List(items) => items.get(from..to).map(|part| Value::List(part.to_vec())),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Map(_)
        | Value::Lookup(_) => None,
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

#[expect(clippy::cast_precision_loss, reason = "only the order of numbers is asked for")]
fn number(value: &Value) -> Option<f64> {
    if let Value::Int(number) = value {
        Some(*number as f64)
    } else if let Value::Float(number) = value {
        Some(*number)
    } else {
        None
    }
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (string(a), string(b)) {
        (Some(a), Some(b)) => Some(a.cmp(b)),
        _ => number(a)?.partial_cmp(&number(b)?),
    }
}

/// `%s %v %d %q %t %%`, with a width and a minus sign for the left.
fn printf(format: &str, args: &[Value]) -> Result<String, TemplateError> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut letters = format.chars().peekable();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            out.push(letter);
            continue;
        }
        let left = letters.next_if_eq(&'-').is_some();
        let mut width = 0_usize;
        while let Some(digit) = letters.peek().and_then(|c| c.to_digit(10)) {
            width = width.saturating_mul(10).saturating_add(usize::try_from(digit).unwrap_or(0));
            letters.next();
        }
        let verb = letters.next().ok_or_else(|| TemplateError::new("printf ends after %"))?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = args.next().ok_or_else(|| TemplateError::new("printf has too few values"))?;
        let text = match verb {
            's' | 'v' | 'd' | 't' => value.to_string(),
            'q' => format!("{:?}", value.to_string()),
            other => return Err(TemplateError::new(format!("printf does not know %{other}"))),
        };
        let width = width.min(PAD_MAX);
        out += &if left { format!("{text:<width$}") } else { format!("{text:>width$}") };
    }
    Ok(out)
}

fn html(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&#34;")
        .replace('\'', "&#39;")
}

fn url_query(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        b' ' => "+".to_owned(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}
