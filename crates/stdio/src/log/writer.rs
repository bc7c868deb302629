//! Writes a log, and rotates it.

use std::{fs::File, os::unix::fs::FileExt as _};

use base::clock::Timestamp;
use workload::LogSpec;

use super::{
    LogError, Stream,
    files::{self, Opened},
    reader::end_of_records,
    record::{self, FRAME_BYTES, HEADER_BYTES},
};

/// The one writer of a log.
///
/// Its calls block as long as the page cache does.
#[derive(Debug)]
pub struct Writer {
    spec: LogSpec,
    /// The current file; `None` after a rotation that could not make a new one.
    current: Option<Current>,
    /// Sequence of the youngest file there is or was.
    sequence: u64,
    /// Records not written yet, all of them output of one piece.
    buffer: Vec<u8>,
    /// Bytes of output in `buffer`.
    buffered: u64,
    /// Bytes of output that could not be written and are not yet told in the log.
    lost: u64,
}

#[derive(Debug)]
struct Current {
    file: File,
    salt: u32,
    /// Where the next record goes. What is in the file beyond it is not ours.
    end: u64,
}

impl Writer {
    /// Opens a log to append to, or begins one. Its directory must exist.
    ///
    /// # Errors
    /// [`LogError`] if the current file cannot be written or is not a log.
    pub fn open(spec: &LogSpec) -> Result<Writer, LogError> {
        let youngest = files::list(&spec.path)?.last().map_or(0, |(_, header)| header.sequence);
        let (current, sequence) = match files::open(&spec.path, true)? {
            Some(opened) => {
                let sequence = opened.header.sequence;
                (Current::resume(opened, spec)?, sequence)
            }
            None => (Current::begin(files::create(&spec.path, youngest + 1)?), youngest + 1),
        };
        Ok(Writer {
            spec: spec.clone(),
            current: Some(current),
            sequence,
            buffer: Vec::new(),
            buffered: 0,
            lost: 0,
        })
    }

    /// Records a piece of output, with one write(2) unless the log is rotated in its midst.
    ///
    /// It cannot fail: what cannot be written is counted, see [`Writer::lost`].
    pub fn append(&mut self, at: Timestamp, stream: Stream, output: &[u8]) {
        self.tell_loss(at);
        for payload in record::payloads(output) {
            match self.room(payload.len() + FRAME_BYTES) {
                Some(salt) => {
                    record::encode(&mut self.buffer, salt, at, stream, payload);
                    self.buffered += payload.len() as u64;
                }
                None => self.lost += payload.len() as u64,
            }
        }
        self.flush();
    }

    /// Writes down what has been lost, if anything and if that works by now.
    pub fn tell_loss(&mut self, at: Timestamp) {
        if self.lost == 0 {
            return;
        }
        let Some(salt) = self.room(size_of::<u64>() + FRAME_BYTES) else { return };
        record::encode_lost(&mut self.buffer, salt, at, self.lost);
        if self.current.as_mut().is_some_and(|current| current.write(&self.buffer)) {
            self.lost = 0;
        }
        self.buffer.clear();
    }

    /// Bytes of output that could not be recorded and of which the log does not tell yet.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Sees to it that a record of this length may be appended, rotating if it must be; the salt
    /// of the file it goes to, or `None` if there is no place for it.
    ///
    /// Rotation is tried again with each record, so that a log stays within its bounds.
    fn room(&mut self, record_bytes: usize) -> Option<u32> {
        if let Some(current) = &self.current {
            let used = current.end + self.buffer.len() as u64;
            let empty = used == HEADER_BYTES as u64;
            if empty || used.saturating_add(record_bytes as u64) <= self.spec.bytes_max {
                return Some(current.salt);
            }
        }
        self.flush();
        if self.current.is_some() {
            files::rotate(&self.spec.path, self.spec.files_max).ok()?;
            self.current = None;
        }
        let opened = files::create(&self.spec.path, self.sequence + 1).ok()?;
        self.sequence += 1;
        Some(self.current.insert(Current::begin(opened)).salt)
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let written = self.current.as_mut().is_some_and(|current| current.write(&self.buffer));
        if !written {
            self.lost += self.buffered;
        }
        self.buffer.clear();
        self.buffered = 0;
    }
}

impl Current {
    fn begin(opened: Opened) -> Current {
        Current { file: opened.file, salt: opened.header.salt, end: HEADER_BYTES as u64 }
    }

    /// Goes on behind the last whole record; what a killed writer left behind it is cut off.
    fn resume(opened: Opened, spec: &LogSpec) -> Result<Current, LogError> {
        let salt = opened.header.salt;
        let end = end_of_records(&opened.file, salt)
            .and_then(|end| opened.file.set_len(end).map(|()| end))
            .map_err(|error| LogError::io("resume", &spec.path, error))?;
        Ok(Current { file: opened.file, salt, end })
    }

    /// Writes whole records or nothing: what was written of a part is cut off again.
    fn write(&mut self, records: &[u8]) -> bool {
        match self.file.write_all_at(records, self.end) {
            Ok(()) => {
                self.end += records.len() as u64;
                true
            }
            Err(_) => {
                // Should even this fail, the next records overwrite the torn one.
                let _ = self.file.set_len(self.end);
                false
            }
        }
    }
}
