//! What a child does between clone(2) and execve(2), as data.
//!
//! A plan is a list of these. Everything an operation needs (strings, programs, id lists) is made
//! before the clone, and descriptors are meant by their [`Slot`] in the launch's table, so that
//! running one neither allocates nor takes a lock. `Display` says what it does, with its subject:
//! it is the `step` of an error and the line of a golden plan.

use std::{
    ffi::{CStr, CString},
    fmt,
};

use sys::{
    capability::Sets,
    clone::Namespaces,
    exec::StringArray,
    mount::{Change, attribute, propagation},
    seccomp::SockFilter,
};
use workload::TerminalSize;

/// A descriptor of the launch's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(pub(crate) usize);

/// What a mount target is made as, where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Make {
    /// A directory.
    Directory,
    /// An empty file.
    File,
}

/// A file system of the kernel's, mounted by the child in its own namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewMount {
    pub(crate) fstype: CString,
    pub(crate) source: Option<CString>,
    /// `key=value` or `key`.
    pub(crate) parameters: Vec<(CString, Option<CString>)>,
    /// Per-mount attributes.
    pub(crate) attributes: u64,
    /// Propagation that differs from private.
    pub(crate) propagation: Option<Change>,
    /// What is bound in its place if the kernel does not let the child mount it (`EPERM`): sysfs
    /// of a network that belongs to another user namespace.
    pub(crate) or_bind: Option<CString>,
}

/// A device node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// `S_IFCHR`, `S_IFBLK` or `S_IFIFO`, and permission bits.
    pub(crate) mode: u32,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// A program run by the child on the way, with the container's state on its standard input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    pub(crate) kind: &'static str,
    pub(crate) path: CString,
    pub(crate) args: StringArray,
    pub(crate) env: StringArray,
    /// The state up to the process id, and after it.
    pub(crate) state: (Vec<u8>, Vec<u8>),
    pub(crate) timeout_ms: Option<u32>,
}

/// At which point a child reports and waits for its parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Namespaces and mounts are there, and the root is not yet changed.
    Created,
    /// Everything but the command is done.
    Ready,
}

/// One operation of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// Die with the parent, or not any more.
    DieWithParent(bool),
    /// Be killed when the parent ends, through execve(2) too, and go no further if it has ended.
    StayWithParent,
    /// Default signal actions, none blocked.
    DefaultSignals,
    /// A session of its own.
    Session,
    /// Write 0 to a group's `cgroup.procs` (or `tasks`).
    JoinCgroup(Slot),
    /// Enter existing namespaces.
    Enter { namespace: Slot, kinds: Namespaces },
    /// Enter new namespaces.
    Leave(Namespaces),
    /// Set the clocks of the new time namespace, and enter it.
    Clocks(CString),
    /// Go on in a sibling, which is in the process id namespace chosen for children.
    Sibling,
    /// Wait for a word of the parent.
    Await,
    /// Tell the parent, and wait for its word.
    Tell(Stage),
    /// Become root of the user namespace.
    BecomeRoot,
    /// Receive no mount from the host's tree and send none to it.
    Detach,
    /// Attach the root file system's mount, at this path of the host's tree.
    AttachRoot { mount: Slot, at: CString },
    /// Use the current root as it is.
    OpenRoot,
    /// Mount a file system of the kernel's.
    Mount { target: CString, mount: NewMount },
    /// Attach a mount that the parent made.
    Attach { target: CString, mount: Slot },
    /// Change the attributes of the mount at a path.
    Attributes { target: CString, change: Change },
    /// Make a symbolic link, unless something is there.
    Link { path: CString, to: CString },
    /// Make a device node, with its owner.
    Device { path: CString, node: Node },
    /// Bind a device node of the host, in a user namespace that may make none.
    BindDevice { path: CString, host: CString },
    /// Open a terminal in the container's devpts, hand its master to the parent, and make it the
    /// standard streams and, in a container of its own, `/dev/console`.
    Terminal { console: bool, uid: u32, size: TerminalSize },
    /// Make standard input the controlling terminal of this process's session.
    ControlTerminal,
    /// Take these descriptors as standard streams.
    Streams([Slot; 3]),
    /// Give the standard streams to the user, as far as the kernel allows.
    OwnStreams(u32),
    /// Run a program in the container on the way.
    Hook(Box<Hook>),
    /// Make the attached root the root directory, and let go of the old one.
    PivotRoot,
    /// Make the attached root the root directory, where it cannot be pivoted to.
    Chroot,
    /// Host name.
    Hostname(CString),
    /// NIS domain name.
    Domainname(CString),
    /// Bring the loopback interface up.
    Loopback,
    /// Write a kernel parameter.
    Sysctl { path: CString, value: CString },
    /// Make a path read as empty.
    Mask(CString),
    /// Keep a path from being written.
    ReadOnly(CString),
    /// Join a session keyring of this name.
    Keyring(CString),
    /// Set the label for execve(2).
    Label { file: CString, value: CString },
    /// Badness for the out-of-memory killer.
    OomScore(CString),
    /// A resource limit.
    Limit { resource: u32, soft: u64, hard: u64, required: bool },
    /// The execution domain.
    Personality(u32),
    /// Never gain privileges.
    NoNewPrivileges,
    /// Load a system call filter.
    Seccomp { filter: Vec<SockFilter>, flags: u32 },
    /// Keep only these capabilities in the bounding set.
    Bound { keep: u64, last: u8 },
    /// User, group, further groups.
    Identity { uid: u32, gid: u32, groups: Option<Vec<u32>> },
    /// Capability sets, ambient ones too.
    Capabilities { sets: Sets, ambient: u64 },
    /// File mode creation mask.
    Umask(u32),
    /// Make the working directory where it is missing.
    MakeDirectory(CString),
    /// Change to the working directory.
    Directory(CString),
    /// Find the command.
    Find,
    /// Wait until a byte comes out of a FIFO.
    AwaitStart(Slot),
    /// Close every descriptor but those the command gets.
    CloseOthers,
    /// Become the command.
    Execute,
}

