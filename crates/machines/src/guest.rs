//! From a record to the process that holds the machine: what it needs of the host is opened here,
//! by whoever may, and handed over.

use std::{
    fs::File,
    io,
    net::{SocketAddrV4, TcpListener},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::PathBuf,
    process::Child,
    sync::{
        Mutex, PoisonError, RwLock, RwLockWriteGuard, TryLockError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    net::{AddressFamily, SocketFlags, SocketType, socketpair},
};
use usernet::{Addresses, Config, Framing, Link, Stack, StackError};

use crate::{
    command_line::command_line,
    control::Start,
    disk::{self, DiskError, Format},
    draft::{initrd_file, kernel_file},
    lifetime::How,
    name::Name,
    net::{ADDRESS, Mac, Network, Port},
    order::{Board, Last, Order, Word},
    snapshot::{self, RestoreError},
    spec::{Kernel, Spec},
};

/// Largest packet on a machine's own network.
const MTU: u16 = 1500;

/// Where the host's resolvers are named.
const RESOLVERS: &str = "/etc/resolv.conf";

/// How long a machine may take to be put together.
const BEGIN_WITHIN: Duration = Duration::from_secs(60);

/// How long an order may take.
const ORDER_WITHIN: Duration = Duration::from_secs(20);

/// How long a machine's memory may take to be written.
const SAVE_WITHIN: Duration = Duration::from_secs(1800);

/// Finds the kernel of a name, or says why there is none. What comes with it is kept as long as
/// the machine runs.
pub type FindKernel = dyn Fn(&str) -> Result<(File, Box<dyn Send + Sync>), String>;

/// Makes a process that calls [`hold`](crate::hold) with the socket that it is given.
pub type MakeProcess = dyn Fn(OwnedFd) -> io::Result<Child>;

/// What a machine's keeper needs of the program that it is a part of.
pub struct Surroundings<'a> {
    /// See [`FindKernel`].
    pub kernel: &'a FindKernel,
    /// See [`MakeProcess`].
    pub process: &'a MakeProcess,
}

impl std::fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Surroundings")
    }
}

/// Why a machine does not begin, or does not do what it was ordered.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuestError {
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
    /// The snapshot cannot be gone back to.
    #[error(transparent)]
    Snapshot(#[from] RestoreError),
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
    /// The process that holds it said no.
    #[error("{0}")]
    Refused(String),
    /// The process that holds it did not answer, or nonsense.
    #[error("the machine's process does not answer")]
    Silent(#[source] io::Error),
    /// It is being saved.
    #[error("the machine is being saved")]
    Busy,
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

fn host(step: &'static str) -> impl FnOnce(io::Error) -> GuestError {
    move |source| GuestError::Host { step, source }
}

/// The process that holds a machine. Dropped, both end.
pub(crate) struct Guest {
    orders: Mutex<UnixStream>,
    end: UnixStream,
    process: Mutex<Child>,
    /// Whether somebody wanted its process to end.
    stopped: AtomicBool,
    /// The snapshot that it was last saved as, or restored from, if what it wrote since is known.
    /// Locked for writing while it is saved, for reading while it is asked something.
    since: RwLock<Option<Name>>,
    network: Option<Carrier>,
    kernel: Held,
}

type Held = Option<Box<dyn Send + Sync>>;

impl Guest {
    /// Makes the process and in it the machine, which stands still: at its kernel's first
    /// instruction, or as it was in the snapshot that is named.
    pub(crate) fn begin(
        spec: &Spec,
        start: &Start,
        lock: BorrowedFd<'_>,
        restore: Option<&Name>,
        line: &UnixStream,
        around: &Surroundings<'_>,
    ) -> Result<Guest, GuestError> {
        let (orders, theirs) = UnixStream::pair().map_err(host("make a socket"))?;
        let (end, told) = UnixStream::pair().map_err(host("make a socket"))?;
        let process = (around.process)(theirs.into()).map_err(host("make its process"))?;
        let mut guest = Guest {
            orders: Mutex::new(orders),
            end,
            process: Mutex::new(process),
            stopped: AtomicBool::new(false),
            since: RwLock::new(restore.cloned()),
            network: None,
            kernel: None,
        };
        guest.order(&Order::Lock, &[lock])?;
        guest.hand_over_disks(spec, start)?;
        guest.network = guest.connect(&spec.network)?;
        let board = Board { cpus: spec.cpus, acpi: spec.acpi, accel: spec.accel };
        let (told, line) = (told.as_fd(), line.as_fd());
        match restore {
            Some(name) => {
                let (files, older) = snapshot::open(&start.directory, name)?;
                for older in &older {
                    let fds = [older.memory.as_fd(), older.description.as_fd()];
                    guest.order(&Order::Older, &fds)?;
                }
                let fds = [told, line, files.memory.as_fd(), files.description.as_fd()];
                guest.order(&Order::Restore(board), &fds)?;
            }
            None => {
                let kernel = guest.hand_over_kernel(spec, start, around.kernel)?;
                let command_line = command_line(spec, &start.name.host_name());
                let order = Order::Boot { board, memory_bytes: spec.memory_bytes, command_line };
                guest.order(&order, &[told, line, kernel.as_fd()])?;
            }
        }
        Ok(guest)
    }

    fn hand_over_disks(&self, spec: &Spec, start: &Start) -> Result<(), GuestError> {
        for (index, disk) in spec.disks.iter().enumerate() {
            let layers = disk::layers(disk, &start.directory)?;
            let order = Order::Disk {
                path: disk.path(&start.directory),
                id: if disk.seed { disk::SEED.to_owned() } else { disk::own_name(index) },
                read_only: disk.read_only,
                formats: layers.iter().map(|layer| Format::from(layer.format)).collect(),
            };
            let fds: Vec<BorrowedFd<'_>> = layers.iter().map(|layer| layer.file.as_fd()).collect();
            self.order(&order, &fds)?;
        }
        Ok(())
    }

    /// The kernel, when the first root file systems have been handed over.
    fn hand_over_kernel(
        &mut self,
        spec: &Spec,
        start: &Start,
        find: &FindKernel,
    ) -> Result<File, GuestError> {
        for index in 0..spec.initrds {
            let file = opened(initrd_file(&start.directory, index))?;
            self.order(&Order::Initrd, &[file.as_fd()])?;
        }
        match &spec.kernel {
            Kernel::Own(_) => opened(kernel_file(&start.directory)),
            Kernel::Named(name) => {
                let (file, held) = find(name).map_err(GuestError::Kernel)?;
                self.kernel = Some(held);
                Ok(file)
            }
        }
    }

    /// Hands a card over that is connected with a network.
    fn connect(&self, network: &Network) -> Result<Option<Carrier>, GuestError> {
        match network {
            Network::None => Ok(None),
            Network::User { mac, ports } => {
                let (card, stack) = connected(*mac, ports)?;
                self.order(&Order::Card { mac: *mac }, &[card.as_fd()])?;
                Ok(Some(carry(stack)?))
            }
        }
    }

    /// Has something done, and waits for it.
    pub(crate) fn order(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<Word, GuestError> {
        tell(&self.orders.lock().unwrap_or_else(PoisonError::into_inner), order, fds)
    }

    /// The same, unless it is being saved, which may take long.
    pub(crate) fn ask(&self, order: &Order) -> Result<Word, GuestError> {
        match self.since.try_read() {
            Err(TryLockError::WouldBlock) => Err(GuestError::Busy),
            Ok(_) | Err(TryLockError::Poisoned(_)) => self.order(order, &[]),
        }
    }

    pub(crate) fn since(&self) -> RwLockWriteGuard<'_, Option<Name>> {
        self.since.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).id()
    }

    /// Waits for its end.
    pub(crate) fn wait(&self) -> Option<How> {
        match wire::blocking::recv::<Last>(&self.end) {
            Ok(Some((Last(how), _))) => how,
            Ok(None) | Err(_) if self.stopped.load(Ordering::Acquire) => Some(How::Stopped),
            Ok(None) | Err(_) => Some(How::Failed("its process was killed".to_owned())),
        }
    }

    /// Ends a machine that takes no order.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        self.end();
    }

    /// Ends the process, and waits until it holds nothing any more.
    pub(crate) fn end(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        // One that has ended needs no signal.
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.end();
    }
}

