//! Things to put on disks.

use archive::{Attributes, Device, DeviceClass, Segment, Time, Xattr};
use proptest::{collection::vec, prelude::*};

use crate::{Disk, FillError, Filling, Node};

#[derive(Clone, Debug)]
pub(super) struct Thing {
    pub(super) path: Vec<u8>,
    pub(super) attributes: Attributes,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    File { size: u64, segments: Vec<Segment>, data: Vec<u8> },
    Directory,
    Symlink(Vec<u8>),
    Device(Device),
    Fifo,
    Socket,
    Link(Vec<u8>),
}

impl Thing {
    pub(super) fn new(path: &str, what: What) -> Thing {
        let mtime = Time { seconds: 1_700_000_000, nanoseconds: 123_456_789 };
        let attributes = Attributes { mode: 0o644, mtime, ..Attributes::default() };
        Thing { path: path.into(), attributes, what }
    }

    /// A file with these bytes and no holes.
    pub(super) fn file(path: &str, data: impl Into<Vec<u8>>) -> Thing {
        let data = data.into();
        let size = data.len() as u64;
        let segments = whole(size);
        Thing::new(path, What::File { size, segments, data })
    }

    pub(super) fn xattr(mut self, name: &str, value: &[u8]) -> Thing {
        self.attributes.xattrs.push(Xattr { name: name.as_bytes().into(), value: value.into() });
        self.attributes.xattrs.sort();
        self
    }

    pub(super) fn add_to<D: Disk>(&self, filling: &mut Filling<D>) -> Result<(), FillError> {
        let node = match &self.what {
            What::File { size, segments, data } => {
                let (segments, content) = (Some(segments.as_slice()), &mut data.as_slice());
                return filling.add(
                    &self.path,
                    &self.attributes,
                    Node::File { size: *size, segments, content },
                );
            }
            What::Directory => Node::Directory,
            What::Symlink(target) => Node::Symlink(target),
            What::Device(device) => Node::Device(*device),
            What::Fifo => Node::Fifo,
            What::Socket => Node::Socket,
            What::Link(target) => return filling.link(&self.path, target),
        };
        filling.add(&self.path, &self.attributes, node)
    }
}

pub(super) fn whole(size: u64) -> Vec<Segment> {
    if size == 0 { Vec::new() } else { vec![Segment { offset: 0, length: size }] }
}

/// Zeros without end, for room that is all zeros.
pub(super) struct Zeros;

impl std::io::Read for Zeros {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        Ok(into.len())
    }
}

/// Bytes that are not the same from one block to the next.
pub(super) fn pattern(length: usize, seed: u32) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let id = prop_oneof![Just(0), 1..70_000u32, Just(u32::MAX - 1)];
    let seconds = prop_oneof![0..2_000_000_000i64, -(1i64 << 31)..(3i64 << 32)];
    let name = prop_oneof!["user\\.[a-z]{1,40}", "trusted\\.[a-z]{1,9}", "security\\.x[a-z]{1,9}"];
    let xattrs = proptest::collection::btree_map(name, vec(any::<u8>(), 0..300), 0..4);
    (0..0o10000u16, id.clone(), id, seconds, 0..1_000_000_000u32, xattrs).prop_map(
        |(mode, uid, gid, seconds, nanoseconds, xattrs)| {
            let xattr = |(name, value): (String, Vec<u8>)| Xattr {
                name: name.into_bytes().into(),
                value: value.into(),
            };
            let mut xattrs: Vec<_> = xattrs.into_iter().map(xattr).collect();
            xattrs.sort();
            Attributes { mode, uid, gid, mtime: Time { seconds, nanoseconds }, xattrs }
        },
    )
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte });
    let any_bytes = vec(byte, 1..=255).prop_filter("not itself", |n| !matches!(&**n, b"." | b".."));
    prop_oneof![3 => "[a-c]{1,2}".prop_map(String::into_bytes), 1 => any_bytes]
}

