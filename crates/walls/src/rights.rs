//! What a process gives up, step by step.
//!
//! ```text
//! orders, with what root can open ──▶ steps ──▶ the guest's first instruction
//! ```
//!
//! Everything that a machine needs of the host it has by then, as descriptors. The process has one
//! thread when it takes the steps; those that it makes later have no more than it has. (A trial of
//! a KVM that hangs leaves a second one behind. It keeps its user, and has the list of system calls
//! all the same.)

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use rustix::process::{Gid, Uid};
use seccomp::CompileError;
use sys::{
    capability::{self, Sets},
    clone::Namespaces,
    process,
    seccomp::SockFilter,
    userns::Ids,
};

use crate::{calls, ground};

/// From here on are the ids of machines' processes: each is the user and the group with this and
/// its own number, which no other process that is numbered with it is. They are above those that systemd and
/// adduser(8) hand out to containers, and no number of a process leads out of their range.
///
/// Source: systemd, UIDS-GIDS.md; proc_sys_kernel(5), `pid_max` (at most 2^22).
const IDS_FROM: u32 = 0x7000_0000;

/// No capability has a higher number.
const CAPABILITIES_MAX: u8 = 63;

/// `SECCOMP_FILTER_FLAG_TSYNC`: should there be another thread all the same, it has the filter too.
const TSYNC: u32 = 1;

/// The namespaces of its own that a machine's process has beside that of its mounts.
const NAMESPACES: u64 = Namespaces::NET | Namespaces::IPC | Namespaces::UTS | Namespaces::CGROUP;

/// Who a process becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    uid: u32,
    gid: u32,
    /// Whether it may leave the groups that it is in.
    leaves_groups: bool,
}

/// One step.
#[derive(Debug)]
pub enum Step<'a> {
    /// Into a user namespace of its own, in which it is who it was and has every capability: so
    /// the steps that take some can be taken by an ordinary user.
    Users,
    /// Into namespaces of its own.
    Namespaces(u64),
    /// Into a copy of a mount namespace.
    Mounts(&'a OwnedFd),
    /// Into a mount namespace with nothing in it.
    Nothing,
    /// Never again more than these capabilities.
    Bound(u64),
    /// Another user.
    User(User),
    /// These capabilities and no others.
    Capabilities(u64),
    /// No program gives it more.
    NoNewPrivileges,
    /// Nobody looks into it.
    Hide,
    /// It ends with its parent. Who becomes somebody else has to say it again.
    EndWithParent,
    /// These system calls and no others.
    Calls(Vec<SockFilter>),
}

/// A step that was not taken.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}")]
pub struct StepError {
    step: &'static str,
    #[source]
    source: io::Error,
}

/// The steps of a machine's process with this number.
pub fn of_machine<'a>(ground: &'a OwnedFd, user: User, calls: Vec<SockFilter>) -> Vec<Step<'a>> {
    vec![
        Step::Namespaces(NAMESPACES),
        Step::Mounts(ground),
        Step::Bound(0),
        Step::User(user),
        Step::Capabilities(0),
        Step::Hide,
        Step::EndWithParent,
        Step::NoNewPrivileges,
        Step::Calls(calls),
    ]
}

/// The steps of the process of a machine that no daemon looks after: root's becomes a user of its
/// own, an ordinary user's stays who it is.
fn of_kept<'a>(root: bool, user: User, calls: Vec<SockFilter>) -> Vec<Step<'a>> {
    let mut steps = if root { Vec::new() } else { vec![Step::Users] };
    steps.extend([Step::Namespaces(NAMESPACES), Step::Nothing, Step::Bound(0), Step::User(user)]);
    steps.extend(without_namespaces(calls));
    steps
}

/// What is left to give up where the host lets an ordinary user have no namespaces.
fn without_namespaces<'a>(calls: Vec<SockFilter>) -> [Step<'a>; 5] {
    [
        Step::Capabilities(0),
        Step::Hide,
        Step::EndWithParent,
        Step::NoNewPrivileges,
        Step::Calls(calls),
    ]
}

