//! The driver's end of a machine: its process, orders to it, and streams into it.

use std::{
    fs::File,
    io::Write as _,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::net::UnixStream,
    },
    path::Path,
    process::Child,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base::{Deadline, chain};
use hv::Accel;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use wire::{Conn, Reader, Writer};
use workload::{DriverError, MachineEnd};

use crate::{
    STREAM_PORT,
    console::Console,
    control::{Order, Word},
    driver::StartVmm,
};

/// Answers that may wait; orders are given one by one.
const ANSWERS_MAX: usize = 4;

/// How long an order may take.
const ORDER_WITHIN: Duration = Duration::from_secs(20);

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
    child: Mutex<Child>,
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
    /// Starts the process.
    pub(crate) fn start(start: &StartVmm) -> Result<Link, DriverError> {
        let failed = |error: std::io::Error| DriverError::step("start a machine's process", &error);
        let (ours, theirs) = UnixStream::pair().map_err(failed)?;
        ours.set_nonblocking(true).map_err(failed)?;
        let conn = Conn::new(tokio::net::UnixStream::from_std(ours).map_err(failed)?);
        let child = start(theirs.into()).map_err(failed)?;
        let (reader, writer) = conn.split();
        let (answered, answers) = mpsc::channel(ANSWERS_MAX);
        let (changed, state) = watch::channel(State::Starting);
        let listening = tokio::spawn(listen(reader, answered, changed));
        Ok(Link {
            child: Mutex::new(child),
            orders: tokio::sync::Mutex::new(Orders { writer, answers }),
            state,
            listening,
            next_ticket: AtomicU64::new(1),
            console: Console::default(),
        })
    }

    /// Gives an order and waits until it is carried out.
    pub(crate) async fn order(
        &self,
        order: &Order,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(), DriverError> {
        match self.ask(order, fds).await? {
            Word::Done => Ok(()),
            word => Err(unexpected(&word)),
        }
    }

    /// Finds out what is best here to carry out instructions.
    pub(crate) async fn probe(&self) -> Result<Accel, DriverError> {
        match self.ask(&Order::Probe, &[]).await? {
            Word::Accel(accel) => Ok(accel),
            word => Err(unexpected(&word)),
        }
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

    /// Saves the machine into an empty directory; it goes on.
    pub(crate) async fn save(&self, directory: &Path) -> Result<(), DriverError> {
        let opened = File::open(directory);
        let opened = opened.map_err(|error| DriverError::step("save a machine", &error))?;
        self.order(&Order::Snapshot, &[opened.as_fd()]).await
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
        let mut state = self.state.clone();
        match state.wait_for(|state| matches!(state, State::Ended(..))).await.as_deref() {
            Ok(State::Ended(end, more)) => {
                let more = self.with_last_words(more);
                (refine(*end, &more), more)
            }
            Ok(State::Starting | State::Ready) | Err(_) => {
                (MachineEnd::Killed, self.with_last_words(""))
            }
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
        let failed = |error: std::io::Error| DriverError::step("end a machine's process", &error);
        self.child().kill().map_err(failed)?;
        loop {
            if self.child().try_wait().map_err(failed)?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut child = self.child();
        // One that has ended cannot be killed, and is reaped all the same.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// Hands on what the machine says, until it says no more.
async fn listen(mut reader: Reader, answered: mpsc::Sender<Word>, state: watch::Sender<State>) {
    let end = loop {
        let word = match reader.recv::<Word>().await {
            Ok(Some((word, _))) => word,
            Ok(None) => break (MachineEnd::Killed, String::new()),
            Err(error) => break (MachineEnd::Failed, chain(&error)),
        };
        let answer = match word {
            Word::Done | Word::Refused(_) | Word::Accel(_) => word,
            Word::Ready => {
                state.send_replace(State::Ready);
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
