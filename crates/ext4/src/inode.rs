//! An inode.
//!
//! Source: Linux `Documentation/filesystems/ext4/inodes.rst`, `ifork.rst`.

use archive::{Attributes, Device, Time};

use crate::{
    BLOCK,
    bytes::{Bytes, low, narrow},
};

/// The root directory's number.
pub(crate) const ROOT: u32 = 2;

/// The journal's.
pub(crate) const JOURNAL: u32 = 8;

/// The first that is not reserved.
pub(crate) const FIRST: u32 = 11;

/// Most names of an inode. Source: `EXT4_LINK_MAX`, Linux `fs/ext4/ext4.h`.
pub(crate) const LINKS_MAX: u64 = 65_000;

/// "It is stored in extents."
const EXTENTS: u32 = 0x8_0000;

/// Bytes of an inode that say where its blocks are, or are the target of a short link.
pub(crate) const BODY: usize = 60;

/// Where they stand.
const BODY_AT: usize = 0x28;

/// Bytes behind the first 128 that have a meaning.
pub(crate) const EXTRA: u16 = 32;

/// Where the attributes begin that have room in the inode, and how many bytes they have.
const XATTRS_AT: usize = 0x80 + EXTRA as usize;
pub(crate) const XATTRS: usize = 256 - XATTRS_AT;

/// Where the number of names stands.
pub(crate) const LINKS_AT: u64 = 0x1a;

/// Seconds that an inode has room for: 1901 to 2446.
const SECONDS_MIN: i64 = -(1 << 31);
const SECONDS_MAX: i64 = (1 << 34) - (1 << 31) - 1;

/// The kinds of inodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Directory,
    Symlink,
    Character,
    Block,
    Fifo,
    Socket,
}

impl Kind {
    /// The upper bits of the mode. Source: inode(7).
    fn mode(self) -> u16 {
        match self {
            Kind::File => 0o100_000,
            Kind::Directory => 0o040_000,
            Kind::Symlink => 0o120_000,
            Kind::Character => 0o020_000,
            Kind::Block => 0o060_000,
            Kind::Fifo => 0o010_000,
            Kind::Socket => 0o140_000,
        }
    }

    /// What a directory's entry says.
    pub(crate) fn entry(self) -> u8 {
        match self {
            Kind::File => 1,
            Kind::Directory => 2,
            Kind::Character => 3,
            Kind::Block => 4,
            Kind::Fifo => 5,
            Kind::Socket => 6,
            Kind::Symlink => 7,
        }
    }
}

/// What an inode's body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// The root of a tree of extents.
    Extents([u8; BODY]),
    /// Something else.
    Plain([u8; BODY]),
}

impl Body {
    pub(crate) const EMPTY: Body = Body::Plain([0; BODY]);

    /// The target of a short link; nothing if it is not short.
    pub(crate) fn target(target: &[u8]) -> Option<Body> {
        let mut body = [0; BODY];
        // Readers want a zero behind it.
        let room = body.get_mut(..BODY - 1)?.get_mut(..target.len())?;
        room.copy_from_slice(target);
        Some(Body::Plain(body))
    }

    /// A device's number; in the old form where that has room, as Linux itself does.
    ///
    /// Source: Linux `include/linux/kdev_t.h`.
    pub(crate) fn device(device: Device) -> Body {
        let (major, minor) = (device.major & 0xfff, device.minor & 0xf_ffff);
        let mut body = [0; BODY];
        if major < 256 && minor < 256 {
            body[..4].copy_from_slice(&(major << 8 | minor).to_le_bytes());
        } else {
            let number = minor & 0xff | major << 8 | (minor & !0xff) << 12;
            body[4..8].copy_from_slice(&number.to_le_bytes());
        }
        Body::Plain(body)
    }
}

