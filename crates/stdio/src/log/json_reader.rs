//! Reads the files of a `json-file` log, oldest first, across rotations.
//!
//! The files have no header: which one comes next is told by their names, and which one is being
//! read by its inode, or by what a compressed one tells of it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use super::{
    Content, LogError, Record, files,
    gzip::{self, Origin},
    json,
    reader::{LineCount, Window},
};

/// Bytes read at once.
const WINDOW_BYTES: usize = 64 << 10;

/// Longest line that is read: the longest of ours, with every byte of its text escaped, and
/// generous attributes. What is longer is somebody else's, and is passed over.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How often the writer may rotate under a search.
const TRIES: u32 = 100;

/// A file of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listed {
    name: PathBuf,
    origin: Origin,
    packed: bool,
}

/// Reads lines one after the other.
#[derive(Debug)]
pub(crate) struct JsonReader {
    path: PathBuf,
    current: Option<Place>,
}

#[derive(Debug)]
struct Place {
    /// The file, or what was compressed in it.
    file: File,
    origin: Origin,
    packed: bool,
    /// Where the window ends in the file.
    offset: u64,
    window: Vec<u8>,
    /// How much of the window has been read.
    passed: usize,
}

impl JsonReader {
    /// From the beginning, or from so many lines before the end.
    pub(crate) fn open(path: &Path, tail: Option<u64>) -> Result<JsonReader, LogError> {
        let current = match tail {
            None => next_file(path, None)?,
            Some(lines) => place_of_tail(path, lines)?,
        };
        Ok(JsonReader { path: path.to_owned(), current })
    }

    /// The file being read, and something that is another for another file.
    pub(crate) fn current(&self) -> Option<(&File, u64)> {
        self.current.as_ref().map(|place| (&place.file, place.origin.inode))
    }

    pub(crate) fn next(&mut self) -> Result<Option<Record>, LogError> {
        loop {
            if let Some(place) = &mut self.current {
                // Before the read: what was written before the rotation is in the old file.
                let youngest = place.is_at(&self.path);
                if let Some(record) = place.next(&self.path)? {
                    return Ok(Some(record));
                }
                if youngest {
                    return Ok(None);
                }
            }
            let Some(next) = next_file(&self.path, self.current.as_ref())? else {
                return Ok(None);
            };
            self.current = Some(next);
        }
    }
}

impl Place {
    /// Opens a file, or nothing if it has gone or is another one by now.
    fn open(listed: &Listed) -> Result<Option<Place>, LogError> {
        let opened = match listed.packed {
            true => gzip::inflate(&listed.name),
            false => File::open(&listed.name).and_then(|file| {
                let origin = Origin::plain(&file.metadata()?);
                Ok((file, origin))
            }),
        };
        let (file, origin) = match opened {
            Ok(opened) => opened,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(LogError::io("open", &listed.name, error)),
        };
        let packed = listed.packed;
        let place = Place { file, origin, packed, offset: 0, window: Vec::new(), passed: 0 };
        Ok((origin == listed.origin).then_some(place))
    }

    fn is_at(&self, path: &Path) -> bool {
        !self.packed && fs::metadata(path).is_ok_and(|there| Origin::plain(&there) == self.origin)
    }

    /// Whether this file is being read, or was before it was compressed.
    fn is(&self, listed: &Listed) -> bool {
        match (self.packed, listed.packed) {
            (false, true) => {
                let now = self.file.metadata();
                now.is_ok_and(|now| Origin::final_of(&now) == listed.origin)
            }
            (true, false) => false,
            (true, true) | (false, false) => self.origin == listed.origin,
        }
    }

    /// The next line that is one of ours; somebody else's are passed over.
    fn next(&mut self, path: &Path) -> Result<Option<Record>, LogError> {
        loop {
            let rest = self.window.get(self.passed..).unwrap_or_default();
            if let Some(length) = memchr::memchr(b'\n', rest) {
                let record = json::parse(rest.get(..length).unwrap_or_default());
                self.passed += length + 1;
                if record.is_some() {
                    return Ok(record);
                }
            } else if !self.fill().map_err(|error| LogError::io("read", path, error))? {
                return Ok(None);
            }
        }
    }

