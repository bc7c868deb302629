//! What a process needs before it can run, decided: which descriptors its parent prepares, which
//! namespaces it is cloned into, which operations its child then runs.
//!
//! Pure: it is handed what the host has as [`Facts`] and touches nothing. `container.rs` plans a
//! container's first process, `exec.rs` one that joins, `mounts.rs` a container's file systems,
//! `privilege.rs` what both may do.

mod container;
mod exec;
mod mounts;
mod privilege;

#[cfg(test)]
mod tests;

use std::{ffi::CString, os::unix::ffi::OsStrExt, path::Path, path::PathBuf};

use cgroups::MountView;
use files::Identity;
use sys::{clone::Namespaces, mount::Change, seccomp::SockFilter, userns::Ids};
use workload::{ContainerSpec, DriverError, Isolation, ProcessSpec, RootFs, SandboxSpec, UserMap};

pub(crate) use self::{
    container::container,
    exec::{Joined, join},
};
use crate::{
    op::{Command, Hook, NewMount, Op, Slot},
    sysctl::Parameter,
};

/// What a descriptor of the launch's table is, in the order of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file of the group's join list.
    CgroupFile(usize),
    /// A standard stream.
    Stream(usize),
    /// The mount namespace with nothing in it.
    Ground,
    /// The network namespace that came with the materials.
    Network,
    /// A namespace file.
    Namespace(PathBuf),
    /// The process whose namespaces are joined.
    Target,
    /// The FIFO that holds the command back.
    Start,
    /// The init's program.
    Init,
    /// The root file system's mount.
    Root(RootFs),
    /// A tmpfs that begins with what the root has at its place.
    CopyUp { target: CString, mount: NewMount },
    /// A detached copy of a mount of the host's.
    Bind { path: PathBuf, recursive: bool, change: Change, travel: Change, idmap: Option<UserMap> },
}

/// A launch, planned.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Descriptors to prepare.
    pub(crate) table: Vec<Source>,
    /// New namespaces to clone into.
    pub(crate) namespaces: Namespaces,
    /// Namespaces that the parent visits to clone from there.
    pub(crate) visits: Vec<(Slot, Namespaces)>,
    /// Ids to write for the new user namespace.
    pub(crate) user: Option<UserMap>,
    /// Kernel parameters that the parent sets during its visits.
    pub(crate) sysctls: Vec<Parameter>,
    /// The child's operations.
    pub(crate) ops: Vec<Op>,
    /// The command.
    pub(crate) command: Command,
}

/// What the host has, as far as plans care.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Number of the last capability (`/proc/sys/kernel/cap_last_cap`).
    pub(crate) last_capability: u8,
    /// Whether AppArmor is in force.
    pub(crate) apparmor: bool,
    /// Whether SELinux is in force.
    pub(crate) selinux: bool,
    /// Whether there is a mount namespace with nothing in it to begin from.
    pub(crate) ground: bool,
    /// The ids that there are, where this process is in a user namespace that lacks some: the
    /// daemon of an ordinary user is.
    pub(crate) confined: Option<Ids>,
}

impl Input<'_> {
    /// Whether the container is made or runs without the host's own privileges.
    fn is_confined(&self) -> bool {
        self.facts.confined.is_some() || self.sandbox.user.is_some()
    }
}

/// What a command line asks for beyond the contract.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extras {
    /// The child tells when all is created, and waits.
    pub(crate) tell_created: bool,
    /// The child waits to be started.
    pub(crate) hold: bool,
    /// `createContainer` hooks.
    pub(crate) create_hooks: Vec<Hook>,
    /// `startContainer` hooks.
    pub(crate) start_hooks: Vec<Hook>,
    /// Descriptors from 3 on that the command gets.
    pub(crate) preserve: u32,
    /// The caller's own standard streams are the process's.
    pub(crate) inherit_streams: bool,
    /// chroot in place of `pivot_root`.
    pub(crate) no_pivot: bool,
    /// The caller's session keyring stays.
    pub(crate) no_new_keyring: bool,
    /// Execution domain.
    pub(crate) personality: Option<u32>,
    /// The working directory must exist.
    pub(crate) no_make_cwd: bool,
    /// The process goes on when its maker has ended.
    pub(crate) outlive: bool,
}

/// Everything that a plan is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) isolation: Isolation,
    pub(crate) sandbox: &'a SandboxSpec,
    pub(crate) process: &'a ProcessSpec,
    pub(crate) identity: &'a Identity,
    pub(crate) filter: Option<&'a Filter>,
    pub(crate) facts: &'a Facts,
    pub(crate) cgroup_files: usize,
    pub(crate) view: Option<&'a MountView>,
    pub(crate) extras: &'a Extras,
}

/// A compiled system call filter and the flags it is loaded with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) program: Vec<SockFilter>,
    pub(crate) flags: u32,
}

/// The table while it grows.
#[derive(Debug, Default)]
struct Table(Vec<Source>);

impl Table {
    fn add(&mut self, source: Source) -> Slot {
        self.0.push(source);
        Slot(self.0.len() - 1)
    }
}

type Planned<T> = Result<T, DriverError>;

fn invalid(what: impl Into<String>, why: impl Into<String>) -> DriverError {
    DriverError::Invalid { what: what.into(), why: why.into() }
}

fn unsupported(what: impl Into<String>, why: impl Into<String>) -> DriverError {
    DriverError::Unsupported { what: what.into(), why: why.into() }
}

/// A string for the kernel; `what` names it where it holds a zero byte.
fn c_string(what: &str, text: impl Into<Vec<u8>>) -> Planned<CString> {
    CString::new(text).map_err(|_| invalid(what, "it must not contain a zero byte"))
}

/// A path for the kernel, which must be absolute.
fn c_path(what: &str, path: &Path) -> Planned<CString> {
    if !path.is_absolute() {
        return Err(invalid(what, format!("\"{}\" must be an absolute path", path.display())));
    }
    c_string(what, path.as_os_str().as_bytes())
}

/// The container of a process of its own.
fn container_of(process: &ProcessSpec) -> Planned<&ContainerSpec> {
    match &process.root {
        workload::ProcessRoot::Own(container) => Ok(container),
        workload::ProcessRoot::Join(_) => Err(invalid("root", "it must be a container's own")),
    }
}

/// The operations in words, for golden files.
#[cfg(test)]
fn describe(ops: &[Op]) -> String {
    ops.iter().map(|op| format!("{op}\n")).collect()
}
