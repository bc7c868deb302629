//! A machine in files: what it is made of in one, its memory in another.
//!
//! ```text
//! dir/memory         guest memory, byte for byte; what is zero takes no room
//! dir/machine.json   everything else: version, processors, chips, devices, clock
//! ```
//!
//! The second is written when the first is whole, so a directory that has it is a snapshot.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use hv::{ChipState, Clock, CpuState, GuestMemory, Shape, memory::PAGE};
use serde::{Deserialize, Serialize};
use virtio::mmio::Saved;

use crate::{Machine, legacy::Board, machine::SaveError};

/// The version of the format. It grows when a reader of the old one could not read the new.
pub const VERSION: u32 = 1;

/// Longest description of a machine, in bytes: one with 160 devices has less than one MiB.
const MANIFEST_BYTES_MAX: u64 = 16 << 20;

/// How much memory is looked at at once.
const CHUNK: usize = 1 << 20;

/// Names in the directory.
const MEMORY: &str = "memory";
const MANIFEST: &str = "machine.json";

/// Everything of a machine but its memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Its processors.
    pub shape: Shape,
    /// How much memory it has.
    pub memory_bytes: u64,
    /// What its clock showed.
    pub clock: Clock,
    /// The processors.
    pub cpus: Vec<CpuState>,
    /// The interrupt chips.
    pub chips: ChipState,
    /// The devices of the board.
    pub board: Board,
    /// The virtio devices, in the order in which they were attached.
    pub devices: Vec<Saved>,
}

/// The file's shape.
#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    machine: Manifest,
}

/// What every version of the file says.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// Why a machine was not saved, or not read back.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Its state could not be taken.
    #[error(transparent)]
    State(#[from] SaveError),
    /// A file could not be written or read.
    #[error("cannot {step}")]
    File {
        /// What was to be done.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The description is none.
    #[error("the snapshot's description cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// Another version of Wythe has written it.
    #[error("the snapshot has version {found}, and this is version {VERSION}")]
    Version {
        /// What was found.
        found: u32,
    },
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> SnapshotError {
    move |source| SnapshotError::File { step, source }
}

impl Machine {
    /// Writes a paused machine into a directory, which is made if need be.
    ///
    /// # Errors
    /// [`SnapshotError`]; what is in the directory then is no snapshot.
    pub fn snapshot(&self, dir: &Path) -> Result<(), SnapshotError> {
        fs::create_dir_all(dir).map_err(failed("make the snapshot's directory"))?;
        match fs::remove_file(dir.join(MANIFEST)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("replace the snapshot")(error));
            }
            _ => {}
        }
        let machine = self.manifest()?;
        let memory = File::create(dir.join(MEMORY)).map_err(failed("make the memory's file"))?;
        write_memory(self.memory(), &memory).map_err(failed("write the memory"))?;
        let document = Document { version: VERSION, machine };
        let text = serde_json::to_vec(&document).map_err(SnapshotError::Unreadable)?;
        let new = dir.join("machine.json.new");
        fs::write(&new, text).map_err(failed("write the description"))?;
        fs::rename(&new, dir.join(MANIFEST)).map_err(failed("write the description"))
    }
}

/// A snapshot that was read.
#[derive(Debug)]
pub struct Snapshot {
    /// The machine.
    pub manifest: Manifest,
    memory: File,
}

impl Snapshot {
    /// Reads one.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn open(dir: &Path) -> Result<Snapshot, SnapshotError> {
        let file = File::open(dir.join(MANIFEST)).map_err(failed("open the description"))?;
        let manifest = read_manifest(file)?;
        let memory = File::open(dir.join(MEMORY)).map_err(failed("open the memory's file"))?;
        Ok(Snapshot { manifest, memory })
    }

    /// The memory, mapped: pages are read when they are touched, and what is written stays the
    /// machine's own.
    ///
    /// # Errors
    /// Those of [`GuestMemory::restore`].
    pub fn memory(&self) -> io::Result<GuestMemory> {
        GuestMemory::restore(self.memory.try_clone()?, 0, self.manifest.memory_bytes)
    }
}

fn read_manifest(file: File) -> Result<Manifest, SnapshotError> {
    let mut text = Vec::new();
    let mut bounded = io::Read::take(file, MANIFEST_BYTES_MAX);
    io::Read::read_to_end(&mut bounded, &mut text).map_err(failed("read the description"))?;
    let Versioned { version } = serde_json::from_slice(&text).map_err(SnapshotError::Unreadable)?;
    if version != VERSION {
        return Err(SnapshotError::Version { found: version });
    }
    let document: Document = serde_json::from_slice(&text).map_err(SnapshotError::Unreadable)?;
    Ok(document.machine)
}

/// Writes the pages that are not zero; a file has zeros where nothing was written.
fn write_memory(memory: &GuestMemory, file: &File) -> io::Result<()> {
    file.set_len(memory.bytes() as u64)?;
    let mut chunk = vec![0; CHUNK];
    for range in memory.written()? {
        let (mut at, end) = (range.start, range.end);
        while at < end {
            let bytes = (end - at).min(CHUNK);
            memory.copy_out(at, &mut chunk[..bytes]);
            write_chunk(file, at, &chunk[..bytes])?;
            at += bytes;
        }
    }
    Ok(())
}

/// Writes runs of pages that are not zero.
fn write_chunk(file: &File, at: usize, chunk: &[u8]) -> io::Result<()> {
    for (from, to) in runs(chunk) {
        file.write_all_at(&chunk[from..to], (at + from) as u64)?;
    }
    Ok(())
}

/// Where runs of pages that are not zero begin and end.
fn runs(chunk: &[u8]) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (n, page) in chunk.chunks(PAGE).enumerate() {
        if page.iter().all(|byte| *byte == 0) {
            continue;
        }
        let (from, to) = (n * PAGE, n * PAGE + page.len());
        match runs.last_mut() {
            Some((_, end)) if *end == from => *end = to,
            _ => runs.push((from, to)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_zeros_are_left_out() {
        let mut chunk = vec![0; 6 * PAGE];
        assert_eq!(runs(&chunk), []);
        for at in [PAGE, 3 * PAGE - 1, 5 * PAGE + 7] {
            chunk[at] = 1;
        }
        assert_eq!(runs(&chunk), [(PAGE, 3 * PAGE), (5 * PAGE, 6 * PAGE)]);
    }
}
