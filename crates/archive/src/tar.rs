//! A reader of tar archives that trusts nothing.
//!
//! Reads what Go's archive/tar and GNU tar read and image layers contain: v7, POSIX ustar and
//! pax, GNU (long names, base-256 numbers, old sparse files), GNU's three pax sparse forms, and
//! star's and libarchive's extended attributes. Where readers are known to disagree — two
//! extension headers of a kind, a key given twice, a name given in two ways, a global name or
//! size — the archive is refused, because what one tool checked another would unpack differently.
//!
//! Pure but for the reads it makes; holds one block, one extension header and one sparse map.
//!
//! Sources: POSIX.1-2017 "pax", "Extended Interchange Format"; GNU tar manual, "Basic Tar
//! Format" and "Storing Sparse Files"; libarchive tar(5).

mod error;
mod header;
mod pax;
mod sparse;

use std::io::BufRead;

pub use error::{TarError, TarFault};

use self::{header::Header, pax::Pax};
use super::{Attributes, Entry, EntryKind, Exceeded, Limits, Name, Time};

/// Bytes of a block, the unit of every archive.
pub const BLOCK_BYTES: usize = 512;

/// Bytes of one entry's extended attributes that Linux can have. Source: `XATTR_LIST_MAX`,
/// `XATTR_SIZE_MAX`, linux/limits.h.
const XATTR_BYTES_MAX: usize = 64 << 10;

/// An archive being read: entry after entry, each followed by its data.
#[derive(Debug)]
pub struct Archive<R> {
    source: R,
    limits: Limits,
    /// Bytes of the archive that lie behind.
    offset: u64,
    /// Bytes of the piece of data that [`Archive::chunk`] last lent.
    lent: usize,
    /// Bytes of the entry's data that are still to come.
    left: u64,
    /// Bytes that fill the data's last block.
    padding: u64,
    /// What `g` headers said.
    global: Pax,
}

/// Extension headers that wait for the entry they belong to.
#[derive(Default)]
struct Pending {
    pax: Option<Pax>,
    name: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
}

impl<R: BufRead> Archive<R> {
    /// An archive that begins where `source` stands.
    pub fn new(source: R, limits: &Limits) -> Archive<R> {
        let limits = limits.clone();
        let global = Pax::default();
        Archive { source, limits, offset: 0, lent: 0, left: 0, padding: 0, global }
    }

