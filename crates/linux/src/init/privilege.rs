//! What the process itself is and may: streams, limits, identity, capabilities, filters.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "`Child::step` lists every operation; each part is handed its own"
)]

use std::{
    ffi::CStr,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::OFlags,
    io::{Errno, Result},
    process::{Gid, Uid},
};
use sys::{capability, process};

use super::{Child, State, errno, mount, proc_of, root_of, terminal, write_file};
use crate::{beneath, op::Op};

/// Most groups a process can be in (`NGROUPS_MAX`), and so the length of the plan's list.
pub(crate) const GROUPS_MAX: usize = 1024;

impl Child<'_> {
    /// Operations on the process itself.
    pub(super) fn self_(&self, state: &mut State, op: &Op) -> Result<()> {
        match op {
            Op::BecomeRoot => identity(0, 0, Some(&[])),
            Op::Terminal { console, uid, size } => self.terminal(state, *console, *uid, *size),
            Op::ControlTerminal => rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()),
            Op::Streams(slots) => self.streams(*slots),
            Op::OwnStreams(uid) => terminal::own_streams(*uid),
            Op::Keyring(name) => errno(sys::keyring::join_session(name)),
            Op::Label { file, value } => write_file(proc_of(state)?, file, value.to_bytes()),
            Op::OomScore(score) => {
                write_file(proc_of(state)?, c"self/oom_score_adj", score.to_bytes())
            }
            Op::Limit { resource, soft, hard, .. } => {
                errno(process::set_limit(*resource, *soft, *hard))
            }
            Op::Personality(domain) => errno(process::set_personality(*domain)),
            Op::NoNewPrivileges => rustix::thread::set_no_new_privs(true),
            Op::Seccomp { filter, flags } => errno(sys::seccomp::load(filter, *flags).map(|_| ())),
            Op::Bound { keep, last } => bound(*keep, *last),
            Op::Identity { uid, gid, groups } => identity(*uid, *gid, groups.as_deref()),
            Op::Capabilities { sets, ambient } => capabilities(*sets, *ambient),
            Op::Umask(mask) => {
                rustix::process::umask(mount::mode(*mask));
                Ok(())
            }
            Op::Directory(path) => change_directory(state, path),
            Op::Find => {
                state.found = Some(self.find()?);
                Ok(())
            }
            Op::CloseOthers => self.close_others(),
            _ => Err(Errno::INVAL),
        }
    }
}

/// Takes everything else out of the bounding set.
fn bound(keep: u64, last: u8) -> Result<()> {
    for number in 0..=last.min(63) {
        if keep & 1 << number == 0 {
            errno(capability::drop_bounding(number))?;
        }
    }
    Ok(())
}

/// Becomes a user. Capabilities stay permitted, to be set by the operation that follows.
fn identity(uid: u32, gid: u32, groups: Option<&[u32]>) -> Result<()> {
    errno(capability::keep_over_setuid(true))?;
    if let Some(groups) = groups {
        let mut list = [Gid::ROOT; GROUPS_MAX];
        let list = list.get_mut(..groups.len()).ok_or(Errno::INVAL)?;
        for (to, from) in list.iter_mut().zip(groups) {
            *to = Gid::from_raw(*from);
        }
        rustix::thread::set_thread_groups(list)?;
    }
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    errno(capability::keep_over_setuid(false))
}

fn capabilities(sets: capability::Sets, ambient: u64) -> Result<()> {
    errno(capability::set(sets))?;
    errno(capability::clear_ambient())?;
    for number in (0..64_u8).filter(|number| ambient & 1 << number != 0) {
        errno(capability::raise_ambient(number))?;
    }
    Ok(())
}

/// Changes to a directory inside the root and makes sure that it is inside: a descriptor that
/// leaked, reached by `/proc/self/fd`, must not be a way out (CVE-2024-21626).
fn change_directory(state: &State, path: &CStr) -> Result<()> {
    let directory: OwnedFd =
        match beneath::open(root_of(state)?, path, OFlags::PATH | OFlags::DIRECTORY) {
            Ok(directory) => directory,
            other => return other.map(|_| ()),
        };
    rustix::process::fchdir(directory.as_fd())?;
    let mut buffer = [0; 4096];
    match sys::process::current_directory(&mut buffer).map(|path| path.first().copied()) {
        Ok(Some(b'/')) => Ok(()),
        // The kernel says "(unreachable)/…" for one outside the root. Source: getcwd(2).
        Ok(_) => Err(Errno::XDEV),
        Err(error) => Err(super::to_errno(&error)),
    }
}
