//! From parts to a machine.

use std::{
    fs::File,
    io,
    sync::{Arc, Mutex},
    thread,
};

use hv::{GuestMemory, HvError, Hypervisor, Shape, Vcpu, Vm};
use rustix::rand::GetRandomFlags;
use virtio::{Device, Mmio, device::RestoreError};

use super::{
    Census, Console, Control, Cpu, Machine, Ports, Shared, bus,
    bus::Bus,
    events::{BellError, Bells, Events},
    lines::{self, Lines, Share},
    processor,
};
use crate::{
    acpi::{self, Hardware, Slot},
    boot::{self, BootError, Kernel, Source},
    layout,
    legacy::Board,
    snapshot::{Disk, DisksDiffer, Id, Manifest, compare},
};

/// How a kernel learns of the virtio devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announce {
    /// From ACPI's tables.
    Acpi,
    /// From its command line, for a kernel without ACPI.
    CommandLine,
}

/// What a machine boots.
#[derive(Clone, Debug)]
pub struct Cargo {
    /// The kernel.
    pub kernel: Source,
    /// Archives that make up its first root file system, one behind the other.
    pub initrds: Vec<Source>,
    /// Its command line.
    pub command_line: String,
}

/// Why there is no machine.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The kernel cannot be booted here.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// The backend refused.
    #[error("cannot set up the {what}")]
    Backend {
        /// What.
        what: &'static str,
        /// Why.
        #[source]
        source: HvError,
    },
    /// The host refused.
    #[error("cannot {step}")]
    Host {
        /// What was to be done.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// More devices than there are places for.
    #[error("a machine has at most {} virtio devices", layout::VIRTIO_MAX)]
    TooManyDevices,
    /// A saved machine is another than this one.
    #[error("the saved machine is another: {0}")]
    Another(String),
    /// Its disks are others than those of the snapshot.
    #[error(transparent)]
    Disks(#[from] DisksDiffer),
    /// A saved device was not taken over.
    #[error("cannot restore device {index}")]
    Device {
        /// Which, in the order in which they were attached.
        index: usize,
        /// Why.
        #[source]
        source: RestoreError,
    },
}

/// A machine that is put together.
#[derive(Debug)]
pub struct Builder {
    shape: Shape,
    announce: Announce,
    memory: GuestMemory,
    vm: Arc<dyn Vm>,
    cpus: Vec<Cpu>,
    control: Arc<Control>,
    pub(super) lines: Arc<Lines>,
    devices: Vec<Arc<Mmio<dyn Device>>>,
    console: Console,
    disks: Vec<Disk>,
    /// Whether it goes on beside the machine that was saved.
    copy: bool,
    /// The snapshot that it is restored from.
    since: Option<Id>,
}

impl Builder {
    /// The core of a machine with this memory. If it is to be restored, the memory is that of the
    /// snapshot.
    ///
    /// # Errors
    /// [`BuildError`]; nothing is left.
    pub fn new(
        hypervisor: &dyn Hypervisor,
        memory: GuestMemory,
        shape: Shape,
        announce: Announce,
    ) -> Result<Builder, BuildError> {
        let backend = |what| move |source| BuildError::Backend { what, source };
        let vm = hypervisor.create(memory.clone(), &shape).map_err(backend("machine"))?;
        let cpus: Result<Vec<Box<dyn Vcpu>>, _> = (0..shape.vcpus).map(|n| vm.vcpu(n)).collect();
        let cpus = cpus.map_err(backend("processors"))?;
        let wake =
            lines::bell().map_err(|source| BuildError::Host { step: "make an eventfd", source })?;
        let control = Arc::new(Control::new(cpus.iter().map(|cpu| cpu.kick()).collect(), wake));
        Ok(Builder {
            lines: Arc::new(Lines::new(vm.clone(), control.clone())),
            shape,
            announce,
            memory,
            vm,
            cpus: cpus.into_iter().map(Cpu).collect(),
            control,
            devices: Vec::new(),
            console: Console::default(),
            disks: Vec::new(),
            copy: false,
            since: None,
        })
    }

    /// What the serial port is connected with.
    pub fn console(&mut self, console: Console) {
        self.console = console;
    }

    /// The disks behind its devices, for a machine that is restored: if they are others than those
    /// that the snapshot names, it is refused.
    pub fn disks(&mut self, disks: Vec<Disk>) {
        self.disks = disks;
    }

    /// Says that the machine that is restored is one more, and not the one that was saved: it gets a
    /// generation of its own, and its kernel is told, which renews what it draws random numbers
    /// from.
    pub fn copy(&mut self) {
        self.copy = true;
    }

    /// Adds a virtio device, and gives the handle by which its owner reaches it. A machine that is
    /// restored wants the same devices in the same order.
    ///
    /// # Errors
    /// [`BuildError::TooManyDevices`].
    pub fn attach<D: Device + 'static>(&mut self, device: D) -> Result<Arc<Mmio<D>>, BuildError> {
        let index = self.devices.len();
        if index >= layout::VIRTIO_MAX {
            return Err(BuildError::TooManyDevices);
        }
        let line = lines::line(self.announce, index);
        let share = Arc::new(Share { lines: self.lines.clone(), line });
        let mmio = Arc::new(Mmio::new(device, self.memory.clone(), share));
        self.devices.push(mmio.clone());
        Ok(mmio)
    }

    fn slots(&self) -> Vec<Slot> {
        (0..self.devices.len())
            .map(|n| Slot { address: bus::address(n), line: lines::line(self.announce, n) })
            .collect()
    }

    /// Puts a kernel into the memory; the machine is paused at its first instruction.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn boot(mut self, cargo: &Cargo) -> Result<Machine, BuildError> {
        let kernel = Kernel::read(&cargo.kernel)?;
        let entry = kernel.entry;
        let (slots, command_line) = match self.announce {
            Announce::Acpi => (self.slots(), cargo.command_line.clone()),
            Announce::CommandLine => {
                let words = acpi::command_line(&self.slots());
                (Vec::new(), format!("{} {words}", cargo.command_line))
            }
        };
        let tables = acpi::tables(&Hardware { vcpus: self.shape.vcpus, slots });
        let about = boot::Cargo {
            command_line: command_line.trim_end(),
            initrd_bytes: boot::initrd_bytes(&cargo.initrds)?,
            rsdp: Some(acpi::RSDP),
        };
        let plan = boot::plan(kernel, &self.memory, &about)?;
        let seed: [u8; boot::SEED_BYTES] = random()?;
        plan.load(&self.memory, &cargo.kernel, &cargo.initrds, &seed)?;
        self.memory.write(layout::ACPI, &tables.0).map_err(BootError::Memory)?;
        self.generation()?;
        self.begin(entry).map_err(|source| BuildError::Backend { what: "processors", source })?;
        self.finish(Board::default(), false)
    }

    /// Writes a generation that no machine had before.
    fn generation(&self) -> Result<(), BuildError> {
        let id: [u8; 16] = random()?;
        Ok(self.memory.write(layout::GENERATION, &id).map_err(BootError::Memory)?)
    }

    /// The first processor at the kernel's entry, the rest as firmware leaves it.
    fn begin(&mut self, entry: boot::Entry) -> Result<(), HvError> {
        for (index, Cpu(cpu)) in self.cpus.iter_mut().enumerate() {
            let mut state = cpu.state()?;
            boot::firmware(&mut state);
            if index == 0 {
                entry.apply(&mut state);
            }
            cpu.set_state(&state)?;
        }
        let mut chips = self.vm.chips()?;
        for (pic, level) in chips.pics.iter_mut().zip(lines::LEVEL_LINES) {
            pic.elcr = level;
        }
        self.vm.set_chips(&chips)
    }

    /// Has its processors use what one of another machine's has made of the instructions in the
    /// memory that it is restored with ([`Machine::save_code`]); the file is to be as safe as that.
    ///
    /// # Errors
    /// [`BuildError`], of a file of another version or model; the machine runs as well without.
    pub fn load_code(&mut self, from: &File) -> Result<(), BuildError> {
        for Cpu(cpu) in &mut self.cpus {
            cpu.load_code(from)
                .map_err(|source| BuildError::Backend { what: "decoded instructions", source })?;
        }
        Ok(())
    }

    /// Takes over a saved machine; it is paused where that one was.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn restore(mut self, saved: Manifest) -> Result<Machine, BuildError> {
        self.check(&saved).map_err(BuildError::Another)?;
        compare(&saved.disks, &self.disks)?;
        // From here on what is written differs from the snapshot.
        self.since = saved.id;
        let watch = self.vm.log_dirty();
        watch.map_err(|source| BuildError::Backend { what: "written pages", source })?;
        // The devices raise their lines first: what the chips have seen of it is saved with them.
        for (index, (device, saved)) in self.devices.iter().zip(saved.devices).enumerate() {
            device.restore(saved).map_err(|source| BuildError::Device { index, source })?;
        }
        let ports = Ports::new(saved.board, &self.lines, self.vm.clone(), self.control.clone());
        let backend = |what| move |source| BuildError::Backend { what, source };
        self.vm.set_chips(&saved.chips).map_err(backend("interrupt chips"))?;
        self.vm.set_clock(saved.clock).map_err(backend("clock"))?;
        for (Cpu(cpu), state) in self.cpus.iter_mut().zip(&saved.cpus) {
            cpu.set_state(state).map_err(backend("processors"))?;
        }
        if self.copy {
            self.generation()?;
            ports.board(|board| board.power.copied());
        }
        self.spawn(ports, true)
    }

    /// Whether a saved machine has the parts that this one has.
    fn check(&self, saved: &Manifest) -> Result<(), String> {
        if saved.shape != self.shape || saved.cpus.len() != self.cpus.len() {
            return Err(format!("it has {:?}, and this one {:?}", saved.shape, self.shape));
        }
        if saved.memory_bytes != self.memory.bytes() as u64 {
            let (there, here) = (saved.memory_bytes, self.memory.bytes());
            return Err(format!("it has {there} bytes of memory, and this one {here}"));
        }
        if saved.devices.len() != self.devices.len() {
            let (there, here) = (saved.devices.len(), self.devices.len());
            return Err(format!("it has {there} devices, and this one {here}"));
        }
        Ok(())
    }

    fn finish(self, board: Board, restored: bool) -> Result<Machine, BuildError> {
        let ports = Ports::new(board, &self.lines, self.vm.clone(), self.control.clone());
        self.spawn(ports, restored)
    }

    fn spawn(self, ports: Ports, restored: bool) -> Result<Machine, BuildError> {
        let host = |step| move |source| BuildError::Host { step, source };
        let bells = Bells::new(&self.devices, self.vm.as_ref()).map_err(|error| match error {
            BellError::Host(source) => BuildError::Host { step: "make a doorbell", source },
            BellError::Backend(source) => BuildError::Backend { what: "doorbells", source },
        })?;
        let shared = Arc::new(Shared {
            census: Mutex::new(Census::new(self.shape.vcpus)),
            shape: self.shape,
            memory: self.memory,
            vm: self.vm,
            cpus: self.cpus.into_iter().map(Mutex::new).collect(),
            ports,
            bus: Bus::new(self.devices),
            bells,
            control: self.control,
            since: Mutex::new(self.since),
        });
        let events = Events::new(&shared, self.console, restored).map_err(host("use epoll"))?;
        // If a thread cannot be made, the machine is dropped with those that could.
        let mut machine = Machine { shared, threads: Vec::new() };
        for index in 0..machine.shared.cpus.len() {
            let shared = machine.shared.clone();
            machine.thread(format!("vcpu{index}"), move || processor::run(&shared, index))?;
        }
        let shared = machine.shared.clone();
        machine.thread("devices".to_owned(), move || events.run(&shared))?;
        Ok(machine)
    }
}

/// Random bytes; so few come whole or not at all.
fn random<const N: usize>() -> Result<[u8; N], BuildError> {
    let mut bytes = [0; N];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| BuildError::Host { step: "get random bytes", source: error.into() })?;
    Ok(bytes)
}

impl Machine {
    fn thread(
        &mut self,
        name: String,
        run: impl FnOnce() + Send + 'static,
    ) -> Result<(), BuildError> {
        let thread = thread::Builder::new().name(name).spawn(run);
        let step = "start a thread";
        self.threads.push(thread.map_err(|source| BuildError::Host { step, source })?);
        Ok(())
    }
}
