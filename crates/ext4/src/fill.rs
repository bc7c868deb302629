//! A file system that is being filled.
//!
//! Content goes to the disk as it comes, one block after the other; names are kept until all are
//! known, and directories, the journal and what says which blocks are in use come last.

mod error;
mod finish;

use std::{collections::BTreeMap, fmt, io::Read};

use archive::{Attributes, Device, DeviceClass, Name, Segment};

pub use error::FillError;
use error::{wrong_node, wrong_path};

use crate::{
    BLOCK, BYTES_FITTING_MAX, BYTES_MAX, BYTES_MIN, Disk, Identity, SizeError,
    content::{self, Content},
    directory::NAME_MAX,
    extents::Extents,
    inode::{self, Body, Inode, Kind},
    layout::{Geometry, Layout, Run, Space},
    tree::Tree,
    xattr::{self, Stored},
};

/// Most bytes of memory for what is kept until all is known, names before all: 1 GiB.
pub const HELD_MAX: usize = 1 << 30;

/// What a name takes of it besides itself.
const NAME_HELD: usize = 128;

/// Most bytes of a symbolic link's target. Source: `PATH_MAX`, linux/limits.h.
pub const TARGET_MAX: usize = 4095;

/// Most bytes of a file: its blocks have numbers of 32 bits.
pub const FILE_MAX: u64 = u32::MAX as u64 * BLOCK;

/// How large a disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// So many bytes. A rest that is no block stays unused.
    Exactly(u64),
    /// As its content needs, with a quarter of that free besides, and at least 64 MiB.
    Fitting,
}

/// What a path is to be.
pub enum Node<'a> {
    /// A regular file.
    File {
        /// Bytes, holes included.
        size: u64,
        /// Where data is, if there are holes: in order, none empty, none overlapping another, all
        /// within `size`.
        segments: Option<&'a [Segment]>,
        /// The segments' bytes one after the other, or the whole file's.
        content: &'a mut dyn Read,
    },
    /// A directory.
    Directory,
    /// A symbolic link to this target, of 1 to [`TARGET_MAX`] bytes.
    Symlink(&'a [u8]),
    /// A device node.
    Device(Device),
    /// A named pipe.
    Fifo,
    /// A socket, to which nobody listens.
    Socket,
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Node::File { size, segments, content: _ } => {
                f.debug_struct("File").field("size", size).field("segments", segments).finish()
            }
            Node::Directory => f.write_str("Directory"),
            Node::Symlink(target) => f.debug_tuple("Symlink").field(target).finish(),
            Node::Device(device) => f.debug_tuple("Device").field(device).finish(),
            Node::Fifo => f.write_str("Fifo"),
            Node::Socket => f.write_str("Socket"),
        }
    }
}

/// A file system that is being filled.
#[derive(Debug)]
pub struct Filling<D> {
    disk: D,
    identity: Identity,
    size: Size,
    geometry: Geometry,
    space: Space,
    tree: Tree,
    /// The last inode in use.
    last: u32,
    inodes_max: u64,
    /// Bytes of memory for names, and for attributes of directories.
    held: usize,
    /// Names of inodes that have several.
    links: BTreeMap<u32, u64>,
    buffer: Vec<u8>,
}

impl<D: Disk> Filling<D> {
    /// A file system with a root directory, on a disk that is all zeros.
    ///
    /// # Errors
    /// [`FillError::Size`]
    pub fn new(disk: D, identity: Identity, size: Size) -> Result<Filling<D>, FillError> {
        let (geometry, end, inodes_max) = match size {
            Size::Exactly(bytes) => {
                let layout = exact(bytes)?;
                (layout.geometry, layout.blocks, layout.inode_count())
            }
            Size::Fitting => (Geometry::fitting(), BYTES_FITTING_MAX / BLOCK, u64::from(u32::MAX)),
        };
        Ok(Filling {
            disk,
            identity,
            size,
            geometry,
            space: Space::new(geometry, end),
            tree: Tree::new(inode::ROOT),
            last: inode::FIRST - 1,
            inodes_max,
            held: 0,
            links: BTreeMap::new(),
            buffer: vec![0; content::PIECE_BYTES],
        })
    }