/// An inode.
#[derive(Clone, Debug)]
pub(crate) struct Inode<'a> {
    pub(crate) kind: Kind,
    pub(crate) attributes: &'a Attributes,
    pub(crate) links: u16,
    /// Bytes.
    pub(crate) size: u64,
    /// Blocks that belong to it, whatever is in them.
    pub(crate) blocks: u64,
    pub(crate) body: Body,
    /// Attributes that stand in it.
    pub(crate) xattrs: Vec<u8>,
    /// The block with the others; 0 if there is none.
    pub(crate) xattr_block: u64,
}

impl<'a> Inode<'a> {
    /// One with one name, and nothing but its body.
    pub(crate) fn new(kind: Kind, attributes: &'a Attributes, body: Body) -> Inode<'a> {
        let (xattrs, xattr_block) = (Vec::new(), 0);
        Inode { kind, attributes, links: 1, size: 0, blocks: 0, body, xattrs, xattr_block }
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Bytes::zeros(256);
        let attributes = self.attributes;
        let (uid, gid) = (u64::from(attributes.uid), u64::from(attributes.gid));
        bytes.u16(0x00, self.kind.mode() | attributes.mode & 0o7777);
        bytes.u16(0x02, low(uid));
        bytes.u32(0x04, narrow(self.size & 0xffff_ffff));
        bytes.u16(0x18, low(gid));
        bytes.u16(0x1a, self.links);
        // In sectors of 512 bytes.
        let sectors = self.blocks * (BLOCK / 512);
        bytes.u32(0x1c, narrow(sectors & 0xffff_ffff));
        match &self.body {
            Body::Extents(body) => {
                bytes.u32(0x20, EXTENTS);
                bytes.put(BODY_AT, body);
            }
            Body::Plain(body) => bytes.put(BODY_AT, body),
        }
        bytes.u32(0x68, narrow(self.xattr_block));
        bytes.u32(0x6c, narrow(self.size >> 32));
        bytes.u16(0x74, low(sectors >> 32));
        bytes.u16(0x78, low(uid >> 16));
        bytes.u16(0x7a, low(gid >> 16));
        bytes.u16(0x80, EXTRA);
        let (seconds, more) = time(attributes.mtime);
        // Changed, modified, read, made: nobody knows better.
        for (at, extra_at) in [(0x0c, 0x84), (0x10, 0x88), (0x08, 0x8c), (0x90, 0x94)] {
            bytes.u32(at, seconds);
            bytes.u32(extra_at, more);
        }
        bytes.put(XATTRS_AT, &self.xattrs);
        bytes.into_vec()
    }
}

/// The lower bits of the seconds; two more of them, and nanoseconds. What there is no room for
/// becomes the nearest there is.
fn time(time: Time) -> (u32, u32) {
    let seconds = time.seconds.clamp(SECONDS_MIN, SECONDS_MAX);
    let nanoseconds = if seconds == time.seconds { time.nanoseconds.min(999_999_999) } else { 0 };
    // The lower half is signed, and the upper bits count from there.
    let epoch = (seconds - SECONDS_MIN) >> 32;
    let lower = u32::try_from(seconds & 0xffff_ffff).expect("masked");
    (lower, nanoseconds << 2 | u32::try_from(epoch).expect("clamped to two bits"))
}

/// What the superblock keeps of the journal's inode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JournalCopy {
    pub(crate) body: [u8; BODY],
    pub(crate) size: u64,
}

impl JournalCopy {
    /// Its body and its size, upper half first.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut copy = self.body.to_vec();
        copy.extend(narrow(self.size >> 32).to_le_bytes());
        copy.extend(narrow(self.size & 0xffff_ffff).to_le_bytes());
        copy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_kept_or_become_the_nearest() {
        let at = |seconds| time(Time { seconds, nanoseconds: 5 });
        assert_eq!(at(0), (0, 5 << 2));
        assert_eq!(at(-1), (u32::MAX, 5 << 2));
        assert_eq!(at(1 << 31), (1 << 31, 5 << 2 | 1));
        assert_eq!(at(SECONDS_MAX), (0x7fff_ffff, 5 << 2 | 3));
        assert_eq!(at(i64::MAX), (0x7fff_ffff, 3));
        assert_eq!(at(i64::MIN), (1 << 31, 0));
    }
}
