//! Names and limits, as messages show them.

use std::fmt;

/// A path from an archive, for messages: escaped, and cut when it is very long.
#[derive(Clone, PartialEq, Eq)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Bytes of a path that a message shows.
    const SHOWN_BYTES: usize = 256;

    /// The beginning of a path, as it is.
    pub fn new(path: &[u8]) -> Name {
        Name(path.get(..Name::SHOWN_BYTES).unwrap_or(path).into())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.contains(char::is_control) => f.write_str(text),
            Ok(_) | Err(_) => self.0.escape_ascii().fmt(f),
        }
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// A limit of [`crate::Limits`] was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {max} {limit}")]
pub struct Exceeded {
    /// What there was too much of.
    pub limit: &'static str,
    /// How much is allowed.
    pub max: u64,
}