/// The command, prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Command {
    /// As it was given, for messages.
    pub(crate) name: String,
    /// Paths to try, in order.
    pub(crate) candidates: Vec<CString>,
    pub(crate) args: StringArray,
    pub(crate) env: StringArray,
    /// The init that is executed first, and its arguments; it gets the found command's.
    pub(crate) init: Option<Slot>,
    /// Descriptors from 3 on that the command gets.
    pub(crate) preserve: u32,
}

fn text(value: &CStr) -> std::borrow::Cow<'_, str> {
    value.to_string_lossy()
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::DieWithParent(true) => write!(f, "die with the parent"),
            Op::StayWithParent => write!(f, "stay with the parent"),
            Op::DieWithParent(false) => write!(f, "outlive the parent"),
            Op::DefaultSignals => write!(f, "reset signals"),
            Op::Session => write!(f, "begin a session"),
            Op::JoinCgroup(_) => write!(f, "join the cgroup"),
            Op::Enter { kinds, .. } => write!(f, "enter the {} namespace", Kinds(*kinds)),
            Op::Leave(kinds) => write!(f, "make a new {} namespace", Kinds(*kinds)),
            Op::Clocks(offsets) => {
                write!(f, "set the clocks by {}", text(offsets).trim_end().replace('\n', ", "))
            }
            Op::Sibling => write!(f, "clone into the process id namespace"),
            Op::Await => write!(f, "wait for the parent"),
            Op::Tell(Stage::Created) => write!(f, "tell that the environment is created"),
            Op::Tell(Stage::Ready) => write!(f, "tell that all is ready"),
            Op::BecomeRoot => write!(f, "become root of the user namespace"),
            Op::Detach => write!(f, "detach the mount tree from the host's"),
            Op::AttachRoot { at, .. } => write!(f, "attach the root file system at {}", text(at)),
            Op::OpenRoot => write!(f, "open the root directory"),
            Op::Mount { target, mount } => {
                write!(f, "mount {} on {}", text(&mount.fstype), text(target))?;
                mount.fmt(f)
            }
            Op::Attach { target, .. } => write!(f, "bind on {}", text(target)),
            Op::Attributes { target, change } => {
                write!(f, "make {}{}", text(target), Changes(change))
            }
            Op::Link { path, to } => write!(f, "link {} to {}", text(path), text(to)),
            Op::Device { path, node } => write!(
                f,
                "make device {} {:o} {}:{} for {}:{}",
                text(path),
                node.mode,
                node.major,
                node.minor,
                node.uid,
                node.gid
            ),
            Op::BindDevice { path, host } => {
                write!(f, "bind device {} on {}", text(host), text(path))
            }
            Op::Terminal { console: true, .. } => write!(f, "open a terminal and /dev/console"),
            Op::Terminal { console: false, .. } => write!(f, "open a terminal"),
            Op::ControlTerminal => write!(f, "take the terminal"),
            Op::Streams(_) => write!(f, "take the standard streams"),
            Op::OwnStreams(uid) => write!(f, "give the standard streams to {uid}"),
            Op::Hook(hook) => write!(f, "run {} hook {}", hook.kind, text(&hook.path)),
            Op::PivotRoot => write!(f, "pivot_root"),
            Op::Chroot => write!(f, "chroot"),
            Op::Hostname(name) => write!(f, "set the host name to {}", text(name)),
            Op::Domainname(name) => write!(f, "set the domain name to {}", text(name)),
            Op::Loopback => write!(f, "bring up lo"),
            Op::Sysctl { path, value } => write!(f, "set sysctl {} to {}", text(path), text(value)),
            Op::Mask(path) => write!(f, "mask {}", text(path)),
            Op::ReadOnly(path) => write!(f, "make {} read-only", text(path)),
            Op::Keyring(name) => write!(f, "join session keyring {}", text(name)),
            Op::Label { file, value } => write!(f, "write {} to {}", text(value), text(file)),
            Op::OomScore(score) => write!(f, "set oom_score_adj to {}", text(score)),
            Op::Limit { resource, soft, hard, .. } => {
                write!(f, "set rlimit {resource} to {soft}:{hard}")
            }
            Op::Personality(domain) => write!(f, "set personality {domain:#x}"),
            Op::NoNewPrivileges => write!(f, "set no_new_privs"),
            Op::Seccomp { filter, flags } => {
                write!(f, "load a seccomp filter of {} instructions", filter.len())?;
                if *flags == 0 { Ok(()) } else { write!(f, " with flags {flags:#x}") }
            }
            Op::Bound { keep, .. } => write!(f, "bound capabilities to {keep:#x}"),
            Op::Identity { uid, gid, groups } => {
                write!(f, "become {uid}:{gid} with groups {:?}", groups.as_deref().unwrap_or(&[]))
            }
            Op::Capabilities { sets, ambient } => write!(
                f,
                "set capabilities effective {:#x} permitted {:#x} inheritable {:#x} ambient \
                 {ambient:#x}",
                sets.effective, sets.permitted, sets.inheritable
            ),
            Op::Umask(mask) => write!(f, "set umask {mask:04o}"),
            Op::MakeDirectory(path) => write!(f, "make directory {}", text(path)),
            Op::Directory(path) => write!(f, "chdir to {}", text(path)),
            Op::Find => write!(f, "find the command"),
            Op::AwaitStart(_) => write!(f, "wait for start"),
            Op::CloseOthers => write!(f, "close other descriptors"),
            Op::Execute => write!(f, "execve"),
        }
    }
}

