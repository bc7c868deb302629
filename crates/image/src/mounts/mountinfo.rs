//! The kernel's mount table. Parsing is pure.
//!
//! Source: proc_pid_mountinfo(5).

use std::{
    ffi::OsString,
    fs, io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

/// Mount points directly in `dir`, in the order of the table.
pub(super) fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo")?;
    let mut points: Vec<PathBuf> = points(&table).collect();
    points.retain(|point| point.parent() == Some(dir));
    Ok(points)
}

fn points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    /// ID, parent, major:minor, root, **mount point**.
    const FIELD: usize = 4;
    table.split(|&b| b == b'\n').filter_map(|line| {
        let field = line.split(|&b| b == b' ').nth(FIELD)?;
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
}