    /// The next entry, or nothing at the end of the archive. Data of the entry before it that
    /// was not read is skipped.
    ///
    /// # Errors
    /// When the archive is malformed here, or could not be read.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_data()?;
        let mut pending = Pending::default();
        loop {
            let at = self.offset;
            let here = |fault| TarError { offset: at, path: None, fault };
            let Some(block) = self.header_block()? else {
                let whole = pending.is_empty();
                return if whole { Ok(None) } else { Err(here(TarFault::NothingExtended)) };
            };
            let header = Header::parse(&block).map_err(here)?;
            match header.type_flag() {
                b'x' | b'X' => {
                    let pax = Pax::parse(&self.extension(&header)?).map_err(here)?;
                    set_once(&mut pending.pax, pax).map_err(here)?;
                }
                b'g' => {
                    let pax = Pax::parse(&self.extension(&header)?).map_err(here)?;
                    self.global.merge_global(pax).map_err(here)?;
                }
                b'L' => {
                    let name = text(self.extension(&header)?);
                    set_once(&mut pending.name, name).map_err(here)?;
                }
                b'K' => {
                    let target = text(self.extension(&header)?);
                    set_once(&mut pending.target, target).map_err(here)?;
                }
                // GNU's volume label names the archive, not a file.
                b'V' => self.data_follows(header.size().map_err(here)?),
                _ => return self.entry(&header, pending, at).map(Some),
            }
            self.skip_data()?;
        }
    }

    /// The next piece of the entry's data, or nothing at its end. Of a sparse file only the
    /// segments' bytes come, one after the other.
    ///
    /// # Errors
    /// When the archive ends within the data, or could not be read.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, TarError> {
        self.chunk_up_to(u64::MAX)
    }

    /// As [`Archive::chunk`], and no more than `most` bytes.
    ///
    /// # Errors
    /// As [`Archive::chunk`].
    pub fn chunk_up_to(&mut self, most: u64) -> Result<Option<&[u8]>, TarError> {
        self.take_lent();
        if self.left == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        let broken = |fault| TarError { offset, path: None, fault };
        let bytes = self.source.fill_buf().map_err(|e| broken(TarFault::Read(e)))?;
        if bytes.is_empty() {
            return Err(broken(TarFault::Truncated));
        }
        let most = usize::try_from(self.left.min(most)).unwrap_or(usize::MAX);
        let chunk = bytes.get(..most).unwrap_or(bytes);
        self.lent = chunk.len();
        Ok(Some(chunk))
    }

    /// Consumes what was lent; called before anything else is read.
    fn take_lent(&mut self) {
        let lent = std::mem::take(&mut self.lent);
        self.source.consume(lent);
        self.left -= lent as u64;
        self.offset += lent as u64;
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        while self.chunk()?.is_some() {}
        self.left = std::mem::take(&mut self.padding);
        // Many archives lack the padding of their last entry; GNU tar and Go mind only headers.
        match self.skip_padding() {
            Err(TarError { fault: TarFault::Truncated, .. }) => {
                self.left = 0;
                Ok(())
            }
            other => other,
        }
    }

    fn skip_padding(&mut self) -> Result<(), TarError> {
        while self.chunk()?.is_some() {}
        Ok(())
    }

    fn data_follows(&mut self, size: u64) {
        self.left = size;
        self.padding = size.next_multiple_of(BLOCK_BYTES as u64) - size;
    }

    /// One block, or nothing where the source ends exactly here.
    fn block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        let mut block = [0; BLOCK_BYTES];
        self.left = BLOCK_BYTES as u64;
        let mut filled = 0;
        loop {
            match self.chunk() {
                Ok(None) => return Ok(Some(block)),
                Ok(Some(chunk)) => {
                    if let Some(place) = block.get_mut(filled..filled + chunk.len()) {
                        place.copy_from_slice(chunk);
                    }
                    filled += chunk.len();
                }
                Err(TarError { fault: TarFault::Truncated, .. }) if filled == 0 => {
                    self.left = 0;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The next header, or nothing at the end: at two zero blocks, or where the source ends.
    fn header_block(&mut self) -> Result<Option<[u8; BLOCK_BYTES]>, TarError> {
        let offset = self.offset;
        match self.block()? {
            Some(block) if block == [0; BLOCK_BYTES] => match self.block()? {
                Some(second) if second != [0; BLOCK_BYTES] => {
                    Err(TarError { offset, path: None, fault: TarFault::LoneZeroBlock })
                }
                Some(_) | None => Ok(None),
            },
            other => Ok(other),
        }
    }

    /// The data of an extension header.
    fn extension(&mut self, header: &Header<'_>) -> Result<Vec<u8>, TarError> {
        let offset = self.offset;
        let here = |fault| TarError { offset, path: None, fault };
        let size = header.size().map_err(here)?;
        let max = self.limits.extension_bytes;
        if size > max {
            let limit = "bytes in one extension header";
            return Err(here(TarFault::Limit(Exceeded { limit, max })));
        }
        self.data_follows(size);
        let mut data = Vec::new();
        while let Some(chunk) = self.chunk()? {
            data.extend_from_slice(chunk);
        }
        Ok(data)
    }

    fn entry(&mut self, header: &Header<'_>, pending: Pending, at: u64) -> Result<Entry, TarError> {
        let pax = pending.pax.unwrap_or_default();
        let path = match (&pax.sparse.name, &pax.path, &pending.name) {
            (_, Some(_), Some(_)) => Err(TarFault::TwoNames),
            (Some(name), _, _) | (None, Some(name), None) | (None, None, Some(name)) => {
                Ok(name.clone())
            }
            (None, None, None) => Ok(header.path()),
        };
        let mut entry = path
            .and_then(|path| {
                let attributes = attributes(header, &pax, &self.global, &self.limits)?;
                Ok(Entry { path, attributes, kind: EntryKind::Directory })
            })
            .map_err(|fault| TarError { offset: at, path: Some(header_name(header)), fault })?;
        let named = |path: &[u8]| {
            let path = Some(Name::new(path));
            move |fault| TarError { offset: at, path, fault }
        };
        let target = match (pax.target, pending.target) {
            (Some(_), Some(_)) => return Err(named(&entry.path)(TarFault::TwoNames)),
            (one, other) => one.or(other).unwrap_or_else(|| header.target()),
        };
        let size = match pax.size {
            Some(size) => size,
            None => header.size().map_err(named(&entry.path))?,
        };
        let directory = entry.path.ends_with(b"/");
        entry.kind = match header.type_flag() {
            0 if directory => EntryKind::Directory,
            // Go's archive/tar takes a size here for a mistake and no data for granted.
            b'5' => EntryKind::Directory,
            0 | b'0' | b'7' | b'S' => {
                self.data_follows(size);
                self.file(header, &pax.sparse, size).map_err(|mut error| {
                    error.path.get_or_insert_with(|| Name::new(&entry.path));
                    error
                })?
            }
            b'1' => EntryKind::HardLink(target),
            b'2' => EntryKind::Symlink(target),
            b'3' | b'4' => EntryKind::Device(header.device().map_err(named(&entry.path))?),
            b'6' => EntryKind::Fifo,
            // A GNU dump directory: its data lists what was in it.
            b'D' => {
                self.data_follows(size);
                EntryKind::Directory
            }
            flag => {
                return Err(named(&entry.path)(TarFault::Type(flag.escape_ascii().to_string())));
            }
        };
        Ok(entry)
    }

    /// A regular file, whose sparse map may stand in the header, in blocks behind it, or in the
    /// data itself.
    fn file(
        &mut self,
        header: &Header<'_>,
        keys: &sparse::Keys,
        size: u64,
    ) -> Result<EntryKind, TarError> {
        let offset = self.offset;
        let here = |fault| TarError { offset, path: None, fault };
        let most = self.limits.segments;
        let map = if header.type_flag() == b'S' {
            let mut map = header.sparse_map().map_err(here)?;
            while map.continues {
                let left = std::mem::take(&mut self.left);
                let block = self.block()?.ok_or_else(|| here(TarFault::Truncated))?;
                self.left = left;
                map.extend(&block, most).map_err(here)?;
            }
            Some((map.pairs, map.real_size))
        } else {
            match keys.form(most).map_err(here)? {
                sparse::Form::None => None,
                sparse::Form::Inline(pairs, real) => Some((pairs, real)),
                sparse::Form::InData(real) => Some((self.map_in_data()?, real)),
            }
        };
        let real = map.as_ref().map_or(size, |(_, real)| *real);
        if real > self.limits.file_bytes {
            let max = self.limits.file_bytes;
            return Err(here(TarFault::Limit(Exceeded { limit: "bytes in one file", max })));
        }
        let segments = match map {
            None => None,
            Some((pairs, real)) => sparse::segments(&pairs, real, self.left).map_err(here)?,
        };
        Ok(EntryKind::File { size: real, segments })
    }

    /// The map of GNU's pax sparse format 1.0: decimal lines before the data, padded to a block.
    fn map_in_data(&mut self) -> Result<Vec<(u64, u64)>, TarError> {
        let offset = self.offset;
        let here = |fault| TarError { offset, path: None, fault };
        let (left, padding) = (self.left, self.padding);
        let mut lines = sparse::Lines::new(self.limits.segments);
        let mut used = 0;
        loop {
            self.left = 0;
            let room = left.checked_sub(used + BLOCK_BYTES as u64);
            let block = match room {
                Some(_) => self.block()?.ok_or_else(|| here(TarFault::Truncated))?,
                None => return Err(here(TarFault::SparseMap)),
            };
            used += BLOCK_BYTES as u64;
            if let Some(pairs) = lines.feed(&block).map_err(here)? {
                (self.left, self.padding) = (left - used, padding);
                return Ok(pairs);
            }
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.pax.is_none() && self.name.is_none() && self.target.is_none()
    }
}

fn set_once<T>(place: &mut Option<T>, value: T) -> Result<(), TarFault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(TarFault::TwoExtensions),
    }
}

/// A GNU long name: up to the first NUL, as a C string.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len()));
    bytes
}

