//! What a user says of a disk. Pure.

use std::{path::PathBuf, str::FromStr};

use base::ByteSize;

use super::Format;

/// A disk that a machine is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// One that is there.
    There {
        /// Its file.
        path: PathBuf,
        /// What its bytes mean; it is looked at, if that is not said.
        format: Option<Format>,
        /// The guest may not write.
        read_only: bool,
        /// The images behind it, the nearest first.
        backing: Vec<PathBuf>,
    },
    /// One that is made, and is full of zeros.
    Made {
        /// How large it is, in bytes.
        bytes: u64,
        /// What its file is.
        format: Format,
    },
}

/// Why a text is no disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WishError {
    /// Not a word that is known.
    #[error("{0:?} says nothing of a disk: size=, path=, format=, backing= and ro do")]
    Word(String),
    /// No size, or one that no disk has.
    #[error("{0:?} is no size of a disk: a number and a unit, such as 8G; a multiple of 512 bytes")]
    Size(String),
    /// No format.
    #[error("{0:?} is no format of a disk: raw and qcow2 are")]
    Format(String),
    /// A disk is made or it is there.
    #[error("a disk has a path=, or a size= and is made")]
    Either,
    /// Only images have others behind them, and zeros can be read for nothing.
    #[error("a disk that is made is neither read-only nor has an image behind it")]
    Made,
}

/// Largest disk that is made: 512 TiB, as much as a qcow2 image with clusters of 64 KiB has.
const BYTES_MAX: u64 = 512 << 40;

/// What begins a text that is no plain path.
const KEYS: [&str; 4] = ["size=", "path=", "format=", "backing="];

impl FromStr for Wish {
    type Err = WishError;

    /// A path, or words with commas between them, one of them `path=` or `size=`.
    fn from_str(text: &str) -> Result<Wish, WishError> {
        let none = (None, None, false, Vec::new());
        if !KEYS.iter().any(|key| text.starts_with(key)) && !text.starts_with("ro,") {
            let (format, read_only, backing) = (none.1, none.2, none.3);
            return Ok(Wish::There { path: path(text)?, format, read_only, backing });
        }
        let (mut size, mut format, mut read_only, mut backing) = none;
        let mut place = None;
        for word in text.split(',') {
            match word.split_once('=') {
                Some(("size", value)) => size = Some(bytes(value)?),
                Some(("path", value)) => place = Some(path(value)?),
                Some(("format", value)) => format = Some(value.parse()?),
                Some(("backing", value)) => backing.push(path(value)?),
                None if word == "ro" => read_only = true,
                Some(_) | None => return Err(WishError::Word(short(word))),
            }
        }
        match (place, size) {
            (Some(path), None) => Ok(Wish::There { path, format, read_only, backing }),
            (None, Some(_)) if read_only || !backing.is_empty() => Err(WishError::Made),
            (None, Some(bytes)) => Ok(Wish::Made { bytes, format: format.unwrap_or(Format::Raw) }),
            (Some(_), Some(_)) | (None, None) => Err(WishError::Either),
        }
    }
}

impl FromStr for Format {
    type Err = WishError;

    fn from_str(text: &str) -> Result<Format, WishError> {
        match text {
            "raw" => Ok(Format::Raw),
            "qcow2" => Ok(Format::Qcow2),
            _ => Err(WishError::Format(short(text))),
        }
    }
}

fn path(text: &str) -> Result<PathBuf, WishError> {
    if text.is_empty() { Err(WishError::Either) } else { Ok(text.into()) }
}

/// A size that a disk can have.
pub(super) fn bytes(text: &str) -> Result<u64, WishError> {
    let size = text.parse::<ByteSize>().map(ByteSize::bytes);
    let right = |bytes: &u64| (1..=BYTES_MAX).contains(bytes) && bytes.is_multiple_of(512);
    size.ok().filter(right).ok_or_else(|| WishError::Size(short(text)))
}

fn short(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn there(path: &str) -> Wish {
        Wish::There { path: path.into(), format: None, read_only: false, backing: Vec::new() }
    }

    #[test]
    fn a_disk_is_a_path_or_words() {
        let wish = |text: &str| text.parse::<Wish>();
        assert_eq!(wish("a.qcow2"), Ok(there("a.qcow2")));
        assert_eq!(wish("a,b=c"), Ok(there("a,b=c")));
        assert_eq!(wish("path=a"), Ok(there("a")));
        assert_eq!(wish("size=8G"), Ok(Wish::Made { bytes: 8 << 30, format: Format::Raw }));
        let made = Wish::Made { bytes: 1 << 20, format: Format::Qcow2 };
        assert_eq!(wish("format=qcow2,size=1m"), Ok(made));
        let all = Wish::There {
            path: "a".into(),
            format: Some(Format::Qcow2),
            read_only: true,
            backing: vec!["b".into(), "c".into()],
        };
        assert_eq!(wish("path=a,ro,format=qcow2,backing=b,backing=c"), Ok(all));
    }

    #[test]
    fn what_makes_no_disk_is_refused() {
        let wish = |text: &str| text.parse::<Wish>().unwrap_err();
        assert_eq!(wish(""), WishError::Either);
        assert_eq!(wish("path="), WishError::Either);
        assert_eq!(wish("format=raw"), WishError::Either);
        assert_eq!(wish("path=a,size=1G"), WishError::Either);
        assert_eq!(wish("size=1G,ro"), WishError::Made);
        assert_eq!(wish("size=1G,cache=none"), WishError::Word("cache=none".to_owned()));
        assert_eq!(wish("path=a,format=vmdk"), WishError::Format("vmdk".to_owned()));
        for bad in ["0", "1000", "-1", "9999999T", ""] {
            assert_eq!(wish(&format!("size={bad}")), WishError::Size(bad.to_owned()));
        }
    }

    proptest! {
        #[test]
        fn anything_may_be_said(text in "\\PC{0,40}|(size|path|format|backing)=[a-z0-9,=G]{0,20}") {
            let _ = text.parse::<Wish>();
        }
    }
}
