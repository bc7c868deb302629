//! Where every inode will stand: decided before any metadata is written.
//!
//! Pure. Directories first come first, and a directory's inodes stand together, so that listing
//! it reads neighbouring blocks.

use super::{
    contents::{Location, block_at, tail_fits},
    dirents,
    format::{
        BLOCK_BYTES, INODE_BYTES, SLOT_BYTES, XATTR_HEADER_BYTES, encode_device, mode,
        xattr_area_bytes,
    },
};
use crate::layer::{
    Attributes, Device, DeviceClass, EntryError, Xattr,
    tree::{Directory, Kind, NodeId, Tree},
};

/// An inode with its place.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) node: NodeId,
    pub(super) parent: NodeId,
    pub(super) nid: u64,
    pub(super) links: u32,
    /// With the file type.
    pub(super) mode: u16,
    pub(super) xattr_bytes: usize,
    pub(super) opaque: bool,
    pub(super) body: Body,
}

/// What an inode consists of, besides its attributes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    /// Content that the metadata writer makes: `whole` bytes in blocks from `block`, the rest
    /// behind the inode.
    Made { block: u32, whole: u64, size: u64 },
    /// Content that was stored as it arrived.
    Stored,
    /// A device number.
    Device(u32),
    /// Nothing.
    None,
}

/// The image as it will be.
#[derive(Debug)]
pub(super) struct Plan {
    /// In the order of their places.
    pub(super) inodes: Vec<Planned>,
    /// For each node of the tree its place in `inodes`.
    index: Vec<Option<u32>>,
    pub(super) metadata_block: u32,
    pub(super) blocks: u32,
    pub(super) chunked: bool,
}

impl Plan {
    pub(super) fn nid(&self, node: NodeId) -> (u64, u16) {
        let planned = self.index.get(node.index()).copied().flatten();
        let planned = planned.and_then(|index| self.inodes.get(index as usize));
        let planned = planned.expect("every named node is planned");
        (planned.nid, planned.mode)
    }
}

/// The attribute that makes a directory opaque to overlayfs.
pub(super) fn opaque_xattr() -> Xattr {
    Xattr { name: (*b"trusted.overlay.opaque").into(), value: (*b"y").into() }
}

/// The attributes that an inode is written with.
pub(super) fn xattrs(attributes: &Attributes, opaque: bool) -> Vec<Xattr> {
    let mut all = attributes.xattrs.clone();
    if opaque {
        all.push(opaque_xattr());
        all.sort_unstable();
    }
    all
}

/// `.`, `..` and the children, sorted.
pub(super) fn names(directory: &Directory, own: NodeId, parent: NodeId) -> Vec<(&[u8], NodeId)> {
    let mut names = Vec::with_capacity(directory.children.len() + 2);
    names.extend([(&b"."[..], own), (b"..", parent)]);
    names.extend(directory.children.iter().map(|(name, child)| (&**name, child.node)));
    names.sort_unstable_by_key(|(name, _)| *name);
    names
}

/// Plans an image whose content ends at `position`, a whole block.
pub(super) fn plan(tree: &Tree<Location>, position: u64) -> Result<Plan, EntryError> {
    let (mut inodes, index) = order(tree);
    let mut end = position;
    for inode in &mut inodes {
        place_body(tree, inode, &mut end)?;
    }
    let metadata_block = block_at(end)?;
    // Node id 0 is left free: readers of directories take inode number 0 for a deleted entry.
    let mut at = SLOT_BYTES;
    for inode in &mut inodes {
        let (tail, map) = behind(tree, inode);
        at = fit(at, inode.xattr_bytes, tail);
        inode.nid = at / SLOT_BYTES;
        at += (INODE_BYTES + inode.xattr_bytes + tail + map) as u64;
    }
    // fsck.erofs 1.5 reads a header of attributes behind every inode, also where there are none:
    // the image may not end right behind the last one.
    at += XATTR_HEADER_BYTES as u64;
    let blocks = block_at(end + at.next_multiple_of(BLOCK_BYTES))?;
    let chunked = inodes
        .iter()
        .any(|inode| matches!(tree.node(inode.node).kind, Kind::File(Location::Chunks { .. })));
    Ok(Plan { inodes, index, metadata_block, blocks, chunked })
}

