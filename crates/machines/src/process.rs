//! The process that keeps a machine while it runs: the lock, the sockets, the console, snapshots.
//! The machine itself is in another one, which may do nothing else ([`inside`](crate::inside)).
//!
//! ```text
//! start ──▶ serve: guest, its process ──▶ runs ──end──▶ written down ──▶ gone
//!              ▲                            │ reset: as a board does, once more from the beginning
//!              └────────────────────────────┘
//! ```

use std::{
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use base::{chain, clock::Timestamp};

use crate::{
    console,
    control::{Reply, Request, Socket, Start, Started, Usage},
    guest::{Guest, GuestError, Surroundings},
    lifetime::{self, Ended, How, Lifetime},
    name::Name,
    order::{Order, Word},
    record,
    snapshot::{self, SaveError, Saving},
    spec::{self, Spec},
    store::MACHINE,
};

/// A machine that resets itself sooner than this waits for the rest of it: one that cannot boot
/// does not keep the host busy.
const RESET_AFTER: Duration = Duration::from_secs(1);

/// How long somebody may take to ask, or to read his answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most who ask at a time; one more is sent away.
const CONNECTIONS_MAX: usize = 32;

/// Is a machine: what it is to be comes over the socket.
///
/// # Errors
/// If whoever started it is gone before it was told, or the machine's end cannot be written down.
pub fn serve(socket: OwnedFd, around: &Surroundings<'_>) -> io::Result<()> {
    let Some((start, fds)) = wire::blocking::recv::<Start>(&socket).map_err(io::Error::other)?
    else {
        return Err(io::ErrorKind::UnexpectedEof.into());
    };
    let lock = fds.into_iter().next().ok_or(io::ErrorKind::InvalidData)?;
    let say = |word| wire::blocking::send(&socket, &word, &[]).map_err(io::Error::other);
    let process = match Process::begin(start, lock, around) {
        Ok(process) => process,
        Err(error) => return say(Started::Refused(chain(&*error))),
    };
    say(Started::Runs)?;
    drop(socket);
    process.run(around)
}

type Refusal = Box<dyn std::error::Error + Send + Sync>;

/// The process.
struct Process {
    start: Start,
    /// The machine's lock, which ends with this process and with the one that holds the machine.
    lock: OwnedFd,
    spec: Spec,
    began: u64,
    live: Live,
    /// The machine's end of its serial port's line, which stays when it is reset.
    line: UnixStream,
    console: JoinHandle<()>,
}

/// The machine, unless it begins again or ends.
type Live = Arc<RwLock<Option<Arc<Guest>>>>;

impl Process {
    fn begin(start: Start, lock: OwnedFd, around: &Surroundings<'_>) -> Result<Process, Refusal> {
        let spec: Spec = record::read(&start.directory.join(MACHINE), spec::VERSION)?;
        spec.check()?;
        snapshot::unfinished(&start.directory)?;
        snapshot::sweep(&start.directory);
        let (line, port) = UnixStream::pair()?;
        let guest =
            Guest::begin(&spec, &start, lock.as_fd(), start.restore.as_ref(), &line, around)?;
        let console = console::serve(port, Socket::Console.listen(&start.run, &start.name)?)?;
        let live = Live::default();
        let (directory, served) = (start.directory.clone(), live.clone());
        let desk = Desk { directory, spec: spec.clone(), live: served };
        desk.open(Socket::Control.listen(&start.run, &start.name)?)?;
        // From here on nothing is refused: what follows is the machine's own fate.
        let began = Timestamp::now().seconds();
        lifetime::write(&start.directory, &Lifetime { began, end: None })?;
        let process = Process { start, lock, spec, began, live, line, console };
        process.resume(guest)?;
        Ok(process)
    }

    /// Lets a machine run, and whoever asks have it.
    fn resume(&self, guest: Guest) -> Result<(), GuestError> {
        guest.order(&Order::Resume, &[])?;
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(guest));
        Ok(())
    }

    fn run(self, around: &Surroundings<'_>) -> io::Result<()> {
        let how = self.until_the_end(around);
        let Process { start, began, line, console, .. } = self;
        drop(line);
        // Its last words are read when this is over. If it panicked, it has said so.
        let _ = console.join();
        let end = Some(Ended { at: Timestamp::now().seconds(), how });
        let written = lifetime::write(&start.directory, &Lifetime { began, end });
        Socket::Control.remove(&start.run, &start.name);
        Socket::Console.remove(&start.run, &start.name);
        written
    }

    fn until_the_end(&self, around: &Surroundings<'_>) -> How {
        loop {
            let booted = base::clock::monotonic();
            let guest = self.live.read().unwrap_or_else(PoisonError::into_inner).clone();
            let Some(guest) = guest else { return How::Stopped };
            let how = guest.wait();
            *self.live.write().unwrap_or_else(PoisonError::into_inner) = None;
            // Whoever still asks it something has it too, and it is to let go of its disks.
            guest.end();
            drop(guest);
            if let Some(how) = how {
                return how;
            }
            thread::sleep(RESET_AFTER.saturating_sub(booted.elapsed()));
            let (lock, line) = (self.lock.as_fd(), &self.line);
            let again = Guest::begin(&self.spec, &self.start, lock, None, line, around);
            if let Err(error) = again.and_then(|guest| self.resume(guest)) {
                return How::Failed(format!("it could not be booted again: {}", chain(&error)));
            }
        }
    }
}

