//! Names as they stand in paths: repositories, tags, uploads. Pure.

use std::{fmt, str::FromStr};

use base::{Digest, reference};

/// A repository within this registry.
///
/// Invariant: components of `[a-z0-9]` joined by `.`, `_`, `__` or `-`, at most 255 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

/// A tag.
///
/// Invariant: 1 to 128 of `[A-Za-z0-9_.-]`, not beginning with `.` or `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Box<str>);

/// What a manifest is asked for by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A tag.
    Tag(Tag),
    /// A digest.
    Digest(Digest),
    /// Nothing that a manifest could be known by.
    Neither(Box<str>),
}

/// An upload under way.
///
/// Invariant: 32 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UploadId(Box<str>);

/// Why some text is no such name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it does not follow the rule for its kind of name")]
pub struct NameError;

impl Name {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UploadId {
    /// One that nobody can guess.
    pub(crate) fn new(random: [u8; 16]) -> UploadId {
        UploadId(format!("{:032x}", u128::from_be_bytes(random)).into())
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Name, NameError> {
        reference::is_repository(text).then(|| Name(text.into())).ok_or(NameError)
    }
}

impl FromStr for Tag {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Tag, NameError> {
        reference::is_tag(text).then(|| Tag(text.into())).ok_or(NameError)
    }
}

impl FromStr for UploadId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<UploadId, NameError> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        let right = text.len() == 32 && text.bytes().all(digit);
        right.then(|| UploadId(text.into())).ok_or(NameError)
    }
}

impl Reference {
    /// Reads what stands in a path; nothing is refused, for a question about what cannot be is
    /// answered with "not found".
    pub fn parse(text: &str) -> Reference {
        if let Ok(digest) = text.parse() {
            return Reference::Digest(digest);
        }
        text.parse().map_or_else(|_| Reference::Neither(text.into()), Reference::Tag)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reference::Tag(tag) => tag.fmt(f),
            Reference::Digest(digest) => digest.fmt(f),
            Reference::Neither(text) => f.write_str(text),
        }
    }
}

macro_rules! shown {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

shown!(Name Tag UploadId);
