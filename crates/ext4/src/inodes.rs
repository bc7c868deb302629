//! The three inodes in use and the two directories.
//!
//! Source: Linux `Documentation/filesystems/ext4/inodes.rst`, `directory.rst`, `ifork.rst`.

use crate::{
    BLOCK,
    bytes::{Bytes, low, narrow},
    groups::{INODE, LOST_BLOCKS, Layout},
};

/// Numbers of inodes.
const ROOT: u32 = 2;
pub(crate) const JOURNAL: u32 = 8;
const LOST: u32 = 11;

const DIRECTORY: u16 = 0o040_000;
const REGULAR: u16 = 0o100_000;

/// "It is stored in extents."
const EXTENTS: u32 = 0x8_0000;

const EXTENT_MAGIC: u16 = 0xf30a;

/// Bytes of the root of an inode's extents.
const EXTENT_ROOT: usize = 60;

/// Extents that fit into it.
const EXTENT_MAX: u16 = 4;

/// Where it stands in an inode.
const EXTENT_AT: usize = 0x28;

/// Bytes behind the first 128 that have a meaning.
const EXTRA: u16 = 32;

/// The kind of a directory's entry that is a directory.
const ENTRY_DIRECTORY: u8 = 2;

struct Inode {
    mode: u16,
    links: u16,
    first: u64,
    blocks: u64,
}

impl Inode {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Bytes::zeros(256);
        bytes.u16(0x00, self.mode);
        bytes.u32(0x04, narrow(self.blocks * BLOCK));
        bytes.u16(0x1a, self.links);
        // In sectors of 512 bytes.
        bytes.u32(0x1c, narrow(self.blocks * BLOCK / 512));
        bytes.u32(0x20, EXTENTS);
        bytes.put(EXTENT_AT, &self.extents());
        bytes.u16(0x80, EXTRA);
        bytes.into_vec()
    }

    /// One extent with all blocks.
    fn extents(&self) -> [u8; EXTENT_ROOT] {
        let mut root = Bytes::zeros(EXTENT_ROOT);
        root.u16(0, EXTENT_MAGIC);
        root.u16(2, 1);
        root.u16(4, EXTENT_MAX);
        root.u16(16, low(self.blocks));
        root.u32(20, narrow(self.first));
        let mut bytes = [0; EXTENT_ROOT];
        bytes.copy_from_slice(root.as_slice());
        bytes
    }
}

fn journal(layout: &Layout) -> Inode {
    Inode {
        mode: REGULAR | 0o600,
        links: 1,
        first: layout.journal(),
        blocks: layout.journal_blocks,
    }
}

/// What the superblock keeps of the journal's inode: its extents and its size, upper half first.
pub(crate) fn journal_copy(layout: &Layout) -> Vec<u8> {
    let inode = journal(layout);
    let mut copy = inode.extents().to_vec();
    copy.extend(0u32.to_le_bytes());
    copy.extend(narrow(inode.blocks * BLOCK).to_le_bytes());
    copy
}

/// Inodes and directories, with their places in bytes.
pub(crate) fn pieces(layout: &Layout) -> Vec<(u64, Vec<u8>)> {
    let root = Inode { mode: DIRECTORY | 0o755, links: 3, first: layout.root(), blocks: 1 };
    let lost =
        Inode { mode: DIRECTORY | 0o700, links: 2, first: layout.lost(), blocks: LOST_BLOCKS };
    let at = |number: u32| layout.inodes(0) * BLOCK + u64::from(number - 1) * INODE;
    let mut pieces = vec![
        (at(ROOT), root.bytes()),
        (at(JOURNAL), journal(layout).bytes()),
        (at(LOST), lost.bytes()),
        (layout.root() * BLOCK, directory(&[(ROOT, "."), (ROOT, ".."), (LOST, "lost+found")])),
        (layout.lost() * BLOCK, directory(&[(LOST, "."), (ROOT, "..")])),
    ];
    // Room for what is found, so that nothing has to be allocated then.
    pieces.extend((1..LOST_BLOCKS).map(|n| ((layout.lost() + n) * BLOCK, directory(&[(0, "")]))));
    pieces
}

/// One block of a directory; the last entry takes what is left of it.
fn directory(entries: &[(u32, &str)]) -> Vec<u8> {
    let mut bytes = Bytes::zeros(4096);
    let mut at = 0;
    for (n, (inode, name)) in entries.iter().enumerate() {
        let own = (8 + name.len()).next_multiple_of(4);
        let length = if n + 1 == entries.len() { 4096 - at } else { own };
        bytes.u32(at, *inode);
        bytes.u16(at + 4, low(length as u64));
        let kind = if *inode == 0 { 0 } else { ENTRY_DIRECTORY };
        let name_bytes = u8::try_from(name.len()).expect("names are short");
        bytes.put(at + 6, &[name_bytes, kind]);
        bytes.put(at + 8, name.as_bytes());
        at += length;
    }
    bytes.into_vec()
}
