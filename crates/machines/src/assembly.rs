//! From a record to a machine that is paused, with everything that it is connected with.

use std::{
    fs::File,
    io,
    net::{SocketAddrV4, TcpListener},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
};

use hv::{Accel, GuestMemory, HvError, Hypervisor, Model, Shape};
use rustix::{
    event::{EventfdFlags, eventfd},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};
use usernet::{Addresses, Config, Framing, Link, Stack, StackError};
use virtio::{
    Mmio,
    balloon::Balloon,
    blk::{Blk, Options},
    net::{self, Net},
    rng::Rng,
};
use vm::{Announce, BuildError, Builder, Cargo, Machine, snapshot::Snapshot as Saved};

use crate::{
    command_line::command_line,
    console,
    disk::{self, DiskError},
    draft::{initrd_file, kernel_file},
    name::Name,
    net::{ADDRESS, Mac, Network, Port},
    spec::{Kernel, Spec},
};

/// Largest packet on a machine's own network.
const MTU: u16 = 1500;

/// Where the host's resolvers are named.
const RESOLVERS: &str = "/etc/resolv.conf";

/// Makes what carries out the guest's instructions; the best there is, if none is named.
pub type MakeHypervisor = dyn Fn(Option<Accel>) -> Result<Arc<dyn Hypervisor>, HvError>;

/// Finds the kernel of a name, or says why there is none. What comes with it is kept as long as
/// the machine runs.
pub type FindKernel = dyn Fn(&str) -> Result<(File, Box<dyn Send + Sync>), String>;

/// What a machine's process needs of the program that it is a part of.
pub struct Surroundings<'a> {
    /// See [`MakeHypervisor`].
    pub hypervisor: &'a MakeHypervisor,
    /// See [`FindKernel`].
    pub kernel: &'a FindKernel,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

