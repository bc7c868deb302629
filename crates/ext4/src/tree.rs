//! Names: which directory has which, held in memory until all are known.

use std::collections::BTreeMap;

use archive::Attributes;

use crate::{directory::NAME_MAX, inode::Kind};

/// Which of the tree's directories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(usize);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Child {
    Directory(Place),
    Other { inode: u32, kind: Kind },
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) inode: u32,
    pub(crate) parent: Place,
    pub(crate) attributes: Attributes,
    pub(crate) names: BTreeMap<Box<[u8]>, Child>,
    /// How many of the names are directories.
    pub(crate) directories: u64,
    /// Blocks that it has at least.
    pub(crate) blocks_min: u64,
}

/// All directories; the first is the root.
#[derive(Debug)]
pub(crate) struct Tree(Vec<Directory>);

/// Why a path leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// One of its names cannot be.
    #[error("its names have 1 to {NAME_MAX} bytes without zeros, and none is \"..\"")]
    Name,
    /// A directory on the way is missing, or is something else.
    #[error("there is no directory that it is in")]
    Parent,
    /// There is something.
    #[error("it is there already")]
    Taken,
    /// There is nothing, or a directory.
    #[error("there is no file of that name")]
    Missing,
}

impl Tree {
    pub(crate) const ROOT: Place = Place(0);

    pub(crate) fn new(inode: u32) -> Tree {
        let attributes = Attributes { mode: 0o755, ..Attributes::default() };
        Tree(vec![Directory::new(inode, Tree::ROOT, attributes)])
    }

    pub(crate) fn get(&self, place: Place) -> &Directory {
        &self.0[place.0]
    }

    pub(crate) fn get_mut(&mut self, place: Place) -> &mut Directory {
        &mut self.0[place.0]
    }

    /// One of all directories.
    pub(crate) fn of(all: &[Directory], place: Place) -> &Directory {
        &all[place.0]
    }

    /// All of them, the root first.
    pub(crate) fn into_directories(self) -> Vec<Directory> {
        self.0
    }

    /// The directory in which a path is, and its name there; no name if it is the root.
    pub(crate) fn locate<'p>(
        &self,
        path: &'p [u8],
    ) -> Result<(Place, Option<&'p [u8]>), PathError> {
        let mut names =
            path.split(|byte| *byte == b'/').filter(|name| !matches!(*name, b"" | b"."));
        let mut place = Tree::ROOT;
        let Some(mut name) = names.next() else { return Ok((place, None)) };
        loop {
            if name.len() > NAME_MAX || name.contains(&0) || name == b".." {
                return Err(PathError::Name);
            }
            let Some(next) = names.next() else { return Ok((place, Some(name))) };
            match self.get(place).names.get(name) {
                Some(Child::Directory(child)) => place = *child,
                Some(Child::Other { .. }) | None => return Err(PathError::Parent),
            }
            name = next;
        }
    }

    /// A place for something new.
    pub(crate) fn vacant<'p>(&self, path: &'p [u8]) -> Result<(Place, &'p [u8]), PathError> {
        let (place, name) = self.locate(path)?;
        let name = name.ok_or(PathError::Taken)?;
        match self.get(place).names.contains_key(name) {
            true => Err(PathError::Taken),
            false => Ok((place, name)),
        }
    }

    /// Gives a name to something that is no directory.
    pub(crate) fn name(&mut self, (place, name): (Place, &[u8]), inode: u32, kind: Kind) {
        self.get_mut(place).names.insert(name.into(), Child::Other { inode, kind });
    }

    /// A new directory in a place that is vacant.
    pub(crate) fn directory(
        &mut self,
        (parent, name): (Place, &[u8]),
        inode: u32,
        attributes: Attributes,
    ) -> Place {
        let place = Place(self.0.len());
        self.0.push(Directory::new(inode, parent, attributes));
        let above = self.get_mut(parent);
        above.names.insert(name.into(), Child::Directory(place));
        above.directories += 1;
        place
    }

    /// What a path names, if it is no directory.
    pub(crate) fn file(&self, path: &[u8]) -> Result<(u32, Kind), PathError> {
        let (place, name) = self.locate(path)?;
        match name.and_then(|name| self.get(place).names.get(name)) {
            Some(Child::Other { inode, kind }) => Ok((*inode, *kind)),
            Some(Child::Directory(_)) | None => Err(PathError::Missing),
        }
    }
}

impl Directory {
    fn new(inode: u32, parent: Place, attributes: Attributes) -> Directory {
        let names = BTreeMap::new();
        Directory { inode, parent, attributes, names, directories: 0, blocks_min: 1 }
    }
}
