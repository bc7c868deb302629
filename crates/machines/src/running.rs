//! A machine that runs, from outside: it is started, asked, stopped.

use std::{
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::Child,
    thread,
    time::Duration,
};

use base::Deadline;
use rustix::{
    net::sockopt::socket_peercred,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};

use crate::{
    control::{Reply, Request, Socket, Start, Started, Usage},
    lifetime::State,
    name::Name,
    snapshot::{RestoreError, Snapshot},
    store::{Kept, Machines, StoreError, private},
};

/// How long a machine may take until it runs. A kernel is read, a snapshot's memory is mapped.
const START_WITHIN: Duration = Duration::from_secs(60);

/// How long a question may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// How long a snapshot may take: memory and disks are copied.
const SAVE_WITHIN: Duration = Duration::from_secs(1800);

/// How long a machine may take to end that was told to at once; then its process is killed.
const END_WITHIN: Duration = Duration::from_secs(5);

/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Why a machine was not started, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its record says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its snapshot says no.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// It does not run.
    #[error("machine {0} does not run")]
    NotRunning(Name),
    /// Its process refused.
    #[error("machine {name}: {why}")]
    Refused {
        /// Which.
        name: Name,
        /// What it said.
        why: String,
    },
    /// Its process ended without a word.
    #[error("the process of machine {0} ended before it ran")]
    Silent(Name),
    /// Its process does not end, not even when killed.
    #[error("machine {0} does not end")]
    Stays(Name),
    /// The host refused.
    #[error("cannot {doing} machine {name}")]
    Host {
        /// What was to be done.
        doing: &'static str,
        /// With which.
        name: Name,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// How a machine was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run.
    Before,
    /// The guest switched it off.
    Gently,
    /// It did not in time.
    AtOnce,
}

/// A machine's process, as far as it can be reached.
#[derive(Debug)]
pub struct Running<'a> {
    machines: &'a Machines,
    kept: &'a Kept,
}

impl Kept {
    /// Starts it. `spawn` makes a process that calls [`serve`](crate::process::serve) with the
    /// socket that it is given.
    ///
    /// # Errors
    /// [`RunError`]; it does not run then.
    pub fn start(
        &self,
        machines: &Machines,
        spawn: impl FnOnce(OwnedFd) -> io::Result<Child>,
    ) -> Result<(), RunError> {
        let lock = self.lock()?;
        self.launch(machines, lock.0.as_fd(), None, spawn)
    }

    /// Goes back to a snapshot: its disks are as they were, and it goes on from there.
    ///
    /// # Errors
    /// [`RunError`]; it does not run then.
    pub fn restore(
        &mut self,
        machines: &Machines,
        snapshot: &Snapshot,
        spawn: impl FnOnce(OwnedFd) -> io::Result<Child>,
    ) -> Result<(), RunError> {
        let lock = self.lock()?;
        self.put_back(snapshot)?;
        self.launch(machines, lock.0.as_fd(), Some(snapshot.name.clone()), spawn)
    }

    fn launch(
        &self,
        machines: &Machines,
        lock: BorrowedFd<'_>,
        restore: Option<Name>,
        spawn: impl FnOnce(OwnedFd) -> io::Result<Child>,
    ) -> Result<(), RunError> {
        private(machines.run())?;
        let (ours, theirs) = UnixStream::pair().map_err(self.failed("start"))?;
        ours.set_read_timeout(Some(START_WITHIN)).map_err(self.failed("start"))?;
        let mut child = spawn(theirs.into()).map_err(self.failed("start"))?;
        let (name, directory) = (self.name.clone(), self.directory.clone());
        let start = Start { name, directory, run: machines.run().to_owned(), restore };
        let said = wire::blocking::send(&ours, &start, &[lock])
            .and_then(|()| wire::blocking::recv::<Started>(&ours));
        let error = match said {
            Ok(Some((Started::Runs, _))) => return Ok(()),
            Ok(Some((Started::Refused(why), _))) => {
                RunError::Refused { name: self.name.clone(), why }
            }
            Ok(None) => RunError::Silent(self.name.clone()),
            Err(error) => self.failed("start")(io::Error::other(error)),
        };
        // Whoever did not start ends by himself; whoever hangs does not keep the lock.
        let _ = child.kill();
        let _ = child.wait();
        Err(error)
    }

    fn failed(&self, doing: &'static str) -> impl FnOnce(io::Error) -> RunError {
        let name = self.name.clone();
        move |source| RunError::Host { doing, name, source }
    }

    /// Its process, whether it runs or not.
    pub fn running<'a>(&'a self, machines: &'a Machines) -> Running<'a> {
        Running { machines, kept: self }
    }
}

