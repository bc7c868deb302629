//! Words of an instruction: split at spaces, with quotes and backslashes as a Dockerfile has them.

/// `name=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) name: String,
    pub(super) value: String,
}

/// The words, without their quotes.
pub(super) fn words(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            // Between single quotes a backslash is a letter.
            (None | Some('"'), '\\') => {
                let next = letters.next().ok_or("it ends with a backslash")?;
                let word = word.get_or_insert_default();
                if quote.is_some() && !matches!(next, '"' | '\\' | '$') {
                    word.push('\\');
                }
                word.push(next);
            }
            (Some(open), letter) if letter == open => quote = None,
            (Some(_), letter) => word.get_or_insert_default().push(letter),
            (None, '"' | '\'') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None, letter) if letter.is_whitespace() => words.extend(word.take()),
            (None, letter) => word.get_or_insert_default().push(letter),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".to_owned());
    }
    words.extend(word);
    Ok(words)
}

/// `A=b C="d e"`, or the old form `A b c` of one pair.
pub(super) fn pairs(text: &str) -> Result<Vec<Pair>, String> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) =
            text.split_once(char::is_whitespace).ok_or("it is written NAME=value")?;
        return Ok(vec![Pair { name: named(name)?, value: value.trim().to_owned() }]);
    }
    let split = |word: String| {
        let (name, value) = word.split_once('=').ok_or("every pair is written NAME=value")?;
        Ok(Pair { name: named(name)?, value: value.to_owned() })
    };
    words(text)?.into_iter().map(split).collect()
}

fn named(name: &str) -> Result<String, String> {
    match name {
        "" => Err("a name is empty".to_owned()),
        name => Ok(name.to_owned()),
    }
}
