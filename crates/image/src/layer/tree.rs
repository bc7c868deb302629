//! What a layer holds: names and attributes, while its archive is being read.
//!
//! Entries are looked up here and nowhere else: a symbolic link on the way to an entry leads to
//! another place of this tree, and never out of it, as if the tree were the root. A later
//! entry replaces an earlier one of the same name; a directory over a directory keeps what is in
//! it and takes the later attributes. Nodes that lost their name stay in memory and are not
//! written.

use std::collections::BTreeMap;

use super::{Attributes, Device, EntryError, Exceeded, Limits, Name};

/// A layer; `F` says where the content of a file is.
#[derive(Debug)]
pub(super) struct Tree<F> {
    nodes: Vec<Node<F>>,
    nodes_max: u64,
    /// Directories within each other.
    depth_max: usize,
    /// Bytes of names, targets and attributes in memory.
    bytes: u64,
    bytes_max: u64,
}

/// Index of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

/// A file of any kind. One with several names has several children that lead to it.
#[derive(Debug)]
pub(super) struct Node<F> {
    pub(super) attributes: Attributes,
    pub(super) kind: Kind<F>,
}

/// What a node is.
#[derive(Debug)]
pub(super) enum Kind<F> {
    Directory(Directory),
    File(F),
    Symlink(Box<[u8]>),
    Device(Device),
    Fifo,
    /// Hides what the layers below have under this name.
    Whiteout,
}

/// A directory.
#[derive(Debug, Default)]
pub(super) struct Directory {
    pub(super) children: BTreeMap<Box<[u8]>, Child>,
    /// Hides what the layers below have in it.
    pub(super) opaque: bool,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Child {
    pub(super) node: NodeId,
    /// A whiteout of this name is in the layer too: a directory is then opaque. Anything else
    /// hides what is below by being there.
    pub(super) whiteout: bool,
}

impl NodeId {
    /// The root of every tree.
    pub(super) const ROOT: NodeId = NodeId(0);

    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// Bytes of memory that a node takes besides its names and attributes, about.
const NODE_BYTES: u64 = 160;

/// Most symbolic links on the way to one entry. Source: path_resolution(7).
const LINKS_MAX: u32 = 40;

/// Longest name of a directory that a link implies. Source: `NAME_MAX`, linux/limits.h.
const NAME_BYTES_MAX: usize = 255;

/// Permissions of directories that the archive implies only, as Docker gives them.
const IMPLIED_MODE: u16 = 0o755;

fn implied<F>() -> Node<F> {
    let attributes = Attributes { mode: IMPLIED_MODE, ..Attributes::default() };
    Node { attributes, kind: Kind::Directory(Directory::default()) }
}

impl<F> Tree<F> {
    pub(super) fn new(limits: &Limits) -> Tree<F> {
        // Ids are 32 bits wide.
        let nodes_max = limits.entries.min(u64::from(u32::MAX));
        let bytes_max = limits.metadata_bytes;
        let depth_max = limits.depth;
        Tree { nodes: vec![implied()], nodes_max, depth_max, bytes: 0, bytes_max }
    }