/// Why a process has not given its rights up.
#[derive(Debug, thiserror::Error)]
pub enum KeptError {
    /// A step was not taken.
    #[error(transparent)]
    Step(#[from] StepError),
    /// What it may do is not known.
    #[error("cannot read which users there are")]
    Ids(#[source] io::Error),
    /// The list of system calls is none.
    #[error("cannot make the list of system calls")]
    Calls(#[source] CompileError),
}

/// Gives up the rights of the calling process, which is that of a machine that no daemon looks
/// after and has one thread. Where an ordinary user may have no namespaces it keeps those that it
/// is in, and the step that was refused is given.
///
/// # Errors
/// [`KeptError`]; some steps may have been taken.
pub fn give_up_kept() -> Result<Option<StepError>, KeptError> {
    let pid = std::process::id();
    let calls = || calls::machine(pid).map_err(KeptError::Calls);
    let root = rustix::process::geteuid().is_root();
    let ids = if root { Ids::own().map_err(KeptError::Ids)? } else { Ids::alone() };
    let user = User::of_machine(pid, &ids);
    match give_up(&of_kept(root, user, calls()?)) {
        Ok(()) => Ok(None),
        Err(refused) if !root => {
            give_up(&without_namespaces(calls()?))?;
            Ok(Some(refused))
        }
        Err(refused) => Err(refused.into()),
    }
}

/// Takes them.
///
/// # Errors
/// [`StepError`]: the first that was refused.
pub fn give_up(steps: &[Step<'_>]) -> Result<(), StepError> {
    steps
        .iter()
        .try_for_each(|step| step.take().map_err(|source| StepError { step: step.name(), source }))
}

impl Step<'_> {
    fn name(&self) -> &'static str {
        match self {
            Step::Users => "enter a user namespace of its own",
            Step::Namespaces(_) => "enter namespaces of its own",
            Step::Mounts(_) | Step::Nothing => "leave the host's files",
            Step::Bound(_) => "renounce capabilities",
            Step::User(_) => "become a user of its own",
            Step::Capabilities(_) => "give up capabilities",
            Step::NoNewPrivileges => "renounce new privileges",
            Step::Hide => "hide from others",
            Step::EndWithParent => "end with its parent",
            Step::Calls(_) => "renounce system calls",
        }
    }

    fn take(&self) -> io::Result<()> {
        match self {
            Step::Users => alone(),
            Step::Namespaces(kinds) => sys::namespace::leave(Namespaces(*kinds)),
            Step::Mounts(namespace) => {
                let mounts = Namespaces(Namespaces::MOUNT);
                // A thread that tried something may be about to end.
                sys::namespace::own_root()?;
                sys::namespace::enter(namespace.as_fd(), mounts)?;
                sys::namespace::leave(mounts)
            }
            Step::Nothing => {
                sys::namespace::own_root()?;
                sys::namespace::leave(Namespaces(Namespaces::MOUNT))?;
                ground::clear()
            }
            Step::Bound(keep) => bound(*keep),
            Step::User(user) => user.become_it(),
            Step::Capabilities(keep) => {
                capability::set(Sets { effective: *keep, permitted: *keep, inheritable: 0 })?;
                capability::clear_ambient()
            }
            Step::NoNewPrivileges => Ok(rustix::thread::set_no_new_privs(true)?),
            Step::Hide => process::hide(),
            Step::EndWithParent => process::die_with_parent(true),
            Step::Calls(filter) => sys::seccomp::load(filter, TSYNC).map(drop),
        }
    }
}

/// Enters a user namespace that knows the calling process's user and group, by their own names.
///
/// Source: user_namespaces(7), "Defining user and group ID mappings".
fn alone() -> io::Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    sys::namespace::leave(Namespaces(Namespaces::USER))?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
    fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))
}

