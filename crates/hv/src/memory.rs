//! Guest memory: what the guest takes for RAM, shared by its processors and its devices.
//!
//! All of it is one mapping of one file, so a place in it is one number, the *offset*; where a
//! guest-physical address lies in it is said by at most two [`Range`]s, below and above the hole
//! under 4 GiB in which devices are.
//!
//! Whatever is here may change at any moment under another thread's hands, so there are no
//! references into it: bytes go in and out by copies, and single values by single accesses, which
//! behave as the processor's own (Intel SDM volume 3, 9.2).

mod access;
mod dirty;
mod map;
mod parts;
mod view;
mod written;

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::Arc,
};

pub use access::Scalar;
pub use dirty::{DirtyBitmap, Watcher};
use map::Mapping;
pub use parts::{PARTS_MAPPED_MAX, Part};
pub use view::FileView;

/// Bytes of a page, the grain of the dirty bitmap.
pub const PAGE: usize = 4096;

/// Where the hole for devices begins, in guest-physical bytes: 3 GiB, as most machines have it.
pub const HOLE_START: u64 = 3 << 30;

/// Where it ends and memory goes on.
pub const HOLE_END: u64 = 4 << 30;

/// Most memory of a guest: 1 TiB.
pub const MEMORY_MAX: u64 = 1 << 40;

/// A piece of guest-physical memory that lies in one piece in the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First guest-physical address.
    pub guest: u64,
    /// Where it is in the mapping.
    pub offset: usize,
    /// How long it is, in bytes.
    pub bytes: usize,
}

/// An access to guest-physical addresses that are not memory, or not all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{bytes} bytes at guest address {guest:#x} are not memory")]
pub struct NotMemory {
    /// The first address of the access.
    pub guest: u64,
    /// How many bytes were wanted.
    pub bytes: usize,
}

/// The memory of a guest; a clone is the same memory.
#[derive(Clone, Debug)]
pub struct GuestMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mapping: Mapping,
    file: File,
    /// Where in the file it begins.
    at: u64,
    ranges: Vec<Range>,
    dirty: DirtyBitmap,
}

impl GuestMemory {
    /// So many bytes of zeros, of which the host holds only the pages that were written. The file
    /// behind it can be handed to others ([`GuestMemory::file`]).
    ///
    /// # Errors
    /// If the size is zero, no multiple of a page, or beyond [`MEMORY_MAX`]; if the host has no
    /// room for the mapping.
    ///
    /// Source: memfd_create(2); mmap(2), `MAP_NORESERVE`.
    pub fn new(bytes: u64) -> io::Result<GuestMemory> {
        let file = map::memfd(check(bytes)?)?;
        let mapping = Mapping::shared(&file, 0, check(bytes)?)?;
        Ok(GuestMemory::made(mapping, file, 0))
    }

    /// The memory that stands in a file from `at` on: pages are read when they are first touched,
    /// and what the guest writes stays its own.
    ///
    /// # Errors
    /// As [`GuestMemory::new`]; if the file is shorter.
    ///
    /// Source: mmap(2), `MAP_PRIVATE`.
    pub fn restore(file: File, at: u64, bytes: u64) -> io::Result<GuestMemory> {
        let mapping = parts::whole(&file, at, check(bytes)?)?;
        Ok(GuestMemory::made(mapping, file, at))
    }

    /// The same of memory that stands in several files: of each [`Part`] what its file has, and of
    /// the rest what the first file has. All stand at the same offset in file and memory; where
    /// parts overlap, the last counts.
    ///
    /// As many parts are mapped as a process can well have mappings, the longest of them; the
    /// others are copied.
    ///
    /// # Errors
    /// As [`GuestMemory::restore`]; if a part does not begin and end at pages of the memory.
    pub fn restore_parts(file: File, bytes: u64, parts: &[Part<'_>]) -> io::Result<GuestMemory> {
        let mut mapping = parts::whole(&file, 0, check(bytes)?)?;
        parts::put(&mut mapping, parts)?;
        let memory = GuestMemory::made(mapping, file, 0);
        parts.iter().for_each(|part| memory.dirty().note(part.range.clone()));
        Ok(memory)
    }

    fn made(mapping: Mapping, file: File, at: u64) -> GuestMemory {
        let ranges = ranges(mapping.bytes());
        let dirty = DirtyBitmap::new(mapping.bytes() / PAGE);
        GuestMemory(Arc::new(Inner { mapping, file, at, ranges, dirty }))
    }

    /// All of it, in bytes.
    pub fn bytes(&self) -> usize {
        self.0.mapping.bytes()
    }

    /// Where it is in the guest's physical addresses, in ascending order.
    pub fn ranges(&self) -> &[Range] {
        &self.0.ranges
    }

    /// The file it is a mapping of. Of memory that was restored it has the first state only.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.0.file.as_fd()
    }

