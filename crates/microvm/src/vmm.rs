//! The process that is a machine: it takes orders from its driver until either of them ends.
//!
//! It begins with the rights of whoever started it, and has given them up before its guest's first
//! instruction ([`walls`]). What of it needs more than a guest may ever get hold of is done by
//! others: files by the server of shares (`shares.rs`), names by the driver.

mod shares;

use std::{
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

use self::shares::{ReadOnly, Shares};
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

/// Between two looks whether the machine has ended, should nobody say so.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Makes what carries out the guest's instructions; the best there is, if none is named.
pub type MakeHypervisor = dyn Fn(Option<Accel>) -> Result<Arc<dyn Hypervisor>, HvError>;

/// Takes orders over this socket until the driver has gone; the machine ends with it.
///
/// # Errors
/// If the socket breaks, or what comes are no orders.
pub fn run(socket: OwnedFd, hypervisor: &MakeHypervisor) -> io::Result<()> {
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
    writable: Vec<Blk>,
    read_only: Vec<Blk>,
    interfaces: Vec<Net>,
    shares: Shares,
    running: Option<Running>,
}

/// What a machine's process has of the host when its rights are gone.
struct Host {
    hypervisor: Arc<dyn Hypervisor>,
    shares: Fs,
}

struct Running {
    machine: Arc<Machine>,
    vsock: Arc<Mmio<Vsock>>,
    host: vsock::Host,
    /// Whether the driver has ever connected with it.
    visited: bool,
}

impl Parts {
    fn new(voice: Voice) -> Parts {
        Parts {
            voice,
            writable: Vec::new(),
            read_only: Vec::new(),
            interfaces: Vec::new(),
            shares: Shares::default(),
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
            Order::Disk { serial, read_only } => {
                let image = Image::Raw(Raw::new(File::from(next()?))?);
                let options = Options { id: serial, read_only, ..Options::default() };
                let disks = if read_only { &mut self.read_only } else { &mut self.writable };
                disks.push(Blk::new(image, &options)?);
            }
            Order::Share { name, read_only, recursive_read_only } => {
                let what = next()?;
                self.shares.add(
                    name,
                    &what,
                    ReadOnly { itself: read_only, all: recursive_read_only },
                )?;
            }
            Order::Interface { mac, mtu } => {
                let mtu = Some(u16::try_from(mtu).unwrap_or(u16::MAX));
                let options = net::Options { mac, mtu, ..net::Options::default() };
                self.interfaces.push(Net::new(next()?, options)?);
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
                let (builder, vsock) = self.build(&boot, memory, console, host)?;
                self.run(builder.boot(&cargo)?, vsock)?;
            }
            Order::Restore(boot) => {
                let (ground, memory, description) = (next()?, next()?, next()?);
                let console = next()?;
                let host = self.give_up(&ground, boot.accel, hypervisor)?;
                let files = Files { memory: memory.into(), description: description.into() };
                let saved = Snapshot::read(files, Vec::new())?;
                let (mut builder, vsock) = self.build(&boot, saved.memory()?, console, host)?;
                builder.copy();
                self.run(builder.restore(saved.manifest)?, vsock)?;
            }
            Order::Snapshot => {
                let (memory, description) = (next()?, next()?);
                let files = Files { memory: memory.into(), description: description.into() };
                self.running()?.save(&files)?;
            }
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
    ) -> Result<(Builder, Arc<Mmio<Vsock>>), Refusal> {
        let shape = Shape { vcpus: boot.cpus, model: Model::V2 };
        let announce = if boot.acpi { Announce::Acpi } else { Announce::CommandLine };
        let mut builder = Builder::new(&*host.hypervisor, memory, shape, announce)?;
        builder.console(Console { input: None, output: Some(console) });
        let vsock = Vsock::new(vsock::Config { cid: CID, listener: None, path: None })?;
        self.listen(&vsock.host());
        let vsock = builder.attach(vsock)?;
        builder.attach(Rng)?;
        builder.attach(host.shares)?;
        fill(&mut self.interfaces, boot.places.interfaces, || {
            Net::unplugged(net::Options::default())
        })?;
        for interface in self.interfaces.drain(..) {
            builder.attach(interface)?;
        }
        let Places { writable, read_only, interfaces: _ } = boot.places;
        for (disks, places, options) in [
            (&mut self.writable, writable, Options::default()),
            (&mut self.read_only, read_only, Options { read_only: true, ..Options::default() }),
        ] {
            fill(disks, places, || Blk::new(nothing()?, &options))?;
            for disk in disks.drain(..) {
                builder.attach(disk)?;
            }
        }
        Ok((builder, vsock))
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
    fn run(&mut self, machine: Machine, vsock: Arc<Mmio<Vsock>>) -> Result<(), Refusal> {
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
        let (host, _) = vsock.with(|vsock, _| Ok(vsock.host()))?;
        self.running = Some(Running { machine, vsock, host, visited: false });
        Ok(())
    }
}

impl Running {
    /// Saves it and lets it run on. Of one that nobody has visited yet, the connection by which its
    /// agent said that it is ready ends first; whoever it is taken up by finds none then.
    fn save(&self, files: &Files) -> Result<(), Refusal> {
        let by = Deadline::after(IDLE_WITHIN);
        let idle = || Ok::<_, Refusal>(self.vsock.with(|vsock, _| Ok(vsock.is_idle()))?.0);
        while !self.visited && !idle()? && !by.passed() {
            thread::sleep(Duration::from_millis(1));
        }
        self.machine.pause(Deadline::after(PAUSE_WITHIN))?;
        let saved = self.machine.save_to(files, None);
        self.machine.resume();
        Ok(saved?)
    }
}

/// Adds empty ones until every place is filled.
fn fill<T>(
    all: &mut Vec<T>,
    places: usize,
    mut empty: impl FnMut() -> io::Result<T>,
) -> Result<(), Refusal> {
    if all.len() > places {
        return Err("more was handed over than there is room for".into());
    }
    while all.len() < places {
        all.push(empty()?);
    }
    Ok(())
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
