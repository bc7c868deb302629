//! A line of a `json-file` log, as Docker's driver of that name writes it. Pure.
//!
//! `{"log":"text\\n","stream":"stdout","attrs":{"tag":"web"},"time":"2026-01-02T03:04:05.000000006Z"}`
//!
//! Source: Docker's documentation, "JSON File logging driver"; moby, `jsonlog`. Bytes that are no
//! UTF-8 become U+FFFD, as there.

use std::{borrow::Cow, io::Write as _};

use base::clock::Timestamp;
use serde::Deserialize;

use super::{Content, Record, Stream, civil};

/// The part of all lines of one moment and stream that stands behind the text.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    attributes: Vec<u8>,
    bytes: Vec<u8>,
    of: Option<(Timestamp, Stream)>,
}

impl Tail {
    /// With these attributes in every line.
    pub(crate) fn new(attributes: &[(String, String)]) -> Tail {
        let mut text = Vec::new();
        if !attributes.is_empty() {
            text.extend_from_slice(b"\"attrs\":{");
            for (index, (name, value)) in attributes.iter().enumerate() {
                if index > 0 {
                    text.push(b',');
                }
                quote(&mut text, name.as_bytes());
                text.push(b':');
                quote(&mut text, value.as_bytes());
            }
            text.extend_from_slice(b"},");
        }
        Tail { attributes: text, ..Tail::default() }
    }

    fn bytes(&mut self, at: Timestamp, stream: Stream) -> &[u8] {
        if self.of != Some((at, stream)) {
            self.of = Some((at, stream));
            self.bytes.clear();
            let name: &[u8] = match stream {
                Stream::Output => b",\"stream\":\"stdout\",",
                Stream::Error => b",\"stream\":\"stderr\",",
            };
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(&self.attributes);
            // Writing to a vector cannot fail.
            let _ = writeln!(self.bytes, "\"time\":\"{}\"}}", civil::rfc3339(at));
        }
        &self.bytes
    }
}

/// Appends a line.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    tail: &mut Tail,
    at: Timestamp,
    stream: Stream,
    text: &[u8],
) {
    out.extend_from_slice(b"{\"log\":");
    quote(out, text);
    out.extend_from_slice(tail.bytes(at, stream));
}

/// Appends text as a JSON string.
fn quote(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for chunk in text.utf8_chunks() {
        escape(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
    out.push(b'"');
}

fn escape(out: &mut Vec<u8>, mut text: &[u8]) {
    let special = |byte: &u8| *byte < b' ' || *byte == b'"' || *byte == b'\\';
    while let Some(at) = text.iter().position(special) {
        let (plain, rest) = text.split_at(at);
        out.extend_from_slice(plain);
        let Some((byte, rest)) = rest.split_first() else { return };
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            byte => {
                // Writing to a vector cannot fail.
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
        text = rest;
    }
    out.extend_from_slice(text);
}

/// A line as it is read, `jsonlog.JSONLog` of moby.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(default, borrow)]
    log: Cow<'a, str>,
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// The record that a line, without its newline, stands for.
pub(crate) fn parse(line: &[u8]) -> Option<Record> {
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    let at = civil::parse(&line.time)?;
    let stream = if line.stream == "stderr" { Stream::Error } else { Stream::Output };
    let bytes = line.log.into_owned().into_bytes();
    Some(Record { at, content: Content::Bytes { stream, bytes } })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(attributes: &[(String, String)], at: u64, stream: Stream, text: &[u8]) -> String {
        let mut out = Vec::new();
        encode(&mut out, &mut Tail::new(attributes), Timestamp(at), stream, text);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_have_dockers_shape() {
        assert_eq!(
            line(&[], 1_500_000_000, Stream::Output, b"say \"hi\"\t\x01\n"),
            "{\"log\":\"say \\\"hi\\\"\\t\\u0001\\n\",\"stream\":\"stdout\",\
             \"time\":\"1970-01-01T00:00:01.500000000Z\"}\n"
        );
        let attributes = [("tag".to_owned(), "we\"b".to_owned())];
        let text = line(&attributes, 0, Stream::Error, b"a\xffb");
        assert!(text.contains("\"log\":\"a\u{fffd}b\",\"stream\":\"stderr\",\"attrs\":{\"tag\":\"we\\\"b\"},\"time\":"), "{text}");
    }

    proptest! {
        #[test]
        fn lines_read_as_they_are_written(text in any::<String>(), at in 0u64..1 << 62) {
            let written = line(&[], at, Stream::Error, text.as_bytes());
            prop_assert_eq!(written.matches('\n').count(), 1);
            let content = Content::Bytes { stream: Stream::Error, bytes: text.into_bytes() };
            let read = parse(written.trim_end_matches('\n').as_bytes());
            prop_assert_eq!(read, Some(Record { at: Timestamp(at), content }));
        }

        #[test]
        fn any_bytes_are_a_record_or_none(bytes: Vec<u8>) {
            let _ = parse(&bytes);
        }
    }
}