impl Running<'_> {
    fn name(&self) -> &Name {
        &self.kept.name
    }

    /// A connection with one of its sockets.
    fn connect(&self, socket: Socket) -> Result<UnixStream, RunError> {
        match socket.connect(self.machines.run(), self.name()) {
            Ok(stream) => Ok(stream),
            // Nobody is there, or somebody was.
            Err(error)
                if [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused]
                    .contains(&error.kind()) =>
            {
                Err(RunError::NotRunning(self.name().clone()))
            }
            Err(error) => Err(self.kept.failed("reach")(error)),
        }
    }

    fn ask(&self, request: &Request, within: Duration) -> Result<Reply, RunError> {
        let stream = self.connect(Socket::Control)?;
        stream.set_read_timeout(Some(within)).map_err(self.kept.failed("ask"))?;
        let answer = wire::blocking::send(&stream, request, &[])
            .and_then(|()| wire::blocking::recv::<Reply>(&stream));
        match answer {
            Ok(Some((Reply::Refused(why), _))) => {
                Err(RunError::Refused { name: self.name().clone(), why })
            }
            Ok(Some((reply @ (Reply::Done | Reply::Usage(_)), _))) => Ok(reply),
            Ok(None) => Err(RunError::NotRunning(self.name().clone())),
            Err(error) => Err(self.kept.failed("ask")(io::Error::other(error))),
        }
    }

    /// What it uses.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn usage(&self) -> Result<Usage, RunError> {
        match self.ask(&Request::Usage, ANSWER_WITHIN)? {
            Reply::Usage(usage) => Ok(usage),
            Reply::Done | Reply::Refused(_) => {
                Err(self.kept.failed("ask")(io::ErrorKind::InvalidData.into()))
            }
        }
    }

    /// Has the guest get along with so much memory, until it is asked for another amount or boots
    /// again; it gives the rest as far as it can spare it.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn set_memory(&self, bytes: u64) -> Result<(), RunError> {
        self.ask(&Request::Memory { bytes }, ANSWER_WITHIN).map(drop)
    }

    /// Saves it under a name, while it stands still: of its memory what was written since the last
    /// snapshot, if there is one to go back to, or all if that is wished.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn save(&self, name: &Name, full: bool) -> Result<(), RunError> {
        self.ask(&Request::Snapshot { name: name.clone(), full }, SAVE_WITHIN).map(drop)
    }

    /// Its console: what is written is typed, what is read is what it says, and what it has said
    /// last comes first. It ends with the machine.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn console(&self) -> Result<UnixStream, RunError> {
        self.connect(Socket::Console)
    }

    /// Presses the power button, waits so long for the guest, and then ends it at once.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn stop(&self, patience: Duration) -> Result<Stopped, RunError> {
        if !self.runs()? {
            return Ok(Stopped::Before);
        }
        // A guest that cannot be asked is ended at once; one that is being saved can be, later.
        let within = patience.max(ANSWER_WITHIN);
        let pressed = patience > Duration::ZERO && self.ask(&Request::Press, within).is_ok();
        if pressed && self.gone(Deadline::after(patience))? {
            return Ok(Stopped::Gently);
        }
        self.kill()?;
        Ok(Stopped::AtOnce)
    }

    /// Ends it at once; its process is killed if it does not by itself.
    ///
    /// # Errors
    /// [`RunError`].
    pub fn kill(&self) -> Result<(), RunError> {
        let process = self.process();
        let told = self.ask(&Request::Kill, ANSWER_WITHIN).is_ok();
        if told && self.gone(Deadline::after(END_WITHIN))? {
            return Ok(());
        }
        if let Some(process) = process {
            // One that is gone needs no signal.
            let _ = pidfd_send_signal(&process, Signal::KILL);
        }
        match self.gone(Deadline::after(END_WITHIN))? {
            true => Ok(()),
            false => Err(RunError::Stays(self.name().clone())),
        }
    }

    /// Whoever listens at its socket: not a number that may be another's by now.
    fn process(&self) -> Option<OwnedFd> {
        let stream = self.connect(Socket::Control).ok()?;
        let pid: Pid = socket_peercred(&stream).ok()?.pid;
        pidfd_open(pid, PidfdFlags::empty()).ok()
    }

    fn runs(&self) -> Result<bool, RunError> {
        Ok(matches!(self.kept.state()?, State::Running { .. }))
    }

    /// Whether it ends in time.
    fn gone(&self, by: Deadline) -> Result<bool, RunError> {
        loop {
            if !self.runs()? {
                return Ok(true);
            }
            if by.passed() {
                return Ok(false);
            }
            thread::sleep(LOOK.min(by.remaining()));
        }
    }
}
