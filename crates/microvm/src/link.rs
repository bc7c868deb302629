//! The driver's end of a machine: its process, orders to it, and streams into it.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base::{Deadline, chain};
use cgroups::Cgroup;
use hv::Accel;
use rustix::{
    io::Errno,
    process::{WaitId, WaitIdOptions, WaitIdStatus, waitid},
};
use shim::Remote;
use sys::clone::Child;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use vm::snapshot::{Files, SnapshotError};
use wire::{Conn, Reader, Writer};
use workload::{DriverError, MachineEnd};

use crate::{
    CALL_PORT, STREAM_PORT,
    console::Console,
    control::{Order, Word},
    driver::VmConfig,
    names::Names,
};

/// Answers that may wait; orders are given one by one.
const ANSWERS_MAX: usize = 4;

/// How long an order may take.
const ORDER_WITHIN: Duration = Duration::from_secs(20);

/// How long a process may take to go that has let go of its socket.
const GONE_WITHIN: Duration = Duration::from_millis(500);

/// Between two looks whether it has gone.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The signal by which the kernel ends who makes a system call that he has renounced (`SIGSYS`).
const BAD_CALL: i32 = 31;

/// Where a machine is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Starting,
    Ready,
    Ended(MachineEnd, String),
}

/// A machine's process. Dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Link {
    child: Child,
    /// How it ended, once it was reaped.
    fate: OnceLock<String>,
    /// Where it has its root.
    ground: Arc<OwnedFd>,
    orders: tokio::sync::Mutex<Orders>,
    state: watch::Receiver<State>,
    listening: JoinHandle<()>,
    next_ticket: AtomicU64,
    /// What it says.
    pub(crate) console: Console,
}

#[derive(Debug)]
struct Orders {
    writer: Writer,
    answers: mpsc::Receiver<Word>,
}

impl Link {
    /// Starts the process in a control group, or in that of this process; it has names asked for in
    /// this network namespace.
    pub(crate) fn start(
        config: &VmConfig,
        group: Option<&Cgroup>,
        network: Option<OwnedFd>,
    ) -> Result<Link, DriverError> {
        let failed = |error: io::Error| DriverError::step("start a machine's process", &error);
        let ground = config.walls.ground.clone().ok_or_else(|| DriverError::Unsupported {
            what: "a machine".to_owned(),
            why: "there is no empty mount namespace for its process".to_owned(),
        })?;
        let group = group.map(Cgroup::join).transpose()?;
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let conn = Conn::new(tokio::net::UnixStream::from_std(ours).map_err(failed)?);
        let child = (config.start)(theirs.into(), group.as_ref()).map_err(failed)?;
        let (reader, writer) = conn.split();
        let (answered, answers) = mpsc::channel(ANSWERS_MAX);
        let (changed, state) = watch::channel(State::Starting);
        let names = network.map(Names::new);
        let listening = tokio::spawn(listen(reader, names, answered, changed));
        Ok(Link {
            child,
            fate: OnceLock::new(),
            ground,
            orders: tokio::sync::Mutex::new(Orders { writer, answers }),
            state,
            listening,
            next_ticket: AtomicU64::new(1),
            console: Console::default(),
        })
    }

