//! What a client and a shim say to each other, in frames of the `wire` crate.
//!
//! ```text
//! client: Hello                     server: Welcome
//! client: Call { id: 1, Create … }  server: Answer { id: 1, … }
//! client: Call { id: 2, Wait … }
//! client: Call { id: 3, Usage }     server: Answer { id: 3, … }
//!                                   server: Answer { id: 2, … }    in any order
//! ```
//!
//! A connection to the fork server's socket is answered by a shim that has just been forked and
//! holds nothing; its first call is [`Request::Create`], [`Request::Reclaim`] or
//! [`Request::Leave`]. A connection to a shim's own socket may call everything else, as may the
//! one that created the sandbox. Any number of clients may be connected.
//!
//! A shim outlives upgrades of the daemon. Fields may be added with `#[serde(default)]`; whatever
//! else changes takes another [`PROTOCOL`].

use std::path::PathBuf;

use base::{ProcessId, clock::Timestamp};
use serde::{Deserialize, Serialize};
use workload::{
    DriverError, Exit, FileStat, Isolation, Limits, ProcessSpec, SandboxHandle, SandboxSpec,
    Signal, TerminalSize, Unpack, Usage,
};

/// Version of this protocol.
pub const PROTOCOL: u32 = 1;

/// First frame of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol it speaks.
    pub protocol: u32,
}

/// First frame of a shim, whatever the client speaks, so that both can say what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol it speaks. If it is not the client's, the connection ends here.
    pub protocol: u32,
    /// The build it is of.
    pub build: String,
    /// Its process id on the host.
    pub pid: u32,
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The client's number for it; an answer bears the same.
    pub id: u64,
    /// Milliseconds left of its deadline; `None` for as long as it takes.
    pub left_ms: Option<u64>,
    /// In place of a descriptor, where none can come along: which stream is meant. Of shims that
    /// are reached by streams alone (see [`crate::Post`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<u64>,
    /// What is asked.
    pub request: Request,
}

/// The answer to a [`Call`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The call's number.
    pub id: u64,
    /// What came of it.
    pub result: Result<Reply, DriverError>,
}

/// What can be asked. Descriptors that go with a request are named in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Makes the sandbox. Descriptor: [`workload::Materials::network`], if `network`.
    ///
    /// It is made whether or not the client is still there at the end: a client that was killed
    /// has a record of its intent, and finds the sandbox by its id.
    Create {
        /// With which driver.
        isolation: Isolation,
        /// What to make.
        spec: Box<SandboxSpec>,
        /// Whether a network namespace comes with it.
        network: bool,
    },
    /// Removes what is left of a sandbox whose shim was killed.
    Reclaim {
        /// Whose.
        handle: SandboxHandle,
    },
    /// Ends the fork server: it is of another build, or no longer needed. Shims go on.
    Leave,
    /// Asks for the handle of the sandbox that this shim holds.
    Handle,
    /// [`workload::Sandbox::spawn`]. Descriptor: [`workload::Streams::attached`], if `attached`.
    Spawn {
        /// What to start.
        spec: Box<ProcessSpec>,
        /// Whether a socket comes with it.
        attached: bool,
        /// Whether no input comes from that.
        #[serde(default, skip_serializing_if = "is_false")]
        output_only: bool,
    },
    /// [`workload::Sandbox::process`].
    Process {
        /// Which.
        process: ProcessId,
    },
    /// [`workload::Sandbox::forget`].
    Forget {
        /// Which.
        process: ProcessId,
    },
    /// [`workload::Sandbox::limit`].
    Limit {
        /// The new limits.
        limits: Box<Limits>,
    },
    /// [`workload::Sandbox::usage`].
    Usage,
    /// [`workload::Sandbox::host_pids`].
    HostPids,
    /// [`workload::Pausable::pause`].
    Pause,
    /// [`workload::Pausable::resume`].
    Resume,
    /// [`workload::Forkable::save`].
    Save {
        /// Into which directory.
        directory: PathBuf,
    },
    /// [`workload::Sandbox::destroy`]. The shim ends after its answer.
    Destroy,
    /// [`workload::Sandbox::destroy`], to make another one then. Only a shim that is reached by
    /// streams alone does that ([`crate::Post`]).
    Vacate,
    /// [`workload::Process::signal`].
    Signal {
        /// To whom.
        process: ProcessId,
        /// Which.
        signal: Signal,
    },
    /// [`workload::Process::resize`].
    Resize {
        /// Whose terminal.
        process: ProcessId,
        /// The new size.
        size: TerminalSize,
    },
    /// [`workload::Process::attach`]. Descriptor: the socket.
    Attach {
        /// To whom.
        process: ProcessId,
        /// Whether no input comes from it.
        #[serde(default, skip_serializing_if = "is_false")]
        output_only: bool,
        /// Whether [`Reply::Attached`] is wanted, which shims of earlier builds do not know.
        #[serde(default, skip_serializing_if = "is_false")]
        mark: bool,
    },
    /// [`workload::Files::stat`].
    FileStat {
        /// Beneath whose root.
        process: ProcessId,
        /// What.
        path: String,
    },
    /// [`workload::Files::read`]. It has no deadline. Descriptor: where the archive goes.
    FilesRead {
        /// Beneath whose root.
        process: ProcessId,
        /// What.
        path: String,
        /// The top name in the archive.
        name: String,
    },
    /// [`workload::Files::write`]. It has no deadline. Descriptor: where the archive comes from.
    FilesWrite {
        /// Beneath whose root.
        process: ProcessId,
        /// Into which directory.
        path: String,
        /// How.
        unpack: Unpack,
    },
    /// [`workload::Process::wait`]. It has no deadline.
    Wait {
        /// For whom.
        process: ProcessId,
    },
    /// Something that only the agent of a machine does, before or after it has a sandbox.
    Chores(Vec<Chore>),
}

