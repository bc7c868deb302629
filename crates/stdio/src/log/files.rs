//! The files of a log: which there are, in what order, and how one gives way to the next.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    LogError,
    gzip::packed_name,
    record::{HEADER_BYTES, Header, HeaderError},
};

/// Permission bits of a log file: what a workload prints is its owner's business.
pub(crate) const MODE: u32 = 0o600;

/// A file of a log, open, its header read.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) file: File,
    pub(crate) header: Header,
}

/// Name of the `number`th older file, or of the current one for 0.
pub(crate) fn name(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

/// Opens a file of a log, or nothing if it is missing or its writer was killed before it had a
/// header.
pub(crate) fn open(path: &Path, write: bool) -> Result<Option<Opened>, LogError> {
    let mut file = match File::options().read(true).write(write).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(LogError::io("open", path, error)),
    };
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    let head = &mut (&mut file).take(HEADER_BYTES as u64);
    head.read_to_end(&mut bytes).map_err(|error| LogError::io("read", path, error))?;
    match Header::parse(&bytes) {
        Ok(header) => Ok(Some(Opened { file, header })),
        Err(HeaderError::Short) => Ok(None),
        Err(HeaderError::Foreign) => Err(LogError::NotALog { path: path.to_owned() }),
        Err(HeaderError::Version(version)) => {
            Err(LogError::Version { path: path.to_owned(), version })
        }
    }
}

/// Makes the current file anew. It appears with its header.
pub(crate) fn create(path: &Path, sequence: u64) -> Result<Opened, LogError> {
    let failed = |error: io::Error| LogError::io("create", path, error);
    let mut salt = [0; 4];
    rustix::rand::getrandom(&mut salt[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| failed(error.into()))?;
    let header = Header { salt: u32::from_le_bytes(salt), sequence };
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true).mode(MODE);
    let file = options.open(&unfinished).map_err(failed)?;
    file.write_all_at(&header.encode(), 0).map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)?;
    Ok(Opened { file, header })
}

/// Opens the current file of a log whose files have no header, or makes it.
pub(crate) fn open_plain(path: &Path) -> Result<File, LogError> {
    let mut options = File::options();
    let options = options.read(true).write(true).create(true).truncate(false).mode(MODE);
    options.open(path).map_err(|error| LogError::io("open", path, error))
}

/// Every file of a log that has a header, oldest first.
pub(crate) fn list(path: &Path) -> Result<Vec<(PathBuf, Header)>, LogError> {
    let mut found = Vec::new();
    for number in numbers(path)? {
        let name = name(path, number);
        if let Some(opened) = open(&name, false)? {
            found.push((name, opened.header));
        }
    }
    found.sort_by_key(|(_, header)| header.sequence);
    Ok(found)
}

/// Opens the oldest file that is younger than `sequence`, with its name.
///
/// A rotation may rename a file between finding and opening it; its sequence tells, and then the
/// search begins anew. A file that is renamed while the directory is listed may be missed: so a gap
/// in the sequence, or a listing that is not the same twice, is looked at again before it is
/// believed. There are only so many rotations in the time of a search.
pub(crate) fn open_after(
    path: &Path,
    sequence: Option<u64>,
) -> Result<Option<(PathBuf, Opened)>, LogError> {
    /// How often the writer may rotate under a search.
    const TRIES: u32 = 100;
    let mut before = None;
    for _ in 0..TRIES {
        let later = |header: &Header| sequence.is_none_or(|sequence| header.sequence > sequence);
        let listed = list(path)?;
        let found = listed.iter().find(|(_, header)| later(header)).cloned();
        let next = found.as_ref().map(|(_, header)| Some(header.sequence.wrapping_sub(1)));
        let certain = next.is_some_and(|next| next == sequence) || before.as_ref() == Some(&listed);
        before = Some(listed);
        if !certain {
            continue;
        }
        let Some((name, header)) = found else { return Ok(None) };
        match open(&name, false)? {
            Some(opened) if opened.header == header => return Ok(Some((name, opened))),
            Some(_) | None => {}
        }
    }
    Err(LogError::io("open", path, io::Error::from(io::ErrorKind::Interrupted)))
}

