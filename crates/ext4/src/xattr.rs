//! Extended attributes: in the inode as far as there is room, the others in one block.
//!
//! Source: Linux `Documentation/filesystems/ext4/attributes.rst`; for access lists `fs/ext4/acl.h`
//! and `include/uapi/linux/posix_acl_xattr.h`.

use archive::Xattr;

use crate::{
    BLOCK,
    bytes::{BLOCK_BYTES, Bytes, low, narrow},
    inode::XATTRS,
};

const MAGIC: u32 = 0xea02_0000;

/// Bytes of a block before its first entry.
const HEADER: usize = 32;

/// Bytes of the mark before the first entry of an inode.
const MARK: usize = 4;

/// Bytes of an entry before its name.
const ENTRY: usize = 16;

/// Names begin with one of these, which is kept as a number. An access list has nothing behind.
const PREFIXES: [(&[u8], u8); 6] = [
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
    (b"system.posix_acl_access", ACL_ACCESS),
    (b"system.posix_acl_default", ACL_DEFAULT),
    (b"system.", 7),
];

const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;

/// Versions of access lists, as programs see them and as they lie on the disk.
const ACL_SEEN: u32 = 2;
const ACL_STORED: u32 = 1;

/// Entries of access lists that are about somebody: `ACL_USER`, `ACL_GROUP`.
const ACL_NAMED: [u16; 2] = [0x02, 0x08];

/// The others: `ACL_USER_OBJ`, `ACL_GROUP_OBJ`, `ACL_MASK`, `ACL_OTHER`.
const ACL_PLAIN: [u16; 4] = [0x01, 0x04, 0x10, 0x20];

/// What is wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum XattrError {
    /// No file system keeps such a name.
    #[error("an attribute with a name that ext4 does not keep")]
    Name,
    /// All of them have to fit in an inode and one block.
    #[error("more extended attributes than fit in a block of {BLOCK} bytes")]
    Room,
    /// An access list that is none.
    #[error("an access list that is malformed")]
    AccessList,
}

/// Attributes as they are stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// In the inode.
    pub(crate) inode: Vec<u8>,
    /// In a block of their own.
    pub(crate) block: Option<Vec<u8>>,
}

/// One on its way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    // In the order in which a block has them.
    prefix: u8,
    name_bytes: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// Where attributes go.
#[derive(Debug)]
struct Room {
    bytes: Bytes,
    /// Behind the last entry, and where the values begin.
    end: usize,
    values: usize,
    /// From where places of values count.
    base: usize,
    /// Of all entries; blocks have it.
    hash: u32,
    is_block: bool,
}

/// Lays out attributes.
pub(crate) fn store(xattrs: &[Xattr]) -> Result<Stored, XattrError> {
    let mut all = xattrs.iter().map(Attribute::new).collect::<Result<Vec<_>, _>>()?;
    all.sort();
    let (mut inode, mut block) = (Room::inode(), Room::block());
    for attribute in &all {
        if !inode.push(attribute) && !block.push(attribute) {
            return Err(XattrError::Room);
        }
    }
    Ok(Stored { inode: inode.finish().unwrap_or_default(), block: block.finish() })
}

impl Attribute {
    fn new(xattr: &Xattr) -> Result<Attribute, XattrError> {
        let known = PREFIXES.iter().find_map(|(prefix, number)| {
            let rest = xattr.name.strip_prefix(*prefix)?;
            let is_list = matches!(*number, ACL_ACCESS | ACL_DEFAULT);
            (rest.is_empty() == is_list).then_some((*number, rest))
        });
        let (prefix, name) = known.ok_or(XattrError::Name)?;
        let name_bytes = u8::try_from(name.len()).map_err(|_| XattrError::Name)?;
        if name.contains(&0) {
            return Err(XattrError::Name);
        }
        let value = match prefix {
            ACL_ACCESS | ACL_DEFAULT => access_list(&xattr.value).ok_or(XattrError::AccessList)?,
            _ => xattr.value.to_vec(),
        };
        Ok(Attribute { prefix, name_bytes, name: name.to_vec(), value })
    }

