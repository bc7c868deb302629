//! What a machine, or a snapshot of one, may be called. Pure.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name: it is a file name, and the guest's host name (RFC 1123).
const NAME_BYTES_MAX: usize = 63;

/// The name of a machine or of a snapshot.
///
/// Invariant: 1 to 63 letters, digits, `-`, `_` and `.`, the first a letter or a digit. So it is
/// a file name that is neither hidden nor a way out of its directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is no name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a machine or a snapshot: up to {NAME_BYTES_MAX} letters, digits, \"-\", \
     \"_\" and \".\", a letter or digit first"
)]
pub struct NameError(String);

impl Name {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a host name: what may not be in one is a `-`, and none is last.
    ///
    /// Source: RFC 1123, 2.1.
    pub fn host_name(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        self.0.chars().map(plain).collect::<String>().trim_end_matches('-').to_owned()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        let right = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        match first && text.len() <= NAME_BYTES_MAX && text.chars().all(right) {
            true => Ok(Name(text.to_owned())),
            // What is said stays short.
            false => Err(NameError(text.chars().take(2 * NAME_BYTES_MAX).collect())),
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Name, NameError> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_plain_words() {
        for right in ["a", "web-1", "Debian_12.1", &"a".repeat(63)] {
            assert_eq!(right.parse::<Name>().unwrap().as_str(), right);
        }
        for wrong in ["", ".", "..", ".new-1", "-a", "a/b", "a b", "ä", "a\0", &"a".repeat(64)] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_name_is_one_step_of_a_path_and_has_a_host_name(text in "\\PC{0,70}|[a-zA-Z0-9._-]{1,63}") {
            let Ok(name) = text.parse::<Name>() else { return Ok(()) };
            let path = std::path::Path::new(name.as_str());
            prop_assert_eq!(path.components().count(), 1);
            prop_assert_eq!(path.file_name(), Some(path.as_os_str()));
            let host = name.host_name();
            prop_assert!(host.starts_with(|c: char| c.is_ascii_alphanumeric()));
            prop_assert!(host.ends_with(|c: char| c.is_ascii_alphanumeric()));
        }
    }
}
