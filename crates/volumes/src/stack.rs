//! Several directories as one, to read from: as a container would see them, without what it
//! would write.
//!
//! Source: overlayfs(5), "Multiple lower layers"; `lowerdir+` since Linux 6.5.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags},
    io::{Errno, Result},
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen,
    },
};

/// A read-only view that nobody else sees and that vanishes when it is dropped.
#[derive(Debug)]
pub(crate) struct Stack(OwnedFd);

impl Stack {
    /// Stacks these directories, top first, on an empty one: an overlay without a writable
    /// directory takes two at least.
    pub(crate) fn new(layers: &[PathBuf], empty: &Path) -> Result<Stack> {
        let context = fsopen(c"overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, c"source", c"overlay")?;
        if sys::userns::is_confined() {
            // What layers hide is marked with `user.overlay.*` there.
            fsconfig_set_flag(&context, c"userxattr")?;
        }
        let open = |path: &Path| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty())
        };
        let all: Vec<&Path> =
            layers.iter().map(PathBuf::as_path).chain(std::iter::once(empty)).collect();
        let opened = all.iter().map(|path| open(path)).collect::<Result<Vec<_>>>()?;
        // Through descriptors: fsconfig(2) takes 255 bytes, and a path may be longer.
        let name = |fd: &OwnedFd| format!("/proc/self/fd/{}", fd.as_raw_fd());
        let mut added = opened.iter();
        let modern = added.try_for_each(|fd| fsconfig_set_string(&context, c"lowerdir+", name(fd)));
        match modern {
            Err(Errno::INVAL) => {
                let joined: Vec<String> = opened.iter().map(name).collect();
                fsconfig_set_string(&context, c"lowerdir", joined.join(":"))?;
            }
            other => other?,
        }
        fsconfig_create(&context)?;
        let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOSUID;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).map(Stack)
    }

    /// What stands at a path, with links followed as if the stack were the root: none leads out.
    pub(crate) fn open(&self, path: &Path) -> Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        sys::beneath::open(&self.0, path, flags, resolve)
    }
}
