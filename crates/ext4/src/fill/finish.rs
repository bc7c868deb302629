//! What is written last: directories, the journal, and what says which blocks are in use.

use std::collections::BTreeMap;

use archive::Attributes;

use super::{FillError, Filling, Size, exact};
use crate::{
    BLOCK, BYTES_FITTING_MAX, Disk,
    directory::Names,
    extents::Extents,
    groups::Account,
    inode::{self, Body, Inode, JournalCopy, Kind},
    journal,
    layout::{GROUP_INODES, Layout},
    tree::{Child, Directory, Tree},
    xattr::{self, Stored},
};

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

impl<D: Disk> Filling<D> {
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