fn file() -> impl Strategy<Value = What> {
    vec((0..60_000u64, 1..20_000usize), 0..5).prop_flat_map(|runs| {
        let (mut segments, mut at) = (Vec::new(), 0);
        for (hole, length) in runs {
            let length = length as u64;
            segments.push(Segment { offset: at + hole, length });
            at += hole + length;
        }
        (Just(segments), any::<u32>(), 0..100_000u64).prop_map(move |(segments, seed, tail)| {
            let length = segments.iter().map(|segment| segment.length).sum::<u64>();
            let data = pattern(usize::try_from(length).unwrap(), seed);
            What::File { size: at + tail, segments, data }
        })
    })
}

fn what() -> impl Strategy<Value = Option<What>> {
    let target = vec(1..=255u8, 1..200).prop_map(What::Symlink);
    let device = (any::<bool>(), 0..4096u32, 0..1_048_576u32, 0..300u32).prop_map(
        |(is_block, major, minor, small)| {
            let class = if is_block { DeviceClass::Block } else { DeviceClass::Character };
            let (major, minor) = if small < 200 { (small, small) } else { (major, minor) };
            What::Device(Device { class, major, minor })
        },
    );
    prop_oneof![
        4 => file().prop_map(Some),
        4 => Just(Some(What::Directory)),
        1 => target.prop_map(Some),
        1 => device.prop_map(Some),
        1 => Just(Some(What::Fifo)),
        1 => Just(Some(What::Socket)),
        // Another name of something before it.
        2 => Just(None),
    ]
}

/// Trees: every directory before what is in it, no path twice.
pub(super) fn tree() -> impl Strategy<Value = Vec<Thing>> {
    let one = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), name(), attributes());
    vec((one, what()), 0..60).prop_map(|all| {
        let mut things: Vec<Thing> = Vec::new();
        let mut directories = vec![Vec::new()];
        for ((directory, target, name, mut attributes), what) in all {
            let mut path = directory.get(&directories).clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(name);
            let files: Vec<_> = things
                .iter()
                .filter(|thing| !matches!(thing.what, What::Directory | What::Link(_)))
                .collect();
            let what = match (what, files.is_empty()) {
                (Some(what), _) => what,
                (None, true) => continue,
                (None, false) => What::Link(target.get(&files).path.clone()),
            };
            if path.len() > 3000 || things.iter().any(|thing| thing.path == path) {
                continue;
            }
            if matches!(what, What::Directory) {
                directories.push(path.clone());
            }
            if !matches!(what, What::File { .. } | What::Directory) {
                // Linux does not let anybody see such attributes of others. Source: xattr(7).
                attributes.xattrs.retain(|xattr| !xattr.name.starts_with(b"user."));
            }
            things.push(Thing { path, attributes, what });
        }
        things
    })
}

/// The same as an archive, as `files` packs it.
pub(super) fn tar(things: &[Thing]) -> Vec<u8> {
    let mut tar = archive::tar_write::TarWriter::new(Vec::new());
    for thing in things {
        let mut path = [b"./", &*thing.path].concat();
        let kind = match &thing.what {
            What::File { size, segments, .. } => {
                archive::EntryKind::File { size: *size, segments: Some(segments.clone()) }
            }
            What::Directory => {
                path.push(b'/');
                archive::EntryKind::Directory
            }
            What::Symlink(target) => archive::EntryKind::Symlink(target.clone()),
            What::Device(device) => archive::EntryKind::Device(*device),
            What::Fifo => archive::EntryKind::Fifo,
            What::Socket => continue,
            What::Link(target) => archive::EntryKind::HardLink([b"./", &**target].concat()),
        };
        let attributes = thing.attributes.clone();
        tar.entry(&archive::Entry { path, attributes, kind }).unwrap();
        if let What::File { data, .. } = &thing.what {
            tar.data(data).unwrap();
        }
    }
    tar.finish().unwrap()
}
