//! From entries to a tree: one pass over the archive.

use std::io::BufRead;

use super::{
    Device, Entry, EntryError, EntryKind, Exceeded, LayerError, Limits, Name, Segment,
    path::{self, Place},
    tar::{Archive, TarError},
    tree::{Kind, Node, NodeId, Tree},
};

/// Where the content of files goes.
pub(super) trait Contents {
    /// Where one file's content is.
    type Place;

    /// Stores the content of a file as it comes out of the archive.
    fn store<R: BufRead>(
        &mut self,
        file: File<'_>,
        data: &mut Archive<R>,
    ) -> Result<Self::Place, LayerError>;

    /// Bytes of memory that a place holds until the end.
    fn held_bytes(place: &Self::Place) -> u64;
}

/// A regular file whose data is about to come.
#[derive(Clone, Copy)]
pub(super) struct File<'e> {
    /// Its path and attributes.
    pub(super) entry: &'e Entry,
    /// Length with holes.
    pub(super) size: u64,
    /// Where the data belongs, if there are holes.
    pub(super) segments: Option<&'e [Segment]>,
}

/// What an archive came to.
pub(super) struct Applied<F> {
    pub(super) tree: Tree<F>,
    meaning: Meaning,
    pub(super) entries: u64,
    pub(super) content_bytes: u64,
    pub(super) xattrs_ignored: u64,
}

/// What names in an archive mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A layer's: some of them hide what is below.
    Layer,
    /// Nothing but files. Device nodes, which open what is the host's, are refused.
    Files,
}

/// Reads the archive to its end.
pub(super) fn apply<C: Contents>(
    source: impl BufRead,
    contents: &mut C,
    meaning: Meaning,
    limits: &Limits,
) -> Result<Applied<C::Place>, LayerError> {
    let mut archive = Archive::new(source, limits);
    let tree = Tree::new(limits);
    let mut applied = Applied { tree, meaning, entries: 0, content_bytes: 0, xattrs_ignored: 0 };
    while let Some(entry) = archive.next_entry().map_err(LayerError::Tar)? {
        let path = entry.path.clone();
        applied.entry(entry, &mut archive, contents, limits).map_err(|error| match error {
            Failure::Entry(source) => LayerError::entry(&path, source),
            Failure::Layer(LayerError::Tar(tar)) => LayerError::Tar(TarError {
                path: tar.path.or_else(|| Some(Name::new(&path))),
                ..tar
            }),
            Failure::Layer(error) => error,
        })?;
    }
    Ok(applied)
}

/// Why an entry was not applied: its own fault, or one that has its words already.
enum Failure {
    Entry(EntryError),
    Layer(LayerError),
}

impl From<EntryError> for Failure {
    fn from(error: EntryError) -> Failure {
        Failure::Entry(error)
    }
}

impl<F> Applied<F> {
    fn entry<R: BufRead, C: Contents<Place = F>>(
        &mut self,
        mut entry: Entry,
        archive: &mut Archive<R>,
        contents: &mut C,
        limits: &Limits,
    ) -> Result<(), Failure> {
        self.entries += 1;
        if self.entries > limits.entries {
            return Err(
                EntryError::Limit(Exceeded { limit: "entries", max: limits.entries }).into()
            );
        }
        let given = entry.attributes.xattrs.len();
        entry.attributes.xattrs.retain(|xattr| may_be_set(&xattr.name, &entry.kind));
        self.xattrs_ignored += (given - entry.attributes.xattrs.len()) as u64;

        let path = std::mem::take(&mut entry.path);
        let components = path::clean(&path, limits)?;
        entry.path = components.join(&b'/');
        let place = match self.meaning {
            Meaning::Layer => path::place(&components)?,
            Meaning::Files => path::plain(&components)?,
        };
        match place {
            Place::Ignored => {}
            Place::Root => match entry.kind {
                EntryKind::Directory => self.tree.set_root(entry.attributes)?,
                EntryKind::File { .. }
                | EntryKind::HardLink(_)
                | EntryKind::Symlink(_)
                | EntryKind::Device(_)
                | EntryKind::Fifo => return Err(EntryError::Root.into()),
            },
            Place::Opaque { directory } => {
                let directory = self.tree.directory(directory)?;
                self.tree.set_opaque(directory);
            }
            Place::Whiteout { parents, name } => {
                let parent = self.tree.directory(parents)?;
                self.tree.whiteout(parent, name)?;
            }
            Place::Entry { parents, name } => {
                let parent = self.tree.directory(parents)?;
                self.place(parent, name, entry, archive, contents, limits)?;
            }
        }
        Ok(())
    }

