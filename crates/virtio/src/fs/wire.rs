//! The bytes of FUSE: requests taken apart, answers put together.
//!
//! Source: Linux, `include/uapi/linux/fuse.h`, protocol 7.31 and what 7.36 added to `INIT`.

use std::{ffi::CStr, time::Duration};

use rustix::{fs::Statx, io::Errno};

/// The protocol that is spoken.
pub(super) const MAJOR: u32 = 7;

/// The latest minor version that is known, and the least that is accepted.
pub(super) const MINOR: u32 = 36;
pub(super) const MINOR_MIN: u32 = 31;

/// Bytes before the arguments of a request.
pub(super) const IN_HEADER: usize = 40;

/// Bytes before the body of an answer.
pub(super) const OUT_HEADER: usize = 16;

/// Bytes of `struct fuse_entry_out`.
pub(super) const ENTRY: usize = 128;

/// Bytes of `struct fuse_dirent` before the name.
pub(super) const DIRENT: usize = 24;

/// Longest name. Source: limits.h, `NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

/// Longest target of a symbolic link, with its zero. Source: limits.h, `PATH_MAX`.
const TARGET_BYTES_MAX: usize = 4096;

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Lookup,
    Forget,
    GetAttr,
    SetAttr,
    ReadLink,
    SymLink,
    MkNod,
    MkDir,
    Unlink,
    RmDir,
    Rename,
    Link,
    Open,
    Read,
    Write,
    StatFs,
    Release,
    FSync,
    SetXattr,
    GetXattr,
    ListXattr,
    RemoveXattr,
    Flush,
    Init,
    OpenDir,
    ReadDir,
    ReleaseDir,
    FSyncDir,
    Create,
    Interrupt,
    Destroy,
    BatchForget,
    FAllocate,
    ReadDirPlus,
    Rename2,
    LSeek,
    CopyFileRange,
    SyncFs,
}

impl Op {
    /// What the number means; nothing, if it is one that is not served: locks (which the guest
    /// keeps by itself), ioctls, polling, mapping, temporary files without a name.
    pub(super) fn from_number(number: u32) -> Option<Op> {
        Some(match number {
            1 => Op::Lookup,
            2 => Op::Forget,
            3 => Op::GetAttr,
            4 => Op::SetAttr,
            5 => Op::ReadLink,
            6 => Op::SymLink,
            8 => Op::MkNod,
            9 => Op::MkDir,
            10 => Op::Unlink,
            11 => Op::RmDir,
            12 => Op::Rename,
            13 => Op::Link,
            14 => Op::Open,
            15 => Op::Read,
            16 => Op::Write,
            17 => Op::StatFs,
            18 => Op::Release,
            20 => Op::FSync,
            21 => Op::SetXattr,
            22 => Op::GetXattr,
            23 => Op::ListXattr,
            24 => Op::RemoveXattr,
            25 => Op::Flush,
            26 => Op::Init,
            27 => Op::OpenDir,
            28 => Op::ReadDir,
            29 => Op::ReleaseDir,
            30 => Op::FSyncDir,
            35 => Op::Create,
            36 => Op::Interrupt,
            38 => Op::Destroy,
            42 => Op::BatchForget,
            43 => Op::FAllocate,
            44 => Op::ReadDirPlus,
            45 => Op::Rename2,
            46 => Op::LSeek,
            47 => Op::CopyFileRange,
            50 => Op::SyncFs,
            _ => return None,
        })
    }

    /// Whether it changes what is exported.
    pub(super) fn changes(self) -> bool {
        matches!(
            self,
            Op::SetAttr
                | Op::SymLink
                | Op::MkNod
                | Op::MkDir
                | Op::Unlink
                | Op::RmDir
                | Op::Rename
                | Op::Rename2
                | Op::Link
                | Op::Write
                | Op::SetXattr
                | Op::RemoveXattr
                | Op::Create
                | Op::FAllocate
                | Op::CopyFileRange
        )
    }
}

/// Who asks for what, about which inode.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request {
    pub(super) number: u32,
    pub(super) unique: u64,
    pub(super) node: u64,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Request {
    /// Takes a request apart. One that is shorter than it says is none; what is behind it is left
    /// alone.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Request, Args<'_>)> {
        let mut fields = Args(bytes.get(..IN_HEADER)?);
        let length = usize::try_from(fields.u32().ok()?).ok()?;
        let request = Request {
            number: fields.u32().ok()?,
            unique: fields.u64().ok()?,
            node: fields.u64().ok()?,
            uid: fields.u32().ok()?,
            gid: fields.u32().ok()?,
        };
        Some((request, Args(bytes.get(IN_HEADER..length)?)))
    }
}

