//! Entries of directories: found, made, removed, given other names.

use std::{
    ffi::{CStr, CString},
    fs::File,
    os::fd::OwnedFd,
    sync::Arc,
};

use rustix::{
    fs::{
        AtFlags, CWD, FileType, Gid, Mode, OFlags, RenameFlags, Statx, Uid, chmodat, chownat,
        linkat, makedev, mkdirat, mknodat, openat, readlinkat, renameat_with, symlinkat, unlinkat,
    },
    io::Errno,
};

use super::{Server, by_descriptor, files::open_flags, is_file, reopen};
use crate::fs::{
    inodes::{find, look},
    watch::Touched,
    wire::{Args, Request},
};

/// Bits of a mode that are no kind of file: permissions, set-user-id, set-group-id, sticky.
const MODE_BITS: u32 = 0o7777;

/// Set-group-id: of a directory, what is made in it belongs to its group.
const SET_GROUP: u32 = 0o2000;

/// Bits of a device number that are its minor, in the way the guest packs it.
const MINOR_LOW: u32 = 0xff;

/// What was made for a guest is to be like.
struct Wanted {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Server {
    pub(super) fn lookup(&mut self, parent: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let name = args.name()?;
        if !self.admits(parent, name) {
            return Err(Errno::NOENT);
        }
        let found = self.inodes.find(parent, name)?;
        self.tell(parent, name, found).map(drop)
    }

    /// The directory in which an entry is to come or to go.
    fn directory_for(&mut self, parent: u64, name: &CStr) -> Result<Arc<OwnedFd>, Errno> {
        self.check_entries(parent)?;
        let directory = self.inodes.get(parent)?;
        self.touch(|| Touched::Name(parent, name.to_owned()));
        Ok(directory)
    }

    /// `struct fuse_mkdir_in` and a name. The guest has applied its umask.
    pub(super) fn make_directory(
        &mut self,
        request: &Request,
        mut args: Args<'_>,
    ) -> Result<(), Errno> {
        let (mode, _umask) = (args.u32()?, args.u32()?);
        let name = args.name()?;
        let directory = self.directory_for(request.node, name)?;
        mkdirat(&*directory, name, Mode::RWXU)?;
        self.made(request, name, &directory, FileType::Directory, mode)
    }

    /// `struct fuse_mknod_in` and a name. Files, pipes and sockets, and the mark by which an
    /// overlay says that something is not there; devices of the host are none of the guest's.
    pub(super) fn make_node(&mut self, request: &Request, mut args: Args<'_>) -> Result<(), Errno> {
        let (mode, device, _umask) = (args.u32()?, args.u32()?, args.u32()?);
        args.u32()?;
        let name = args.name()?;
        let kind = FileType::from_raw_mode(mode);
        let allowed = match kind {
            FileType::RegularFile | FileType::Fifo | FileType::Socket => true,
            FileType::CharacterDevice => device == 0,
            FileType::BlockDevice | FileType::Directory | FileType::Symlink | FileType::Unknown => {
                false
            }
        };
        if !allowed {
            return Err(Errno::PERM);
        }
        let directory = self.directory_for(request.node, name)?;
        mknodat(&*directory, name, kind, Mode::RUSR | Mode::WUSR, makedev(0, device & MINOR_LOW))?;
        self.made(request, name, &directory, kind, mode)
    }

    /// Two texts: the name, and where the link leads.
    pub(super) fn make_symlink(
        &mut self,
        request: &Request,
        mut args: Args<'_>,
    ) -> Result<(), Errno> {
        let (name, target) = (args.name()?, args.target()?);
        let directory = self.directory_for(request.node, name)?;
        symlinkat(target, &*directory, name)?;
        self.made(request, name, &directory, FileType::Symlink, MODE_BITS)
    }

    /// Gives what was just made to its owner, and tells the guest of it.
    fn made(
        &mut self,
        request: &Request,
        name: &CStr,
        directory: &OwnedFd,
        kind: FileType,
        mode: u32,
    ) -> Result<(), Errno> {
        let descriptor = find(directory, name)?;
        let at = look(&descriptor)?;
        // Somebody on the host has put something else there meanwhile: not to be given away.
        if FileType::from_raw_mode(at.stx_mode.into()) != kind {
            return Err(Errno::STALE);
        }
        let wanted = Wanted { uid: request.uid, gid: request.gid, mode };
        if let Err(error) = settle(directory, &descriptor, &at, &wanted) {
            let flags =
                if kind == FileType::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
            // What nobody is told of is not left behind.
            let _ = unlinkat(directory, name, flags);
            return Err(error);
        }
        self.tell(request.node, name, descriptor).map(drop)
    }

