//! What is at a path, and where a symbolic link leads in the end.

use std::{collections::VecDeque, os::fd::BorrowedFd};

use rustix::fs::{CWD, OFlags};
use workload::{FileFault, FileStat};

use crate::{beneath, fault::text, object::Object, pack};

/// Most links that are followed. Source: what Docker follows in a container's root.
const LINKS_MAX: usize = 255;

/// What is at a path, which is resolved as if `root` were the root directory. The last name is
/// not followed unless a slash comes after it.
///
/// # Errors
/// [`FileFault`].
pub fn stat(root: BorrowedFd<'_>, path: &str) -> Result<FileStat, FileFault> {
    let object = pack::open(root, path)?;
    let read = |path: &[u8]| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let object = beneath::open_in_root(root, path, flags).and_then(Object::new).ok()?;
        object.link_target().ok()
    };
    let mut stat = described(&object, path);
    if stat.is_symlink() {
        stat.link_target = Some(text(&resolve(path.as_bytes(), read)));
    }
    Ok(stat)
}

/// What is at a path of the calling process.
///
/// # Errors
/// As [`stat`].
pub fn stat_local(path: &std::path::Path) -> Result<FileStat, rustix::io::Errno> {
    let name = path.as_os_str().as_encoded_bytes();
    let object = Object::at(CWD, name)?;
    Ok(described(&object, &text(name)))
}

fn described(object: &Object, path: &str) -> FileStat {
    let (stat, modified) = (object.stat(), object.modified());
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    FileStat {
        name: if name.is_empty() { "/".to_owned() } else { name.to_owned() },
        size: object.size(),
        mode: stat.st_mode,
        modified: (modified.seconds, modified.nanoseconds),
        uid: stat.st_uid,
        gid: stat.st_gid,
        link_target: None,
    }
}

/// The path with every link on it followed, as far as there is anything.
fn resolve(path: &[u8], read: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Vec<u8> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect()
    };
    let mut left: VecDeque<_> = parts(path).into();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    let whole = |parts: &[Vec<u8>]| [b"/", parts.join(&b'/').as_slice()].concat();
    while let Some(part) = left.pop_front() {
        match part.as_slice() {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => done.push(part),
        }
        let Some(target) = read(&whole(&done)).filter(|_| links < LINKS_MAX) else { continue };
        links += 1;
        done.pop();
        if target.starts_with(b"/") {
            done.clear();
        }
        for part in parts(&target).into_iter().rev() {
            left.push_front(part);
        }
    }
    whole(&done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(path: &str) -> String {
        let links = [
            ("/a", "b"),
            ("/b", "/c/d"),
            ("/loop", "loop"),
            ("/up", "../../../etc"),
            ("/c/d/e", "../f"),
        ];
        let read = |path: &[u8]| {
            let link = links.iter().find(|(from, _)| from.as_bytes() == path);
            link.map(|(_, to)| to.as_bytes().to_vec())
        };
        text(&resolve(path.as_bytes(), read))
    }

    #[test]
    fn links_are_followed_and_stay_inside() {
        assert_eq!(resolved("/a"), "/c/d");
        assert_eq!(resolved("a/e"), "/c/f");
        assert_eq!(resolved("/up/passwd"), "/etc/passwd");
        assert_eq!(resolved("/nothing/../b"), "/c/d");
        assert_eq!(resolved("/loop"), "/loop");
    }
}
