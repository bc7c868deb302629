//! Fills an empty volume with what a directory holds, all of it or nothing.
//!
//! ```text
//! nothing ─copy─▶ "populating" ─sync, rename─▶ "populated" ─entry by entry─▶ done
//!    ▲                  │ killed: removed           │ killed: gone on with
//!    └──────────────────┘                           └──────────┐
//!                                                     finish ◀─┘
//! ```
//!
//! The copy is made in `home`, a directory on the volume's own file system, and its entries are
//! then renamed into place: what uses the volume already sees them come, whole.

use std::{
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{AtFlags, Mode, RenameFlags, mkdirat, renameat, renameat_with, unlinkat},
    io::Errno,
};

use crate::{
    VolumeError, copy, disk,
    walk::{self, Found, Visit, WalkError},
};

/// Where a volume's content is made ready.
pub(crate) struct Home<'a> {
    /// The directory in which it is made ready, and its path.
    pub(crate) directory: BorrowedFd<'a>,
    pub(crate) path: PathBuf,
    /// Names there, before and after all is copied.
    pub(crate) begun: &'static str,
    pub(crate) ready: &'static str,
}

/// Names in a directory beside the content.
pub(crate) const BESIDE: (&str, &str) = ("populating", "populated");
/// Names in the content itself, where there is no place beside it.
pub(crate) const INSIDE: (&str, &str) = (".wythe-populating", ".wythe-populated");

/// Fills `data` with what `from` has, if it is empty. Answers whether it was.
pub(crate) fn populate(
    home: &Home<'_>,
    data: BorrowedFd<'_>,
    from: BorrowedFd<'_>,
) -> Result<bool, VolumeError> {
    finish(home, data)?;
    let names = disk::names(data).map_err(home.failed("list"))?;
    let inside = |name: &Vec<u8>| [INSIDE.0.as_bytes(), INSIDE.1.as_bytes()].contains(&&**name);
    if names.iter().any(|name| !inside(name)) {
        return Ok(false);
    }
    mkdirat(home.directory, home.begun, Mode::RWXU).map_err(home.failed("make"))?;
    let copied = disk::open_directory(home.directory, home.begun)
        .map_err(home.failed("open"))
        .and_then(|copy| copy::tree(from, &[], copy.as_fd()))
        .and_then(|_| disk::sync_all(home.directory, &home.path));
    if let Err(error) = copied {
        // What cannot be removed now is when the volume is next used.
        let _ = disk::erase(&home.path.join(home.begun));
        return Err(error);
    }
    renameat(home.directory, home.begun, home.directory, home.ready)
        .map_err(home.failed("rename"))?;
    finish(home, data)?;
    Ok(true)
}

/// Goes on with what a kill interrupted: removes half a copy, moves a whole one into place.
pub(crate) fn finish(home: &Home<'_>, data: BorrowedFd<'_>) -> Result<(), VolumeError> {
    disk::erase(&home.path.join(home.begun))?;
    let ready = match disk::open_directory(home.directory, home.ready) {
        Err(Errno::NOENT) => return Ok(()),
        other => other.map_err(home.failed("open"))?,
    };
    for name in disk::names(&ready).map_err(home.failed("list"))? {
        match renameat_with(&ready, &*name, data, &*name, RenameFlags::NOREPLACE) {
            // What uses the volume already was quicker.
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(home.failed("rename")(error)),
        }
    }
    let own = attributes(ready.as_fd())?;
    copy::dress(data, b".", &own).map_err(home.failed("change"))?;
    drop(ready);
    match unlinkat(home.directory, home.ready, AtFlags::REMOVEDIR) {
        Err(Errno::NOTEMPTY | Errno::EXIST) => disk::erase(&home.path.join(home.ready))?,
        other => other.map_err(home.failed("remove"))?,
    }
    rustix::fs::fsync(data).map_err(home.failed("sync"))
}

impl Home<'_> {
    fn failed(&self, step: &'static str) -> impl FnOnce(Errno) -> VolumeError + use<> {
        disk::failed(step, &self.path)
    }
}

/// The attributes of a directory.
fn attributes(of: BorrowedFd<'_>) -> Result<Found, VolumeError> {
    struct Top(Option<Found>);
    impl Visit for Top {
        type Error = WalkError;
        fn enter(&mut self, found: &Found) -> Result<(), WalkError> {
            self.0.get_or_insert_with(|| found.clone());
            Ok(())
        }
        fn leave(&mut self, _: &Found) -> Result<(), WalkError> {
            Ok(())
        }
        fn leaf(&mut self, _: &Found, _: Option<&std::fs::File>) -> Result<(), WalkError> {
            Ok(())
        }
    }
    let mut top = Top(None);
    walk::walk(of, &[], &mut top)?;
    Ok(top.0.expect("a walk begins with the top"))
}

/// The home of a volume whose content is the store's: beside it.
pub(crate) fn beside<'a>(directory: BorrowedFd<'a>, path: &Path) -> Home<'a> {
    Home { directory, path: path.to_owned(), begun: BESIDE.0, ready: BESIDE.1 }
}

/// The home of any other: within it.
pub(crate) fn inside<'a>(data: BorrowedFd<'a>, path: &Path) -> Home<'a> {
    Home { directory: data, path: path.to_owned(), begun: INSIDE.0, ready: INSIDE.1 }
}
