//! The process that is a machine: it takes orders from its driver until either of them ends.
//!
//! It begins with the rights of whoever started it, and has given them up before its guest's first
//! instruction ([`walls`]). What of it needs more than a guest may ever get hold of is done by
//! others: files by the server of shares (`shares.rs`), names by the driver.

mod shares;

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use base::{Deadline, chain};
use hv::{Accel, GuestMemory, HvError, Hypervisor, Model, Shape};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{Shutdown, shutdown},
};
use sys::userns::Ids;
use virtio::{
    Mmio,
    blk::{Blk, Image, Options, Raw},
    fs::Fs,
    net::{self, Net},
    rng::Rng,
    vsock::{self, Vsock},
};
use vm::{
    Announce, Builder, Cargo, Console, End, Machine,
    snapshot::{Files, Snapshot},
};
use walls::{
    calls,
    rights::{self, User},
};
use workload::MachineEnd;

use self::shares::Shares;
use crate::{
    NAMES_PORT, NAMES_STREAM_PORT, READY_PORT,
    control::{Boot, Order, Places, Transport, Word},
    translate::SHARE_TAG,
};

/// The machine's number on its vsock, where it is alone.
const CID: u64 = 3;

/// How long a machine may take to stand still.
const PAUSE_WITHIN: Duration = Duration::from_secs(5);

/// How long the connection of an agent that has said that it is ready may take to end.
const IDLE_WITHIN: Duration = Duration::from_secs(1);

/// What is said to orders for a machine that is not there yet.
const NOT_BOOTED: &str = "nothing was booted";

/// What is said to a disk for a place in which there is one.
const TAKEN: &str = "there is a disk in that place";

/// What is said to a disk for a place that there is not.
const NO_PLACE: &str = "there is no such place";

/// A place for a disk, with nothing in it.
const EMPTY: Options =
    Options { id: String::new(), read_only: false, place: true, bytes: None, requests: None };

/// Bytes of what the host has back when it is given up: much of what a processor in software has
/// decoded.
const MAPPED_FROM: u16 = 32 << 10;

/// Between two looks whether the machine has ended, should nobody say so.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Makes what carries out the guest's instructions; the best there is, if none is named.
pub type MakeHypervisor = dyn Fn(Option<Accel>) -> Result<Arc<dyn Hypervisor>, HvError>;

/// Takes orders over this socket until the driver has gone; the machine ends with it.
///
/// # Errors
/// If the socket breaks, or what comes are no orders.
pub fn run(socket: OwnedFd, hypervisor: &MakeHypervisor) -> io::Result<()> {
    sys::fork::map_memory_from(MAPPED_FROM);
    let voice = Voice(Arc::new(Mutex::new(socket.try_clone()?)));
    let mut parts = Parts::new(voice.clone());
    while let Some((order, fds)) =
        wire::blocking::recv::<Order>(&socket).map_err(io::Error::other)?
    {
        let word = match parts.carry_out(order, fds, hypervisor) {
            Ok(word) => word,
            Err(error) => Word::Refused(chain(&*error)),
        };
        voice.say(&word, &[])?;
    }
    Ok(())
}

/// What is said goes out whole, whoever says it.
#[derive(Clone)]
struct Voice(Arc<Mutex<OwnedFd>>);

impl Voice {
    fn say(&self, word: &Word, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wire::blocking::send(&*socket, word, fds).map_err(io::Error::other)
    }
}

impl Voice {
    /// Says how it ended. No order is taken from then on, so that the process leaves, and with it
    /// every stream into the machine: whoever waits for an answer is told.
    fn last(&self, word: &Word) {
        // A driver that has gone needs neither.
        let _ = self.say(word, &[]);
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = shutdown(&*socket, Shutdown::Read);
    }
}

type Refusal = Box<dyn std::error::Error + Send + Sync>;

struct Parts {
    voice: Voice,
    /// By their places.
    disks: BTreeMap<usize, Blk>,
    interfaces: VecDeque<Net>,
    shares: Shares,
    /// What was decoded by another one.
    code: Option<File>,
    running: Option<Running>,
}

/// What a machine's process has of the host when its rights are gone.
struct Host {
    hypervisor: Arc<dyn Hypervisor>,
    shares: Fs,
}

/// Devices that are reached while the machine runs.
struct Devices {
    vsock: Arc<Mmio<Vsock>>,
    shares: Arc<Mmio<Fs>>,
    /// In the order of their places.
    disks: Vec<Arc<Mmio<Blk>>>,
}

struct Running {
    machine: Arc<Machine>,
    devices: Devices,
    host: vsock::Host,
    /// Whether the driver has ever connected with it.
    visited: bool,
}

impl Parts {
    fn new(voice: Voice) -> Parts {
        Parts {
            voice,
            disks: BTreeMap::new(),
            interfaces: VecDeque::new(),
            shares: Shares::default(),
            code: None,
            running: None,
        }
    }