fn tell(orders: &UnixStream, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<Word, GuestError> {
    let within = match order {
        Order::Boot { .. } | Order::Restore(_) => BEGIN_WITHIN,
        Order::Save { .. } => SAVE_WITHIN,
        Order::Lock
        | Order::Disk { .. }
        | Order::Card { .. }
        | Order::Initrd
        | Order::Older
        | Order::Resume
        | Order::Pause
        | Order::Press
        | Order::Stop
        | Order::Balloon { .. }
        | Order::Given => ORDER_WITHIN,
    };
    orders.set_read_timeout(Some(within)).map_err(GuestError::Silent)?;
    let answer = wire::blocking::send(orders, order, fds)
        .and_then(|()| wire::blocking::recv::<Word>(orders));
    match answer {
        Ok(Some((Word::Refused(why), _))) => Err(GuestError::Refused(why)),
        Ok(Some((word @ (Word::Done | Word::Given { .. }), _))) => Ok(word),
        Ok(None) => Err(GuestError::Silent(io::ErrorKind::UnexpectedEof.into())),
        Err(error) => Err(GuestError::Silent(io::Error::other(error))),
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

/// A card's line, and the stack at its other end.
fn connected(mac: Mac, ports: &[Port]) -> Result<(OwnedFd, Stack), GuestError> {
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
            .map_err(|source| GuestError::Port { port: *port, source })?;
        stack.publish(listener, SocketAddrV4::new(ADDRESS, port.guest), mac.0)?;
    }
    Ok((card, stack))
}

fn carry(stack: Stack) -> Result<Carrier, GuestError> {
    let stop =
        eventfd(0, EventfdFlags::CLOEXEC).map_err(|error| host("make an eventfd")(error.into()))?;
    let told = stop.try_clone().map_err(host("make an eventfd"))?;
    let thread = thread::Builder::new().name("network".to_owned()).spawn(move || {
        // The guest finds a network that carries nothing any more.
        let _ = stack.run(Some(told.as_fd()));
    });
    Ok(Carrier { stop, thread: Some(thread.map_err(host("start a thread"))?) })
}

fn opened(path: PathBuf) -> Result<File, GuestError> {
    File::open(&path).map_err(|source| GuestError::File { path, source })
}
