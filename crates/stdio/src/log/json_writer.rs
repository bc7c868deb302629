//! Writes a `json-file` log, and rotates it.

use std::{fs::File, io, os::unix::fs::FileExt as _, thread};

use base::clock::Timestamp;
use workload::{LogDriver, LogSpec};

use super::{
    Lines, LogError, Stream, files, gzip,
    json::{self, Tail},
};

/// The one writer of a log.
///
/// Tools read the files as they are written, so each entry is a whole line of output: what has no
/// end yet waits in memory, as with Docker. Its calls block as long as the page cache does.
#[derive(Debug)]
pub(crate) struct JsonWriter {
    spec: LogSpec,
    /// The current file; `None` after a rotation that could not make a new one.
    current: Option<Current>,
    lines: Lines,
    tail: Tail,
    /// Entries not written yet.
    buffer: Vec<u8>,
    /// Bytes of output in `buffer`.
    buffered: u64,
    line: Vec<u8>,
    /// Bytes of output that could not be written and are not yet told in the log.
    lost: u64,
    /// Compresses what was rotated.
    compressing: Option<thread::JoinHandle<()>>,
}

#[derive(Debug)]
struct Current {
    file: File,
    end: u64,
}

impl JsonWriter {
    /// Opens a log to append to, or begins one. Its directory must exist.
    pub(crate) fn open(
        spec: &LogSpec,
        attributes: &[(String, String)],
    ) -> Result<JsonWriter, LogError> {
        let file = files::open_plain(&spec.path)?;
        let current = Current::resume(file).map_err(|e| LogError::io("resume", &spec.path, e))?;
        Ok(JsonWriter {
            spec: spec.clone(),
            current: Some(current),
            lines: Lines::default(),
            tail: Tail::new(attributes),
            buffer: Vec::new(),
            buffered: 0,
            line: Vec::new(),
            lost: 0,
            compressing: None,
        })
    }

    /// Records a piece of output. It cannot fail: what cannot be written is counted, and told in
    /// the log as soon as that works.
    pub(crate) fn append(&mut self, at: Timestamp, stream: Stream, output: &[u8]) {
        self.tell_loss(at);
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(stream, output, |line| self.entry(at, stream, line));
        self.lines = lines;
        self.flush();
    }

    /// Writes what there is of lines without an end; the rest of them is an entry of its own.
    pub(crate) fn write_partial(&mut self, at: Timestamp) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.finish(|stream, line| self.entry(at, stream, line));
        self.lines = lines;
        self.flush();
    }

    /// Writes what is left: lines that will have no end, and how much has been lost.
    pub(crate) fn finish(&mut self, at: Timestamp) {
        self.write_partial(at);
        self.tell_loss(at);
        // As with Docker: this process may end with the container.
        self.await_compression();
    }

    fn await_compression(&mut self) {
        // It cannot panic, and what it could not do stays as it was.
        let _ = self.compressing.take().map(thread::JoinHandle::join);
    }

    fn tell_loss(&mut self, at: Timestamp) {
        if self.lost == 0 {
            return;
        }
        let lost = std::mem::take(&mut self.lost);
        let text = format!("[{lost} bytes of output could not be recorded]\n");
        self.entry(at, Stream::Error, text.as_bytes());
        self.buffered = 0;
        if !self.flush() {
            self.lost = lost;
        }
    }

    fn entry(&mut self, at: Timestamp, stream: Stream, text: &[u8]) {
        let mut line = std::mem::take(&mut self.line);
        line.clear();
        json::encode(&mut line, &mut self.tail, at, stream, text);
        if self.room(line.len()) {
            self.buffer.extend_from_slice(&line);
            self.buffered += text.len() as u64;
        } else {
            self.lost += text.len() as u64;
        }
        self.line = line;
    }

    /// Sees to it that an entry of this length may be appended, rotating if it must be.
    fn room(&mut self, length: usize) -> bool {
        if let Some(current) = &self.current {
            let used = current.end + self.buffer.len() as u64;
            if used == 0 || used.saturating_add(length as u64) <= self.spec.bytes_max {
                return true;
            }
        }
        self.flush();
        if self.current.is_some() {
            if self.rotate().is_err() {
                return false;
            }
            self.current = None;
        }
        let Ok(file) = files::open_plain(&self.spec.path) else { return false };
        self.current = Current::resume(file).ok();
        self.current.is_some()
    }

    /// Makes room for a new file. What was the current one is compressed beside us, if at all, and
    /// the next rotation waits for that.
    fn rotate(&mut self) -> Result<(), LogError> {
        self.await_compression();
        let compress = matches!(self.spec.driver, LogDriver::Json { compress: true, .. });
        let locked = compress.then(|| gzip::lock(&self.spec.path)).transpose();
        let lock = locked.map_err(|error| LogError::io("lock", &self.spec.path, error))?;
        files::rotate(&self.spec.path, self.spec.files_max)?;
        drop(lock);
        if compress {
            let path = self.spec.path.clone();
            let work = move || {
                // What cannot be compressed stays as it is, and is tried again with the next.
                let _ = gzip::compress_older(&path);
            };
            // As does what no thread is there for.
            self.compressing = thread::Builder::new().name("log-gzip".to_owned()).spawn(work).ok();
        }
        Ok(())
    }

    fn flush(&mut self) -> bool {
        if self.buffer.is_empty() {
            return true;
        }
        let written = self.current.as_mut().is_some_and(|current| current.write(&self.buffer));
        if !written {
            self.lost += self.buffered;
        }
        self.buffer.clear();
        self.buffered = 0;
        written
    }
}

impl Current {
    /// Goes on behind the last whole line; what a killed writer left behind it is cut off.
    fn resume(file: File) -> io::Result<Current> {
        /// Bytes looked through at once.
        const STEP: usize = 4096;
        let mut end = file.metadata()?.len();
        let mut bytes = [0; STEP];
        while end > 0 {
            let from = end.saturating_sub(STEP as u64);
            let length = usize::try_from(end - from).unwrap_or(STEP);
            let chunk = bytes.get_mut(..length).unwrap_or_default();
            file.read_exact_at(chunk, from)?;
            if let Some(at) = memchr::memrchr(b'\n', chunk) {
                end = from + at as u64 + 1;
                break;
            }
            end = from;
        }
        file.set_len(end)?;
        Ok(Current { file, end })
    }

    /// Writes whole lines or nothing: what was written of a part is cut off again.
    fn write(&mut self, lines: &[u8]) -> bool {
        match self.file.write_all_at(lines, self.end) {
            Ok(()) => {
                self.end += lines.len() as u64;
                true
            }
            Err(_) => {
                // Should even this fail, the next lines overwrite the torn one.
                let _ = self.file.set_len(self.end);
                false
            }
        }
    }
}