    fn place<R: BufRead, C: Contents<Place = F>>(
        &mut self,
        parent: NodeId,
        name: &[u8],
        entry: Entry,
        archive: &mut Archive<R>,
        contents: &mut C,
        limits: &Limits,
    ) -> Result<(), Failure> {
        let kind = match &entry.kind {
            EntryKind::Directory => Kind::Directory(Default::default()),
            EntryKind::Symlink(target) => Kind::Symlink(symlink_target(target, limits)?),
            EntryKind::Fifo => Kind::Fifo,
            EntryKind::Device(device) => {
                let (major, minor) = (device.major, device.minor);
                // overlayfs's whiteout opens nothing.
                if self.meaning == Meaning::Files && *device != Device::WHITEOUT {
                    return Err(EntryError::HostDevice { major, minor }.into());
                }
                if major >= 1 << 12 || minor >= 1 << 20 {
                    return Err(EntryError::Device { major, minor }.into());
                }
                Kind::Device(*device)
            }
            EntryKind::HardLink(target) => {
                let target = path::clean(target, limits)
                    .map_err(|error| EntryError::LinkPath(Box::new(error)))?;
                return Ok(self.tree.link(parent, name, &target)?);
            }
            EntryKind::File { size, segments } => {
                let segments = segments.as_deref();
                let data = segments.map_or(*size, |all| all.iter().map(|s| s.length).sum());
                self.content_bytes += data;
                if self.content_bytes > limits.content_bytes {
                    let (limit, max) = ("bytes of file content", limits.content_bytes);
                    return Err(EntryError::Limit(Exceeded { limit, max }).into());
                }
                let file = File { entry: &entry, size: *size, segments };
                let place = contents.store(file, archive).map_err(Failure::Layer)?;
                self.tree.charge_bytes(C::held_bytes(&place))?;
                Kind::File(place)
            }
        };
        let attributes = entry.attributes;
        self.tree.insert(parent, name, Node { attributes, kind })?;
        Ok(())
    }
}

fn symlink_target(target: &[u8], limits: &Limits) -> Result<Box<[u8]>, EntryError> {
    let max = limits.path_bytes;
    match target {
        b"" => Err(EntryError::EmptyTarget),
        nul if nul.contains(&0) => Err(EntryError::Nul),
        long if long.len() > max => {
            Err(EntryError::Limit(Exceeded { limit: "bytes in one link target", max: max as u64 }))
        }
        target => Ok(target.into()),
    }
}

/// Whether an image may set this attribute. overlayfs reads its own from the layers: a redirect
/// set by an image would show files of other layers under names of its choice. The names that
/// overlayfs escapes for nesting begin in the same way. Namespaces that Linux does not have
/// (`com.apple.…`), and `user.` on anything but files and directories, are left out too, as
/// Docker and containerd do when the kernel refuses them.
///
/// Source: Documentation/filesystems/overlayfs.rst; xattr(7).
fn may_be_set(name: &[u8], kind: &EntryKind) -> bool {
    let overlay = [&b"trusted.overlay."[..], b"user.overlay."];
    let known = [&b"user."[..], b"trusted.", b"security."];
    let acl = [&b"system.posix_acl_access"[..], b"system.posix_acl_default"];
    let data = matches!(kind, EntryKind::File { .. } | EntryKind::Directory);
    // The kernel's limit on a name, XATTR_NAME_MAX.
    name.len() <= 255
        && (data || !name.starts_with(b"user."))
        && !overlay.iter().any(|prefix| name.starts_with(prefix))
        && (acl.contains(&name)
            || known.iter().any(|prefix| name.len() > prefix.len() && name.starts_with(prefix)))
}
