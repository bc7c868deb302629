//! Extended attributes: those of users, and files' capabilities. The rest means something to the
//! host (`trusted.` to its overlays, `security.` to its policies) and is not the guest's to read or
//! write; access control lists are not offered.

use std::ffi::CStr;

use rustix::{
    fs::{XattrFlags, getxattr, getxattr_query, listxattr, listxattr_query, removexattr, setxattr},
    io::Errno,
};

use super::{Server, by_descriptor};
use crate::fs::{watch::Touched, wire::Args};

/// The only attribute of the host's that is passed.
const CAPABILITIES: &[u8] = b"security.capability";

/// Longest value and longest list. Source: limits.h, `XATTR_SIZE_MAX`, `XATTR_LIST_MAX`.
const BYTES_MAX: usize = 64 << 10;

/// Longest name. Source: limits.h, `XATTR_NAME_MAX`.
const NAME_BYTES_MAX: usize = 255;

fn is_passed(name: &[u8]) -> bool {
    name.strip_prefix(b"user.").is_some_and(|rest| !rest.is_empty()) || name == CAPABILITIES
}

fn check(name: &CStr) -> Result<&CStr, Errno> {
    if name.count_bytes() > NAME_BYTES_MAX {
        return Err(Errno::RANGE);
    }
    if is_passed(name.to_bytes()) { Ok(name) } else { Err(Errno::OPNOTSUPP) }
}

impl Server {
    /// `struct fuse_setxattr_in` (its short form), a name and a value.
    pub(super) fn set_xattr(&mut self, node: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let (size, flags) = (args.u32()?, args.u32()?);
        let name = check(args.text()?)?;
        let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        if size > BYTES_MAX {
            return Err(Errno::TOOBIG);
        }
        let value = args.bytes(size)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        let descriptor = self.inodes.get(node)?;
        self.touch(|| Touched::Descriptor(descriptor.clone()));
        setxattr(by_descriptor(&descriptor)?, name, value, flags)
    }

    /// `struct fuse_getxattr_in` and a name: the value, or its size if there is no room asked for.
    pub(super) fn get_xattr(&mut self, node: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let size = args.u32()?;
        args.u32()?;
        let name = check(args.text()?)?;
        let descriptor = self.inodes.get(node)?;
        let path = by_descriptor(&descriptor)?;
        if size == 0 {
            return self.reply.size(getxattr_query(&path, name)?);
        }
        let size = self.fits(size)?;
        self.reply.fill(size, |to| getxattr(&path, name, to)).map(drop)
    }

    /// `struct fuse_getxattr_in`: the names that are passed.
    pub(super) fn list_xattrs(&mut self, node: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let size = args.u32()?;
        let descriptor = self.inodes.get(node)?;
        let path = by_descriptor(&descriptor)?;
        let mut all = vec![0; listxattr_query(&path)?.min(BYTES_MAX)];
        let length = if all.is_empty() { 0 } else { listxattr(&path, &mut all[..])? };
        let names = all[..length].split_inclusive(|byte| *byte == 0);
        let passed: Vec<u8> = names
            .filter(|name| name.strip_suffix(b"\0").is_some_and(is_passed))
            .flatten()
            .copied()
            .collect();
        if size == 0 {
            return self.reply.size(passed.len());
        }
        if self.fits(size)? < passed.len() {
            return Err(Errno::RANGE);
        }
        self.reply.put(&passed);
        Ok(())
    }

    pub(super) fn remove_xattr(&mut self, node: u64, mut args: Args<'_>) -> Result<(), Errno> {
        let name = check(args.text()?)?;
        let descriptor = self.inodes.get(node)?;
        self.touch(|| Touched::Descriptor(descriptor.clone()));
        removexattr(by_descriptor(&descriptor)?, name)
    }

    fn fits(&self, size: u32) -> Result<usize, Errno> {
        let size = usize::try_from(size).map_err(|_| Errno::INVAL)?;
        Ok(size.min(BYTES_MAX).min(self.reply.left()))
    }
}