/// The arguments of a request, taken from front to back. Whoever asks for more than there is gets
/// `EINVAL`, and so does the guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'a>(&'a [u8]);

impl<'a> Args<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Errno> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Errno> {
        let bytes = self.bytes(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().map_err(|_| Errno::INVAL)?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Errno> {
        let bytes = self.bytes(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| Errno::INVAL)?))
    }

    /// Text up to its zero.
    pub(super) fn text(&mut self) -> Result<&'a CStr, Errno> {
        let text = CStr::from_bytes_until_nul(self.0).map_err(|_| Errno::INVAL)?;
        self.bytes(text.count_bytes() + 1)?;
        Ok(text)
    }

    /// The name of an entry: one that a directory can have, and no way to another directory.
    pub(super) fn name(&mut self) -> Result<&'a CStr, Errno> {
        let name = self.text()?;
        check_name(name)?;
        Ok(name)
    }

    /// The target of a symbolic link, which the guest alone follows.
    pub(super) fn target(&mut self) -> Result<&'a CStr, Errno> {
        let target = self.text()?;
        match target.count_bytes() {
            0 => Err(Errno::NOENT),
            TARGET_BYTES_MAX.. => Err(Errno::NAMETOOLONG),
            _ => Ok(target),
        }
    }
}

/// Whether a name stays in its directory.
pub(super) fn check_name(name: &CStr) -> Result<(), Errno> {
    match name.to_bytes() {
        b"" | b"." | b".." => Err(Errno::INVAL),
        bytes if bytes.contains(&b'/') => Err(Errno::INVAL),
        bytes if bytes.len() > NAME_BYTES_MAX => Err(Errno::NAMETOOLONG),
        _ => Ok(()),
    }
}

/// An answer that is being put together, with room for its header in front.
#[derive(Debug, Default)]
pub(super) struct Reply {
    bytes: Vec<u8>,
    /// How many bytes the guest has room for.
    room: usize,
}

/// What is kept of its room when there are no requests.
const KEPT_BYTES: usize = 16 << 10;

impl Reply {
    /// Gives back what a long answer took.
    pub(super) fn rest(&mut self) {
        self.bytes.truncate(KEPT_BYTES);
        self.bytes.shrink_to(KEPT_BYTES);
    }

    /// Begins a new one.
    pub(super) fn begin(&mut self, room: usize) {
        self.bytes.clear();
        self.bytes.resize(OUT_HEADER, 0);
        self.room = room;
    }

