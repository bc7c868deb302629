//! What is ordered of the process that holds a machine, and what it answers. Everything of the
//! host's comes with an order, open.

use std::path::PathBuf;

use hv::Accel;
use serde::{Deserialize, Serialize};

use crate::{disk::Format, lifetime::How, net::Mac};

/// An order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Descriptor: the machine's lock, which is to be held until this process ends.
    Lock,
    /// Another disk. Descriptors: its image and those behind it, the nearest first.
    Disk {
        /// What it is called where it cannot be used.
        path: PathBuf,
        /// What the guest sees of its identity.
        id: String,
        /// The guest may not write.
        read_only: bool,
        /// What the bytes of each image mean.
        formats: Vec<Format>,
    },
    /// A card. Descriptor: its line.
    Card {
        /// Its address.
        mac: Mac,
    },
    /// Another first root file system. Descriptor: its file.
    Initrd,
    /// Another snapshot that the one to be restored goes back to, the nearest first. Descriptors:
    /// memory and description.
    Older,
    /// Gives up all rights, and makes the machine, which stands still. Descriptors: where its end
    /// is said, its serial port's line, its kernel.
    Boot {
        /// What it is made of.
        board: Board,
        /// How much memory it has.
        memory_bytes: u64,
        /// What its kernel is told.
        command_line: String,
    },
    /// The same, where it stood when it was saved. Descriptors: where its end is said, its serial
    /// port's line, memory and description.
    Restore(Board),
    /// Lets it run, or run on.
    Resume,
    /// Has it stand still.
    Pause,
    /// Writes it, while it stands still. Descriptors: empty files for memory and description.
    Save {
        /// The snapshot before, as the new one names it, if only what was written since is wanted.
        parent: Option<PathBuf>,
    },
    /// Presses the power button.
    Press,
    /// Ends it.
    Stop,
    /// Asks the guest to get along without so much memory.
    Balloon {
        /// In bytes.
        bytes: u64,
    },
    /// Says what the guest was asked to get along without, and what it gave.
    Given,
}

/// What a machine is made of beside what was handed over.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Board {
    /// How many processors it has; that of a snapshot says itself.
    pub(crate) cpus: u8,
    /// Whether its kernel hears of devices by ACPI.
    pub(crate) acpi: bool,
    /// What carries out its instructions.
    pub(crate) accel: Option<Accel>,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Word {
    /// It is done.
    Done,
    /// It is not, and this is why.
    Refused(String),
    /// To [`Order::Given`], in bytes.
    Given { asked: u64, given: u64 },
}

/// How a machine ended; nothing if it was reset. Its disks are whole then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Last(pub(crate) Option<How>);