    /// Puts something at a path. Directories come before what is in them; the root, whose path is
    /// empty, is there already and gets these attributes.
    ///
    /// # Errors
    /// [`FillError`]; the disk is of no use then.
    pub fn add(
        &mut self,
        path: &[u8],
        attributes: &Attributes,
        node: Node<'_>,
    ) -> Result<(), FillError> {
        let stored = xattr::store(&attributes.xattrs);
        let stored = stored.map_err(|fault| FillError::Xattr { name: Name::new(path), fault })?;
        if let (Node::Directory, Ok((place, None))) = (&node, self.tree.locate(path)) {
            self.tree.get_mut(place).attributes = attributes.clone();
            return Ok(());
        }
        let place = self.tree.vacant(path).map_err(|fault| wrong_path(path, fault))?;
        let is_directory = matches!(node, Node::Directory);
        self.hold(path, is_directory.then_some(attributes))?;
        let number = self.new_inode()?;
        let inode = match node {
            Node::Directory => {
                self.tree.directory(place, number, attributes.clone());
                return Ok(());
            }
            Node::File { size, segments, content } => {
                let (body, blocks) = self.file(path, size, segments, content)?;
                Inode { size, blocks, ..Inode::new(Kind::File, attributes, body) }
            }
            Node::Symlink(target) => self.symlink(path, attributes, target)?,
            Node::Device(device) => {
                let kind = match device.class {
                    DeviceClass::Character => Kind::Character,
                    DeviceClass::Block => Kind::Block,
                };
                Inode::new(kind, attributes, Body::device(device))
            }
            Node::Fifo => Inode::new(Kind::Fifo, attributes, Body::EMPTY),
            Node::Socket => Inode::new(Kind::Socket, attributes, Body::EMPTY),
        };
        self.tree.name(place, number, inode.kind);
        self.write_inode(number, inode, stored)
    }

    /// One more name for what is there and is no directory.
    ///
    /// # Errors
    /// [`FillError`]; the disk is of no use then.
    pub fn link(&mut self, path: &[u8], target: &[u8]) -> Result<(), FillError> {
        let (inode, kind) = self.tree.file(target).map_err(|fault| wrong_path(target, fault))?;
        let place = self.tree.vacant(path).map_err(|fault| wrong_path(path, fault))?;
        self.hold(path, None)?;
        let links = self.links.entry(inode).or_insert(1);
        if *links == inode::LINKS_MAX {
            return Err(wrong_node(
                target,
                "it has more names than the 65000 that a file can have",
            ));
        }
        *links += 1;
        self.tree.name(place, inode, kind);
        Ok(())
    }

    fn bytes_max(&self) -> u64 {
        match self.size {
            Size::Exactly(bytes) => bytes,
            Size::Fitting => BYTES_FITTING_MAX,
        }
    }

    fn full(&self) -> FillError {
        FillError::Full { bytes: self.bytes_max() }
    }