    fn carry_out(
        &mut self,
        order: Order,
        fds: Vec<OwnedFd>,
        hypervisor: &MakeHypervisor,
    ) -> Result<Word, Refusal> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or("a descriptor did not come");
        match order {
            Order::Probe => return Ok(Word::Accel(hypervisor(None)?.accel())),
            Order::Disk { place, serial, read_only } => {
                let image = Image::Raw(Raw::new(File::from(next()?))?);
                match &self.running {
                    Some(running) => running.devices.fill(place, image, &serial, read_only)?,
                    None if self.disks.contains_key(&place) => return Err(TAKEN.into()),
                    None => {
                        let options = Options { id: serial, read_only, ..EMPTY };
                        self.disks.insert(place, Blk::new(image, &options)?);
                    }
                }
            }
            Order::TakeDisk { place } => self.running()?.devices.empty(place)?,
            Order::Share { name } => {
                let (name, what) = (CString::new(name)?, next()?);
                match &self.running {
                    Some(running) => running.devices.share(|fs| fs.graft(&name, what))?,
                    None => self.shares.add(name, what),
                }
            }
            Order::TakeShare { name } => {
                let name = CString::new(name)?;
                self.running()?.devices.share(|fs| fs.prune(&name))?;
            }
            Order::Interface { mac, mtu } => {
                let mtu = Some(u16::try_from(mtu).unwrap_or(u16::MAX));
                let options = net::Options { mac, mtu, ..net::Options::default() };
                self.interfaces.push_back(Net::new(next()?, options)?);
            }
            Order::Boot(boot) => {
                let (ground, kernel, initrd, console) = (next()?, next()?, next()?, next()?);
                let host = self.give_up(&ground, boot.accel, hypervisor)?;
                let cargo = Cargo {
                    kernel: File::from(kernel).into(),
                    initrds: vec![File::from(initrd).into()],
                    command_line: boot.command_line.clone(),
                };
                let memory = GuestMemory::new(boot.memory_bytes)?;
                let (builder, devices) = self.build(&boot, memory, console, host)?;
                self.run(builder.boot(&cargo)?, devices)?;
            }
            Order::Restore(boot) => {
                let (ground, memory, description) = (next()?, next()?, next()?);
                let console = next()?;
                let host = self.give_up(&ground, boot.accel, hypervisor)?;
                let files = Files { memory: memory.into(), description: description.into() };
                let saved = Snapshot::read(files, Vec::new())?;
                let (mut builder, devices) = self.build(&boot, saved.memory()?, console, host)?;
                builder.copy();
                if let Some(code) = self.code.take()
                    && let Err(error) = builder.load_code(&code)
                {
                    tracing::info!(error = chain(&error), "instructions are decoded anew");
                }
                self.run(builder.restore(saved.manifest)?, devices)?;
            }
            Order::Snapshot => {
                let (memory, description) = (next()?, next()?);
                let files = Files { memory: memory.into(), description: description.into() };
                let code = next().ok().map(File::from);
                self.running()?.save(&files, code.as_ref())?;
            }
            Order::Code => self.code = Some(next()?.into()),
            Order::Connect { port } => {
                let running = self.running.as_mut().ok_or(NOT_BOOTED)?;
                running.host.connect(port, next()?)?;
                running.visited = true;
            }
        }
        Ok(Word::Done)
    }

    fn running(&self) -> Result<&Running, Refusal> {
        self.running.as_ref().ok_or_else(|| NOT_BOOTED.into())
    }

    /// Takes of the host what only who has rights can, and gives the rights up. Threads are made
    /// later, so that none has more.
    fn give_up(
        &mut self,
        ground: &OwnedFd,
        accel: Accel,
        hypervisor: &MakeHypervisor,
    ) -> Result<Host, Refusal> {
        if self.running.is_some() {
            return Err("it runs".into());
        }
        let shares = std::mem::take(&mut self.shares).serve(ground)?;
        let hypervisor = hypervisor(Some(accel))?;
        // What the library below looks up once, in /proc of older kernels, it looks up here.
        let _ = rustix::param::page_size();
        let pid = std::process::id();
        let user = User::of_machine(pid, &Ids::own()?);
        rights::give_up(&rights::of_machine(ground, user, calls::machine(pid)?))?;
        Ok(Host { hypervisor, shares: Fs::new(SHARE_TAG, Box::new(shares))? })
    }

    /// The machine with everything that was handed over, and empty places where there is to be more.
    fn build(
        &mut self,
        boot: &Boot,
        memory: GuestMemory,
        console: OwnedFd,
        host: Host,
    ) -> Result<(Builder, Devices), Refusal> {
        let shape = Shape { vcpus: boot.cpus, model: Model::V2 };
        let announce = if boot.acpi { Announce::Acpi } else { Announce::CommandLine };
        let mut builder = Builder::new(&*host.hypervisor, memory, shape, announce)?;
        builder.console(Console { input: None, output: Some(console) });
        let vsock = Vsock::new(vsock::Config { cid: CID, listener: None, path: None })?;
        self.listen(&vsock.host());
        let vsock = builder.attach(vsock)?;
        builder.attach(Rng)?;
        let shares = builder.attach(host.shares)?;
        let Places { disks: places, interfaces } = boot.places;
        let last = self.disks.keys().next_back();
        if self.interfaces.len() > interfaces || last.is_some_and(|last| *last >= places) {
            return Err("more was handed over than there is room for".into());
        }
        for _ in 0..interfaces {
            let interface = self.interfaces.pop_front();
            let empty = || Net::unplugged(net::Options::default());
            builder.attach(interface.map_or_else(empty, Ok)?)?;
        }
        let mut disks = Vec::new();
        for place in 0..places {
            let disk = self.disks.remove(&place);
            let disk = disk.map_or_else(|| Blk::new(nothing()?, &EMPTY), Ok)?;
            disks.push(builder.attach(disk)?);
        }
        Ok((builder, Devices { vsock, shares, disks }))
    }

    /// Hears when the agent is there, and what it asks for.
    fn listen(&self, host: &vsock::Host) {
        let voice = self.voice.clone();
        host.listen(
            READY_PORT,
            Box::new(move |_| {
                // A driver that has gone is noticed where its orders are awaited.
                let _ = voice.say(&Word::Ready, &[]);
            }),
        );
        if self.interfaces.is_empty() {
            return;
        }
        for (port, transport) in
            [(NAMES_PORT, Transport::Datagram), (NAMES_STREAM_PORT, Transport::Stream)]
        {
            let voice = self.voice.clone();
            let ask = move |stream: OwnedFd| {
                let _ = voice.say(&Word::Asks(transport), &[stream.as_fd()]);
            };
            host.listen(port, Box::new(ask));
        }
    }

    /// Lets a machine run, and watches for its end.
    fn run(&mut self, machine: Machine, devices: Devices) -> Result<(), Refusal> {
        let machine = Arc::new(machine);
        machine.resume();
        let (watched, voice) = (Arc::clone(&machine), self.voice.clone());
        thread::Builder::new().name("end".to_owned()).spawn(move || {
            let end = loop {
                if let Some(end) = watched.wait(Deadline::after(LOOK_AGAIN)) {
                    break end;
                }
            };
            let (end, more) = ended(end);
            voice.last(&Word::Ended(end, more));
        })?;
        let (host, _) = devices.vsock.with(|vsock, _| Ok(vsock.host()))?;
        self.running = Some(Running { machine, devices, host, visited: false });
        Ok(())
    }
}