fn header_name(header: &Header<'_>) -> Name {
    Name::new(&header.path())
}

fn attributes(
    header: &Header<'_>,
    pax: &Pax,
    global: &Pax,
    limits: &Limits,
) -> Result<Attributes, TarFault> {
    let or = |own: Option<u32>, all: Option<u32>, field: Result<u32, TarFault>| match own.or(all) {
        Some(id) => Ok(id),
        None => field,
    };
    let uid = or(pax.uid, global.uid, header.uid())?;
    let gid = or(pax.gid, global.gid, header.gid())?;
    // -1 is "leave it as it is" to chown(2) and no valid owner to the kernel.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(TarFault::Owner);
    }
    let mtime = match pax.mtime.or(global.mtime) {
        Some(time) => time,
        None => Time { seconds: header.mtime()?, nanoseconds: 0 },
    };
    let bytes = pax.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum::<usize>();
    let most = limits.xattr_bytes.min(XATTR_BYTES_MAX);
    if bytes > most {
        let (limit, max) = ("bytes of extended attributes", most as u64);
        return Err(TarFault::Limit(Exceeded { limit, max }));
    }
    Ok(Attributes { mode: header.mode()?, uid, gid, mtime, xattrs: pax.xattrs.clone() })
}

#[cfg(test)]
mod tests;
