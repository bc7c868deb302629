//! Paths that are resolved beneath a directory that somebody hostile may have filled.

use std::os::fd::{AsFd, OwnedFd};

use rustix::{
    fs::{Mode, OFlags, ResolveFlags, openat2},
    io::{Errno, Result},
    path::Arg,
};

/// How often a lookup is tried again that a rename or a mount somewhere on the host made
/// undecidable. Source: openat2(2), `EAGAIN`.
const RETRIES_MAX: u32 = 64;

/// Opens what is there; `resolve` says what keeps the path inside. The descriptor is
/// close-on-exec. Child-safe for a path that ends in a zero.
///
/// # Errors
/// Those of openat2(2); `EAGAIN` only of a host that does nothing but rename and mount.
///
/// Source: openat2(2), Linux 5.6.
pub fn open(
    directory: impl AsFd,
    path: impl Arg + Copy,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    let mut tries = 0;
    loop {
        match openat2(&directory, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < RETRIES_MAX => tries += 1,
            answer => return answer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use super::*;

    #[test]
    fn a_path_with_dots_is_found_while_others_rename() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir_all(at("a/b")).unwrap();
        fs::write(at("one"), "").unwrap();
        let root = fs::File::open(dir.path()).unwrap();
        let path = format!("{}a", "a/b/../../".repeat(4));
        thread::scope(|scope| {
            let renames = scope.spawn(|| {
                for _ in 0..20_000 {
                    fs::rename(at("one"), at("two")).unwrap();
                    fs::rename(at("two"), at("one")).unwrap();
                }
            });
            while !renames.is_finished() {
                open(&root, &*path, OFlags::PATH, ResolveFlags::IN_ROOT).unwrap();
            }
        });
    }
}