/// Why a machine does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssemblyError {
    /// A disk cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// There is no kernel.
    #[error("there is no kernel for it: {0}")]
    Kernel(String),
    /// A file of its own cannot be opened.
    #[error("cannot open {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is nothing to carry out its instructions.
    #[error("nothing carries out its instructions")]
    Hypervisor(#[source] HvError),
    /// It cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The host has no memory for it.
    #[error("there is no memory for it")]
    Memory(#[source] io::Error),
    /// A port of the host's cannot be had.
    #[error("port {port} cannot be published")]
    Port {
        /// Which.
        port: Port,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Its network cannot be.
    #[error("it has no network")]
    Network(#[from] StackError),
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

/// A machine and what it is connected with.
pub(crate) struct Assembly {
    pub(crate) machine: Machine,
    pub(crate) balloon: Arc<Mmio<Balloon>>,
    /// The snapshot that it was last saved as, or restored from, if what it wrote since is known.
    /// Locked while it is saved.
    since: Mutex<Option<Name>>,
    _network: Option<Carrier>,
    _kernel: Option<Box<dyn Send + Sync>>,
}

impl Assembly {
    pub(crate) fn since(&self) -> MutexGuard<'_, Option<Name>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that carries a machine's packets. Dropped, it ends, and its ports are free.
struct Carrier {
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Carrier {
    fn drop(&mut self) {
        if rustix::io::write(&self.stop, &1u64.to_ne_bytes()).is_ok() {
            // It has nobody to tell how it ended.
            let _ = self.thread.take().map(JoinHandle::join);
        }
    }
}

/// A machine at its kernel's first instruction.
pub(crate) fn boot(
    spec: &Spec,
    name: &Name,
    directory: &Path,
    line: &UnixStream,
    around: &Surroundings<'_>,
) -> Result<Assembly, AssemblyError> {
    let (kernel, held) = kernel(spec, directory, around.kernel)?;
    let initrds = (0..spec.initrds).map(|index| opened(initrd_file(directory, index)));
    let cargo = Cargo {
        kernel: kernel.into(),
        initrds: initrds.map(|file| file.map(Into::into)).collect::<Result<_, _>>()?,
        command_line: command_line(spec, &name.host_name()),
    };
    let memory = GuestMemory::new(spec.memory_bytes).map_err(AssemblyError::Memory)?;
    let shape = Shape { vcpus: spec.cpus, model: Model::default() };
    let parts = Parts { memory, shape, line, kernel: held };
    assemble(spec, directory, around, parts, |builder| builder.boot(&cargo))
}

/// A machine where it stood when it was saved.
pub(crate) fn restore(
    spec: &Spec,
    saved: Saved,
    directory: &Path,
    line: &UnixStream,
    around: &Surroundings<'_>,
) -> Result<Assembly, AssemblyError> {
    let memory = saved.memory().map_err(AssemblyError::Memory)?;
    let (manifest, kernel) = (saved.manifest, None);
    let parts = Parts { memory, shape: manifest.shape.clone(), line, kernel };
    assemble(spec, directory, around, parts, |builder| builder.restore(manifest))
}

/// What a machine is put together from beside its record.
struct Parts<'a> {
    memory: GuestMemory,
    shape: Shape,
    /// The machine's end of its serial port's line.
    line: &'a UnixStream,
    kernel: Held,
}

/// The devices, always in this order, and then the machine.
fn assemble(
    spec: &Spec,
    directory: &Path,
    around: &Surroundings<'_>,
    Parts { memory, shape, line, kernel }: Parts<'_>,
    finish: impl FnOnce(Builder) -> Result<Machine, BuildError>,
) -> Result<Assembly, AssemblyError> {
    let hypervisor = (around.hypervisor)(spec.accel).map_err(AssemblyError::Hypervisor)?;
    let announce = if spec.acpi { Announce::Acpi } else { Announce::CommandLine };
    let mut builder = Builder::new(&*hypervisor, memory.clone(), shape, announce)?;
    builder.console(console::end(line).map_err(host("connect its serial port"))?);
    builder.attach(Rng)?;
    let balloon = builder.attach(Balloon::new(memory))?;
    for (index, disk) in spec.disks.iter().enumerate() {
        let image = disk::open(disk, directory)?;
        let options = Options {
            id: if disk.seed { disk::SEED.to_owned() } else { disk::own_name(index) },
            read_only: disk.read_only,
            ..Options::default()
        };
        builder.attach(Blk::new(image, &options).map_err(host("make a timer"))?)?;
    }
    let network = match &spec.network {
        Network::None => None,
        Network::User { mac, ports } => {
            let (card, stack) = connected(*mac, ports)?;
            let options = net::Options { mac: mac.0, ..net::Options::default() };
            builder.attach(Net::to_program(card, options).map_err(host("make a card"))?)?;
            Some(carry(stack)?)
        }
    };
    let machine = finish(builder)?;
    let since = Mutex::default();
    Ok(Assembly { machine, balloon, since, _network: network, _kernel: kernel })
}

/// A card's line, and the stack at its other end.
fn connected(mac: Mac, ports: &[Port]) -> Result<(OwnedFd, Stack), AssemblyError> {
    let pair = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None);
    let (card, far) = pair.map_err(|error| host("make a socket")(error.into()))?;
    let config = Config {
        addresses: Addresses::default(),
        mtu: MTU,
        host_loopback: false,
        resolv_conf: RESOLVERS.into(),
    };
    let link = Link::new(far, Framing::Card).map_err(host("make a socket"))?;
    let mut stack = Stack::new(link, config)?;
    stack.lease(ADDRESS);
    for port in ports {
        let listener = TcpListener::bind(port.host)
            .map_err(|source| AssemblyError::Port { port: *port, source })?;
        stack.publish(listener, SocketAddrV4::new(ADDRESS, port.guest), mac.0)?;
    }
    Ok((card, stack))
}

fn carry(stack: Stack) -> Result<Carrier, AssemblyError> {
    let stop =
        eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| host("make an eventfd")(error.into()))?;
    let told = stop.try_clone().map_err(host("make an eventfd"))?;
    let thread = thread::Builder::new().name("network".to_owned()).spawn(move || {
        // The guest finds a network that carries nothing any more.
        let _ = stack.run(Some(told.as_fd()));
    });
    Ok(Carrier { stop, thread: Some(thread.map_err(host("start a thread"))?) })
}

type Held = Option<Box<dyn Send + Sync>>;

fn kernel(spec: &Spec, directory: &Path, find: &FindKernel) -> Result<(File, Held), AssemblyError> {
    match &spec.kernel {
        Kernel::Own(_) => Ok((opened(kernel_file(directory))?, None)),
        Kernel::Named(name) => {
            let (file, held) = find(name).map_err(AssemblyError::Kernel)?;
            Ok((file, Some(held)))
        }
    }
}

fn opened(path: PathBuf) -> Result<File, AssemblyError> {
    File::open(&path).map_err(|source| AssemblyError::File { path, source })
}
