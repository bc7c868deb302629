//! The keys that leave a session and let the container run on.

use std::{fmt, str::FromStr};

/// A sequence of keys, as the bytes a terminal in raw mode sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

/// A text that names no keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeysError(String);

impl fmt::Display for DetachKeysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" is not a key: write letters, or ctrl- and one of a-z@[\\]^_", self.0)
    }
}

impl std::error::Error for DetachKeysError {}

impl Default for DetachKeys {
    /// `ctrl-p,ctrl-q`.
    fn default() -> DetachKeys {
        DetachKeys(vec![16, 17])
    }
}

impl FromStr for DetachKeys {
    type Err = DetachKeysError;

    /// Reads keys between commas: a single character, or `ctrl-` and one. The empty text is no
    /// sequence at all.
    ///
    /// Source: moby/term, `ToBytes`.
    fn from_str(text: &str) -> Result<DetachKeys, DetachKeysError> {
        let key = |name: &str| {
            let bad = || DetachKeysError(name.to_owned());
            match (name.as_bytes(), name.strip_prefix("ctrl-").map(str::as_bytes)) {
                ([byte], _) => Ok(*byte),
                (_, Some([byte @ b'a'..=b'z'])) => Ok(byte - b'a' + 1),
                (_, Some([b'@'])) => Ok(0),
                (_, Some([byte @ b'['..=b'_'])) => Ok(byte - b'[' + 27),
                _ => Err(bad()),
            }
        };
        if text.is_empty() {
            return Ok(DetachKeys(Vec::new()));
        }
        text.split(',').map(key).collect::<Result<_, _>>().map(DetachKeys)
    }
}

/// Looks for the sequence in what is typed, and keeps back what may be its beginning.
#[derive(Debug)]
pub(crate) struct Watch {
    keys: Vec<u8>,
    matched: usize,
}

impl Watch {
    pub(crate) fn new(keys: DetachKeys) -> Watch {
        Watch { keys: keys.0, matched: 0 }
    }

    /// What of the typed bytes is to be passed on now, and whether the sequence is complete.
    pub(crate) fn pass(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(typed.len());
        for byte in typed {
            if self.keys.get(self.matched) == Some(byte) {
                self.matched += 1;
                if self.matched == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            // What was kept back was no beginning after all; this byte may be one.
            out.extend(self.keys.iter().take(self.matched));
            self.matched = 0;
            if self.keys.first() == Some(byte) && self.keys.len() > 1 {
                self.matched = 1;
            } else {
                out.push(*byte);
            }
        }
        (out, false)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_named_as_docker_names_them() {
        assert_eq!("ctrl-p,ctrl-q".parse(), Ok(DetachKeys::default()));
        assert_eq!("a,ctrl-@,ctrl-[,ctrl-_".parse(), Ok(DetachKeys(vec![b'a', 0, 27, 31])));
        for bad in ["ctrl-", "ctrl-P", "ab", "a,,b", "shift-a"] {
            assert!(bad.parse::<DetachKeys>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_nothing_else_is_lost() {
        let mut watch = Watch::new(DetachKeys::default());
        assert_eq!(watch.pass(b"ls\x10"), (b"ls".to_vec(), false));
        assert_eq!(watch.pass(b"x\x10\x10"), (b"\x10x\x10".to_vec(), false));
        assert_eq!(watch.pass(b"\x11rest"), (Vec::new(), true));
    }

    proptest! {
        #[test]
        fn bytes_without_the_sequence_pass_unchanged(
            reads in prop::collection::vec(prop::collection::vec(prop::sample::select(vec![1_u8, 16, 65]), 0..8), 0..8)
        ) {
            let mut watch = Watch::new(DetachKeys::default());
            let mut out = Vec::new();
            for read in &reads {
                let (passed, found) = watch.pass(read);
                prop_assert!(!found);
                out.extend(passed);
            }
            out.extend([16].iter().take(watch.matched));
            prop_assert_eq!(out, reads.concat());
        }
    }
}
