//! A file system that is being filled.
//!
//! Content goes to the disk as it comes, one block after the other; names are kept until all are
//! known, and directories, the journal and what says which blocks are in use come last.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read},
};

use archive::{Attributes, Device, DeviceClass, Name, Segment};

use crate::{
    BLOCK, BYTES_FITTING_MAX, BYTES_MAX, BYTES_MIN, Disk, Identity, SizeError,
    content::{self, Content},
    directory::Names,
    extents::Extents,
    groups::Account,
    inode::{self, Body, Inode, JournalCopy, Kind},
    journal,
    layout::{GROUP_INODES, Geometry, Layout, Run, Space},
    tree::{Child, Directory, PathError, Tree},
    xattr::{self, Stored, XattrError},
};

/// Most names of a whole tree; they are held in memory.
pub const NAMES_MAX: u64 = 1 << 23;

/// Most bytes of a symbolic link's target. Source: `PATH_MAX`, linux/limits.h.
pub const TARGET_MAX: usize = 4095;

/// Most bytes of a file: its blocks have numbers of 32 bits.
pub const FILE_MAX: u64 = u32::MAX as u64 * BLOCK;

/// What a disk that is made for its content has free besides: this part of what is in use, ...
const SPARE_PART: u64 = 4;

/// ... and at least 64 MiB, in blocks.
const SPARE_MIN: u64 = (64 << 20) / BLOCK;

/// Where files are put that have lost their names.
const LOST: &[u8] = b"lost+found";

/// Bytes of a directory that are written at once.
const DIRECTORY_BUFFER: usize = 1 << 18;

/// Its blocks, so that nothing has to be allocated then.
const LOST_BLOCKS: u64 = 4;

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