    /// The address of the mapping in this process, for the kernel's own hypervisor.
    pub fn host_address(&self) -> u64 {
        self.0.mapping.address()
    }

    /// Which pages were written since it was last asked.
    pub fn dirty(&self) -> &DirtyBitmap {
        &self.0.dirty
    }

    /// Where so many bytes from a guest-physical address on lie in the mapping, if all of them are
    /// memory.
    #[inline]
    pub fn offset(&self, guest: u64, bytes: usize) -> Option<usize> {
        self.0.ranges.iter().find_map(|range| {
            let within = usize::try_from(guest.checked_sub(range.guest)?).ok()?;
            let fits = within <= range.bytes && bytes <= range.bytes - within;
            fits.then_some(range.offset + within)
        })
    }

    fn place(&self, guest: u64, bytes: usize) -> Result<usize, NotMemory> {
        self.offset(guest, bytes).ok_or(NotMemory { guest, bytes })
    }

    /// Copies bytes out of the guest.
    ///
    /// # Errors
    /// [`NotMemory`]; nothing is copied then.
    pub fn read(&self, guest: u64, to: &mut [u8]) -> Result<(), NotMemory> {
        let offset = self.place(guest, to.len())?;
        self.0.mapping.copy_out(offset, to);
        Ok(())
    }

    /// Copies bytes into the guest.
    ///
    /// # Errors
    /// [`NotMemory`]; nothing is copied then.
    pub fn write(&self, guest: u64, from: &[u8]) -> Result<(), NotMemory> {
        let offset = self.place(guest, from.len())?;
        self.0.mapping.copy_in(offset, from);
        self.0.dirty.mark(offset, from.len());
        Ok(())
    }

    /// Fills guest memory with one byte.
    ///
    /// # Errors
    /// [`NotMemory`].
    pub fn fill(&self, guest: u64, byte: u8, bytes: usize) -> Result<(), NotMemory> {
        let offset = self.place(guest, bytes)?;
        self.0.mapping.fill(offset, byte, bytes);
        self.0.dirty.mark(offset, bytes);
        Ok(())
    }

    /// One little-endian value, by one access of the processor.
    ///
    /// # Errors
    /// [`NotMemory`].
    pub fn load<T: Scalar>(&self, guest: u64) -> Result<T, NotMemory> {
        Ok(self.get(self.place(guest, size_of::<T>())?))
    }

    /// Writes one little-endian value, by one access of the processor.
    ///
    /// # Errors
    /// [`NotMemory`].
    pub fn store<T: Scalar>(&self, guest: u64, value: T) -> Result<(), NotMemory> {
        let offset = self.place(guest, size_of::<T>())?;
        self.set(offset, value);
        self.0.dirty.mark(offset, size_of::<T>());
        Ok(())
    }

    /// The value at an offset, for who has asked [`GuestMemory::offset`] before.
    ///
    /// # Panics
    /// If it is not within the mapping.
    #[inline]
    pub fn get<T: Scalar>(&self, offset: usize) -> T {
        self.0.mapping.get(offset)
    }

    /// Writes the value at an offset. The page is not marked: whoever uses offsets marks it when
    /// it is first written ([`DirtyBitmap::mark`]).
    ///
    /// # Panics
    /// If it is not within the mapping.
    #[inline]
    pub fn set<T: Scalar>(&self, offset: usize, value: T) {
        self.0.mapping.set(offset, value);
    }

    /// Replaces the value at an offset if it is `current`, in one step for all who look, and gives
    /// what was there. Marks nothing, as [`GuestMemory::set`].
    ///
    /// # Panics
    /// If it is not within the mapping.
    #[inline]
    pub fn compare_exchange<T: Scalar>(&self, offset: usize, current: T, new: T) -> T {
        self.0.mapping.compare_exchange(offset, current, new)
    }

