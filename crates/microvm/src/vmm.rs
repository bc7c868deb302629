//! The process that is a machine: it takes orders from its driver until either of them ends.

mod names;
mod shares;

use std::{
    fs::File,
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use base::{Deadline, chain};
use hv::{Accel, GuestMemory, HvError, Hypervisor, Model, Shape};
use virtio::{
    blk::{Blk, Image, Options, Raw},
    net::{self, Net},
    rng::Rng,
    vsock::{self, Vsock},
};
use vm::{Announce, Builder, Cargo, Console, End, Machine};

use self::shares::Shares;
use crate::{
    READY_PORT,
    control::{Boot, Order, Word},
};

/// The machine's number on its vsock, where it is alone.
const CID: u64 = 3;

/// How long a machine may take to stand still.
const PAUSE_WITHIN: Duration = Duration::from_secs(5);

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
            Ok(()) => Word::Done,
            Err(error) => Word::Refused(chain(&*error)),
        };
        voice.say(&word)?;
    }
    Ok(())
}

/// What is said goes out whole, whoever says it.
#[derive(Clone)]
struct Voice(Arc<Mutex<OwnedFd>>);

impl Voice {
    fn say(&self, word: &Word) -> io::Result<()> {
        let socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        wire::blocking::send(&*socket, word, &[]).map_err(io::Error::other)
    }
}

type Refusal = Box<dyn std::error::Error + Send + Sync>;

struct Parts {
    voice: Voice,
    disks: Vec<Blk>,
    interfaces: Vec<Net>,
    shares: Shares,
    running: Option<Running>,
}

struct Running {
    machine: Arc<Machine>,
    vsock: vsock::Host,
}

impl Parts {
    fn new(voice: Voice) -> Parts {
        let (disks, interfaces, shares) = (Vec::new(), Vec::new(), Shares::default());
        Parts { voice, disks, interfaces, shares, running: None }
    }

    fn carry_out(
        &mut self,
        order: Order,
        fds: Vec<OwnedFd>,
        hypervisor: &MakeHypervisor,
    ) -> Result<(), Refusal> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or("a descriptor did not come");
        match order {
            Order::Disk { serial, read_only } => {
                let image = Image::Raw(Raw::new(File::from(next()?))?);
                let options = Options { id: serial, read_only, ..Options::default() };
                self.disks.push(Blk::new(image, &options)?);
            }
            Order::Share { name } => self.shares.add(name, &next()?)?,
            // The threads of the machine are made here later, so that they are there too.
            Order::Enter => sys::netns::enter(next()?.as_fd())?,
            Order::Interface { mac, mtu } => {
                let mtu = Some(u16::try_from(mtu).unwrap_or(u16::MAX));
                let options = net::Options { mac, mtu, ..net::Options::default() };
                self.interfaces.push(Net::new(next()?, options)?);
            }
            Order::Boot(boot) => {
                if self.running.is_some() {
                    return Err("it runs".into());
                }
                let (kernel, initrd, console) = (next()?, next()?, next()?);
                let cargo = Cargo {
                    kernel: File::from(kernel).into(),
                    initrds: vec![File::from(initrd).into()],
                    command_line: boot.command_line.clone(),
                };
                self.running = Some(self.boot(&boot, &cargo, console, hypervisor)?);
            }
            Order::Connect { port } => self.running()?.vsock.connect(port, next()?)?,
            Order::Pause => self.running()?.machine.pause(Deadline::after(PAUSE_WITHIN))?,
            Order::Resume => self.running()?.machine.resume(),
        }
        Ok(())
    }

    fn running(&self) -> Result<&Running, Refusal> {
        self.running.as_ref().ok_or_else(|| "nothing was booted".into())
    }

    fn boot(
        &mut self,
        boot: &Boot,
        cargo: &Cargo,
        console: OwnedFd,
        hypervisor: &MakeHypervisor,
    ) -> Result<Running, Refusal> {
        let memory = GuestMemory::new(boot.memory_bytes)?;
        let shape = Shape { vcpus: boot.cpus, model: Model::V2 };
        let announce = if boot.acpi { Announce::Acpi } else { Announce::CommandLine };
        let hypervisor = hypervisor(boot.accel)?;
        let mut builder = Builder::new(&*hypervisor, memory, shape, announce)?;
        builder.console(Console { input: None, output: Some(console) });
        let config = vsock::Config { cid: CID, listener: None, path: None };
        let vsock = Vsock::new(config)?;
        let host = vsock.host();
        let voice = self.voice.clone();
        host.listen(
            READY_PORT,
            Box::new(move |_| {
                // A driver that has gone is noticed where its orders are awaited.
                let _ = voice.say(&Word::Ready);
            }),
        );
        builder.attach(vsock)?;
        builder.attach(Rng)?;
        if !self.interfaces.is_empty() {
            names::serve(&host);
        }
        for interface in self.interfaces.drain(..) {
            builder.attach(interface)?;
        }
        for disk in self.disks.drain(..) {
            builder.attach(disk)?;
        }
        if let Some(device) = std::mem::take(&mut self.shares).device()? {
            builder.attach(device)?;
        }
        let machine = Arc::new(builder.boot(cargo)?);
        machine.resume();
        let (watched, voice) = (Arc::clone(&machine), self.voice.clone());
        thread::Builder::new().name("end".to_owned()).spawn(move || {
            let end = loop {
                if let Some(end) = watched.wait(Deadline::after(LOOK_AGAIN)) {
                    break end;
                }
            };
            let _ = voice.say(&Word::Ended(words(&end)));
        })?;
        Ok(Running { machine, vsock: host })
    }
}

/// How a machine ended, in a sentence.
fn words(end: &End) -> String {
    match end {
        End::PoweredOff => "it was switched off".to_owned(),
        End::Reset => "its kernel asked for a reset".to_owned(),
        End::Panicked => "its kernel panicked".to_owned(),
        End::TripleFault => "it faulted while a fault was handled (triple fault)".to_owned(),
        End::Stuck => "all its processors wait with interrupts off".to_owned(),
        End::Stopped => "it was stopped".to_owned(),
        End::Failed { why } => format!("it failed: {why}"),
    }
}
