//! The bytes of a log file. Pure.
//!
//! ```text
//! header   8 "wythelog" │ 4 version │ 4 salt │ 8 sequence
//! record   4 length │ 8 unix nanoseconds │ 1 kind │ 1 flags │ payload │ 4 length ^ salt
//! ```
//!
//! All numbers are little endian. The second length lets a reader walk backwards; the salt is
//! random for each file, so that no process can write output that, cut short at the right place,
//! reads as the end of a record. The sequence grows by one from file to file.

use base::clock::Timestamp;

use super::{Content, Record, Stream};

/// Version of the layout above.
pub(crate) const VERSION: u32 = 1;

/// Bytes of a file's header.
pub(crate) const HEADER_BYTES: usize = 24;

/// Longest payload of a record, in bytes. Source: Docker's log copier cuts lines here too.
pub const LINE_BYTES_MAX: usize = 16 << 10;

/// Bytes of a record before its payload.
const FRONT_BYTES: usize = 14;

/// Bytes of a record after its payload.
const BACK_BYTES: usize = 4;

/// Bytes that a record has beside its payload.
pub(crate) const FRAME_BYTES: usize = FRONT_BYTES + BACK_BYTES;

const MAGIC: &[u8; 8] = b"wythelog";

/// Record kind beside the numbers of [`Stream`].
const KIND_LOST: u8 = 3;

/// Flag of a record whose line goes on. It says nothing that the payload does not, but to a
/// reader that looks at frames alone.
const FLAG_PARTIAL: u8 = 1;

/// A file's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) salt: u32,
    pub(crate) sequence: u64,
}

/// Why a header is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    /// Its writer was killed first: there is nothing in the file.
    Short,
    /// The file is something else.
    Foreign,
    /// A later version wrote it.
    Version(u32),
}

impl Header {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(self.salt.to_le_bytes());
        bytes.extend(self.sequence.to_le_bytes());
        bytes
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Header, HeaderError> {
        if !MAGIC.starts_with(bytes.get(..8).unwrap_or(bytes)) {
            return Err(HeaderError::Foreign);
        }
        let version = number(bytes, 8).ok_or(HeaderError::Short)?;
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        let salt = number(bytes, 12).ok_or(HeaderError::Short)?;
        let sequence = long_number(bytes, 16).ok_or(HeaderError::Short)?;
        Ok(Header { salt, sequence })
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed<'a> {
    /// A record.
    Whole(Frame<'a>),
    /// The beginning of a record.
    Short,
    /// Nothing that this program wrote.
    Corrupt,
}

/// A record, still as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    at: Timestamp,
    kind: u8,
    flags: u8,
    payload: &'a [u8],
}

impl Frame<'_> {
    /// Its length in the file.
    pub(crate) fn bytes(&self) -> usize {
        FRAME_BYTES + self.payload.len()
    }

    /// The stream whose line it ends or continues; `None` if it is not output.
    pub(crate) fn stream(&self) -> Option<Stream> {
        [Stream::Output, Stream::Error].into_iter().find(|stream| stream.number() == self.kind)
    }

    pub(crate) fn partial(&self) -> bool {
        self.flags & FLAG_PARTIAL != 0
    }

    pub(crate) fn record(&self) -> Record {
        let content = match self.stream() {
            Some(stream) => Content::Bytes { stream, bytes: self.payload.to_vec() },
            None => Content::Lost { bytes: long_number(self.payload, 0).unwrap_or(0) },
        };
        Record { at: self.at, content }
    }
}

/// Appends a record of output; `payload` is at most [`LINE_BYTES_MAX`] long.
pub(crate) fn encode(out: &mut Vec<u8>, salt: u32, at: Timestamp, stream: Stream, payload: &[u8]) {
    let flags = if payload.ends_with(b"\n") { 0 } else { FLAG_PARTIAL };
    encode_frame(out, salt, &Frame { at, kind: stream.number(), flags, payload });
}

/// Appends a record of a loss.
pub(crate) fn encode_lost(out: &mut Vec<u8>, salt: u32, at: Timestamp, bytes: u64) {
    let payload = &bytes.to_le_bytes();
    encode_frame(out, salt, &Frame { at, kind: KIND_LOST, flags: 0, payload });
}

fn encode_frame(out: &mut Vec<u8>, salt: u32, frame: &Frame<'_>) {
    let length = u32::try_from(frame.payload.len()).expect("a payload is at most 16 KiB long");
    out.reserve(frame.bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&frame.at.0.to_le_bytes());
    out.extend_from_slice(&[frame.kind, frame.flags]);
    out.extend_from_slice(frame.payload);
    out.extend_from_slice(&(length ^ salt).to_le_bytes());
}

/// The record at the beginning of `bytes`.
pub(crate) fn parse(bytes: &[u8], salt: u32) -> Parsed<'_> {
    let Some(length) = number(bytes, 0) else { return Parsed::Short };
    let payload_bytes = match usize::try_from(length) {
        Ok(payload_bytes) if payload_bytes <= LINE_BYTES_MAX => payload_bytes,
        Ok(_) | Err(_) => return Parsed::Corrupt,
    };
    let (Some(at), Some([kind, flags])) = (long_number(bytes, 4), array(bytes, 12)) else {
        return Parsed::Short;
    };
    let back = FRONT_BYTES + payload_bytes;
    if !(1..=KIND_LOST).contains(&kind) {
        return Parsed::Corrupt;
    }
    let (Some(payload), Some(again)) = (bytes.get(FRONT_BYTES..back), number(bytes, back)) else {
        return Parsed::Short;
    };
    if again ^ salt != length {
        return Parsed::Corrupt;
    }
    Parsed::Whole(Frame { at: Timestamp(at), kind, flags, payload })
}