    /// Fills in the header; with an error there is nothing behind it. There is no answer if the
    /// guest has no room for one.
    pub(super) fn finish(&mut self, unique: u64, mut answer: Result<(), Errno>) -> Option<&[u8]> {
        if self.bytes.len() > self.room {
            answer = Err(Errno::INVAL);
        }
        if answer.is_err() {
            self.bytes.truncate(OUT_HEADER);
        }
        let error = answer.err().map_or(0, |error| -error.raw_os_error());
        let length = u32::try_from(self.bytes.len()).unwrap_or(u32::MAX);
        let header = self.bytes.get_mut(..OUT_HEADER)?;
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4..8].copy_from_slice(&error.to_le_bytes());
        header[8..].copy_from_slice(&unique.to_le_bytes());
        (self.bytes.len() <= self.room).then_some(&*self.bytes)
    }

    /// How many bytes there is room for still.
    pub(super) fn left(&self) -> usize {
        self.room.saturating_sub(self.bytes.len())
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    pub(super) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    /// Has so many bytes filled in, and keeps as many as `fill` says it has filled.
    pub(super) fn fill<E>(
        &mut self,
        bytes: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        let before = self.bytes.len();
        self.zeros(bytes);
        let filled = fill(&mut self.bytes[before..]);
        let kept = *filled.as_ref().unwrap_or(&0);
        self.bytes.truncate(before + kept.min(bytes));
        filled
    }

    /// `struct fuse_attr`.
    pub(super) fn attributes(&mut self, ino: u64, at: &Statx) {
        self.u64(ino);
        self.u64(at.stx_size);
        self.u64(at.stx_blocks);
        for time in [at.stx_atime, at.stx_mtime, at.stx_ctime] {
            self.u64(time.tv_sec.cast_unsigned());
        }
        for time in [at.stx_atime, at.stx_mtime, at.stx_ctime] {
            self.u32(time.tv_nsec);
        }
        self.u32(u32::from(at.stx_mode));
        self.u32(at.stx_nlink);
        self.u32(at.stx_uid);
        self.u32(at.stx_gid);
        self.u32(device_number(at.stx_rdev_major, at.stx_rdev_minor));
        self.u32(at.stx_blksize);
        self.u32(0);
    }

    /// `struct fuse_attr_out`.
    pub(super) fn attributes_for(&mut self, valid: Duration, ino: u64, at: &Statx) {
        self.u64(valid.as_secs());
        self.u32(valid.subsec_nanos());
        self.u32(0);
        self.attributes(ino, at);
    }

    /// `struct fuse_entry_out`.
    pub(super) fn entry(&mut self, node: u64, valid: Duration, ino: u64, at: &Statx) {
        self.u64(node);
        self.u64(0);
        for _ in 0..2 {
            self.u64(valid.as_secs());
        }
        for _ in 0..2 {
            self.u32(valid.subsec_nanos());
        }
        self.attributes(ino, at);
    }

    /// `struct fuse_open_out`.
    pub(super) fn opened(&mut self, handle: u64) {
        self.u64(handle);
        self.u64(0);
    }

    /// `struct fuse_write_out`, `struct fuse_getxattr_out`: a size.
    pub(super) fn size(&mut self, size: usize) -> Result<(), Errno> {
        self.u32(u32::try_from(size).map_err(|_| Errno::OVERFLOW)?);
        self.u32(0);
        Ok(())
    }

    /// `struct fuse_dirent`, padded.
    pub(super) fn dirent(&mut self, ino: u64, next: u64, kind: u32, name: &CStr) {
        let name = name.to_bytes();
        self.u64(ino);
        self.u64(next);
        self.u32(u32::try_from(name.len()).unwrap_or(0));
        self.u32(kind);
        self.put(name);
        self.zeros(name.len().next_multiple_of(8) - name.len());
    }
}

/// As the guest's kernel takes device numbers: twelve bits of major, twenty of minor.
///
/// Source: Linux, `include/linux/kdev_t.h`, `new_decode_dev`.
fn device_number(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for (bytes, error) in [
            (&b"\0"[..], Errno::INVAL),
            (b".\0", Errno::INVAL),
            (b"..\0", Errno::INVAL),
            (b"a/b\0", Errno::INVAL),
            (b"/\0", Errno::INVAL),
            (b"unfinished", Errno::INVAL),
            (&[[b'x'; 256].as_slice(), b"\0"].concat(), Errno::NAMETOOLONG),
        ] {
            assert_eq!(Args(bytes).name(), Err(error), "{bytes:?}");
        }
        let mut two = Args(b"...\0b\0");
        assert_eq!((two.name(), two.name(), two.name()), (Ok(c"..."), Ok(c"b"), Err(Errno::INVAL)));
    }

    #[test]
    fn a_request_is_as_long_as_it_says_or_none() {
        let mut bytes = [0; 50];
        for (length, rest) in
            [(40, Some(0)), (50, Some(10)), (39, None), (51, None), (u32::MAX, None)]
        {
            bytes[..4].copy_from_slice(&length.to_le_bytes());
            assert_eq!(Request::parse(&bytes).map(|(_, args)| args.0.len()), rest);
        }
        assert!(Request::parse(&bytes[..39]).is_none());
    }

    #[test]
    fn an_answer_that_has_no_room_becomes_an_error_or_nothing() {
        let mut reply = Reply::default();
        reply.begin(20);
        reply.u64(1);
        let answer = reply.finish(9, Ok(())).unwrap();
        assert_eq!(answer, [16, 0, 0, 0, 234, 255, 255, 255, 9, 0, 0, 0, 0, 0, 0, 0]);
        reply.begin(15);
        assert_eq!(reply.finish(9, Ok(())), None);
    }

    #[test]
    fn device_numbers_are_as_the_kernel_packs_them() {
        assert_eq!(device_number(8, 1), 0x801);
        assert_eq!(device_number(0xfff, 0xfffff), 0xffff_ffff);
        assert_eq!(device_number(1, 0x100), 0x10_0100);
    }
}
