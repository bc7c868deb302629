//! Reads the files of a `json-file` log, oldest first, across rotations.
//!
//! The files have no header: which one comes next is told by their names, and which one is being
//! read by its inode.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use super::{
    Content, LogError, Record, files, json,
    reader::{LineCount, Window},
};

/// Bytes read at once.
const WINDOW_BYTES: usize = 64 << 10;

/// Longest line that is read: the longest of ours, with every byte of its text escaped, and
/// generous attributes. What is longer is somebody else's, and is passed over.
const LINE_BYTES_MAX: usize = 1 << 20;

/// How often the writer may rotate under a search.
const TRIES: u32 = 100;

/// A file as the kernel knows it.
type Inode = (u64, u64);

/// Reads lines one after the other.
#[derive(Debug)]
pub(crate) struct JsonReader {
    path: PathBuf,
    current: Option<Place>,
}

#[derive(Debug)]
struct Place {
    file: File,
    inode: Inode,
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
        self.current.as_ref().map(|place| (&place.file, place.inode.1))
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
            let inode = self.current.as_ref().map(|place| place.inode);
            let Some(next) = next_file(&self.path, inode)? else { return Ok(None) };
            self.current = Some(next);
        }
    }
}

impl Place {
    fn of(file: File, path: &Path) -> Result<Place, LogError> {
        let inode = inode(&file.metadata().map_err(|error| LogError::io("read", path, error))?);
        Ok(Place { file, inode, offset: 0, window: Vec::new(), passed: 0 })
    }

    fn is_at(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| inode(&metadata) == self.inode)
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

fn inode(metadata: &fs::Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// The files there are, oldest first.
fn list(path: &Path) -> Result<Vec<(PathBuf, Inode)>, LogError> {
    let mut numbers = files::numbers(path)?;
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    let names = numbers.into_iter().map(|number| files::name(path, number));
    let known = |name: PathBuf| {
        let inode = inode(&fs::metadata(&name).ok()?);
        Some((name, inode))
    };
    Ok(names.filter_map(known).collect())
}

/// The file that follows the one of this inode, or the oldest if that is gone.
///
/// A rotation may rename files in the midst of the search; then a second look differs from the
/// first, and the search begins anew.
fn next_file(path: &Path, after: Option<Inode>) -> Result<Option<Place>, LogError> {
    for _ in 0..TRIES {
        let before = list(path)?;
        let at = before.iter().position(|(_, inode)| Some(*inode) == after).map_or(0, |at| at + 1);
        let Some((name, inode)) = before.get(at) else { return Ok(None) };
        let file = match File::open(name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LogError::io("open", name, error)),
        };
        let place = Place::of(file, name)?;
        if place.inode == *inode && list(path)? == before {
            return Ok(Some(place));
        }
    }
    Err(LogError::io("open", path, io::Error::from(io::ErrorKind::Interrupted)))
}

/// The place from which so many lines are left.
fn place_of_tail(path: &Path, lines: u64) -> Result<Option<Place>, LogError> {
    let mut count = LineCount::new(lines);
    let mut found: Option<Place> = None;
    for (name, wanted) in list(path)?.into_iter().rev() {
        let file = match File::open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(LogError::io("open", &name, error)),
        };
        let mut place = Place::of(file, &name)?;
        // A rotation under way: this one has been counted already.
        if place.inode != wanted && found.as_ref().is_some_and(|one| one.inode == place.inode) {
            continue;
        }
        let (offset, enough) = tail_of_file(&place.file, &mut count)
            .map_err(|error| LogError::io("read", &name, error))?;
        place.offset = offset;
        found = Some(place);
        if enough {
            break;
        }
    }
    Ok(found)
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