/// The length in the file of the record that ends where `bytes` end, if one seems to.
pub(crate) fn bytes_before(bytes: &[u8], salt: u32) -> Option<usize> {
    let last = number(bytes, bytes.len().checked_sub(BACK_BYTES)?)?;
    let payload_bytes = usize::try_from(last ^ salt).ok()?;
    (payload_bytes <= LINE_BYTES_MAX).then_some(payload_bytes + FRAME_BYTES)
}

/// The payloads that a piece of output is recorded in: lines, and parts of lines.
pub(crate) fn payloads(output: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = output;
    std::iter::from_fn(move || {
        let window = rest.get(..LINE_BYTES_MAX).unwrap_or(rest);
        let end = memchr::memchr(b'\n', window).map_or(window.len(), |newline| newline + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        (!line.is_empty()).then_some(line)
    })
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn long_number(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SALT: u32 = 0x5a17_5a17;

    proptest! {
        #[test]
        fn payloads_put_together_are_the_output(
            lines in prop::collection::vec(0usize..40_000, 0..6), last in 0usize..40_000,
        ) {
            let mut output = Vec::new();
            for length in lines {
                output.extend(std::iter::repeat_n(b'x', length));
                output.push(b'\n');
            }
            output.extend(std::iter::repeat_n(b'y', last));
            let all: Vec<&[u8]> = payloads(&output).collect();
            prop_assert_eq!(&all.concat(), &output);
            prop_assert!(all.iter().all(|p| (1..=LINE_BYTES_MAX).contains(&p.len())));
            prop_assert!(all.iter().all(|p| !p[..p.len() - 1].contains(&b'\n')));
        }

        #[test]
        fn records_read_as_they_are_written_forwards_and_backwards(
            payload in prop::collection::vec(any::<u8>(), 0..100), at: u64, junk: Vec<u8>,
        ) {
            let mut bytes = Vec::new();
            encode(&mut bytes, SALT, Timestamp(at), Stream::Error, &payload);
            let length = bytes.len();
            prop_assert_eq!(bytes_before(&bytes, SALT), Some(length));
            bytes.extend(junk);
            let Parsed::Whole(frame) = parse(&bytes, SALT) else { panic!("not whole") };
            prop_assert_eq!(frame.bytes(), length);
            prop_assert_eq!(frame.partial(), frame.record().partial());
            let content = Content::Bytes { stream: Stream::Error, bytes: payload };
            prop_assert_eq!(frame.record(), Record { at: Timestamp(at), content });
        }

        #[test]
        fn every_beginning_of_a_record_is_short(payload in "[a-z]{0,30}", cut: usize) {
            let mut bytes = Vec::new();
            encode(&mut bytes, SALT, Timestamp(7), Stream::Output, payload.as_bytes());
            prop_assert_eq!(parse(&bytes[..cut % bytes.len()], SALT), Parsed::Short);
        }

        #[test]
        fn any_bytes_parse_to_something(bytes: Vec<u8>) {
            let _ = parse(&bytes, SALT);
            let _ = bytes_before(&bytes, SALT);
            let _ = Header::parse(&bytes);
        }
    }

    /// Logs written by an earlier build must be read by every later one.
    #[test]
    fn the_layout_stays_as_it_is() {
        let mut bytes = Header { salt: 0x0102_0304, sequence: 5 }.encode();
        encode(&mut bytes, 0x0102_0304, Timestamp(6), Stream::Output, b"a\n");
        encode(&mut bytes, 0x0102_0304, Timestamp(7), Stream::Error, b"b");
        encode_lost(&mut bytes, 0x0102_0304, Timestamp(8), 9);
        let golden: &[u8] = b"wythelog\x01\0\0\0\x04\x03\x02\x01\x05\0\0\0\0\0\0\0\
            \x02\0\0\0\x06\0\0\0\0\0\0\0\x01\0a\n\x06\x03\x02\x01\
            \x01\0\0\0\x07\0\0\0\0\0\0\0\x02\x01b\x05\x03\x02\x01\
            \x08\0\0\0\x08\0\0\0\0\0\0\0\x03\0\x09\0\0\0\0\0\0\0\x0c\x03\x02\x01";
        assert_eq!(bytes, golden);
    }

    #[test]
    fn a_header_reads_as_it_is_written_and_others_are_refused() {
        let header = Header { salt: SALT, sequence: 9 };
        let bytes = header.encode();
        assert_eq!((bytes.len(), Header::parse(&bytes)), (HEADER_BYTES, Ok(header)));
        for cut in 0..HEADER_BYTES {
            assert_eq!(Header::parse(&bytes[..cut]), Err(HeaderError::Short), "{cut}");
        }
        assert_eq!(Header::parse(b"something else"), Err(HeaderError::Foreign));
        let later = [&bytes[..8], &[2, 0, 0, 0], &bytes[12..]].concat();
        assert_eq!(Header::parse(&later), Err(HeaderError::Version(2)));
    }
}
