//! What the driver and the process that is the machine say to each other, in frames of the `wire`
//! crate.
//!
//! ```text
//! driver: Probe                    machine: Accel        (asked once for each boot of the host)
//! driver: Disk, Disk, …, Boot      machine: Done, Done, …, Done, Ready
//! driver: Disk, TakeDisk, …        machine: Done, Done   (of a container that came, that went)
//! driver: Snapshot                 machine: Done         (what Restore takes up in place of Boot)
//! driver: Connect                  machine: Done
//!                                  machine: Asks         (for a name)
//!                                  machine: Ended        (and the process leaves)
//! ```
//!
//! Orders are answered in their order; `Ready`, `Asks` and `Ended` come by themselves. Both ends
//! are of one build: the driver starts the process. At `Boot` and `Restore` it gives its rights up;
//! from then on it opens nothing, and what it needs comes as descriptors.

use hv::Accel;
use serde::{Deserialize, Serialize};
use workload::MachineEnd;

/// What the driver says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Tries what can carry out instructions here.
    Probe,
    /// A disk for an empty place of the machine, which is to be booted or runs. Descriptor: its
    /// image.
    Disk { place: usize, serial: String, read_only: bool },
    /// Empties a place of a machine that runs.
    TakeDisk { place: usize },
    /// A directory or file of the host for the machine, which is to be booted or runs, under this
    /// name in the shared directory. Descriptor: a mount of it that is nowhere.
    Share { name: String },
    /// Takes one from a machine that runs.
    TakeShare { name: String },
    /// An interface for the machine that is to be booted. Descriptor: its tap device.
    Interface { mac: [u8; 6], mtu: u32 },
    /// Boots. Descriptors: an empty mount namespace, the kernel, the first file system, where the
    /// console's output goes.
    Boot(Box<Boot>),
    /// What a processor in software has decoded of the memory that the machine is to be taken up
    /// with. Descriptor: the file.
    Code,
    /// Leads a stream to a port of the machine. Descriptor: the stream.
    Connect { port: u32 },
    /// Saves the machine as it is. Descriptors: empty files for its memory, its description and, if
    /// that is wanted, what its processor in software has decoded.
    Snapshot,
    /// Takes up a machine that was saved. Descriptors: an empty mount namespace, its memory, its
    /// description, where the console's output goes.
    Restore(Box<Boot>),
}

/// The machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Boot {
    pub(crate) memory_bytes: u64,
    pub(crate) cpus: u8,
    pub(crate) accel: Accel,
    /// Whether the kernel reads ACPI's tables; else it is told everything on its command line.
    pub(crate) acpi: bool,
    pub(crate) command_line: String,
    pub(crate) places: Places,
}

/// How many of each there is room for; what is not filled is there, and empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Places {
    /// Disks, whether or not they can be written.
    pub(crate) disks: usize,
    pub(crate) interfaces: usize,
}

impl Places {
    /// Room for so many layers and interfaces, and so that few kinds of machines are enough for
    /// all; what is left over is for further containers. Two disks are for changes: the one that a
    /// saved machine had mounted, and one that a container comes back to.
    pub(crate) fn for_these(layers: usize, interfaces: usize) -> Places {
        /// Layers that most images have.
        const LAYERS_MIN: usize = 8;
        /// Disks for changes.
        const CHANGES: usize = 2;
        Places {
            disks: CHANGES + layers.max(LAYERS_MIN).next_power_of_two(),
            interfaces: interfaces.max(1),
        }
    }
}

/// What the machine says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The order is carried out.
    Done,
    /// It is not, and why.
    Refused(String),
    /// What is best here to carry out instructions.
    Accel(Accel),
    /// The agent listens.
    Ready,
    /// The machine asks for a name. Descriptor: the stream of its question.
    Asks(Transport),
    /// The machine has ended, how, and what more is known.
    Ended(MachineEnd, String),
}

/// How a question for a name is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Transport {
    /// One datagram each way, each with its length in front.
    Datagram,
    /// As it is.
    Stream,
}