    /// The same for the 16 bytes of `cmpxchg16b`.
    ///
    /// # Panics
    /// If the offset is no multiple of 16 or not within the mapping.
    #[inline]
    pub fn compare_exchange_16(&self, offset: usize, current: u128, new: u128) -> u128 {
        self.0.mapping.compare_exchange_16(offset, current, new)
    }

    /// Copies bytes out of the mapping from an offset on.
    ///
    /// # Panics
    /// If they are not within the mapping.
    #[inline]
    pub fn copy_out(&self, offset: usize, to: &mut [u8]) {
        self.0.mapping.copy_out(offset, to);
    }

    /// Copies bytes into the mapping from an offset on; marks nothing, as [`GuestMemory::set`].
    ///
    /// # Panics
    /// If they are not within the mapping.
    #[inline]
    pub fn copy_in(&self, offset: usize, from: &[u8]) {
        self.0.mapping.copy_in(offset, from);
    }

    /// Copies within the mapping in ascending order, as `rep movsb` does where the two overlap;
    /// marks nothing.
    ///
    /// # Panics
    /// If either is not within the mapping.
    #[inline]
    pub fn copy_ascending(&self, from: usize, to: usize, bytes: usize) {
        self.0.mapping.copy_ascending(from, to, bytes);
    }

    /// Writes one byte everywhere from an offset of the mapping on; marks nothing, as
    /// [`GuestMemory::set`].
    ///
    /// # Panics
    /// If they are not within the mapping.
    #[inline]
    pub fn fill_at(&self, offset: usize, byte: u8, bytes: usize) {
        self.0.mapping.fill(offset, byte, bytes);
    }

    /// Reads from a file at a position, straight into the guest; gives how many bytes came.
    ///
    /// # Errors
    /// Those of pread(2); `EFAULT` as [`NotMemory`] in words, if it is not memory.
    pub fn read_from(
        &self,
        file: BorrowedFd<'_>,
        at: u64,
        guest: u64,
        bytes: usize,
    ) -> io::Result<usize> {
        let offset = self.place(guest, bytes).map_err(io::Error::other)?;
        let read = self.0.mapping.read_from(file, at, offset, bytes)?;
        self.0.dirty.mark(offset, read);
        Ok(read)
    }

    /// Writes guest memory to a file at a position; gives how many bytes went.
    ///
    /// # Errors
    /// As [`GuestMemory::read_from`], with pwrite(2).
    pub fn write_to(
        &self,
        file: BorrowedFd<'_>,
        at: u64,
        guest: u64,
        bytes: usize,
    ) -> io::Result<usize> {
        let offset = self.place(guest, bytes).map_err(io::Error::other)?;
        self.0.mapping.write_to(file, at, offset, bytes)
    }

    /// Gives pages back to the host: they read as zeros afterwards. Only whole pages within the
    /// range go; what was restored comes back as the snapshot had it, so the caller fills it first
    /// where that matters.
    ///
    /// # Errors
    /// Those of madvise(2); [`NotMemory`] in words.
    ///
    /// Source: madvise(2), `MADV_REMOVE` for shared memory, `MADV_DONTNEED` for private.
    pub fn discard(&self, guest: u64, bytes: usize) -> io::Result<()> {
        let offset = self.place(guest, bytes).map_err(io::Error::other)?;
        let first = offset.next_multiple_of(PAGE);
        let end = (offset + bytes) / PAGE * PAGE;
        if first >= end {
            return Ok(());
        }
        self.0.mapping.discard(first, end - first)?;
        self.0.dirty.mark(first, end - first);
        Ok(())
    }
}

/// The size as the host counts, if a guest can have so much.
fn check(bytes: u64) -> io::Result<usize> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    if bytes == 0 || bytes > MEMORY_MAX || !bytes.is_multiple_of(PAGE as u64) {
        return Err(invalid(format!(
            "{bytes} bytes of guest memory: it is a multiple of {PAGE} up to {MEMORY_MAX}"
        )));
    }
    usize::try_from(bytes).map_err(|error| invalid(error.to_string()))
}

