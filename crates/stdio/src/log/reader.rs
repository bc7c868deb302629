//! Reads a log: from its beginning or its last lines, to where it ends at the moment.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use base::clock::Timestamp;

use super::{
    Form, LogError, Record, Stream,
    files::{self, Opened},
    json_reader::JsonReader,
    record::{self, HEADER_BYTES, Header, Parsed},
};

/// Bytes read at once.
const WINDOW_BYTES: usize = 64 << 10;

/// Which records are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only the last so many lines; `None` for all. Where lines of both streams lie in each
    /// other's midst, the first one may lack its beginning.
    pub tail: Option<u64>,
    /// Nothing before this time.
    pub since: Option<Timestamp>,
    /// Nothing after this time.
    pub until: Option<Timestamp>,
}

/// Reads records one after the other, across all files of the log.
///
/// Rotations under way are followed; what is removed before it is read is skipped.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    query: Query,
    files: Files,
    /// Whether a record after [`Query::until`] has been seen.
    ended: bool,
}

/// Files of one form or the other.
#[derive(Debug)]
enum Files {
    Local(LocalFiles),
    Json(JsonReader),
}

/// Files of our own form.
#[derive(Debug)]
struct LocalFiles {
    path: PathBuf,
    current: Option<Place>,
}

/// A place in one file.
#[derive(Debug)]
struct Place {
    name: PathBuf,
    file: File,
    header: Header,
    /// Where the next record begins.
    offset: u64,
    /// What was read from there on.
    window: Vec<u8>,
    /// How much of the window lies before `offset`.
    passed: usize,
    damaged: bool,
}

impl Reader {
    /// Opens a log. One that has no file yet is empty; its directory must exist.
    ///
    /// # Errors
    /// [`LogError`] if a file cannot be read or is not a log.
    pub fn open(path: &Path, query: Query) -> Result<Reader, LogError> {
        Reader::open_as(path, Form::Local, query)
    }

    /// Opens a log of this form.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_as(path: &Path, form: Form, query: Query) -> Result<Reader, LogError> {
        let files = match form {
            Form::Json => Files::Json(JsonReader::open(path, query.tail)?),
            Form::Local => {
                let current = match query.tail {
                    Some(lines) => tail(path, lines)?,
                    None => files::open_after(path, None)?.map(Place::begin),
                };
                Files::Local(LocalFiles { path: path.to_owned(), current })
            }
        };
        Ok(Reader { path: path.to_owned(), query, files, ended: false })
    }

    /// The next record, or `None` at the end of what is there; more may have come when it is
    /// called again.
    ///
    /// # Errors
    /// [`LogError::Corrupt`] once for each damaged file; the call after it goes on in the next
    /// file. [`LogError::Io`] if a file cannot be read.
    #[expect(clippy::should_implement_trait, reason = "`None` is not for good, and it can fail")]
    pub fn next(&mut self) -> Result<Option<Record>, LogError> {
        while !self.ended {
            let next = match &mut self.files {
                Files::Local(files) => files.next()?,
                Files::Json(files) => files.next()?,
            };
            let Some(record) = next else { return Ok(None) };
            if self.query.until.is_some_and(|until| record.at > until) {
                self.ended = true;
            } else if self.query.since.is_none_or(|since| record.at >= since) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Whether nothing more can come: a record after [`Query::until`] has been seen.
    pub fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The file being read, and a number that is another for another file.
    pub(crate) fn current(&self) -> Option<(&File, u64)> {
        match &self.files {
            Files::Local(files) => {
                files.current.as_ref().map(|place| (&place.file, place.header.sequence))
            }
            Files::Json(files) => files.current(),
        }
    }
}

impl LocalFiles {
    fn next(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if let Some(place) = &mut self.current {
                if let Some(record) = place.next()? {
                    return Ok(Some(record));
                }
                if place.is_youngest(&self.path) {
                    return Ok(None);
                }
            }
            let sequence = self.current.as_ref().map(|place| place.header.sequence);
            let Some(next) = files::open_after(&self.path, sequence)? else { return Ok(None) };
            // The writer may have added to the old file before it began the new one.
            if let Some(record) = self.current.as_mut().map_or(Ok(None), Place::next)? {
                return Ok(Some(record));
            }
            self.current = Some(Place::begin(next));
        }
    }
}