    /// Reads on; whether there was anything.
    fn fill(&mut self) -> io::Result<bool> {
        self.window.drain(..self.passed);
        self.passed = 0;
        if self.window.len() > LINE_BYTES_MAX {
            self.window.clear();
        }
        let from = self.window.len();
        self.window.resize(from + WINDOW_BYTES, 0);
        let read = self.file.read_at(self.window.get_mut(from..).unwrap_or_default(), self.offset);
        let count = match read {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) => {
                self.window.truncate(from);
                return Err(error);
            }
            Ok(count) => count,
        };
        self.window.truncate(from + count);
        self.offset += count as u64;
        Ok(count > 0)
    }
}

/// The files there are, oldest first. Of one that is there both ways, the plain one: it is being
/// compressed.
fn list(path: &Path) -> Result<Vec<Listed>, LogError> {
    let mut there = files::there(path)?;
    there.sort_unstable_by_key(|(number, packed)| (std::cmp::Reverse(*number), *packed));
    there.dedup_by_key(|(number, _)| *number);
    let known = |(number, packed): (u32, bool)| {
        let name = files::name(path, number);
        match packed {
            true => {
                let name = gzip::packed_name(&name);
                Some(Listed { origin: gzip::origin(&name).ok()?, name, packed })
            }
            false => {
                let origin = Origin::plain(&fs::metadata(&name).ok()?);
                Some(Listed { name, origin, packed })
            }
        }
    };
    Ok(there.into_iter().filter_map(known).collect())
}

/// The file that follows this one, or the oldest if it is gone.
///
/// A rotation may rename files in the midst of the search; then a second look differs from the
/// first, and the search begins anew.
fn next_file(path: &Path, after: Option<&Place>) -> Result<Option<Place>, LogError> {
    for _ in 0..TRIES {
        let before = list(path)?;
        let is_this = |listed: &Listed| after.is_some_and(|place| place.is(listed));
        let at = before.iter().position(is_this).map_or(0, |at| at + 1);
        let Some(listed) = before.get(at) else { return Ok(None) };
        let Some(place) = Place::open(listed)? else { continue };
        if list(path)? == before {
            return Ok(Some(place));
        }
    }
    Err(LogError::io("open", path, io::Error::from(io::ErrorKind::Interrupted)))
}

/// The place from which so many lines are left.
fn place_of_tail(path: &Path, lines: u64) -> Result<Option<Place>, LogError> {
    for _ in 0..TRIES {
        if let Some(place) = try_tail(path, lines)? {
            return Ok(place);
        }
    }
    Err(LogError::io("open", path, io::Error::from(io::ErrorKind::Interrupted)))
}

/// As [`place_of_tail`], or nothing if the log was rotated or compressed meanwhile.
fn try_tail(path: &Path, lines: u64) -> Result<Option<Option<Place>>, LogError> {
    let mut count = LineCount::new(lines);
    let mut found: Option<Place> = None;
    for listed in list(path)?.into_iter().rev() {
        let Some(mut place) = Place::open(&listed)? else { return Ok(None) };
        let (offset, enough) = tail_of_file(&place.file, &mut count)
            .map_err(|error| LogError::io("read", &listed.name, error))?;
        place.offset = offset;
        found = Some(place);
        if enough {
            break;
        }
    }
    Ok(Some(found))
}

/// Where the wanted lines of a file begin, and whether there were enough.
fn tail_of_file(file: &File, count: &mut LineCount) -> io::Result<(u64, bool)> {
    let mut window = Window::default();
    let length = file.metadata()?.len();
    // Behind the last newline lies at most a line that is still being written.
    let mut end = after_newline(file, &mut window, length)?;
    while end > 0 {
        let start = after_newline(file, &mut window, end - 1)?;
        let record = json::parse(window.slice(file, start, end - 1)?);
        if let Some(Record { content: Content::Bytes { stream, bytes }, .. }) = &record
            && count.is_enough(Some(*stream), !bytes.ends_with(b"\n"))
        {
            return Ok((end, true));
        }
        end = start;
    }
    Ok((0, false))
}

/// The place behind the last newline before `end`; 0 if there is none.
fn after_newline(file: &File, window: &mut Window, mut end: u64) -> io::Result<u64> {
    /// Bytes looked through at once.
    const STEP: u64 = 4096;
    while end > 0 {
        let from = end.saturating_sub(STEP);
        let bytes = window.slice(file, from, end)?;
        if let Some(at) = memchr::memrchr(b'\n', bytes) {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}