/// Where requests are taken.
#[derive(Clone)]
struct Desk {
    directory: PathBuf,
    spec: Spec,
    live: Live,
}

impl Desk {
    fn open(self, listener: UnixListener) -> io::Result<()> {
        let busy = Arc::new(());
        let serve = move || {
            while let Ok((socket, _)) = listener.accept() {
                let (desk, busy) = (self.clone(), busy.clone());
                // The one here, the one below, and those of the others.
                if Arc::strong_count(&busy) <= CONNECTIONS_MAX + 1 {
                    let talk = move || {
                        desk.talk(&socket);
                        drop(busy);
                    };
                    // Without a thread, whoever asks is told by the end of his connection.
                    let _ = thread::Builder::new().name("request".to_owned()).spawn(talk);
                }
            }
        };
        thread::Builder::new().name("requests".to_owned()).spawn(serve).map(drop)
    }

    /// Answers what is asked until whoever asks has gone.
    fn talk(&self, socket: &UnixStream) {
        let patient =
            socket.set_read_timeout(Some(PATIENCE)).and(socket.set_write_timeout(Some(PATIENCE)));
        if patient.is_err() {
            return;
        }
        while let Ok(Some((request, _))) = wire::blocking::recv::<Request>(socket) {
            let reply = self.answer(request).unwrap_or_else(|error| Reply::Refused(chain(&*error)));
            if wire::blocking::send(socket, &reply, &[]).is_err() {
                return;
            }
        }
    }

    fn answer(&self, request: Request) -> Result<Reply, Refusal> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner).clone();
        let guest = live.ok_or("it begins again or ends")?;
        match request {
            Request::Usage => return Ok(Reply::Usage(usage(&guest)?)),
            // One that is being saved hears of it when that is done.
            Request::Press => drop(guest.order(&Order::Press, &[])?),
            Request::Kill => {
                // One that does not take an order is ended by its process.
                if guest.ask(&Order::Stop).is_err() {
                    guest.stop();
                }
            }
            Request::Memory { bytes } => self.resize(&guest, bytes)?,
            Request::Snapshot { name, full } => self.save(&guest, &name, full)?,
        }
        Ok(Reply::Done)
    }

    fn resize(&self, guest: &Guest, bytes: u64) -> Result<(), Refusal> {
        let has = self.spec.memory_bytes;
        if bytes > has || bytes < spec::MEMORY_MIN {
            let (least, most) = (spec::MEMORY_MIN >> 20, has >> 20);
            let why = format!("while it runs it can have {least} to {most} MiB of memory");
            return Err(why.into());
        }
        Ok(guest.ask(&Order::Balloon { bytes: has - bytes }).map(drop)?)
    }

    fn save(&self, guest: &Guest, name: &Name, full: bool) -> Result<(), Refusal> {
        // One at a time: whoever is through lets the machine run.
        let mut since = guest.since();
        let base = since.as_ref().filter(|_| !full);
        let saving = Saving::begin(&self.spec, &self.directory, name, base)?;
        guest.order(&Order::Pause, &[])?;
        // If this fails, what was written since is not known any more.
        *since = None;
        let taken = saving.take(|files, parent| {
            let order = Order::Save { parent: parent.map(Path::to_owned) };
            let fds = [files.memory.as_fd(), files.description.as_fd()];
            guest.order(&order, &fds).map(drop).map_err(|why| SaveError::State(why.into()))
        });
        guest.order(&Order::Resume, &[])?;
        taken?;
        saving.finish()?;
        *since = Some(name.clone());
        Ok(())
    }
}

/// What the machine uses: the process that holds it and this one.
///
/// Source: proc(5), `/proc/PID/statm`.
fn usage(guest: &Guest) -> Result<Usage, Refusal> {
    let resident = |pid: u32| {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        statm.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    let own = std::process::id();
    let pages: u64 = [own, guest.pid()].into_iter().filter_map(resident).sum();
    let page = rustix::param::page_size() as u64;
    let Word::Given { asked, given } = guest.ask(&Order::Given)? else {
        return Err("its process does not say what it gave".into());
    };
    Ok(Usage {
        pid: own,
        resident_bytes: pages.saturating_mul(page),
        asked_bytes: asked,
        given_bytes: given,
    })
}
