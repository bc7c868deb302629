//! Ends a container that has used up its memory but does not die of it.
//!
//! On a host, a program's text is in the page cache of whoever read it first. In a machine it is
//! the container's own, and goes when its memory is full; then the program reads it again, page by
//! page, and pushes itself out. The kernel sees progress and kills nobody. So when its tasks mostly
//! wait for memory, and nearly all that they may have is theirs alone, the limit is lowered below
//! that for a moment: now the kernel has to choose.
//!
//! Source: Linux `Documentation/accounting/psi.rst`, `Documentation/admin-guide/cgroup-v2.rst`.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
    thread,
};

use rustix::event::{PollFd, PollFlags, poll};

/// Where the kernel tells how much tasks wait for memory.
const PRESSURE: &str = "/proc/pressure/memory";

/// What it is asked to tell: that all tasks together waited 100 ms of half a second. Its last byte is
/// not looked at.
const TRIGGER: &[u8] = b"full 100000 500000\0";

/// How many such halves in a row are enough.
const PATIENCE: u32 = 2;

/// Where control groups are, and how deep containers' may lie.
const GROUPS: &str = "/sys/fs/cgroup/wythe";
const DEPTH_MAX: u32 = 3;

/// Of so many parts of the limit, all but one are the tasks' own.
const PARTS: u64 = 20;

/// Watches from now on, where the kernel can tell.
pub(crate) fn watch() {
    let Ok(mut pressure) = OpenOptions::new().read(true).write(true).open(PRESSURE) else { return };
    if pressure.write_all(TRIGGER).is_err() {
        return;
    }
    let thread = thread::Builder::new().name("thrash".to_owned());
    if let Err(error) = thread.spawn(move || attend(&pressure)) {
        tracing::warn!(%error, "nobody watches over memory");
    }
}

fn attend(pressure: &File) {
    let mut halves = 0;
    loop {
        let mut polled = [PollFd::new(pressure, PollFlags::PRI)];
        if poll(&mut polled, None).is_err() || polled[0].revents().contains(PollFlags::ERR) {
            continue;
        }
        let full = full_group(Path::new(GROUPS), DEPTH_MAX);
        halves = if full.is_some() { halves + 1 } else { 0 };
        if let Some((group, limit, own)) = full.filter(|_| halves >= PATIENCE) {
            halves = 0;
            if let Err(error) = squeeze(&group, limit, own) {
                tracing::warn!(group = %group.display(), %error, "cannot end a container");
            }
        }
    }
}

/// A group whose limit is used up by what cannot be read again: where, its limit, and how much it
/// has of its own, in bytes.
fn full_group(at: &Path, depth: u32) -> Option<(PathBuf, u64, u64)> {
    let read = |name: &str| fs::read_to_string(at.join(name)).ok();
    let limit = read("memory.max").and_then(|text| text.trim().parse().ok());
    if let (Some(limit), Some(own)) = (limit, read("memory.stat").as_deref().and_then(own_bytes))
        && is_full(limit, own)
    {
        return Some((at.to_owned(), limit, own));
    }
    let below = fs::read_dir(at).ok().filter(|_| depth > 0)?;
    let groups = below.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    groups.map(|entry| entry.path()).find_map(|path| full_group(&path, depth - 1))
}

fn is_full(limit: u64, own: u64) -> bool {
    own >= limit - limit / PARTS
}

/// What its tasks have that is in no file.
fn own_bytes(stat: &str) -> Option<u64> {
    stat.lines().find_map(|line| line.strip_prefix("anon ")?.parse().ok())
}

/// Leaves the group less than it has. The write comes back when the kernel has killed.
fn squeeze(group: &Path, limit: u64, own: u64) -> io::Result<()> {
    let file = group.join("memory.max");
    fs::write(&file, (own - own / PARTS).to_string())?;
    fs::write(&file, limit.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_full_when_its_tasks_have_it_all() {
        assert_eq!(own_bytes("file 3\nanon 4096\nanon_thp 0\n"), Some(4096));
        assert_eq!(own_bytes("file 3\n"), None);
        assert!(is_full(100, 95) && !is_full(100, 94) && is_full(0, 0));
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("sandbox/container");
        fs::create_dir_all(&deep).unwrap();
        let limit = |path: &Path, limit: &str, own: u64| {
            fs::write(path.join("memory.max"), limit).unwrap();
            fs::write(path.join("memory.stat"), format!("anon {own}\n")).unwrap();
        };
        limit(dir.path(), "max\n", 1 << 30);
        assert_eq!(full_group(dir.path(), 2), None);
        limit(&deep, "1000\n", 990);
        assert_eq!(full_group(dir.path(), 1), None, "too deep");
        assert_eq!(full_group(dir.path(), 2), Some((deep, 1000, 990)));
    }
}