impl Place {
    fn begin((name, opened): (PathBuf, Opened)) -> Place {
        Place::at((name, opened), HEADER_BYTES as u64)
    }

    fn at((name, opened): (PathBuf, Opened), offset: u64) -> Place {
        let Opened { file, header } = opened;
        Place { name, file, header, offset, window: Vec::new(), passed: 0, damaged: false }
    }

    fn next(&mut self) -> Result<Option<Record>, LogError> {
        let mut fresh = false;
        while !self.damaged {
            let rest = self.window.get(self.passed..).unwrap_or_default();
            match record::parse(rest, self.header.salt) {
                Parsed::Whole(frame) => {
                    self.passed += frame.bytes();
                    self.offset += frame.bytes() as u64;
                    return Ok(Some(frame.record()));
                }
                // A torn record is read anew each time: its writer may have replaced it.
                Parsed::Short | Parsed::Corrupt if !fresh => {
                    self.fill()?;
                    fresh = true;
                }
                Parsed::Short => return Ok(None),
                Parsed::Corrupt => {
                    self.damaged = true;
                    return Err(LogError::Corrupt { path: self.name.clone(), offset: self.offset });
                }
            }
        }
        Ok(None)
    }

    /// Reads the window anew from the next record on.
    fn fill(&mut self) -> Result<(), LogError> {
        self.window.resize(WINDOW_BYTES, 0);
        self.passed = 0;
        let count = read_at(&self.file, &mut self.window, self.offset)
            .map_err(|error| LogError::io("read", &self.name, error))?;
        self.window.truncate(count);
        Ok(())
    }

    /// Whether this is the file that is being written to.
    fn is_youngest(&self, path: &Path) -> bool {
        match (fs::metadata(path), self.file.metadata()) {
            (Ok(there), Ok(here)) => (there.dev(), there.ino()) == (here.dev(), here.ino()),
            (Ok(_) | Err(_), Ok(_) | Err(_)) => false,
        }
    }
}

/// The place where the last `lines` lines begin, or nothing if the log is empty.
fn tail(path: &Path, lines: u64) -> Result<Option<Place>, LogError> {
    /// How often the writer may rotate under the search.
    const TRIES: u32 = 100;
    for _ in 0..TRIES {
        if let Some(place) = try_tail(path, lines)? {
            return Ok(place);
        }
    }
    Err(LogError::io("read", path, io::Error::from(io::ErrorKind::Interrupted)))
}

/// As [`tail`], or nothing if the log was rotated meanwhile.
fn try_tail(path: &Path, lines: u64) -> Result<Option<Option<Place>>, LogError> {
    let mut count = LineCount::new(lines);
    let mut oldest = None;
    for (name, header) in files::list(path)?.into_iter().rev() {
        let opened = files::open(&name, false)?;
        let Some(opened) = opened.filter(|opened| opened.header == header) else { return Ok(None) };
        let (offset, enough) =
            walk_back(&opened, &mut count).map_err(|error| LogError::io("read", &name, error))?;
        oldest = Some(Place::at((name, opened), offset));
        if enough {
            break;
        }
    }
    Ok(Some(oldest))
}

/// Walks a file backwards until enough lines are counted; where that is, and whether it is enough.
fn walk_back(opened: &Opened, count: &mut LineCount) -> io::Result<(u64, bool)> {
    let salt = opened.header.salt;
    let mut end = end_of_records(&opened.file, salt)?;
    let mut window = Window::default();
    while let Some(start) = record_before(&opened.file, salt, end, &mut window)? {
        let bytes = window.slice(&opened.file, start, end)?;
        let Parsed::Whole(frame) = record::parse(bytes, salt) else { break };
        if count.is_enough(frame.stream(), frame.partial()) {
            return Ok((end, true));
        }
        end = start;
    }
    Ok((end, false))
}