fn bound(keep: u64) -> io::Result<()> {
    for number in (0..=CAPABILITIES_MAX).filter(|number| keep & 1 << number == 0) {
        match capability::drop_bounding(number) {
            // The kernel knows none of this number, nor of a higher one.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                break;
            }
            dropped => dropped?,
        }
    }
    Ok(())
}

impl User {
    /// Who a machine's process of this number becomes, in a user namespace with these ids.
    ///
    /// Where the id of its own is not known, which is so for an ordinary user's daemon, it is the
    /// last one that is: root there, which is the user himself, only if he was granted no other.
    pub fn of_machine(pid: u32, ids: &Ids) -> User {
        let own = IDS_FROM.saturating_add(pid);
        let last = |ranges: &[sys::userns::Range]| {
            let ends = ranges.iter().filter(|range| range.count > 0);
            ends.map(|range| range.inside.saturating_add(range.count - 1)).max().unwrap_or(0)
        };
        User {
            uid: if ids.has_uid(own) { own } else { last(&ids.uids) },
            gid: if ids.has_gid(own) { own } else { last(&ids.gids) },
            leaves_groups: ids.setgroups,
        }
    }

    fn become_it(self) -> io::Result<()> {
        if self.leaves_groups {
            rustix::thread::set_thread_groups(&[])?;
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        rustix::thread::set_thread_res_gid(gid, gid, gid)?;
        Ok(rustix::thread::set_thread_res_uid(uid, uid, uid)?)
    }
}

/// Closes every descriptor but these: the owners of others are not to be used any more. The
/// standard streams are `null`.
///
/// # Errors
/// Those of dup3(2) and close_range(2).
pub fn keep_only(null: &File, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    for number in 0..=2 {
        process::place(null.as_fd(), number, false)?;
    }
    let mut kept: Vec<u32> = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).collect();
    kept.sort_unstable();
    let mut first = 3;
    for kept in kept {
        if first < kept {
            process::close_range(first, kept - 1)?;
        }
        first = first.max(kept + 1);
    }
    process::close_range(first, u32::MAX)
}

#[cfg(test)]
mod tests {
    use sys::userns::Range;

    use super::*;

    fn ids(ranges: &[(u32, u32)]) -> Ids {
        let range =
            |(inside, count): &(u32, u32)| Range { inside: *inside, outside: 0, count: *count };
        let ranges: Vec<Range> = ranges.iter().map(range).collect();
        Ids { uids: ranges.clone(), gids: ranges, setgroups: true }
    }

    #[test]
    fn a_machine_is_a_user_of_its_own_where_there_are_enough() {
        for (known, uid) in [
            (ids(&[(0, u32::MAX)]), 0x7000_0123),
            (ids(&[(0, 1), (1, 65_536)]), 65_536),
            (ids(&[(0, 1)]), 0),
        ] {
            let user = User::of_machine(0x123, &known);
            assert_eq!((user.uid, user.gid), (uid, uid), "{known:?}");
        }
    }

    #[test]
    fn rights_go_in_an_order_in_which_each_step_can_be_taken() {
        let ground = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let user = User::of_machine(1, &ids(&[(0, u32::MAX)]));
        let steps = of_machine(&ground, user, Vec::new());
        let names: Vec<&str> = steps.iter().map(Step::name).collect();
        assert_eq!(
            names,
            [
                "enter namespaces of its own",
                "leave the host's files",
                "renounce capabilities",
                "become a user of its own",
                "give up capabilities",
                "hide from others",
                "end with its parent",
                "renounce new privileges",
                "renounce system calls",
            ]
        );
        // Of a machine that nobody looks after an ordinary user's needs one before all others.
        let names = |root| -> Vec<&str> {
            of_kept(root, user, Vec::new()).iter().map(Step::name).collect()
        };
        assert_eq!(names(true), steps.iter().map(Step::name).collect::<Vec<_>>());
        assert_eq!(names(false)[0], "enter a user namespace of its own");
        assert_eq!(names(false)[1..], names(true));
    }
}
