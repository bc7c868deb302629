//! The metadata, written when all content is in place.

use std::io;

use base::Digest;

use super::{
    Writer,
    area::Area,
    contents::Location,
    dirents::{self, Dirent},
    format::{
        BLOCK_BITS, BLOCK_BYTES, CHUNK_BITS_MASK, Inode, Layout, SLOT_BYTES, Superblock,
        dirent_type, encode_xattrs,
    },
    plan::{self, Body, Plan, Planned},
};
use crate::layer::{
    LayerError,
    tree::{Kind, NodeId, Tree},
};

impl Writer<'_> {
    /// Writes the metadata and, last of all, the superblock.
    pub(in crate::layer) fn finish(
        self,
        tree: &Tree<Location>,
        diff_id: &Digest,
    ) -> Result<(), LayerError> {
        let area = self.area;
        let plan =
            plan::plan(tree, area.position()).map_err(|error| LayerError::entry(b"/", error))?;
        write(area, tree, &plan, diff_id).map_err(LayerError::Write)
    }
}

fn write(
    mut area: Area<'_>,
    tree: &Tree<Location>,
    plan: &Plan,
    diff_id: &Digest,
) -> io::Result<()> {
    let mut tails: Vec<Box<[u8]>> = Vec::with_capacity(plan.inodes.len());
    for inode in &plan.inodes {
        tails.push(write_made(&mut area, tree, plan, inode)?);
    }
    let start = u64::from(plan.metadata_block) * BLOCK_BYTES;
    let mut inodes = 0;
    for (inode, tail) in plan.inodes.iter().zip(&tails) {
        inodes += 1;
        area.advance(start + inode.nid * SLOT_BYTES)?;
        write_inode(&mut area, tree, inode, inodes, tail)?;
    }
    area.advance(u64::from(plan.blocks) * BLOCK_BYTES)?;
    let (root_nid, _) = plan.nid(NodeId::ROOT);
    let superblock = Superblock {
        chunked: plan.chunked,
        root_nid: u16::try_from(root_nid).expect("the root's inode comes first"),
        inodes: u64::from(inodes),
        blocks: plan.blocks,
        metadata_block: plan.metadata_block,
        uuid: uuid(diff_id),
    };
    area.close(&superblock.encode())
}

/// An identity for the file system, the same for the same layer. Overlayfs tells its layers apart
/// by it. Source: RFC 9562, version 8.
fn uuid(diff_id: &Digest) -> [u8; 16] {
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&diff_id.as_bytes()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x80;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// Writes the whole blocks of a directory or a long link, and returns the rest.
fn write_made<'t>(
    area: &mut Area<'_>,
    tree: &'t Tree<Location>,
    plan: &Plan,
    inode: &Planned,
) -> io::Result<Box<[u8]>> {
    let Body::Made { block, whole, size } = inode.body else { return Ok(Box::default()) };
    let bytes = match &tree.node(inode.node).kind {
        Kind::Directory(directory) => {
            let names = plan::names(directory, inode.node, inode.parent);
            let dirent = |(name, node): &(&'t [u8], NodeId)| {
                let (nid, mode) = plan.nid(*node);
                Dirent { name, nid, file_type: dirent_type(mode) }
            };
            dirents::encode(&names.iter().map(dirent).collect::<Vec<_>>())
        }
        Kind::Symlink(target) => target.to_vec(),
        Kind::File(_) | Kind::Device(_) | Kind::Fifo | Kind::Whiteout => Vec::new(),
    };
    assert_eq!(bytes.len() as u64, size, "the plan was kept");
    assert_eq!(area.position(), u64::from(block) * BLOCK_BYTES, "the plan was kept");
    let whole = usize::try_from(whole).expect("it is in memory");
    let (blocks, tail) = bytes.split_at(whole);
    area.write(blocks)?;
    area.align()?;
    Ok(tail.into())
}

fn write_inode(
    area: &mut Area<'_>,
    tree: &Tree<Location>,
    planned: &Planned,
    number: u32,
    made_tail: &[u8],
) -> io::Result<()> {
    let node = tree.node(planned.node);
    let (layout, location, size, tail, map): (_, _, _, &[u8], &[u32]) =
        match (&node.kind, planned.body) {
            (Kind::File(Location::Blocks { block, size, tail }), _) => {
                (flat(tail), *block, *size, tail, &[])
            }
            (Kind::File(Location::Chunks { size, bits, map }), _) => {
                let format = u16::from(bits - BLOCK_BITS) & CHUNK_BITS_MASK;
                (Layout::Chunked, u32::from(format), *size, &[], map)
            }
            (_, Body::Made { block, size, .. }) => (flat(made_tail), block, size, made_tail, &[]),
            (_, Body::Device(number)) => (Layout::Plain, number, 0, &[], &[]),
            (_, Body::Stored | Body::None) => (Layout::Plain, 0, 0, &[], &[]),
        };
    let attributes = &node.attributes;
    let inode = Inode {
        layout,
        xattr_bytes: planned.xattr_bytes,
        mode: planned.mode,
        size,
        location,
        number,
        uid: attributes.uid,
        gid: attributes.gid,
        mtime: attributes.mtime,
        links: planned.links,
    };
    area.write(&inode.encode())?;
    if planned.xattr_bytes > 0 {
        area.write(&encode_xattrs(&plan::xattrs(attributes, planned.opaque)))?;
    }
    area.write(tail)?;
    map.iter().try_for_each(|block| area.write(&block.to_le_bytes()))
}

fn flat(tail: &[u8]) -> Layout {
    match tail.is_empty() {
        true => Layout::Plain,
        false => Layout::Inline,
    }
}