    /// Source: Linux `fs/ext4/xattr.c`, `ext4_xattr_hash_entry`.
    fn hash(&self) -> u32 {
        let name = self.name.iter().fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(name, |hash, part| {
            let mut word = [0; 4];
            word[..part.len()].copy_from_slice(part);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

impl Room {
    fn inode() -> Room {
        let mut bytes = Bytes::zeros(XATTRS);
        bytes.u32(0, MAGIC);
        Room { bytes, end: MARK, values: XATTRS, base: MARK, hash: 0, is_block: false }
    }

    fn block() -> Room {
        let (size, bytes) = (BLOCK_BYTES, Bytes::zeros(BLOCK_BYTES));
        Room { bytes, end: HEADER, values: size, base: 0, hash: 0, is_block: true }
    }

    /// Whether there was room.
    fn push(&mut self, attribute: &Attribute) -> bool {
        let (name, value) = (&attribute.name, &attribute.value);
        let end = self.end + (ENTRY + name.len()).next_multiple_of(4);
        let Some(at) = self.values.checked_sub(value.len().next_multiple_of(4)) else {
            return false;
        };
        // Four zeros end the entries.
        if end + 4 > at {
            return false;
        }
        let place = if value.is_empty() { 0 } else { at - self.base };
        self.bytes.put(self.end, &[attribute.name_bytes, attribute.prefix]);
        self.bytes.u16(self.end + 2, low(place as u64));
        self.bytes.u32(self.end + 8, narrow(value.len() as u64));
        if self.is_block {
            self.bytes.u32(self.end + 12, attribute.hash());
        }
        self.bytes.put(self.end + ENTRY, name);
        self.bytes.put(at, value);
        self.hash = self.hash.rotate_left(16) ^ attribute.hash();
        (self.end, self.values) = (end, at);
        true
    }

    /// Nothing if there is nothing in it.
    fn finish(mut self) -> Option<Vec<u8>> {
        if self.end == if self.is_block { HEADER } else { MARK } {
            return None;
        }
        if self.is_block {
            self.bytes.u32(0, MAGIC);
            // One file, one block.
            self.bytes.u32(4, 1);
            self.bytes.u32(8, 1);
            self.bytes.u32(12, self.hash);
        }
        Some(self.bytes.into_vec())
    }
}

/// An access list as it is stored, from what programs see.
fn access_list(seen: &[u8]) -> Option<Vec<u8>> {
    let (version, entries) = seen.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*version) != ACL_SEEN || !entries.len().is_multiple_of(8) {
        return None;
    }
    let mut stored = ACL_STORED.to_le_bytes().to_vec();
    for entry in entries.chunks(8) {
        let (tag, _) = entry.split_first_chunk::<2>()?;
        let tag = u16::from_le_bytes(*tag);
        let kept = match tag {
            tag if ACL_NAMED.contains(&tag) => 8,
            tag if ACL_PLAIN.contains(&tag) => 4,
            _ => return None,
        };
        stored.extend(entry.get(..kept)?);
    }
    Some(stored)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr { name: name.as_bytes().into(), value: value.into() }
    }

    #[test]
    fn what_has_no_room_in_the_inode_goes_to_the_block() {
        assert_eq!(store(&[]), Ok(Stored::default()));
        let small = store(&[xattr("user.a", &[1; 60])]).unwrap();
        assert!(small.block.is_none() && small.inode.len() == XATTRS);
        let both = store(&[xattr("user.a", &[1; 60]), xattr("user.b", &[2; 60])]).unwrap();
        assert!(both.block.is_some() && !both.inode.is_empty());
        let most = BLOCK_BYTES - HEADER - ENTRY - 4 - 4;
        assert!(store(&[xattr("user.a", &vec![1; most])]).unwrap().inode.is_empty());
        assert_eq!(store(&[xattr("user.a", &vec![1; most + 1])]), Err(XattrError::Room));
    }

    #[test]
    fn names_that_nobody_keeps_are_refused() {
        let long = format!("user.{}", "x".repeat(256));
        for name in ["", "user.", "com.apple.x", "system.posix_acl_access", &long, "user.a\0b"] {
            assert!(store(&[xattr(name, b"")]).is_err(), "{name}");
        }
    }

    #[test]
    fn access_lists_lose_the_ids_that_mean_nothing() {
        let seen = [2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 9, 0, 0, 0];
        let stored = [1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 9, 0, 0, 0];
        assert_eq!(access_list(&seen), Some(stored.to_vec()));
        for broken in
            [&seen[..3], &seen[..15], &[1, 0, 0, 0], &[2, 0, 0, 0, 3, 0, 6, 0, 0, 0, 0, 0]]
        {
            assert_eq!(access_list(broken), None);
        }
    }
}
