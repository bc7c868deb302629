//! Blocks of a directory: names one after the other, without an index.
//!
//! Source: Linux `Documentation/filesystems/ext4/directory.rst`, "Linear (Classic) Directories".

use crate::{
    bytes::{BLOCK_BYTES as BLOCK, Bytes, low},
    inode::Kind,
};

/// Bytes of an entry before its name.
const ENTRY: usize = 8;

/// Most bytes of a name.
pub(crate) const NAME_MAX: usize = 255;

/// A directory on its way.
#[derive(Debug)]
pub(crate) struct Names {
    block: Bytes,
    /// Where the last entry begins, and where it ends.
    last: usize,
    end: usize,
}

impl Names {
    pub(crate) fn new() -> Names {
        Names { block: Bytes::zeros(BLOCK), last: 0, end: 0 }
    }

    /// One more name, of 1 to [`NAME_MAX`] bytes. Gives the block that it had no room in.
    pub(crate) fn push(&mut self, name: &[u8], inode: u32, kind: Kind) -> Option<Vec<u8>> {
        let length = (ENTRY + name.len()).next_multiple_of(4);
        let full = (self.end + length > BLOCK).then(|| std::mem::replace(self, Names::new()).end());
        let name_bytes = u8::try_from(name.len()).expect("names have at most 255 bytes");
        self.block.u32(self.end, inode);
        self.block.u16(self.end + 4, low(length as u64));
        self.block.put(self.end + 6, &[name_bytes, kind.entry()]);
        self.block.put(self.end + ENTRY, name);
        (self.last, self.end) = (self.end, self.end + length);
        full
    }

    /// The last block: its last entry takes what is left of it.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.block.u16(self.last + 4, low((BLOCK - self.last) as u64));
        self.block.into_vec()
    }
}