/// Counts lines from their ends.
#[derive(Debug)]
pub(crate) struct LineCount {
    left: u64,
    /// Streams of which no record has been seen: their last one ends a line even if it is partial.
    fresh: [bool; 2],
}

impl LineCount {
    pub(crate) fn new(lines: u64) -> LineCount {
        LineCount { left: lines, fresh: [true; 2] }
    }

    /// Takes the next record towards the beginning; whether it is one too many.
    pub(crate) fn is_enough(&mut self, stream: Option<Stream>, partial: bool) -> bool {
        let Some(stream) = stream else { return false };
        let fresh = match stream {
            Stream::Output => &mut self.fresh[0],
            Stream::Error => &mut self.fresh[1],
        };
        let ends_line = !partial || *fresh;
        *fresh = false;
        if ends_line && self.left == 0 {
            return true;
        }
        self.left -= u64::from(ends_line);
        false
    }
}

/// Where the last whole record of a file ends. Looks at the end first, and from the beginning
/// only if a torn record is there.
pub(crate) fn end_of_records(file: &File, salt: u32) -> io::Result<u64> {
    let length = file.metadata()?.len();
    let header = HEADER_BYTES as u64;
    let mut window = Window::default();
    if length <= header || record_before(file, salt, length, &mut window)?.is_some() {
        return Ok(length.max(header));
    }
    let mut end = header;
    let mut bytes = vec![0; WINDOW_BYTES];
    loop {
        let count = read_at(file, &mut bytes, end)?;
        let mut rest = bytes.get(..count).unwrap_or_default();
        let begin = end;
        while let Parsed::Whole(frame) = record::parse(rest, salt) {
            end += frame.bytes() as u64;
            rest = rest.get(frame.bytes()..).unwrap_or_default();
        }
        if end == begin {
            return Ok(end);
        }
    }
}

/// Where the record begins that ends at `end`; `None` at the beginning of the file, or if none
/// ends there.
fn record_before(file: &File, salt: u32, end: u64, window: &mut Window) -> io::Result<Option<u64>> {
    let from = end.saturating_sub(4).max(HEADER_BYTES as u64);
    let back = window.slice(file, from, end)?;
    let Some(start) =
        record::bytes_before(back, salt).and_then(|bytes| end.checked_sub(bytes as u64))
    else {
        return Ok(None);
    };
    if start < HEADER_BYTES as u64 {
        return Ok(None);
    }
    let whole = window.slice(file, start, end)?;
    match record::parse(whole, salt) {
        Parsed::Whole(frame) if frame.bytes() == whole.len() => Ok(Some(start)),
        Parsed::Whole(_) | Parsed::Short | Parsed::Corrupt => Ok(None),
    }
}

/// A part of a file, for reading it backwards.
#[derive(Debug, Default)]
pub(crate) struct Window {
    at: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// The bytes from `from` to `to`; fewer if the file has become shorter.
    pub(crate) fn slice(&mut self, file: &File, from: u64, to: u64) -> io::Result<&[u8]> {
        if from < self.at || to > self.at + self.bytes.len() as u64 {
            self.at = to.saturating_sub(WINDOW_BYTES as u64).min(from);
            self.bytes.resize(usize::try_from(to - self.at).unwrap_or(WINDOW_BYTES), 0);
            let count = read_at(file, &mut self.bytes, self.at)?;
            self.bytes.truncate(count);
        }
        let index = |offset: u64| usize::try_from(offset - self.at).unwrap_or(usize::MAX);
        Ok(self.bytes.get(index(from)..index(to).min(self.bytes.len())).unwrap_or_default())
    }
}

/// As many bytes as there are, up to the buffer's length.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + done as u64) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}