impl fmt::Display for NewMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.parameters.iter().enumerate() {
            write!(f, "{}{}", if at == 0 { " with " } else { "," }, text(key))?;
            if let Some(value) = value {
                write!(f, "={}", text(value))?;
            }
        }
        let change = Change { set: self.attributes, ..self.propagation.unwrap_or_default() };
        write!(f, "{}", Changes(&change))
    }
}

/// The words of a change of attributes, each after a space.
struct Changes<'a>(&'a Change);

impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WORDS: [(u64, &str); 8] = [
            (attribute::READ_ONLY, "ro"),
            (attribute::NO_SUID, "nosuid"),
            (attribute::NO_DEV, "nodev"),
            (attribute::NO_EXEC, "noexec"),
            (attribute::NO_ATIME, "noatime"),
            (attribute::STRICT_ATIME, "strictatime"),
            (attribute::NO_DIRATIME, "nodiratime"),
            (attribute::NO_SYMFOLLOW, "nosymfollow"),
        ];
        const TRAVEL: [(u64, &str); 4] = [
            (propagation::SHARED, "shared"),
            (propagation::SLAVE, "slave"),
            (propagation::PRIVATE, "private"),
            (propagation::UNBINDABLE, "unbindable"),
        ];
        for (bit, word) in WORDS.iter().filter(|(bit, _)| self.0.set & bit != 0) {
            let _ = bit;
            write!(f, " {word}")?;
        }
        for (_, word) in TRAVEL.iter().filter(|(bit, _)| self.0.propagation & bit != 0) {
            write!(f, " {word}")?;
        }
        if self.0.recursive { write!(f, " recursively") } else { Ok(()) }
    }
}

/// The names of namespaces, joined by commas.
pub(crate) struct Kinds(pub(crate) Namespaces);

impl fmt::Display for Kinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const WORDS: [(u64, &str); 8] = [
            (Namespaces::USER, "user"),
            (Namespaces::MOUNT, "mount"),
            (Namespaces::PID, "pid"),
            (Namespaces::NET, "network"),
            (Namespaces::IPC, "ipc"),
            (Namespaces::UTS, "uts"),
            (Namespaces::CGROUP, "cgroup"),
            (Namespaces::TIME, "time"),
        ];
        let mut first = true;
        for (_, word) in WORDS.iter().filter(|(bit, _)| self.0.0 & bit != 0) {
            write!(f, "{}{word}", if first { "" } else { ", " })?;
            first = false;
        }
        if first { write!(f, "no") } else { Ok(()) }
    }
}