    /// Counts what is held in memory of one more name.
    fn hold(&mut self, path: &[u8], attributes: Option<&Attributes>) -> Result<(), FillError> {
        let name = path.len().min(NAME_MAX);
        let xattrs = attributes.map_or(&[][..], |attributes| &attributes.xattrs);
        let xattrs = xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len() + NAME_HELD);
        self.held = self.held.saturating_add(NAME_HELD + name + xattrs.sum::<usize>());
        if self.held > HELD_MAX { Err(FillError::Names) } else { Ok(()) }
    }

    fn new_inode(&mut self) -> Result<u32, FillError> {
        if u64::from(self.last) >= self.inodes_max {
            let (bytes, inodes) = (self.bytes_max(), self.inodes_max);
            return Err(FillError::Inodes { bytes, inodes });
        }
        self.last += 1;
        Ok(self.last)
    }

    fn write(&mut self, bytes: &[u8], at: u64) -> Result<(), FillError> {
        self.disk.write_at(bytes, at).map_err(FillError::Write)
    }

    fn take(&mut self, most: u64) -> Result<Run, FillError> {
        self.space.take(most).ok_or_else(|| self.full())
    }

    /// Writes one block to wherever it gets.
    fn write_block(&mut self, bytes: &[u8]) -> Result<u64, FillError> {
        let run = self.take(1)?;
        self.write(bytes, run.start * BLOCK)?;
        Ok(run.start)
    }

    /// Writes an inode with its attributes.
    fn write_inode(
        &mut self,
        number: u32,
        mut inode: Inode<'_>,
        stored: Stored,
    ) -> Result<(), FillError> {
        if let Some(block) = stored.block {
            inode.xattr_block = self.write_block(&block)?;
            inode.blocks += 1;
        }
        inode.xattrs = stored.inode;
        self.write(&inode.bytes(), self.geometry.inode_at(number))
    }

    /// Extents as an inode has them, and all blocks that they and their tree take.
    fn body(&mut self, extents: &Extents) -> Result<(Body, u64), FillError> {
        let space = &mut self.space;
        let tree = extents.tree(&mut || space.take(1).map(|run| run.start));
        let tree = tree.ok_or_else(|| self.full())?;
        for (at, bytes) in &tree.blocks {
            self.write(bytes, at * BLOCK)?;
        }
        Ok((Body::Extents(tree.root), extents.blocks() + tree.blocks.len() as u64))
    }

    fn file(
        &mut self,
        path: &[u8],
        size: u64,
        segments: Option<&[Segment]>,
        source: &mut dyn Read,
    ) -> Result<(Body, u64), FillError> {
        if size > FILE_MAX {
            return Err(wrong_node(path, "it is larger than 16 TiB"));
        }
        let whole = [Segment { offset: 0, length: size }];
        let segments = match segments {
            Some(segments) => segments,
            None if size == 0 => &[],
            None => &whole,
        };
        if !content::is_sound(segments, size) {
            return Err(wrong_node(path, "its data is out of order, or beyond its end"));
        }
        let mut content = Content::new(segments, source);
        let mut extents = Extents::default();
        for piece in content::pieces(segments) {
            let mut buffer = std::mem::take(&mut self.buffer);
            let length = content::bytes(&piece);
            let part = buffer.get_mut(..length).unwrap_or_default();
            content
                .fill(&piece, part)
                .map_err(|source| FillError::Read { name: Name::new(path), source })?;
            self.place(piece.start, part, &mut extents)?;
            self.buffer = buffer;
        }
        self.body(&extents)
    }

    /// Writes blocks of a file, and notes where they are.
    fn place(
        &mut self,
        mut logical: u64,
        mut bytes: &[u8],
        extents: &mut Extents,
    ) -> Result<(), FillError> {
        while !bytes.is_empty() {
            let run = self.take(bytes.len() as u64 / BLOCK)?;
            let length = usize::try_from(run.count * BLOCK).expect("no more than the buffer has");
            let (part, rest) = bytes.split_at(length);
            for (at, bytes) in content::not_zero(part) {
                self.write(bytes, run.start * BLOCK + at)?;
            }
            extents.push(logical, run);
            logical += run.count;
            bytes = rest;
        }
        Ok(())
    }

    fn symlink<'a>(
        &mut self,
        path: &[u8],
        attributes: &'a Attributes,
        target: &[u8],
    ) -> Result<Inode<'a>, FillError> {
        if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
            return Err(wrong_node(path, "its target has 1 to 4095 bytes, without zeros"));
        }
        let size = target.len() as u64;
        if let Some(body) = Body::target(target) {
            return Ok(Inode { size, ..Inode::new(Kind::Symlink, attributes, body) });
        }
        let start = self.write_block(target)?;
        let mut extents = Extents::default();
        extents.push(0, Run { start, count: 1 });
        let (body, blocks) = self.body(&extents)?;
        Ok(Inode { size, blocks, ..Inode::new(Kind::Symlink, attributes, body) })
    }
}

/// The layout of a disk whose size is given.
fn exact(bytes: u64) -> Result<Layout, SizeError> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return Err(SizeError(bytes));
    }
    Ok(Layout::within(Geometry::exactly(bytes / BLOCK), bytes / BLOCK))
}
