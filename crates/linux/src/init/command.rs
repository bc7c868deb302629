//! Finding the command, and becoming it.

use std::{
    ffi::CStr,
    os::fd::{AsRawFd, BorrowedFd},
};

use rustix::{
    fs::{Access, AtFlags, CWD, FileType},
    io::{Errno, Result},
};
use sys::process;

use super::{Child, State, errno, to_errno};
use crate::op::{Command, Op};

impl Child<'_> {
    /// Which candidate can be run: as execvp(3), but without running it yet, so that a container
    /// that is created and not started has had its command looked for.
    pub(super) fn find(&self) -> Result<usize> {
        let mut refused = Errno::NOENT;
        for (number, path) in self.command.candidates.iter().enumerate() {
            match runnable(path) {
                Ok(()) => return Ok(number),
                Err(Errno::NOENT) => {}
                Err(Errno::NOTDIR) if self.command.candidates.len() > 1 => {}
                Err(other) => refused = other,
            }
        }
        Err(refused)
    }

    /// Leaves the command its standard streams and what is preserved for it, and this process
    /// the channel, the init and what it waits at for start. Everything else is closed for good, not only by execve(2):
    /// between here and there somebody in the container may look.
    pub(super) fn close_others(&self) -> Result<()> {
        let number = |fd: BorrowedFd<'_>| fd.as_raw_fd().unsigned_abs();
        let channel = number(self.channel);
        let init = self.init()?.map_or(channel, number);
        let start = self.start()?.map_or(channel, number);
        let mut kept = [channel, init, start];
        kept.sort_unstable();
        let mut first = self.command.preserve.saturating_add(3);
        for kept in kept {
            if first < kept {
                errno(process::close_range(first, kept - 1))?;
            }
            first = first.max(kept + 1);
        }
        errno(process::close_range(first, u32::MAX))
    }

    /// Becomes the command; answers why it did not.
    pub(super) fn execute(&self, state: &State) -> Errno {
        let Command { args, env, candidates, .. } = self.command;
        let error = match (self.init(), state.found.and_then(|found| candidates.get(found))) {
            (Ok(Some(init)), _) => sys::exec::execveat(init, args, env),
            (Ok(None), Some(path)) => sys::exec::execve(path, args, env),
            (Ok(None), None) => return Errno::NOENT,
            (Err(error), _) => return error,
        };
        to_errno(&error)
    }

    fn start(&self) -> Result<Option<BorrowedFd<'_>>> {
        let mut ops = self.ops.iter();
        let slot =
            ops.find_map(|op| if let Op::AwaitStart(slot) = op { Some(*slot) } else { None });
        slot.map(|slot| self.fd(slot)).transpose()
    }

    fn init(&self) -> Result<Option<BorrowedFd<'_>>> {
        self.command.init.map(|slot| self.fd(slot)).transpose()
    }
}

/// Whether a path can be executed by this process: a regular file with permission.
fn runnable(path: &CStr) -> Result<()> {
    let stat = rustix::fs::statat(CWD, path, AtFlags::empty())?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS),
        FileType::Directory => Err(Errno::ISDIR),
        FileType::Symlink
        | FileType::Fifo
        | FileType::Socket
        | FileType::CharacterDevice
        | FileType::BlockDevice
        | FileType::Unknown => Err(Errno::ACCESS),
    }
}