    pub(super) fn node(&self, id: NodeId) -> &Node<F> {
        self.nodes.get(id.index()).expect("ids are made by push alone, and nodes never go")
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node<F> {
        self.nodes.get_mut(id.index()).expect("ids are made by push alone, and nodes never go")
    }

    /// How many nodes there are, named or not.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Sets the attributes of the root.
    pub(super) fn set_root(&mut self, attributes: Attributes) -> Result<(), EntryError> {
        self.charge(&attributes, 0)?;
        self.node_mut(NodeId::ROOT).attributes = attributes;
        Ok(())
    }

    /// The directory at this path, made where it is missing; through symbolic links, if there are
    /// any on the way.
    pub(super) fn directory(&mut self, path: &[&[u8]]) -> Result<NodeId, EntryError> {
        let mut at = NodeId::ROOT;
        for (depth, name) in path.iter().enumerate() {
            at = match self.child(at, name).map(|child| (child.node, &self.node(child.node).kind)) {
                Some((id, Kind::Directory(_))) => id,
                Some((_, Kind::Whiteout)) | None => self.insert(at, name, implied())?,
                Some((_, Kind::Symlink(_))) => return self.through_links(path),
                Some((_, Kind::File(_) | Kind::Device(_) | Kind::Fifo)) => {
                    let parent = path.get(..=depth).unwrap_or(path).join(&b'/');
                    return Err(EntryError::Parent(Name::new(&parent)));
                }
            };
        }
        Ok(at)
    }

    /// The same by the rules of path_resolution(7), with this tree as the root.
    fn through_links(&mut self, path: &[&[u8]]) -> Result<NodeId, EntryError> {
        let shown = || EntryError::Parent(Name::new(&path.join(&b'/')));
        // What is still to go, the next component last.
        let mut ahead: Vec<Box<[u8]>> = path.iter().rev().map(|&name| name.into()).collect();
        let mut way = vec![NodeId::ROOT];
        let mut links = 0;
        while let Some(name) = ahead.pop() {
            let at = way.last().copied().unwrap_or(NodeId::ROOT);
            match &*name {
                b"" | b"." => continue,
                b".." => {
                    way.truncate(way.len().saturating_sub(1).max(1));
                    continue;
                }
                _ => {}
            }
            match self.child(at, &name).map(|child| (child.node, &self.node(child.node).kind)) {
                Some((id, Kind::Directory(_))) => way.push(id),
                Some((_, Kind::Symlink(target))) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(EntryError::Links);
                    }
                    if target.starts_with(b"/") {
                        way.truncate(1);
                    }
                    ahead.extend(target.split(|&b| b == b'/').rev().map(Into::into));
                }
                Some((_, Kind::Whiteout)) | None => {
                    if name.len() > NAME_BYTES_MAX {
                        return Err(EntryError::Component);
                    }
                    way.push(self.insert(at, &name, implied())?);
                }
                Some((_, Kind::File(_) | Kind::Device(_) | Kind::Fifo)) => return Err(shown()),
            }
            if way.len() > self.depth_max {
                let (limit, max) = ("components in one path", self.depth_max as u64);
                return Err(EntryError::Limit(Exceeded { limit, max }));
            }
        }
        Ok(way.last().copied().unwrap_or(NodeId::ROOT))
    }

    /// Puts a node under a name in a directory, in place of what is there.
    pub(super) fn insert(
        &mut self,
        parent: NodeId,
        name: &[u8],
        node: Node<F>,
    ) -> Result<NodeId, EntryError> {
        let target = match &node.kind {
            Kind::Symlink(target) => target.len(),
            Kind::Directory(_) | Kind::File(_) | Kind::Device(_) | Kind::Fifo | Kind::Whiteout => 0,
        };
        self.charge(&node.attributes, name.len() + target)?;
        let before = self.child(parent, name);
        if let Some(child) = before
            && let Kind::Directory(_) = node.kind
            && let Kind::Directory(_) = self.node(child.node).kind
        {
            self.node_mut(child.node).attributes = node.attributes;
            return Ok(child.node);
        }
        let hidden = before.is_some_and(|child| child.whiteout);
        let whiteout = hidden || matches!(node.kind, Kind::Whiteout);
        let id = self.push(node)?;
        self.children_mut(parent).insert(name.into(), Child { node: id, whiteout });
        Ok(id)
    }

    /// Gives the node at `target` another name.
    pub(super) fn link(
        &mut self,
        parent: NodeId,
        name: &[u8],
        target: &[&[u8]],
    ) -> Result<(), EntryError> {
        let shown = || Name::new(&target.join(&b'/'));
        let node = self.find(target)?.ok_or_else(|| EntryError::LinkTarget(shown()))?;
        match self.node(node).kind {
            Kind::Directory(_) => return Err(EntryError::LinkDirectory(shown())),
            Kind::Whiteout => return Err(EntryError::LinkTarget(shown())),
            Kind::File(_) | Kind::Symlink(_) | Kind::Device(_) | Kind::Fifo => {}
        }
        self.charge(&Attributes::default(), name.len())?;
        let whiteout = self.child(parent, name).is_some_and(|child| child.whiteout);
        self.children_mut(parent).insert(name.into(), Child { node, whiteout });
        Ok(())
    }

