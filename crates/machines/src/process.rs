//! The process that is a machine: it holds the machine's lock until both end.
//!
//! ```text
//! start ──▶ serve: assembly ──▶ runs ──end──▶ written down ──▶ gone
//!              ▲                  │ reset: as a board does, once more from the beginning
//!              └──────────────────┘
//! ```

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    thread::{self, JoinHandle},
    time::Duration,
};

use base::{Deadline, chain, clock::Timestamp};
use vm::{End, snapshot::Snapshot as Saved};

use crate::{
    assembly::{self, Assembly, Surroundings},
    console,
    control::{Reply, Request, Socket, Start, Started, Usage},
    lifetime::{self, Ended, How, Lifetime},
    name::Name,
    record,
    snapshot::{self, SaveError, Saving},
    spec::{self, Spec},
    store::MACHINE,
};

/// Between two looks whether the machine has ended, should nobody say so.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// How long a machine may take to stand still.
const PAUSE_WITHIN: Duration = Duration::from_secs(10);

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
    // The lock, which ends with this process.
    let _lock = fds;
    let say = |word| wire::blocking::send(&socket, &word, &[]).map_err(io::Error::other);
    let process = match Process::begin(start, around) {
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
    spec: Spec,
    began: u64,
    live: Arc<RwLock<Option<Assembly>>>,
    /// The machine's end of its serial port's line, which stays when it is reset.
    line: UnixStream,
    console: JoinHandle<()>,
}

impl Process {
    fn begin(start: Start, around: &Surroundings<'_>) -> Result<Process, Refusal> {
        let spec: Spec = record::read(&start.directory.join(MACHINE), spec::VERSION)?;
        spec.check()?;
        snapshot::unfinished(&start.directory)?;
        snapshot::sweep(&start.directory);
        let (line, port) = UnixStream::pair()?;
        let assembly = match &start.restore {
            None => assembly::boot(&spec, &start.name, &start.directory, &line, around)?,
            Some(name) => {
                let (files, older) = snapshot::open(&start.directory, name)?;
                let saved = Saved::read(files, older)?;
                assembly::restore(&spec, saved, &start.directory, &line, around)?
            }
        };
        *assembly.since() = start.restore.clone();
        let console = console::serve(port, Socket::Console.listen(&start.run, &start.name)?)?;
        let live = Arc::new(RwLock::new(None));
        let (directory, served) = (start.directory.clone(), live.clone());
        let desk = Desk { directory, spec: spec.clone(), live: served };
        desk.open(Socket::Control.listen(&start.run, &start.name)?)?;
        // From here on nothing is refused: what follows is the machine's own fate.
        let began = Timestamp::now().seconds();
        lifetime::write(&start.directory, &Lifetime { began, end: None })?;
        let process = Process { start, spec, began, live, line, console };
        process.resume(assembly);
        Ok(process)
    }

    /// Lets a machine run, and whoever asks have it.
    fn resume(&self, assembly: Assembly) {
        assembly.machine.resume();
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Some(assembly);
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
            let end = self.wait();
            // Dropped: its disks are whole, and what it said is on its line.
            drop(self.live.write().unwrap_or_else(PoisonError::into_inner).take());
            if let Some(how) = how(end) {
                return how;
            }
            thread::sleep(RESET_AFTER.saturating_sub(booted.elapsed()));
            let Start { name, directory, .. } = &self.start;
            match assembly::boot(&self.spec, name, directory, &self.line, around) {
                Ok(assembly) => self.resume(assembly),
                Err(error) => {
                    return How::Failed(format!("it could not be booted again: {}", chain(&error)));
                }
            }
        }
    }

    fn wait(&self) -> End {
        loop {
            let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
            let Some(assembly) = live.as_ref() else { return End::Stopped };
            if let Some(end) = assembly.machine.wait(Deadline::after(LOOK_AGAIN)) {
                return end;
            }
        }
    }
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

/// Where requests are taken.
#[derive(Clone)]
struct Desk {
    directory: PathBuf,
    spec: Spec,
    live: Arc<RwLock<Option<Assembly>>>,
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
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        let assembly = live.as_ref().ok_or("it begins again or ends")?;
        match request {
            Request::Usage => return Ok(Reply::Usage(usage(assembly)?)),
            Request::Press => assembly.machine.press_power_button(),
            Request::Kill => assembly.machine.stop(),
            Request::Memory { bytes } => self.resize(assembly, bytes)?,
            Request::Snapshot { name, full } => self.save(assembly, &name, full)?,
        }
        Ok(Reply::Done)
    }

    fn resize(&self, assembly: &Assembly, bytes: u64) -> Result<(), Refusal> {
        let has = self.spec.memory_bytes;
        if bytes > has || bytes < spec::MEMORY_MIN {
            let (least, most) = (spec::MEMORY_MIN >> 20, has >> 20);
            let why = format!("while it runs it can have {least} to {most} MiB of memory");
            return Err(why.into());
        }
        let set = |balloon: &mut virtio::balloon::Balloon, queues: &mut virtio::device::Queues| {
            balloon.set_target(has - bytes, queues);
            Ok(())
        };
        Ok(assembly.balloon.with(set).map(drop)?)
    }

    fn save(&self, assembly: &Assembly, name: &Name, full: bool) -> Result<(), SaveError> {
        // One at a time: whoever is through lets the machine run.
        let mut since = assembly.since();
        let base = since.as_ref().filter(|_| !full);
        let saving = Saving::begin(&self.spec, &self.directory, name, base)?;
        assembly.machine.pause(Deadline::after(PAUSE_WITHIN))?;
        // If this fails, what was written since is not known any more.
        *since = None;
        let taken = saving.take(|files, parent| Ok(assembly.machine.save_to(files, parent)?));
        assembly.machine.resume();
        taken?;
        saving.finish()?;
        *since = Some(name.clone());
        Ok(())
    }
}

/// What the machine uses.
///
/// Source: proc(5), `/proc/PID/statm`.
fn usage(assembly: &Assembly) -> io::Result<Usage> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = statm.split_whitespace().nth(1).and_then(|pages| pages.parse().ok());
    let page = rustix::param::page_size() as u64;
    let told = assembly.balloon.with(|balloon, _| Ok((balloon.target(), balloon.actual())));
    let ((asked_bytes, given_bytes), _) = told.map_err(io::Error::other)?;
    Ok(Usage {
        pid: std::process::id(),
        resident_bytes: pages.unwrap_or(0).saturating_mul(page),
        asked_bytes,
        given_bytes,
    })
}