/// What of a running machine is changed, is changed between two requests of its guest: whoever
/// serves them has the device meanwhile.
impl Devices {
    fn fill(
        &self,
        place: usize,
        image: Image,
        serial: &str,
        read_only: bool,
    ) -> Result<(), Refusal> {
        let disk = self.disks.get(place).ok_or(NO_PLACE)?;
        let (put, _) = disk.with(|disk, queues| {
            let vacant = disk.is_vacant();
            Ok(vacant.then(|| disk.put(image, serial, read_only, queues)))
        })?;
        Ok(put.ok_or(TAKEN)??)
    }

    fn empty(&self, place: usize) -> Result<(), Refusal> {
        let (disk, nothing) = (self.disks.get(place).ok_or(NO_PLACE)?, nothing()?);
        let (put, _) = disk.with(|disk, queues| Ok(disk.put(nothing, "", false, queues)))?;
        Ok(put?)
    }

    fn share(&self, change: impl FnOnce(&mut Fs) -> io::Result<()>) -> Result<(), Refusal> {
        let (changed, _) = self.shares.with(|shares, _| Ok(change(shares)))?;
        Ok(changed?)
    }
}

impl Running {
    /// Saves it and lets it run on. Of one that nobody has visited yet, the connection by which its
    /// agent said that it is ready ends first; whoever it is taken up by finds none then.
    fn save(&self, files: &Files, code: Option<&File>) -> Result<(), Refusal> {
        let by = Deadline::after(IDLE_WITHIN);
        let idle = || Ok::<_, Refusal>(self.devices.vsock.with(|vsock, _| Ok(vsock.is_idle()))?.0);
        while !self.visited && !idle()? && !by.passed() {
            thread::sleep(Duration::from_millis(1));
        }
        self.machine.pause(Deadline::after(PAUSE_WITHIN))?;
        let saved = || -> Result<(), Refusal> {
            self.machine.save_to(files, None)?;
            Ok(code.map_or(Ok(()), |code| self.machine.save_code(code))?)
        };
        let saved = saved();
        self.machine.resume();
        saved
    }
}

/// A disk of no size.
fn nothing() -> io::Result<Image> {
    let file = memfd_create("no disk", MemfdFlags::CLOEXEC)?;
    Ok(Image::Raw(Raw::new(file.into())?))
}

/// How a machine ended, and what more there is to say.
fn ended(end: End) -> (MachineEnd, String) {
    let end = match end {
        End::PoweredOff => MachineEnd::PoweredOff,
        End::Reset => MachineEnd::Reset,
        End::Panicked => MachineEnd::Panicked,
        End::TripleFault => MachineEnd::TripleFault,
        End::Stuck => MachineEnd::Stuck,
        End::Stopped => MachineEnd::Killed,
        End::Failed { why } => return (MachineEnd::Failed, why),
    };
    (end, String::new())
}