    /// Hides what the layers below have under this name. What this layer has stays, wherever in
    /// the archive it stands. Source: OCI image-spec, layer.md: whiteouts "apply only to
    /// resources in lower/parent layers".
    pub(super) fn whiteout(&mut self, parent: NodeId, name: &[u8]) -> Result<(), EntryError> {
        if let Some(child) = self.children_mut(parent).get_mut(name) {
            child.whiteout = true;
            return Ok(());
        }
        let node = Node { attributes: Attributes::default(), kind: Kind::Whiteout };
        self.insert(parent, name, node).map(|_| ())
    }

    /// Hides what the layers below have in this directory.
    pub(super) fn set_opaque(&mut self, directory: NodeId) {
        self.directory_mut(directory).opaque = true;
    }

    /// The node at this path. What directories are missing behind a link is made, as it is for
    /// entries: a link target below them is then missing all the same.
    fn find(&mut self, path: &[&[u8]]) -> Result<Option<NodeId>, EntryError> {
        let Some((name, parents)) = path.split_last() else { return Ok(Some(NodeId::ROOT)) };
        let plain =
            parents.iter().try_fold(NodeId::ROOT, |at, name| Some(self.child(at, name)?.node));
        let linked = |tree: &Tree<F>| {
            let mut at = NodeId::ROOT;
            parents.iter().any(|name| {
                let Some(child) = tree.child(at, name) else { return false };
                at = child.node;
                matches!(tree.node(at).kind, Kind::Symlink(_))
            })
        };
        let parent = match plain {
            Some(parent) if !linked(self) => Some(parent),
            _ if linked(self) => Some(self.through_links(parents)?),
            _ => None,
        };
        Ok(parent.and_then(|parent| self.child(parent, name)).map(|child| child.node))
    }

    fn child(&self, parent: NodeId, name: &[u8]) -> Option<Child> {
        match &self.node(parent).kind {
            Kind::Directory(directory) => directory.children.get(name).copied(),
            Kind::File(_) | Kind::Symlink(_) | Kind::Device(_) | Kind::Fifo | Kind::Whiteout => {
                None
            }
        }
    }

    fn children_mut(&mut self, parent: NodeId) -> &mut BTreeMap<Box<[u8]>, Child> {
        &mut self.directory_mut(parent).children
    }

    fn directory_mut(&mut self, id: NodeId) -> &mut Directory {
        match &mut self.node_mut(id).kind {
            Kind::Directory(directory) => directory,
            Kind::File(_) | Kind::Symlink(_) | Kind::Device(_) | Kind::Fifo | Kind::Whiteout => {
                unreachable!("parents come from Tree::directory")
            }
        }
    }

    fn push(&mut self, node: Node<F>) -> Result<NodeId, EntryError> {
        let limit = "entries";
        let full = EntryError::Limit(Exceeded { limit, max: self.nodes_max });
        if self.nodes.len() as u64 > self.nodes_max {
            return Err(full);
        }
        let id = u32::try_from(self.nodes.len()).map_err(|_| full)?;
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    /// Accounts for memory before it is kept.
    fn charge(&mut self, attributes: &Attributes, names: usize) -> Result<(), EntryError> {
        let xattrs = attributes.xattrs.iter().map(|x| x.name.len() + x.value.len()).sum::<usize>();
        self.charge_bytes(NODE_BYTES + (xattrs + names) as u64)
    }

    /// Accounts for what a file's content takes in memory.
    pub(super) fn charge_bytes(&mut self, bytes: u64) -> Result<(), EntryError> {
        self.bytes += bytes;
        match self.bytes > self.bytes_max {
            true => {
                let limit = "bytes of names and attributes";
                Err(EntryError::Limit(Exceeded { limit, max: self.bytes_max }))
            }
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
