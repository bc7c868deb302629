//! The kernel's mount table. Parsing is pure.
//!
//! Source: proc_pid_mountinfo(5).

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use rustix::mount::{UnmountFlags, unmount};

/// ID, parent, major:minor, root, **mount point**.
const MOUNT_POINT: usize = 4;

/// Mount points directly in `dir`, in the order of the table.
pub(super) fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let mut points: Vec<PathBuf> = points(&table).collect();
    points.retain(|point| point.parent() == Some(dir));
    Ok(points)
}

/// Sources that begin so, of everything that is mounted in these mount namespaces, each with its
/// namespace. A namespace is known by any process in it, as `/proc/PID/ns/mnt` names it.
pub(crate) fn sources(
    beginning: &str,
    namespaces: &BTreeSet<PathBuf>,
) -> BTreeSet<(PathBuf, String)> {
    let mut waiting = namespaces.clone();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        if waiting.is_empty() {
            break;
        }
        let Ok(namespace) = fs::read_link(entry.path().join("ns/mnt")) else { continue };
        if !waiting.contains(&namespace) {
            continue;
        }
        // A process that ends meanwhile does not speak for its namespace.
        let Ok(table) = fs::read(entry.path().join("mountinfo")) else { continue };
        if table.is_empty() {
            continue;
        }
        waiting.remove(&namespace);
        found.extend(with_source(&table, beginning).map(|(_, s)| (namespace.clone(), s)));
    }
    found
}

/// Unmounts whatever of the calling thread's mount namespace has a source that begins so.
pub(crate) fn detach_all(beginning: &str) -> io::Result<()> {
    let table = fs::read("/proc/thread-self/mountinfo")?;
    for (point, _) in with_source(&table, beginning) {
        unmount(&point, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW)?;
    }
    Ok(())
}

/// Mount points and sources.
fn with_source(table: &[u8], beginning: &str) -> impl Iterator<Item = (PathBuf, String)> {
    table.split(|&b| b == b'\n').filter_map(move |line| {
        // Optional fields end with a dash; behind it type, **source** and options.
        let source = line.split(|&b| b == b' ').skip_while(|field| *field != b"-").nth(2)?;
        let source = String::from_utf8(unescape(source)).ok()?;
        let point = unescape(line.split(|&b| b == b' ').nth(MOUNT_POINT)?);
        let point = PathBuf::from(OsString::from_vec(point));
        source.starts_with(beginning).then_some((point, source))
    })
}

fn points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table.split(|&b| b == b'\n').filter_map(|line| {
        let field = line.split(|&b| b == b' ').nth(MOUNT_POINT)?;
        Some(PathBuf::from(OsString::from_vec(unescape(field))))
    })
}

/// Space, tab, newline and backslash stand there as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, after)) = rest.split_first() {
        (rest, _) = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                (after, out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0')))
            }
            _ => (after, out.push(first)),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_odd_names_are_read() {
        let table = b"36 35 98:0 / /run/a\\040b\\134 rw - erofs /x ro\n\
                      37 35 98:0 /r /run/c rw,noatime shared:1 - ext4 /dev/x rw\nshort line\n";
        let found: Vec<_> = points(table).collect();
        assert_eq!(found, [PathBuf::from("/run/a b\\"), PathBuf::from("/run/c")]);
    }

    #[test]
    fn sources_are_found_behind_any_number_of_optional_fields() {
        let table = b"36 35 0:40 / /a rw - overlay wythe-image-1 ro\n\
                      37 35 0:41 / /b rw shared:1 master:2 - overlay wythe-image-2 ro\n\
                      38 35 0:42 / /wythe-image-3 rw - tmpfs other rw\nshort\n";
        let found: Vec<_> = with_source(table, "wythe-image-").collect();
        let want = |point: &str, source: &str| (PathBuf::from(point), source.to_owned());
        assert_eq!(found, [want("/a", "wythe-image-1"), want("/b", "wythe-image-2")]);
    }
}
