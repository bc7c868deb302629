//! The mapping itself: every access to it is checked here, once.
#![allow(unsafe_code, reason = "raw memory, and the calls that make it")]

use std::{
    ffi::c_void,
    fs::File,
    io,
    ops::Range,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
};

use rustix::{
    fs::{MemfdFlags, ftruncate, memfd_create},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
};

use super::access::{self, Scalar};

/// A file of zeros in memory.
pub(super) fn memfd(bytes: usize) -> io::Result<File> {
    let file = memfd_create("guest-memory", MemfdFlags::CLOEXEC)?;
    ftruncate(&file, bytes as u64)?;
    Ok(file.into())
}

/// A mapping that ends with this value.
#[derive(Debug)]
pub(super) struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    private: bool,
}

// SAFETY: the memory belongs to no thread, and every access to it is one that others may make at
// the same time (see `access`).
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn shared(file: &File, at: u64, bytes: usize) -> io::Result<Mapping> {
        Mapping::new(file, at, bytes, MapFlags::SHARED)
    }

    pub(super) fn private(file: &File, at: u64, bytes: usize) -> io::Result<Mapping> {
        Mapping::new(file, at, bytes, MapFlags::PRIVATE)
    }

    fn new(file: &File, at: u64, bytes: usize, kind: MapFlags) -> io::Result<Mapping> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, kind | MapFlags::NORESERVE);
        // SAFETY: a new mapping where the kernel likes, which nothing else knows of.
        let start = unsafe { mmap(ptr::null_mut(), bytes, protection, flags, file.as_fd(), at) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Mapping { start, bytes, private: kind == MapFlags::PRIVATE })
    }

    /// Puts a part of a file, private too, where it belongs in a mapping that nobody else has yet:
    /// what was there before is gone. Both begin and end at pages.
    pub(super) fn put(&mut self, file: &File, part: Range<usize>) -> io::Result<()> {
        let (protection, bytes) = (ProtFlags::READ | ProtFlags::WRITE, part.len());
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE | MapFlags::FIXED;
        let (start, at) = (self.at(part.start, bytes).cast(), part.start as u64);
        // SAFETY: `at` has checked that all that is replaced is within this mapping, which is
        // borrowed for as long; there are no references into it.
        unsafe { mmap(start, bytes, protection, flags, file.as_fd(), at) }?;
        Ok(())
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether what is written goes nowhere else.
    pub(super) fn is_private(&self) -> bool {
        self.private
    }

    pub(super) fn address(&self) -> u64 {
        self.start.addr().get() as u64
    }

    /// The address of an offset from which so many bytes are within the mapping.
    #[inline(always)]
    fn at(&self, offset: usize, bytes: usize) -> *mut u8 {
        assert!(offset <= self.bytes && bytes <= self.bytes - offset, "outside of guest memory");
        self.start.as_ptr().wrapping_add(offset)
    }

    #[inline(always)]
    pub(super) fn get<T: Scalar>(&self, offset: usize) -> T {
        // SAFETY: `at` has checked that all of it is mapped.
        unsafe { T::load(self.at(offset, size_of::<T>())) }
    }

    #[inline(always)]
    pub(super) fn set<T: Scalar>(&self, offset: usize, value: T) {
        // SAFETY: `at` has checked that all of it is mapped; there are no references into it.
        unsafe { T::store(self.at(offset, size_of::<T>()), value) }
    }

    #[inline(always)]
    pub(super) fn compare_exchange<T: Scalar>(&self, offset: usize, current: T, new: T) -> T {
        // SAFETY: as for `set`.
        unsafe { T::compare_exchange(self.at(offset, size_of::<T>()), current, new) }
    }

    pub(super) fn compare_exchange_16(&self, offset: usize, current: u128, new: u128) -> u128 {
        assert!(offset.is_multiple_of(16), "16 bytes that are exchanged lie at a multiple of 16");
        // SAFETY: as for `set`; the mapping begins at a page.
        unsafe { access::compare_exchange_16(self.at(offset, 16), current, new) }
    }

    pub(super) fn copy_out(&self, offset: usize, to: &mut [u8]) {
        let from = self.at(offset, to.len());
        // SAFETY: both are as long as the slice, which lies outside of the mapping.
        unsafe { access::copy_ascending(from, to.as_mut_ptr(), to.len()) }
    }

    pub(super) fn copy_in(&self, offset: usize, from: &[u8]) {
        let to = self.at(offset, from.len());
        // SAFETY: as above.
        unsafe { access::copy_ascending(from.as_ptr(), to, from.len()) }
    }

    pub(super) fn copy_ascending(&self, from: usize, to: usize, bytes: usize) {
        let (from, to) = (self.at(from, bytes), self.at(to, bytes));
        // SAFETY: both are mapped; there are no references into the mapping.
        unsafe { access::copy_ascending(from, to, bytes) }
    }

    pub(super) fn fill(&self, offset: usize, byte: u8, bytes: usize) {
        // SAFETY: as for `set`.
        unsafe { access::fill(self.at(offset, bytes), byte, bytes) }
    }

    pub(super) fn read_from(
        &self,
        file: BorrowedFd<'_>,
        at: u64,
        offset: usize,
        bytes: usize,
    ) -> io::Result<usize> {
        let (to, at) = (self.at(offset, bytes).cast::<c_void>(), position(at)?);
        // SAFETY: the kernel writes to what is mapped, where there are no references.
        counted(|| unsafe { libc::pread(file.as_raw_fd(), to, bytes, at) })
    }

    pub(super) fn write_to(
        &self,
        file: BorrowedFd<'_>,
        at: u64,
        offset: usize,
        bytes: usize,
    ) -> io::Result<usize> {
        let (from, at) = (self.at(offset, bytes).cast::<c_void>(), position(at)?);
        // SAFETY: the kernel reads what is mapped.
        counted(|| unsafe { libc::pwrite(file.as_raw_fd(), from, bytes, at) })
    }

    pub(super) fn discard(&self, offset: usize, bytes: usize) -> io::Result<()> {
        let start = self.at(offset, bytes).cast::<c_void>();
        let advice = if self.private { Advice::LinuxDontNeed } else { Advice::LinuxRemove };
        // SAFETY: what is mapped reads as something else afterwards, which any access here bears.
        Ok(unsafe { madvise(start, bytes, advice) }?)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody has its address any more.
        let gone = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(gone.is_ok(), "a whole mapping can always go");
    }
}

fn position(at: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(at).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// A call that counts bytes, made again when a signal came first.
fn counted(call: impl Fn() -> isize) -> io::Result<usize> {
    loop {
        if let Ok(bytes) = usize::try_from(call()) {
            return Ok(bytes);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