/// Memory below the hole first, the rest above it.
fn ranges(bytes: usize) -> Vec<Range> {
    let hole = usize::try_from(HOLE_START).unwrap_or(usize::MAX);
    let low = bytes.min(hole);
    let mut ranges = vec![Range { guest: 0, offset: 0, bytes: low }];
    if bytes > low {
        ranges.push(Range { guest: HOLE_END, offset: low, bytes: bytes - low });
    }
    ranges
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn memory_goes_on_above_the_hole() {
        let memory = GuestMemory::new((3 << 30) + (1 << 20)).unwrap();
        assert_eq!(memory.offset(HOLE_START - 1, 1), Some((3 << 30) - 1));
        assert_eq!(memory.offset(HOLE_START - 1, 2), None);
        assert_eq!(memory.offset(HOLE_START, 0), Some(3 << 30));
        assert_eq!(memory.offset(HOLE_END, 1 << 20), Some(3 << 30));
        assert_eq!(memory.offset(HOLE_END + (1 << 20), 1), None);
        assert_eq!(memory.offset(u64::MAX, 8), None);
        memory.store(HOLE_END + 5, 0x1122_3344_5566_7788u64).unwrap();
        let mut bytes = [0; 3];
        memory.read(HOLE_END + 5, &mut bytes).unwrap();
        assert_eq!(bytes, [0x88, 0x77, 0x66]);
        assert_eq!(memory.dirty().take(), [(3 << 30) / PAGE]);
    }

    #[test]
    fn nothing_beyond_the_end_is_touched() {
        let memory = GuestMemory::new(2 * PAGE as u64).unwrap();
        let end = 2 * PAGE as u64;
        assert_eq!(memory.write(end - 1, &[1, 2]), Err(NotMemory { guest: end - 1, bytes: 2 }));
        assert_eq!(memory.load::<u8>(end - 1), Ok(0));
        assert!(memory.load::<u64>(end - 7).is_err());
        let beyond = std::panic::AssertUnwindSafe(|| memory.get::<u64>(2 * PAGE - 7));
        assert!(std::panic::catch_unwind(beyond).is_err());
        for odd in [0, 1, PAGE as u64 + 1, MEMORY_MAX + PAGE as u64] {
            let refused = GuestMemory::new(odd).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
        }
    }

    #[test]
    fn what_was_restored_is_the_guests_own() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 3 * PAGE]).unwrap();
        let bytes = 2 * PAGE as u64;
        let one = GuestMemory::restore(file.try_clone().unwrap(), PAGE as u64, bytes).unwrap();
        let other = GuestMemory::restore(file.try_clone().unwrap(), PAGE as u64, bytes).unwrap();
        one.store(8, 1u8).unwrap();
        assert_eq!((one.load::<u8>(8), other.load::<u8>(8)), (Ok(1), Ok(7)));
        file.rewind().unwrap();
        let short = GuestMemory::restore(file, 2 * PAGE as u64, bytes).unwrap_err();
        assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn what_is_given_back_is_zero() {
        let memory = GuestMemory::new(4 * PAGE as u64).unwrap();
        memory.fill(0, 9, 4 * PAGE).unwrap();
        memory.discard(100, 2 * PAGE).unwrap();
        let at = |page: usize| memory.load::<u8>((page * PAGE) as u64 + 50).unwrap();
        assert_eq!([at(0), at(1), at(2), at(3)], [9, 0, 9, 9]);
    }

    #[test]
    fn one_access_replaces_what_is_there() {
        let memory = GuestMemory::new(PAGE as u64).unwrap();
        assert_eq!(memory.compare_exchange(16, 0u32, 5), 0);
        assert_eq!(memory.compare_exchange(16, 0u32, 6), 5);
        // Across a cache line, as processors allow it.
        assert_eq!(memory.compare_exchange(61, 0u64, u64::MAX), 0);
        assert_eq!(memory.get::<u64>(61), u64::MAX);
        assert_eq!(memory.compare_exchange_16(32, 0, 1 << 100), 0);
        assert_eq!(memory.compare_exchange_16(32, 0, 3), 1 << 100);
    }

    #[test]
    fn files_are_read_and_written_in_place() {
        let memory = GuestMemory::new(2 * PAGE as u64).unwrap();
        let file = tempfile::tempfile().unwrap();
        memory.write(10, b"hello").unwrap();
        assert_eq!(memory.write_to(file.as_fd(), 3, 10, 5).unwrap(), 5);
        assert_eq!(memory.read_from(file.as_fd(), 3, 5000, 9).unwrap(), 5);
        let mut back = [0; 5];
        memory.read(5000, &mut back).unwrap();
        assert_eq!(&back, b"hello");
        assert_eq!(memory.dirty().take(), [0, 1]);
        assert!(memory.read_from(file.as_fd(), 0, 2 * PAGE as u64 - 1, 2).is_err());
    }
}