/// Every node that has a name, once, with its links counted.
fn order(tree: &Tree<Location>) -> (Vec<Planned>, Vec<Option<u32>>) {
    let mut index: Vec<Option<u32>> = vec![None; tree.len()];
    let mut inodes: Vec<Planned> = Vec::new();
    let mut add = |inodes: &mut Vec<Planned>, node: NodeId, parent, opaque| {
        let slot = index.get_mut(node.index()).expect("ids are below the tree's length");
        match *slot {
            Some(planned) => {
                if let Some(planned) = inodes.get_mut(planned as usize) {
                    planned.links += 1;
                }
            }
            None => {
                *slot = u32::try_from(inodes.len()).ok();
                inodes.push(planned(tree, node, parent, opaque));
            }
        }
    };
    add(&mut inodes, NodeId::ROOT, NodeId::ROOT, false);
    let mut next = 0;
    while let Some(inode) = inodes.get(next) {
        let own = inode.node;
        if let Kind::Directory(directory) = &tree.node(own).kind {
            let mut subdirectories = 0;
            for child in directory.children.values() {
                let is_directory = matches!(tree.node(child.node).kind, Kind::Directory(_));
                subdirectories += u32::from(is_directory);
                add(&mut inodes, child.node, own, is_directory && child.whiteout);
            }
            if let Some(inode) = inodes.get_mut(next) {
                // Its name, its `.`, and the `..` of each directory in it.
                inode.links = 2 + subdirectories;
            }
        }
        next += 1;
    }
    (inodes, index)
}

fn planned(tree: &Tree<Location>, id: NodeId, parent: NodeId, hidden: bool) -> Planned {
    let node = tree.node(id);
    let (file_type, body, opaque) = match &node.kind {
        Kind::Directory(directory) => (mode::DIRECTORY, Body::None, hidden || directory.opaque),
        Kind::File(_) => (mode::FILE, Body::Stored, false),
        Kind::Symlink(_) => (mode::SYMLINK, Body::None, false),
        Kind::Fifo => (mode::FIFO, Body::None, false),
        Kind::Device(device) => {
            let file_type = match device.class {
                DeviceClass::Character => mode::CHARACTER,
                DeviceClass::Block => mode::BLOCK,
            };
            (file_type, Body::Device(encode_device(*device)), false)
        }
        Kind::Whiteout => (mode::CHARACTER, Body::Device(encode_device(Device::WHITEOUT)), false),
    };
    // Links have no permissions of their own; the kernel shows all of them.
    let permissions = match file_type {
        mode::SYMLINK => 0o777,
        _ => node.attributes.mode,
    };
    let xattr_bytes = xattr_area_bytes(&xattrs(&node.attributes, opaque));
    let mode = file_type | permissions;
    Planned { node: id, parent, nid: 0, links: 1, mode, xattr_bytes, opaque, body }
}

/// Gives made content its blocks, from `end` on.
fn place_body(tree: &Tree<Location>, inode: &mut Planned, end: &mut u64) -> Result<(), EntryError> {
    let node = tree.node(inode.node);
    let size = match &node.kind {
        Kind::Directory(directory) => {
            let names = names(directory, inode.node, inode.parent);
            dirents::pack(names.iter().map(|(name, _)| *name)).1
        }
        Kind::Symlink(target) => target.len() as u64,
        Kind::File(_) | Kind::Device(_) | Kind::Fifo | Kind::Whiteout => return Ok(()),
    };
    let tail = usize::try_from(size % BLOCK_BYTES).expect("less than a block");
    let whole = match tail_fits(inode.xattr_bytes, tail) {
        true => size - tail as u64,
        false => size,
    };
    inode.body = Body::Made { block: block_at(*end)?, whole, size };
    *end += whole.next_multiple_of(BLOCK_BYTES);
    Ok(())
}

/// Bytes behind an inode and its attributes: rest of the content, map of chunks.
fn behind(tree: &Tree<Location>, inode: &Planned) -> (usize, usize) {
    match (&inode.body, &tree.node(inode.node).kind) {
        (Body::Made { whole, size, .. }, _) => {
            (usize::try_from(size - whole).expect("less than a block"), 0)
        }
        (_, Kind::File(Location::Blocks { tail, .. })) => (tail.len(), 0),
        (_, Kind::File(Location::Chunks { map, .. })) => (0, 4 * map.len()),
        _ => (0, 0),
    }
}

/// The first place from `at` on where an inode's head does not cross a block, nor its tail.
fn fit(at: u64, xattr_bytes: usize, tail: usize) -> u64 {
    let at = at.next_multiple_of(SLOT_BYTES);
    let crosses = |from: u64, bytes: usize| from % BLOCK_BYTES + bytes as u64 > BLOCK_BYTES;
    let tail_at = at + (INODE_BYTES + xattr_bytes) as u64;
    match crosses(at, INODE_BYTES) || crosses(tail_at, tail) {
        true => at.next_multiple_of(BLOCK_BYTES),
        false => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_inodes_nor_tails_cross_a_block() {
        assert_eq!(fit(32, 0, 100), 32);
        assert_eq!(fit(33, 0, 0), 64);
        assert_eq!(fit(4064, 0, 0), 4096);
        assert_eq!(fit(4032, 0, 0), 4032);
        assert_eq!(fit(3000, 0, 1000), 3008);
        assert_eq!(fit(3040, 0, 1000), 4096);
        assert_eq!(fit(3040, 2000, 1000), 3040);
    }
}
