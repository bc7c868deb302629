//! Log records as they cross a socket: `stream u8 (1 output, 2 error) | 3 zero bytes |
//! length u32 | time u64 | bytes`, numbers big endian, time in unix nanoseconds.
//!
//! Docker's multiplexed format with the time of each record, so that one client can print it.

use std::io::{self, Read};

use base::clock::Timestamp;
use engine::{LogEntry, LogSource};

/// Longest record a reader accepts, in bytes.
const RECORD_BYTES_MAX: usize = 16 << 20;

/// Bytes in front of a record's own.
const HEADER_BYTES: usize = 16;

/// Why a stream of records cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LogReadError {
    /// A header that is none.
    #[error("the log stream is damaged: {0}")]
    Damaged(&'static str),
    /// The socket failed.
    #[error("cannot read the log stream")]
    Io(#[from] io::Error),
}

/// Appends a record.
pub(crate) fn encode(entry: &LogEntry, out: &mut Vec<u8>) {
    let stream = match entry.stream {
        LogSource::Stdout => 1,
        LogSource::Stderr => 2,
    };
    // A record comes out of a file whose own lengths are 32 bits wide.
    let bytes = entry.bytes.get(..RECORD_BYTES_MAX).unwrap_or(&entry.bytes);
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend([stream, 0, 0, 0]);
    out.extend(length.to_be_bytes());
    out.extend(entry.at.0.to_be_bytes());
    out.extend(bytes);
}

/// Reads the records that the daemon writes in answer to [`crate::Request::Logs`].
#[derive(Debug)]
pub struct LogReader<R> {
    from: R,
}

impl<R: Read> LogReader<R> {
    /// Reads from this.
    pub fn new(from: R) -> LogReader<R> {
        LogReader { from }
    }

    /// What it reads from, to look at its buffer.
    pub fn get_ref(&self) -> &R {
        &self.from
    }

    /// The next record; `None` at the end of the stream.
    ///
    /// # Errors
    /// [`LogReadError`]; a stream that ends within a record is one.
    pub fn next_record(&mut self) -> Result<Option<LogEntry>, LogReadError> {
        let mut first = [0];
        if read_some(&mut self.from, &mut first)? == 0 {
            return Ok(None);
        }
        let mut rest = [0; HEADER_BYTES - 1];
        self.from.read_exact(&mut rest)?;
        let stream = match first {
            [1] => LogSource::Stdout,
            [2] => LogSource::Stderr,
            _ => return Err(LogReadError::Damaged("a record of no known stream")),
        };
        let [_, _, _, l0, l1, l2, l3, time @ ..] = rest;
        let length = usize::try_from(u32::from_be_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > RECORD_BYTES_MAX {
            return Err(LogReadError::Damaged("a record longer than any the daemon writes"));
        }
        let mut bytes = vec![0; length];
        self.from.read_exact(&mut bytes)?;
        Ok(Some(LogEntry { at: Timestamp(u64::from_be_bytes(time)), stream, bytes }))
    }
}

fn read_some(from: &mut impl Read, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match from.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<LogEntry>> {
        let entry = (any::<u64>(), any::<bool>(), prop::collection::vec(any::<u8>(), 0..200));
        prop::collection::vec(entry, 0..20).prop_map(|entries| {
            let entry = |(at, error, bytes)| LogEntry {
                at: Timestamp(at),
                stream: if error { LogSource::Stderr } else { LogSource::Stdout },
                bytes,
            };
            entries.into_iter().map(entry).collect()
        })
    }

    proptest! {
        #[test]
        fn records_read_as_they_are_written(entries in entries()) {
            let mut bytes = Vec::new();
            entries.iter().for_each(|entry| encode(entry, &mut bytes));
            let mut reader = LogReader::new(bytes.as_slice());
            for entry in entries {
                prop_assert_eq!(reader.next_record().unwrap(), Some(entry));
            }
            prop_assert_eq!(reader.next_record().unwrap(), None);
        }

        #[test]
        fn any_bytes_end_in_records_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut reader = LogReader::new(bytes.as_slice());
            while let Ok(Some(_)) = reader.next_record() {}
        }
    }

    #[test]
    fn a_torn_record_is_an_error_and_not_an_end() {
        let entry =
            LogEntry { at: Timestamp(1), stream: LogSource::Stdout, bytes: b"hello".to_vec() };
        let mut bytes = Vec::new();
        encode(&entry, &mut bytes);
        bytes.pop();
        assert!(LogReader::new(bytes.as_slice()).next_record().is_err());
    }
}