/// Makes room for a new current file: every file moves on by one, and what is beyond
/// `files_max` is removed. A kill half-way leaves a gap in the numbers, which does no harm and
/// is closed by the next rotation.
pub(crate) fn rotate(path: &Path, files_max: u32) -> Result<(), LogError> {
    let there = there(path)?;
    let numbers = there.iter().map(|(number, _)| *number).collect();
    for step in plan_rotation(numbers, files_max) {
        let (Step::Remove(number) | Step::Move(number)) = step;
        for (_, packed) in there.iter().filter(|(other, _)| *other == number) {
            let named = |number| match packed {
                true => packed_name(&name(path, number)),
                false => name(path, number),
            };
            let from = named(number);
            let result = match step {
                Step::Remove(_) => fs::remove_file(&from),
                Step::Move(_) => fs::rename(&from, named(number + 1)),
            };
            result.map_err(|error| LogError::io("rotate", &from, error))?;
        }
    }
    Ok(())
}

/// A step of a rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Removes the file of this number.
    Remove(u32),
    /// Moves the file of this number on by one.
    Move(u32),
}

/// What is to be done, in this order, so that number 0 becomes free.
fn plan_rotation(mut numbers: Vec<u32>, files_max: u32) -> Vec<Step> {
    numbers.sort_unstable();
    numbers.dedup();
    let last = files_max.saturating_sub(1);
    let remove = numbers.iter().rev().filter(|number| **number >= last).map(|n| Step::Remove(*n));
    let kept = numbers.iter().take_while(|number| **number < last);
    // Only up to the first gap: what is beyond it need not move.
    let row: Vec<u32> = kept.zip(0..).take_while(|(n, want)| *n == want).map(|(n, _)| *n).collect();
    remove.chain(row.into_iter().rev().map(Step::Move)).collect()
}

/// Numbers of the plain files that are there, the current one's (0) too, in no order.
pub(crate) fn numbers(path: &Path) -> Result<Vec<u32>, LogError> {
    let plain = there(path)?.into_iter().filter(|(_, packed)| !packed);
    Ok(plain.map(|(number, _)| number).collect())
}

/// The files that are there, by their numbers and whether they are compressed, in no order.
pub(crate) fn there(path: &Path) -> Result<Vec<(u32, bool)>, LogError> {
    let Some(base) = path.file_name() else {
        return Err(LogError::io("open", path, io::Error::from(io::ErrorKind::InvalidFilename)));
    };
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let directory = directory.unwrap_or(Path::new("."));
    let entries = fs::read_dir(directory).map_err(|error| LogError::io("list", path, error))?;
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| LogError::io("list", path, error))?.file_name();
        let rest = name.as_encoded_bytes().strip_prefix(base.as_encoded_bytes());
        let plain = rest.and_then(number).map(|number| (number, false));
        let packed = || Some((number(rest?.strip_suffix(b".gz")?).filter(|n| *n > 0)?, true));
        found.extend(plain.or_else(packed));
    }
    Ok(found)
}

/// The number that an older file's name ends with.
fn number(suffix: &[u8]) -> Option<u32> {
    if suffix.is_empty() {
        return Some(0);
    }
    let digits = suffix.strip_prefix(b".").filter(|digits| !digits.starts_with(b"0"))?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_frees_the_first_name_and_keeps_as_many_files_as_asked() {
        use Step::{Move, Remove};
        let cases = [
            (vec![0], 3, vec![Move(0)]),
            (vec![2, 0, 1], 3, vec![Remove(2), Move(1), Move(0)]),
            (vec![0, 1, 2, 7], 2, vec![Remove(7), Remove(2), Remove(1), Move(0)]),
            (vec![0, 2], 4, vec![Move(0)]),
            (vec![0], 1, vec![Remove(0)]),
            (vec![0], 0, vec![Remove(0)]),
        ];
        for (numbers, files_max, want) in cases {
            assert_eq!(plan_rotation(numbers.clone(), files_max), want, "{numbers:?}");
        }
    }

    #[test]
    fn only_plain_numbers_are_older_files() {
        let cases: [(&[u8], Option<u32>); 7] = [
            (b"", Some(0)),
            (b".1", Some(1)),
            (b".12", Some(12)),
            (b".0", None),
            (b".01", None),
            (b".gz", None),
            (b"2", None),
        ];
        for (suffix, want) in cases {
            assert_eq!(number(suffix), want, "{suffix:?}");
        }
    }
}
