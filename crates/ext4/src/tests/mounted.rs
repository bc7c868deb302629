//! A disk that Linux has mounted, in a mount namespace of its own.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsStr,
    fs::{self, Metadata},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::{
        ffi::{OsStrExt as _, OsStringExt as _},
        fs::{FileTypeExt as _, MetadataExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::sample::{Thing, What};

/// Gone, mount and all, when it is dropped.
pub(super) struct Mounted {
    holder: Child,
    at: tempfile::TempDir,
}

impl Mounted {
    pub(super) fn new(disk: &Path) -> Mounted {
        let at = tempfile::tempdir().unwrap();
        let script = "mount -o loop,ro \"$0\" \"$1\" && echo mounted && read line";
        let mut unshare = Command::new("unshare");
        unshare.args(["-m", "sh", "-c", script]).arg(disk).arg(at.path());
        let mut holder = unshare.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "mounted\n");
        Mounted { holder, at }
    }

    /// The way to the mount from here.
    pub(super) fn root(&self) -> PathBuf {
        let inside = self.at.path().strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// Whether everything is there that was put there, as it was, and nothing else.
    pub(super) fn compare(&self, things: &[Thing]) {
        let root = self.root();
        let mut links = BTreeMap::<_, u64>::new();
        for thing in things {
            if let What::Link(target) = &thing.what {
                *links.entry(target).or_default() += 1;
            }
        }
        let mut links = BTreeMap::<_, u64>::new();
        for thing in things {
            if let What::Link(target) = &thing.what {
                *links.entry(target).or_default() += 1;
            }
        }
        let mut numbers = BTreeMap::new();
        for thing in things {
            let path = root.join(OsStr::from_bytes(&thing.path));
            let seen = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("{path:?}: {e}"));
            if let What::Link(target) = &thing.what {
                assert_eq!(Some(&seen.ino()), numbers.get(target), "{path:?}");
                continue;
            }
            numbers.insert(thing.path.clone(), seen.ino());
            attributes(thing, &path, &seen);
            content(thing, &path, &seen);
            if !seen.is_dir() {
                assert_eq!(seen.nlink(), 1 + links.get(&thing.path).unwrap_or(&0), "{path:?}");
            }
        }
        let wanted: BTreeSet<_> =
            things.iter().map(|thing| thing.path.clone()).filter(|path| !path.is_empty()).collect();
        assert_eq!(names(&root), wanted);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

/// All paths but that of lost+found.
fn names(root: &Path) -> BTreeSet<Vec<u8>> {
    let mut names = BTreeSet::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            let path = entry.path();
            let name = path.strip_prefix(root).unwrap().to_owned().into_os_string().into_vec();
            if entry.file_type().unwrap().is_dir() {
                waiting.push(path);
            }
            if name != b"lost+found" {
                names.insert(name);
            }
        }
    }
    names
}

fn attributes(thing: &Thing, path: &Path, seen: &Metadata) {
    let wanted = &thing.attributes;
    assert_eq!(seen.mode() & 0o7777, u32::from(wanted.mode), "{path:?}");
    assert_eq!((seen.uid(), seen.gid()), (wanted.uid, wanted.gid), "{path:?}");
    let time = (seen.mtime(), seen.mtime_nsec());
    assert_eq!(time, (wanted.mtime.seconds, i64::from(wanted.mtime.nanoseconds)), "{path:?}");
    let mut list = vec![0; 1 << 16];
    let length = rustix::fs::llistxattr(path, &mut list).unwrap();
    let mut xattrs: Vec<_> = list[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 1 << 16];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            archive::Xattr { name: name.into(), value: value[..length].into() }
        })
        .collect();
    xattrs.sort();
    assert_eq!(xattrs, wanted.xattrs, "{path:?}");
}

fn content(thing: &Thing, path: &Path, seen: &Metadata) {
    let kind = seen.file_type();
    match &thing.what {
        What::Directory => assert!(kind.is_dir()),
        What::Symlink(target) => {
            assert_eq!(fs::read_link(path).unwrap().into_os_string().into_vec(), *target);
            assert_eq!(seen.len(), target.len() as u64);
        }
        What::Device(device) => {
            let is_block = device.class == archive::DeviceClass::Block;
            assert!(if is_block { kind.is_block_device() } else { kind.is_char_device() });
            assert_eq!(seen.rdev(), rustix::fs::makedev(device.major, device.minor), "{path:?}");
        }
        What::Fifo => assert!(kind.is_fifo()),
        What::Socket => assert!(kind.is_socket()),
        What::Link(_) => {}
        What::File { size, segments, data } => {
            assert_eq!(seen.len(), *size);
            // Holes are holes: no more than each piece of data with the blocks at its ends, and
            // one block for the attributes, and what the tree of extents takes.
            let most = (data.len() as u64 + 8192 * (segments.len() as u64 + 2)) * 65 / 64;
            assert!(seen.blocks() * 512 <= most + 8192, "{path:?}: {}", seen.blocks());
            let mut from = fs::File::open(path).unwrap();
            let mut data = &data[..];
            let mut at = 0;
            for segment in segments {
                zeros(&mut from, segment.offset - at);
                let (own, rest) = data.split_at(usize::try_from(segment.length).unwrap());
                let mut bytes = vec![0; own.len()];
                from.read_exact(&mut bytes).unwrap();
                assert!(bytes == own, "{path:?} at {}", segment.offset);
                (data, at) = (rest, segment.offset + segment.length);
            }
            zeros(&mut from, size - at);
        }
    }
}

/// Whether a file goes on with so many zeros. Of many only the first and the last are read.
fn zeros(from: &mut fs::File, length: u64) {
    use std::io::Seek as _;
    const LOOKED_AT: u64 = 1 << 20;
    let skipped = length.saturating_sub(2 * LOOKED_AT);
    for (part, skip) in [((length - skipped) / 2, skipped), ((length - skipped).div_ceil(2), 0)] {
        let mut bytes = vec![1; usize::try_from(part).unwrap()];
        from.read_exact(&mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 0));
        from.seek_relative(i64::try_from(skip).unwrap()).unwrap();
    }
}
