//! One entry of a layer, as a tar archive or an EROFS image describes it.

/// An entry: a path and what is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The path as written in the archive: not cleaned, possibly hostile.
    pub path: Vec<u8>,
    /// Owner, mode, time, extended attributes.
    pub attributes: Attributes,
    /// What it is.
    pub kind: EntryKind,
}

/// What every kind of entry has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits with set-user-id, set-group-id and sticky: `0o7777` at most.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Last modification.
    pub mtime: Time,
    /// Extended attributes, sorted by name, each name once.
    pub xattrs: Vec<Xattr>,
}

/// A point in time; before 1970 the seconds are negative and the nanoseconds count forward.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub seconds: i64,
    /// Below 1,000,000,000.
    pub nanoseconds: u32,
}

/// One extended attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Xattr {
    /// Full name, such as `security.capability`.
    pub name: Box<[u8]>,
    /// Its bytes.
    pub value: Box<[u8]>,
}

/// The kinds of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Length with holes.
        size: u64,
        /// Where data is, if there are holes: in order, not empty, not overlapping, within `size`.
        segments: Option<Vec<Segment>>,
    },
    /// Another name of the entry at this path.
    HardLink(Vec<u8>),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A directory.
    Directory,
    /// A device node. Character device 0:0 is overlayfs's whiteout.
    Device(Device),
    /// A named pipe.
    Fifo,
}

/// A run of data in a sparse file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes, at least one.
    pub length: u64,
}

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Character or block.
    pub class: DeviceClass,
    /// Major number, below 2^12.
    pub major: u32,
    /// Minor number, below 2^20.
    pub minor: u32,
}

/// The two classes of devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceClass {
    /// A character device.
    Character,
    /// A block device.
    Block,
}

impl Device {
    /// What overlayfs takes for "not here". Source: Documentation/filesystems/overlayfs.rst.
    pub const WHITEOUT: Device = Device { class: DeviceClass::Character, major: 0, minor: 0 };
}