/// A name of the agent by which it is no agent: it reads the program that is its argument, says a word
/// and leaves. Whoever prepares machines has a container do that.
pub const REHEARSAL: &str = "/.wythe-rehearsal";

/// What is to be done in a machine around the sandbox. Asked twice, it is done once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Chore {
    /// Mounts a file system; one that is mounted there stays.
    Mount {
        /// The serial number of the block device, or the tag of a shared directory; empty for a file
        /// system that is on neither, such as tmpfs.
        serial: String,
        /// Size of the block device, which it has when the kernel has seen that it is there.
        bytes: u64,
        /// erofs, ext4, tmpfs, virtiofs.
        filesystem: String,
        /// Where; it is made if it is missing.
        target: PathBuf,
        /// Whether it is not to be written to.
        read_only: bool,
        /// Options, as of `mount -o`.
        options: String,
    },
    /// Unmounts a block device, and waits until nobody has it.
    Unmount {
        /// Its serial number.
        serial: String,
        /// Where it is mounted.
        target: PathBuf,
    },
    /// Makes directories, and those above them, where they are missing.
    Directories(Vec<PathBuf>),
    /// Removes directories with all that is in them; one that is not there is none.
    Remove(Vec<PathBuf>),
    /// Sets up the machine's interfaces, in the order in which its devices are. What they were
    /// before is undone.
    Interfaces(Vec<net::machine::Interface>),
    /// Answers questions for names that come to 127.0.0.11, by asking the host.
    Names,
    /// Sets the clock, in nanoseconds since 1970.
    Clock(u64),
    /// Stirs these bytes into the kernel's random numbers, as it should when the machine was
    /// copied.
    Seed(Vec<u8>),
    /// Writes out the file system that is mounted here, and holds back whoever wants to change it.
    Freeze(PathBuf),
    /// Lets it go on.
    Thaw(PathBuf),
    /// Looks anew at this file or directory of the host, which is another one than before.
    Reread(PathBuf),
    /// Makes a container of a machine that was copied another one.
    Identity(Box<Identity>),
}

/// Who a container is for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// One of its processes, by its number in the machine.
    pub process: u32,
    /// Its host name; none if it stays as it is.
    pub hostname: Option<String>,
    /// What its `/etc/machine-id` says, if it has one. Source: machine-id(5).
    pub machine_id: String,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

impl Request {
    /// How many descriptors go with it.
    pub fn fds(&self) -> usize {
        match self {
            Request::Create { network: given, .. } | Request::Spawn { attached: given, .. } => {
                usize::from(*given)
            }
            Request::Attach { .. } | Request::FilesRead { .. } | Request::FilesWrite { .. } => 1,
            Request::Reclaim { .. }
            | Request::Leave
            | Request::Handle
            | Request::Process { .. }
            | Request::Forget { .. }
            | Request::Limit { .. }
            | Request::Usage
            | Request::HostPids
            | Request::Pause
            | Request::Resume
            | Request::Save { .. }
            | Request::Destroy
            | Request::Vacate
            | Request::Signal { .. }
            | Request::Resize { .. }
            | Request::FileStat { .. }
            | Request::Wait { .. }
            | Request::Chores(_) => 0,
        }
    }

    /// Whether asking twice does no more than asking once, so that it may be asked again when a
    /// connection broke before the answer.
    pub fn is_idempotent(&self) -> bool {
        match self {
            Request::Create { .. }
            | Request::Spawn { .. }
            | Request::Signal { .. }
            | Request::FilesRead { .. }
            | Request::FilesWrite { .. }
            | Request::Save { .. }
            | Request::Vacate
            | Request::Attach { .. } => false,
            Request::Reclaim { .. }
            | Request::Leave
            | Request::Handle
            | Request::Process { .. }
            | Request::Forget { .. }
            | Request::Limit { .. }
            | Request::Usage
            | Request::HostPids
            | Request::Pause
            | Request::Resume
            | Request::Destroy
            | Request::Resize { .. }
            | Request::FileStat { .. }
            | Request::Wait { .. }
            | Request::Chores(_) => true,
        }
    }
}

/// What can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done.
    Done,
    /// The sandbox.
    Sandbox {
        /// How to find it again.
        handle: SandboxHandle,
        /// Whether it can be paused.
        pausable: bool,
        /// Whether its files can be reached.
        #[serde(default)]
        files: bool,
        /// Whether it can be copied while it runs.
        #[serde(default)]
        forkable: bool,
    },
    /// It is attached; the log has up to this time what was said before.
    Attached {
        /// See [`workload::Process::attach`].
        at: Timestamp,
    },
    /// A process there is.
    Process {
        /// Its process id on the host, while it runs.
        host_pid: Option<u32>,
    },
    /// What is at a path.
    FileStat(Box<FileStat>),
    /// What the sandbox has used.
    Usage(Box<Usage>),
    /// Host process ids.
    HostPids(Vec<u32>),
    /// How a process ended.
    Exit(Exit),
    /// The sandbox is gone; how those of its processes ended that were not forgotten.
    Destroyed(Vec<(ProcessId, Exit)>),
}

#[cfg(test)]
mod tests;