    /// The empty mount namespace, which goes with the orders by which a machine begins.
    pub(crate) fn ground(&self) -> BorrowedFd<'_> {
        self.ground.as_fd()
    }

    /// Gives an order and waits until it is carried out.
    pub(crate) async fn order(
        &self,
        order: &Order,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), DriverError> {
        let word = self.ask(order, fds).await?;
        if word == Word::Done { Ok(()) } else { Err(unexpected(&word)) }
    }

    /// Finds out what is best here to carry out instructions.
    pub(crate) async fn probe(&self) -> Result<Accel, DriverError> {
        let word = self.ask(&Order::Probe, &[]).await?;
        if let Word::Accel(accel) = word { Ok(accel) } else { Err(unexpected(&word)) }
    }

    /// Gives an order and waits for the word that answers it.
    async fn ask(&self, order: &Order, fds: &[BorrowedFd<'_>]) -> Result<Word, DriverError> {
        let mut orders = self.orders.lock().await;
        let exchange = async {
            if let Err(error) = orders.writer.send(order, fds).await {
                return Err(self.ended_or(&chain(&error)));
            }
            match orders.answers.recv().await {
                Some(Word::Refused(why)) => {
                    Err(DriverError::Invalid { what: "the machine".to_owned(), why })
                }
                Some(word) => Ok(word),
                None => Err(self.ended_or("its process has gone")),
            }
        };
        tokio::time::timeout(ORDER_WITHIN, exchange).await.unwrap_or_else(|_| {
            Err(DriverError::DeadlinePassed { doing: "giving the machine an order".to_owned() })
        })
    }

    /// Saves the machine into an empty directory, and perhaps what its processor has decoded, into a
    /// file; it goes on.
    pub(crate) async fn save(
        &self,
        directory: &Path,
        code: Option<&File>,
    ) -> Result<(), DriverError> {
        let failed =
            |error: SnapshotError| DriverError::step("save a machine", &io::Error::other(error));
        let files = Files::create(directory).map_err(failed)?;
        let both = [files.memory.as_fd(), files.description.as_fd()];
        let fds: Vec<_> = both.into_iter().chain(code.map(|code| code.as_fd())).collect();
        self.order(&Order::Snapshot, &fds).await?;
        Files::publish(directory).map_err(failed)
    }

    /// Waits until the agent listens.
    pub(crate) async fn ready(&self, by: Deadline) -> Result<(), DriverError> {
        let mut state = self.state.clone();
        let decided = state.wait_for(|state| *state != State::Starting);
        let decided = tokio::time::timeout_at(by.instant().into(), decided).await;
        let decided = decided.map_err(|_| DriverError::DeadlinePassed {
            doing: "waiting for the machine's first process".to_owned(),
        })?;
        match decided.as_deref() {
            Ok(State::Ready) => Ok(()),
            Ok(State::Starting | State::Ended(..)) | Err(_) => {
                Err(self.ended_or("its process has gone"))
            }
        }
    }

    /// Waits until it has ended, and tells how.
    pub(crate) async fn ended(&self) -> (MachineEnd, String) {
        let (end, more) = self.last_word().await;
        // A process that was killed cannot say so.
        let more = if end == MachineEnd::Killed { self.fate().await } else { more };
        let more = self.with_last_words(&more);
        (refine(end, &more), more)
    }

    /// What was last heard of it.
    async fn last_word(&self) -> (MachineEnd, String) {
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, State::Ended(..))).await.as_deref() {
            Ok(State::Ended(end, more)) => (*end, more.clone()),
            Ok(State::Starting | State::Ready) | Err(_) => (MachineEnd::Killed, String::new()),
        }
    }

    fn ended_or(&self, why: &str) -> DriverError {
        let how = match &*self.state.borrow() {
            State::Ended(end, more) => format!("{end} {more}"),
            State::Starting | State::Ready => why.to_owned(),
        };
        let how = self.with_last_words(&how);
        DriverError::Unreachable { why: format!("the machine is not there: {how}") }
    }

    fn with_last_words(&self, how: &str) -> String {
        match self.console.last_words() {
            None => how.to_owned(),
            Some(words) => format!("{how} (its console's last words: {words})").trim().to_owned(),
        }
    }

    /// A stream to a port of the machine.
    pub(crate) async fn connect(&self, port: u32) -> Result<UnixStream, DriverError> {
        let failed = |error| DriverError::step("make a stream", &error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        self.order(&Order::Connect { port }, &[theirs.as_fd()]).await?;
        Ok(ours)
    }

    /// The machine's agent, on the telephone.
    pub(crate) async fn agent(&self, by: Deadline) -> Result<Remote, DriverError> {
        Remote::new(self.connect(CALL_PORT).await?.into(), by).await
    }

    /// A stream that a call can name, and its number.
    pub(crate) async fn stream(&self) -> Result<(u64, UnixStream), DriverError> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let mut stream = self.connect(STREAM_PORT).await?;
        // A socket that has carried nothing has room for this.
        let said = stream.write_all(&ticket.to_le_bytes());
        said.map_err(|error| DriverError::step("number a stream", &error))?;
        Ok((ticket, stream))
    }

    /// Kills the process and waits until it has gone.
    pub(crate) async fn kill(&self) -> Result<(), DriverError> {
        let failed = |error: io::Error| DriverError::step("end a machine's process", &error);
        self.strike();
        while !self.reap(WaitIdOptions::NOHANG).map_err(failed)? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    fn strike(&self) {
        // One that has ended cannot be killed.
        let _ = sys::process::signal(self.child.pidfd.as_fd(), 9);
    }

    /// Reaps the process if it has ended; says whether it has.
    fn reap(&self, options: WaitIdOptions) -> io::Result<bool> {
        match waitid(WaitId::PidFd(self.child.pidfd.as_fd()), WaitIdOptions::EXITED | options) {
            Ok(Some(status)) => {
                // Only one of those who ask is told.
                let _ = self.fate.set(fate(&status));
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(Errno::CHILD) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// What ended the process, if that is known: it is about to be gone.
    async fn fate(&self) -> String {
        let by = Deadline::after(GONE_WITHIN);
        while matches!(self.reap(WaitIdOptions::NOHANG), Ok(false)) && !by.passed() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.fate.get().cloned().unwrap_or_default()
    }
}

/// What ended a process that did not leave by itself.
fn fate(status: &WaitIdStatus) -> String {
    match status.terminating_signal() {
        Some(BAD_CALL) => "by the kernel, for a system call that it had renounced".to_owned(),
        Some(signal) => format!("by signal {signal}"),
        None => String::new(),
    }
}

fn unexpected(word: &Word) -> DriverError {
    DriverError::Unreachable { why: format!("the machine answered nonsense: {word:?}") }
}

/// A kernel that panics resets the machine, where it has no device to tell by; it says so before.
fn refine(end: MachineEnd, words: &str) -> MachineEnd {
    let panicked = end == MachineEnd::Reset && words.contains("Kernel panic - not syncing");
    if panicked { MachineEnd::Panicked } else { end }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listening.abort();
        self.strike();
        // One that was reaped is gone.
        let _ = self.reap(WaitIdOptions::empty());
    }
}

/// Hands on what the machine says, until it says no more.
async fn listen(
    mut reader: Reader,
    names: Option<Names>,
    answered: mpsc::Sender<Word>,
    state: watch::Sender<State>,
) {
    let end = loop {
        let (word, fds) = match reader.recv::<Word>().await {
            Ok(Some(received)) => received,
            Ok(None) => break (MachineEnd::Killed, String::new()),
            Err(error) => break (MachineEnd::Failed, chain(&error)),
        };
        let answer = match word {
            Word::Done | Word::Refused(_) | Word::Accel(_) => word,
            Word::Ready => {
                state.send_replace(State::Ready);
                continue;
            }
            Word::Asks(transport) => {
                if let (Some(names), Some(stream)) = (&names, fds.into_iter().next()) {
                    names.carry(stream, transport);
                }
                continue;
            }
            Word::Ended(end, more) => break (end, more),
        };
        if answered.send(answer).await.is_err() {
            break (MachineEnd::Killed, "nobody listens to it".to_owned());
        }
    };
    state.send_replace(State::Ended(end.0, end.1));
}
