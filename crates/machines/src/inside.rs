//! The process that holds a machine's memory, processors and devices. What its guest could get hold
//! of by a mistake in them has nothing of the host's but what was handed over.
//!
//! ```text
//! orders, with descriptors ──▶ Boot: rights given up ──▶ machine ──end──▶ said, and gone
//! ```

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard},
    thread,
    time::Duration,
};

use base::{Deadline, chain};
use virtio::{balloon::Balloon, blk::chain::Layer, device::Queues};
use vm::{End, snapshot::Files};

use crate::{
    assembly::{Assembly, MakeHypervisor, Parts, Picture},
    lifetime::How,
    order::{Board, Last, Order, Word},
};

/// How long a machine may take to stand still.
const PAUSE_WITHIN: Duration = Duration::from_secs(10);

/// Between two looks whether the machine has ended, should nobody say so.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// Holds a machine: takes orders over this socket until whoever gives them has gone, or the machine
/// has ended.
///
/// # Errors
/// If the socket breaks, or what comes are no orders.
pub fn hold(socket: OwnedFd, hypervisor: &MakeHypervisor) -> io::Result<()> {
    // It is only for `ps`.
    let _ = rustix::thread::set_name(c"wythe-machine");
    let mut inside =
        Inside { lock: None, parts: Parts::default(), live: Arc::default(), hypervisor };
    while let Some((order, fds)) =
        wire::blocking::recv::<Order>(&socket).map_err(io::Error::other)?
    {
        let answer = inside.carry_out(order, fds);
        let word = answer.unwrap_or_else(|error| Word::Refused(chain(&*error)));
        wire::blocking::send(&socket, &word, &[]).map_err(io::Error::other)?;
    }
    Ok(())
}

struct Inside<'a> {
    /// The machine's, which nobody lets go of before this process ends.
    lock: Option<OwnedFd>,
    parts: Parts,
    live: Arc<RwLock<Option<Assembly>>>,
    hypervisor: &'a MakeHypervisor,
}

impl Inside<'_> {
    fn carry_out(&mut self, order: Order, fds: Vec<OwnedFd>) -> Result<Word, Refusal> {
        let mut fds = fds.into_iter();
        let mut next = || fds.next().ok_or("a descriptor did not come");
        let files = |memory: OwnedFd, description: OwnedFd| Files {
            memory: memory.into(),
            description: description.into(),
        };
        match order {
            Order::Lock => self.lock = Some(next()?),
            Order::Disk { path, id, read_only, formats } => {
                let layer = |format: crate::disk::Format| {
                    Ok::<_, Refusal>(Layer { file: File::from(next()?), format: format.into() })
                };
                let layers = formats.into_iter().map(layer).collect::<Result<_, _>>()?;
                self.parts.disk(path, id, read_only, layers);
            }
            Order::Card { mac } => self.parts.card(mac, next()?),
            Order::Initrd => self.parts.initrd(next()?.into()),
            Order::Older => self.parts.older(files(next()?, next()?)),
            Order::Boot { board, memory_bytes, command_line } => {
                let (end, line, kernel) = (next()?, next()?, File::from(next()?));
                let picture = Picture::Kernel { kernel, memory_bytes, command_line };
                self.begin(board, end, line, picture)?;
            }
            Order::Restore(board) => {
                let (end, line) = (next()?, next()?);
                let picture = Picture::Saved(files(next()?, next()?));
                self.begin(board, end, line, picture)?;
            }
            Order::Save { parent } => {
                let files = files(next()?, next()?);
                self.with(|live| Ok(live.machine.save_to(&files, parent.as_deref())?))?;
            }
            Order::Resume => self.with(|live| {
                live.machine.resume();
                Ok(())
            })?,
            Order::Pause => {
                self.with(|live| Ok(live.machine.pause(Deadline::after(PAUSE_WITHIN))?))?;
            }
            Order::Press => self.with(|live| {
                live.machine.press_power_button();
                Ok(())
            })?,
            Order::Stop => self.with(|live| {
                live.machine.stop();
                Ok(())
            })?,
            Order::Balloon { bytes } => self.with(|live| {
                let set = |balloon: &mut Balloon, queues: &mut Queues| {
                    balloon.set_target(bytes, queues);
                    Ok(())
                };
                Ok(live.balloon.with(set).map(drop)?)
            })?,
            Order::Given => {
                let told = |balloon: &mut Balloon, _: &mut Queues| {
                    Ok((balloon.target(), balloon.actual()))
                };
                let (asked, given) = self.with(|live| Ok(live.balloon.with(told)?.0))?;
                return Ok(Word::Given { asked, given });
            }
        }
        Ok(Word::Done)
    }

    fn with<T>(&self, act: impl FnOnce(&Assembly) -> Result<T, Refusal>) -> Result<T, Refusal> {
        act(read(&self.live).as_ref().ok_or("there is no machine, or it has ended")?)
    }

    /// Gives the rights up, and makes the machine.
    fn begin(
        &mut self,
        board: Board,
        end: OwnedFd,
        line: OwnedFd,
        picture: Picture,
    ) -> Result<(), Refusal> {
        if read(&self.live).is_some() {
            return Err("there is a machine".into());
        }
        let hypervisor = (self.hypervisor)(board.accel)?;
        // What the library below looks up once, in /proc of older kernels, it looks up here.
        let _ = rustix::param::page_size();
        if let Some(refused) = walls::rights::give_up_kept()? {
            let why = chain(&refused);
            complain(&format!("wythe: the machine stays in its user's namespaces: {why}\n"));
        }
        let parts = std::mem::take(&mut self.parts);
        let line = UnixStream::from(line);
        let assembly = parts.assemble(board, &*hypervisor, &line, picture)?;
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(assembly);
        let live = Arc::clone(&self.live);
        thread::Builder::new().name("end".to_owned()).spawn(move || watch(&live, &end))?;
        Ok(())
    }
}

fn read(live: &RwLock<Option<Assembly>>) -> RwLockReadGuard<'_, Option<Assembly>> {
    live.read().unwrap_or_else(PoisonError::into_inner)
}

/// Says to the log what its user may want to know.
fn complain(text: &str) {
    // A log that is full is no reason to have no machine.
    let _ = rustix::io::write(rustix::stdio::stderr(), text.as_bytes());
}

/// Waits for the machine's end, puts everything away, says it and leaves.
fn watch(live: &RwLock<Option<Assembly>>, to: &OwnedFd) {
    let end = loop {
        match read(live).as_ref().map(|it| it.machine.wait(Deadline::after(LOOK_AGAIN))) {
            Some(None) => {}
            Some(Some(end)) => break end,
            None => return,
        }
    };
    // Dropped: its disks are whole, and what it said is on its line.
    drop(live.write().unwrap_or_else(PoisonError::into_inner).take());
    // Whoever is to hear it may be gone.
    let _ = wire::blocking::send(to.as_fd(), &Last(how(end)), &[]);
    sys::process::exit_now(0)
}

/// What an end is, nothing if the machine begins again.
fn how(end: End) -> Option<How> {
    match end {
        End::Reset => None,
        End::PoweredOff => Some(How::PoweredOff),
        End::Stopped => Some(How::Stopped),
        End::Panicked => Some(How::Panicked),
        End::TripleFault => Some(How::TripleFault),
        End::Stuck => Some(How::Stuck),
        End::Failed { why } => Some(How::Failed(why)),
    }
}
