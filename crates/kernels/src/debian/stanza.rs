//! Fields and their values, in paragraphs: the form of every index of Debian's.
//!
//! Source: Debian Policy 4.7, section 5.1.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Read as _},
};

/// Longest line. Debian's longest are dependencies of some 20 KB.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Longest paragraph.
const STANZA_BYTES_MAX: usize = 8 << 20;

/// Why an index is none.
#[derive(Debug, thiserror::Error)]
pub enum StanzaError {
    /// It cannot be unpacked.
    #[error("it cannot be unpacked")]
    Read(#[source] io::Error),
    /// A line is neither a field nor the continuation of one.
    #[error("line {line} is no field")]
    Line {
        /// Which.
        line: usize,
    },
    /// A field that stands twice could mean either.
    #[error("line {line} has a field for the second time")]
    Twice {
        /// Which.
        line: usize,
    },
    /// Longer than anything real.
    #[error("line {line} or its paragraph is too long")]
    Long {
        /// Which.
        line: usize,
    },
}

/// One paragraph: its fields, by names in lower case. Lines of one value are apart by `\n`.
pub(crate) type Stanza = BTreeMap<String, String>;

/// Reads paragraphs one after the other, so that an index need not be held in memory.
#[derive(Debug)]
pub(crate) struct Stanzas<R> {
    source: R,
    line: usize,
}

impl<R: BufRead> Stanzas<R> {
    pub(crate) fn new(source: R) -> Stanzas<R> {
        Stanzas { source, line: 0 }
    }

    /// The next paragraph, or nothing at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Stanza>, StanzaError> {
        let mut stanza = Stanza::new();
        let mut field = String::new();
        let mut bytes = 0;
        while let Some(text) = self.line()? {
            let line = self.line;
            if text.trim().is_empty() {
                if stanza.is_empty() {
                    continue;
                }
                break;
            }
            bytes += text.len();
            if bytes > STANZA_BYTES_MAX {
                return Err(StanzaError::Long { line });
            }
            if text.starts_with([' ', '\t']) {
                let value = stanza.get_mut(&field).ok_or(StanzaError::Line { line })?;
                value.push('\n');
                value.push_str(text.trim());
                continue;
            }
            let (name, value) = text.split_once(':').ok_or(StanzaError::Line { line })?;
            if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(StanzaError::Line { line });
            }
            field = name.to_ascii_lowercase();
            if stanza.insert(field.clone(), value.trim().to_owned()).is_some() {
                return Err(StanzaError::Twice { line });
            }
        }
        Ok((!stanza.is_empty()).then_some(stanza))
    }

    fn line(&mut self) -> Result<Option<String>, StanzaError> {
        let mut text = Vec::new();
        let most = LINE_BYTES_MAX as u64 + 1;
        let read = (&mut self.source).take(most).read_until(b'\n', &mut text);
        if read.map_err(StanzaError::Read)? == 0 {
            return Ok(None);
        }
        self.line += 1;
        let line = self.line;
        if text.len() > LINE_BYTES_MAX {
            return Err(StanzaError::Long { line });
        }
        let text = String::from_utf8(text).map_err(|_| StanzaError::Line { line })?;
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> Result<Vec<Stanza>, StanzaError> {
        let mut stanzas = Stanzas::new(text.as_bytes());
        let mut all = Vec::new();
        while let Some(stanza) = stanzas.next()? {
            all.push(stanza);
        }
        Ok(all)
    }

    #[test]
    fn fields_go_on_in_lines_that_are_indented() {
        let text = "\nPackage: a\nDescription: one\n two\n .\n\tthree\n\n\nPackage: b\n";
        let all = all(text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0]["description"], "one\ntwo\n.\nthree");
        assert_eq!(all[1]["package"], "b");
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for bad in ["Package\n", " a\n", "Package: a\npackage: b\n", ": a\n", "Pa ck: a\n"] {
            assert!(all(bad).is_err(), "{bad:?}");
        }
        assert!(all(&"a".repeat(LINE_BYTES_MAX + 1)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "([A-Za-z: \t\n]|\\PC){0,200}") {
            let _ = all(&text);
        }
    }
}