    /// `struct fuse_create_in` and a name: made if it is not there, and opened.
    pub(super) fn create(&mut self, request: &Request, mut args: Args<'_>) -> Result<(), Errno> {
        let (flags, mode, _umask) = (args.u32()?, args.u32()?, args.u32()?);
        args.u32()?;
        let name = args.name()?;
        let open = open_flags(flags)?;
        self.handles.check_room()?;
        let exclusive = OFlags::from_bits_retain(flags).contains(OFlags::EXCL);
        let directory = self.directory_for(request.node, name)?;
        let new = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = openat(&*directory, name, open | new, Mode::RUSR | Mode::WUSR);
        let (file, descriptor) = match made {
            Ok(file) => {
                let descriptor = reopen(&file, OFlags::PATH)?;
                let wanted = Wanted { uid: request.uid, gid: request.gid, mode };
                settle(&directory, &descriptor, &look(&descriptor)?, &wanted)?;
                (file, descriptor)
            }
            Err(Errno::EXIST) if !exclusive => {
                let descriptor = find(&*directory, name)?;
                if !is_file(&look(&descriptor)?) {
                    return Err(Errno::EXIST);
                }
                (reopen(&descriptor, open)?, descriptor)
            }
            Err(error) => return Err(error),
        };
        let node = self.tell(request.node, name, descriptor)?;
        let handle = self.handles.add_file(File::from(file), node, open)?;
        self.reply.opened(handle);
        Ok(())
    }

    pub(super) fn remove(
        &mut self,
        parent: u64,
        mut args: Args<'_>,
        flags: AtFlags,
    ) -> Result<(), Errno> {
        let name = args.name()?;
        let directory = self.directory_for(parent, name)?;
        self.inodes.unname(&directory, name);
        unlinkat(&*directory, name, flags)
    }

    /// `struct fuse_rename_in` or `struct fuse_rename2_in`, and two names.
    pub(super) fn rename(
        &mut self,
        parent: u64,
        mut args: Args<'_>,
        has_flags: bool,
    ) -> Result<(), Errno> {
        let to_parent = args.u64()?;
        let mut flags = RenameFlags::empty();
        if has_flags {
            flags = RenameFlags::from_bits(args.u32()?).ok_or(Errno::INVAL)?;
            args.u32()?;
        }
        // A white-out is a device that appears by the way.
        if flags.contains(RenameFlags::WHITEOUT) {
            return Err(Errno::INVAL);
        }
        let (name, to_name) = (args.name()?, args.name()?);
        let from = self.directory_for(parent, name)?;
        let to = self.directory_for(to_parent, to_name)?;
        if !flags.contains(RenameFlags::EXCHANGE) {
            self.inodes.unname(&to, to_name);
        }
        renameat_with(&*from, name, &*to, to_name, flags)?;
        self.inodes.renamed(&to, to_parent, to_name);
        if flags.contains(RenameFlags::EXCHANGE) {
            self.inodes.renamed(&from, parent, name);
        }
        Ok(())
    }

    /// `struct fuse_link_in` and a name.
    pub(super) fn link(&mut self, parent: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let old = self.inodes.get(args.u64()?)?;
        let name = args.name()?;
        let directory = self.directory_for(parent, name)?;
        linkat(CWD, by_descriptor(&old)?, &*directory, name, AtFlags::SYMLINK_FOLLOW)?;
        self.touch(|| Touched::Descriptor(Arc::clone(&old)));
        let found = find(&*directory, name)?;
        self.tell(parent, name, found).map(drop)
    }

    pub(super) fn read_link(&mut self, node: u64) -> Result<(), Errno> {
        let descriptor = self.inodes.get(node)?;
        let target: CString = readlinkat(&*descriptor, c"", Vec::new())?;
        self.reply.put(target.to_bytes());
        Ok(())
    }
}

/// Gives what was made its owner, its group and its permissions: those that the guest wants, and
/// the group of a directory that passes it on.
fn settle(directory: &OwnedFd, made: &OwnedFd, at: &Statx, wanted: &Wanted) -> Result<(), Errno> {
    let around = look(directory)?;
    let passes_group = u32::from(around.stx_mode) & SET_GROUP != 0;
    let kind = FileType::from_raw_mode(at.stx_mode.into());
    let gid = if passes_group { around.stx_gid } else { wanted.gid };
    if (at.stx_uid, at.stx_gid) != (wanted.uid, gid) {
        if wanted.uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        let (owner, group) = (Some(Uid::from_raw(wanted.uid)), Some(Gid::from_raw(gid)));
        chownat(made, c"", owner, group, AtFlags::EMPTY_PATH)?;
    }
    if kind == FileType::Symlink {
        return Ok(());
    }
    let inherited = if passes_group && kind == FileType::Directory { SET_GROUP } else { 0 };
    let mode = wanted.mode & MODE_BITS | inherited;
    if u32::from(at.stx_mode) & MODE_BITS != mode || mode & 0o6000 != 0 {
        chmodat(CWD, by_descriptor(made)?, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    Ok(())
}