/// Why a file system was not made.
#[derive(Debug, thiserror::Error)]
pub enum FillError {
    /// No disk has that size.
    #[error(transparent)]
    Size(#[from] SizeError),
    /// The disk could not be written.
    #[error("cannot write the disk")]
    Write(#[source] io::Error),
    /// A file's content could not be read, or it ends too early.
    #[error("cannot read {name}")]
    Read {
        /// Which file.
        name: Name,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The blocks are used up.
    #[error("the files do not fit on a disk of {bytes} bytes")]
    Full {
        /// How large it is.
        bytes: u64,
    },
    /// The inodes are used up.
    #[error("a disk of {bytes} bytes has room for {inodes} files and directories, and not more")]
    Inodes {
        /// How large it is.
        bytes: u64,
        /// How many it has.
        inodes: u64,
    },
    /// More than [`NAMES_MAX`].
    #[error("there are more than {NAMES_MAX} files and directories")]
    Names,
    /// A path that cannot be, or leads nowhere.
    #[error("cannot put {name} on the disk: {fault}")]
    Path {
        /// Which.
        name: Name,
        /// What is wrong with it.
        fault: PathError,
    },
    /// Something that a path is to be, and nothing can be.
    #[error("cannot put {name} on the disk: {what}")]
    Node {
        /// Which.
        name: Name,
        /// Why not.
        what: &'static str,
    },
    /// Attributes that the file system has no room for.
    #[error("cannot put {name} on the disk: {fault}")]
    Xattr {
        /// Whose.
        name: Name,
        /// What is wrong with them.
        fault: XattrError,
    },
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
    names: u64,
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
            names: 0,
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
        self.count_name()?;
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

    /// Writes what is left to be written, and says how many bytes the disk has.
    ///
    /// # Errors
    /// [`FillError`]; the disk is of no use then.
    pub fn finish(mut self) -> Result<(D, u64), FillError> {
        self.add_lost_and_found()?;
        let tree = std::mem::replace(&mut self.tree, Tree::new(inode::ROOT));
        let directories = tree.into_directories();
        let mut counts = BTreeMap::new();
        for directory in &directories {
            self.directory(directory, &directories)?;
            *counts.entry(u64::from(directory.inode - 1) / GROUP_INODES).or_insert(0) += 1;
        }
        for (number, links) in std::mem::take(&mut self.links) {
            let links = u16::try_from(links).expect("at most 65000, as counted in link");
            self.write(&links.to_le_bytes(), self.geometry.inode_at(number) + inode::LINKS_AT)?;
        }
        let journal = self.journal()?;
        let (layout, bytes) = self.layout()?;
        let account = Account {
            layout,
            identity: self.identity,
            next: self.space.next(),
            inodes: u64::from(self.last),
            directories: counts,
            journal,
        };
        account.write(&mut self.disk).map_err(FillError::Write)?;
        Ok((self.disk, bytes))
    }

    /// The finished disk, and how many bytes it has.
    fn layout(&self) -> Result<(Layout, u64), FillError> {
        if let Size::Exactly(bytes) = self.size {
            return Ok((exact(bytes)?, bytes));
        }
        let layout = Layout::fitting(self.geometry, self.wanted(), u64::from(self.last));
        let bytes = layout.blocks * BLOCK;
        if bytes > BYTES_FITTING_MAX {
            return Err(self.full());
        }
        Ok((layout, bytes))
    }

    /// Blocks that the disk has, or should have for what is on it.
    fn wanted(&self) -> u64 {
        let used = self.space.next();
        match self.size {
            Size::Exactly(bytes) => bytes / BLOCK,
            Size::Fitting => used + (used / SPARE_PART).max(SPARE_MIN),
        }
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

    fn count_name(&mut self) -> Result<(), FillError> {
        self.names += 1;
        if self.names > NAMES_MAX { Err(FillError::Names) } else { Ok(()) }
    }

    fn new_inode(&mut self) -> Result<u32, FillError> {
        self.count_name()?;
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

    /// Makes the directory for lost files, if there is not something of that name.
    fn add_lost_and_found(&mut self) -> Result<(), FillError> {
        if self.tree.get(Tree::ROOT).names.contains_key(LOST) {
            return Ok(());
        }
        let number = self.new_inode()?;
        let mtime = self.tree.get(Tree::ROOT).attributes.mtime;
        let attributes = Attributes { mode: 0o700, mtime, ..Attributes::default() };
        let place = self.tree.directory((Tree::ROOT, LOST), number, attributes);
        self.tree.get_mut(place).blocks_min = LOST_BLOCKS;
        Ok(())
    }

    fn directory(&mut self, directory: &Directory, all: &[Directory]) -> Result<(), FillError> {
        let (mut names, mut blocks, mut extents) = (Names::new(), Vec::new(), Extents::default());
        let inode_of = |child: &Child| match child {
            Child::Directory(place) => (Tree::of(all, *place).inode, Kind::Directory),
            Child::Other { inode, kind } => (*inode, *kind),
        };
        let own = [
            (b".".as_slice(), directory.inode, Kind::Directory),
            (b"..", Tree::of(all, directory.parent).inode, Kind::Directory),
        ];
        let others = directory.names.iter().map(|(name, child)| {
            let (inode, kind) = inode_of(child);
            (&**name, inode, kind)
        });
        for (name, inode, kind) in own.into_iter().chain(others) {
            let Some(block) = names.push(name, inode, kind) else { continue };
            blocks.extend(block);
            if blocks.len() >= DIRECTORY_BUFFER {
                self.place(extents.blocks(), &blocks, &mut extents)?;
                blocks.clear();
            }
        }
        blocks.extend(names.end());
        while extents.blocks() + (blocks.len() as u64) / BLOCK < directory.blocks_min {
            blocks.extend(Names::new().end());
        }
        self.place(extents.blocks(), &blocks, &mut extents)?;
        let size = extents.blocks() * BLOCK;
        let (body, blocks) = self.body(&extents)?;
        let inode = Inode::new(Kind::Directory, &directory.attributes, body);
        let links = directory_links(directory.directories);
        let stored = xattr::store(&directory.attributes.xattrs).unwrap_or_default();
        self.write_inode(directory.inode, Inode { links, size, blocks, ..inode }, stored)
    }

    /// Makes room for the journal, side by side but where a group begins.
    fn journal(&mut self) -> Result<JournalCopy, FillError> {
        let blocks = journal::blocks(self.wanted());
        let mut extents = Extents::default();
        let mut first = None;
        while extents.blocks() < blocks {
            let run = self.take(blocks - extents.blocks())?;
            first = first.or(Some(run.start));
            extents.push(extents.blocks(), run);
        }
        let superblock = journal::superblock(blocks, &self.identity);
        self.write(&superblock, first.unwrap_or(0) * BLOCK)?;
        let (body, all) = self.body(&extents)?;
        let attributes = Attributes { mode: 0o600, ..Attributes::default() };
        let size = blocks * BLOCK;
        let inode = Inode { size, blocks: all, ..Inode::new(Kind::File, &attributes, body) };
        self.write_inode(inode::JOURNAL, inode, Stored::default())?;
        let (Body::Extents(body) | Body::Plain(body)) = body;
        Ok(JournalCopy { body, size })
    }
}

/// Names of a directory: its own, the one in itself and one in each directory below. 1 says that
/// they are too many to be counted.
fn directory_links(directories: u64) -> u16 {
    let links = 2 + directories;
    let counted = links <= inode::LINKS_MAX;
    if counted { u16::try_from(links).unwrap_or(1) } else { 1 }
}

/// The layout of a disk whose size is given.
fn exact(bytes: u64) -> Result<Layout, SizeError> {
    if !(BYTES_MIN..=BYTES_MAX).contains(&bytes) {
        return Err(SizeError(bytes));
    }
    Ok(Layout::within(Geometry::exactly(bytes / BLOCK), bytes / BLOCK))
}

fn wrong_path(path: &[u8], fault: PathError) -> FillError {
    FillError::Path { name: Name::new(path), fault }
}

fn wrong_node(path: &[u8], what: &'static str) -> FillError {
    FillError::Node { name: Name::new(path), what }
}
