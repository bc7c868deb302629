//! From what was handed over to a machine that stands still. In the process that holds it.

use std::{
    fs::File,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::PathBuf,
    sync::Arc,
};

use hv::{Accel, GuestMemory, HvError, Hypervisor, Model, Shape};
use virtio::{
    Mmio,
    balloon::Balloon,
    blk::{
        Blk, Options,
        chain::{self, Layer},
        qcow2::OpenError,
    },
    net::{self, Net},
    rng::Rng,
};
use vm::{
    Announce, BuildError, Builder, Cargo, Machine,
    snapshot::{Files, Snapshot, SnapshotError},
};

use crate::{console, net::Mac, order::Board};

/// Makes what carries out the guest's instructions; the best there is, if none is named.
pub type MakeHypervisor = dyn Fn(Option<Accel>) -> Result<Arc<dyn Hypervisor>, HvError>;

/// Why a machine does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssemblyError {
    /// A disk is no image of its format.
    #[error("cannot use {}", path.display())]
    Disk {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The snapshot cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The host has no memory for it.
    #[error("there is no memory for it")]
    Memory(#[source] io::Error),
    /// The host refused.
    #[error("cannot {step}")]
    Host {
        /// What.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn host(step: &'static str) -> impl FnOnce(io::Error) -> AssemblyError {
    move |source| AssemblyError::Host { step, source }
}

/// A machine and what of it is reached from outside.
pub(crate) struct Assembly {
    pub(crate) machine: Machine,
    pub(crate) balloon: Arc<Mmio<Balloon>>,
}

/// What it begins with.
pub(crate) enum Picture {
    /// Its kernel's first instruction.
    Kernel { kernel: File, memory_bytes: u64, command_line: String },
    /// Where it stood when it was saved.
    Saved(Files),
}

/// What was handed over so far.
#[derive(Default)]
pub(crate) struct Parts {
    disks: Vec<Disk>,
    card: Option<(Mac, OwnedFd)>,
    initrds: Vec<File>,
    older: Vec<Files>,
}

struct Disk {
    path: PathBuf,
    options: Options,
    layers: Vec<Layer>,
}

impl Parts {
    pub(crate) fn disk(&mut self, path: PathBuf, id: String, read_only: bool, layers: Vec<Layer>) {
        let options = Options { id, read_only, ..Options::default() };
        self.disks.push(Disk { path, options, layers });
    }

    pub(crate) fn card(&mut self, mac: Mac, line: OwnedFd) {
        self.card = Some((mac, line));
    }

    pub(crate) fn initrd(&mut self, file: File) {
        self.initrds.push(file);
    }

    pub(crate) fn older(&mut self, files: Files) {
        self.older.push(files);
    }

    /// The machine, with `line` at its serial port.
    pub(crate) fn assemble(
        mut self,
        board: Board,
        hypervisor: &dyn Hypervisor,
        line: &UnixStream,
        picture: Picture,
    ) -> Result<Assembly, AssemblyError> {
        match picture {
            Picture::Kernel { kernel, memory_bytes, command_line } => {
                let initrds = self.initrds.drain(..).map(Into::into).collect();
                let cargo = Cargo { kernel: kernel.into(), initrds, command_line };
                let memory = GuestMemory::new(memory_bytes).map_err(AssemblyError::Memory)?;
                let shape = Shape { vcpus: board.cpus, model: Model::default() };
                self.furnish(board, hypervisor, line, memory, shape, |it| it.boot(&cargo))
            }
            Picture::Saved(files) => {
                let saved = Snapshot::read(files, std::mem::take(&mut self.older))?;
                let memory = saved.memory().map_err(AssemblyError::Memory)?;
                let (manifest, shape) = (saved.manifest.clone(), saved.manifest.shape);
                self.furnish(board, hypervisor, line, memory, shape, |it| it.restore(manifest))
            }
        }
    }

    /// The devices, always in this order, and then the machine.
    fn furnish(
        self,
        board: Board,
        hypervisor: &dyn Hypervisor,
        line: &UnixStream,
        memory: GuestMemory,
        shape: Shape,
        finish: impl FnOnce(Builder) -> Result<Machine, BuildError>,
    ) -> Result<Assembly, AssemblyError> {
        let announce = if board.acpi { Announce::Acpi } else { Announce::CommandLine };
        let mut builder = Builder::new(hypervisor, memory.clone(), shape, announce)?;
        builder.console(console::end(line).map_err(host("connect its serial port"))?);
        builder.attach(Rng)?;
        let balloon = builder.attach(Balloon::new(memory))?;
        for Disk { path, options, layers } in self.disks {
            let image = chain::image(layers, !options.read_only)
                .map_err(|source| AssemblyError::Disk { path, source })?;
            builder.attach(Blk::new(image, &options).map_err(host("make a timer"))?)?;
        }
        if let Some((mac, line)) = self.card {
            let options = net::Options { mac: mac.0, ..net::Options::default() };
            builder.attach(Net::to_program(line, options).map_err(host("make a card"))?)?;
        }
        Ok(Assembly { machine: finish(builder)?, balloon })
    }
}
