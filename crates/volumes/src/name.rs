//! Names of volumes and of their snapshots.
//!
//! Source: moby, `volume/local` and `daemon/names`: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::VolumeError;

/// Longest name: the longest file name, `NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

/// The name of a volume, or of one of a volume's snapshots.
///
/// Invariant: 2..=255 bytes of `[a-zA-Z0-9_.-]`, the first a letter or a digit, so it is safe as
/// a file name and leaves names that begin with a dot to the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(Box<str>);

impl VolumeName {
    /// A name from 32 random bytes: 64 hexadecimal digits, as anonymous volumes have.
    pub fn from_random(bytes: [u8; 32]) -> VolumeName {
        VolumeName(base::Digest::from_sha256(bytes).hex().into())
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it looks as if it was made up: 64 hexadecimal digits.
    pub(crate) fn is_made_up(&self) -> bool {
        self.0.len() == 64 && self.0.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    }
}

impl FromStr for VolumeName {
    type Err = VolumeError;

    fn from_str(text: &str) -> Result<VolumeName, VolumeError> {
        let bad = |why: String| {
            let name = text.chars().take(NAME_BYTES_MAX).collect();
            Err(VolumeError::Name { name, why })
        };
        let first = text.bytes().next().unwrap_or(b'.');
        let word = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
        if text.len() == 1 {
            return bad("volume name is too short, names should be at least two alphanumeric \
                        characters"
                .to_owned());
        }
        if text.len() > NAME_BYTES_MAX {
            return bad(format!("volume name is too long, it has at most {NAME_BYTES_MAX} bytes"));
        }
        if !first.is_ascii_alphanumeric() || !text.bytes().all(word) {
            return bad(format!(
                "\"{text}\" includes invalid characters for a local volume name, only \
                 \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host \
                 directory, use absolute path"
            ));
        }
        Ok(VolumeName(text.into()))
    }
}

impl TryFrom<String> for VolumeName {
    type Error = VolumeError;

    fn try_from(text: String) -> Result<VolumeName, VolumeError> {
        text.parse()
    }
}

impl From<VolumeName> for String {
    fn from(name: VolumeName) -> String {
        name.0.into()
    }
}

impl Borrow<str> for VolumeName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VolumeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_or_hide_in_it_are_refused() {
        for bad in ["", ".", "..", "a/b", ".beside", "-rf", "a b", "a\0b", "ü1", "x"] {
            assert!(bad.parse::<VolumeName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(256).parse::<VolumeName>().is_err());
        for good in ["db", "a_b.c-d", "0a"] {
            assert_eq!(good.parse::<VolumeName>().unwrap().as_str(), good);
        }
    }
}
