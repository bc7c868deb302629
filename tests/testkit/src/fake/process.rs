//! A process in memory. The table of commands is in `fake.rs`.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use base::{Deadline, ProcessId, clock::Timestamp};
use stdio::log::{Stream, Writer};
use tokio::sync::watch;
use workload::{
    Attachment, DriverError, Exit, ExitStatus, Pending, Process, ProcessRoot, ProcessSpec, Signal,
    Streams, TerminalSize,
};

use super::{Host, Point, finished, locked};

/// Deadline of calls that have none of their own.
const SHORT: Duration = Duration::from_secs(10);
const SIGCHLD: u8 = 17;
const SIGCONT: u8 = 18;
const SIGURG: u8 = 23;
const SIGWINCH: u8 = 28;

/// What a process does.
#[derive(Clone, Debug)]
pub(super) enum Script {
    Exit(u8),
    Sleep(Option<Duration>),
    Stubborn,
    Write(Source, String),
    Cat,
    Hog,
}

/// To which stream a process writes.
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
}

impl Script {
    /// What this command does.
    pub(super) fn read(args: &[String]) -> Result<Script, DriverError> {
        let command = args.first().cloned().unwrap_or_default();
        let rest = args.get(1..).unwrap_or_default();
        let number = || rest.first().and_then(|word| word.parse().ok());
        let line = || rest.join(" ") + "\n";
        Ok(match command.as_str() {
            "exit" => {
                let code = number().unwrap_or(0);
                Script::Exit(u8::try_from(code).unwrap_or(u8::MAX))
            }
            "stubborn" => Script::Stubborn,
            "echo" => Script::Write(Source::Stdout, line()),
            "warn" => Script::Write(Source::Stderr, line()),
            "cat" => Script::Cat,
            "hog" => Script::Hog,
            "missing" => {
                let why = "executable file not found in $PATH".to_owned();
                return Err(DriverError::CommandNotFound { command, why });
            }
            "forbidden" => {
                let why = "permission denied".to_owned();
                return Err(DriverError::CommandNotRunnable { command, why });
            }
            _ => Script::Sleep(number().map(Duration::from_millis)),
        })
    }
}

#[derive(Debug)]
pub(crate) struct FakeProcess {
    id: ProcessId,
    /// Whether it is a container's first.
    first: bool,
    terminal: bool,
    pid: u32,
    host: Arc<Host>,
    script: Script,
    exit: watch::Sender<Option<Exit>>,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    attached: Vec<UnixStream>,
    log: Option<Writer>,
    frozen: bool,
    /// Signals that came while it was frozen.
    waiting: Vec<Signal>,
}

impl FakeProcess {
    pub(super) fn start(
        host: Arc<Host>,
        spec: ProcessSpec,
        script: Script,
        streams: Streams,
    ) -> Arc<FakeProcess> {
        let process = Arc::new(FakeProcess {
            id: spec.id,
            first: matches!(spec.root, ProcessRoot::Own(_)),
            terminal: spec.terminal.is_some(),
            pid: host.pid(),
            host,
            script,
            exit: watch::Sender::new(None),
            // As with a real process, a log that cannot be written stops nobody.
            inside: Mutex::new(Inside {
                log: spec.log.as_ref().and_then(|log| Writer::open(log).ok()),
                ..Inside::default()
            }),
        });
        if let Some(socket) = streams.attached {
            process.connect(socket.socket);
        }
        process.run();
        process
    }

    pub(super) fn is_first(&self) -> bool {
        self.first
    }

    /// Has it killed when its container's first process ends.
    pub(super) fn end_with(self: &Arc<FakeProcess>, first: &FakeProcess) {
        let (process, mut exit) = (Arc::clone(self), first.exit.subscribe());
        tokio::spawn(async move {
            if exit.wait_for(Option::is_some).await.is_ok() {
                process.leave(ExitStatus::Signal(Signal::KILL), false);
            }
        });
    }

    pub(super) fn exit(&self) -> Option<Exit> {
        *self.exit.borrow()
    }

    /// Ends it in this way; answers whether it ran.
    pub(super) fn end(&self, exit: Exit) -> bool {
        // Output is through before the exit is seen.
        for socket in locked(&self.inside).attached.drain(..) {
            socket.shutdown(Shutdown::Both).ok();
        }
        self.exit.send_if_modified(|known| {
            let ran = known.is_none();
            known.get_or_insert(exit);
            ran
        })
    }

    pub(super) fn freeze(&self, frozen: bool) {
        let waiting = {
            let mut inside = locked(&self.inside);
            inside.frozen = frozen;
            if frozen { Vec::new() } else { std::mem::take(&mut inside.waiting) }
        };
        for signal in waiting {
            self.deliver(signal);
        }
    }

    fn run(self: &Arc<FakeProcess>) {
        match self.script.clone() {
            Script::Exit(code) => self.leave(ExitStatus::Code(code), false),
            Script::Hog => self.leave(ExitStatus::Signal(Signal::KILL), true),
            Script::Write(source, text) => {
                self.write(source, text.as_bytes());
                self.leave(ExitStatus::Code(0), false);
            }
            Script::Sleep(Some(time)) => {
                let process = Arc::clone(self);
                tokio::spawn(async move {
                    tokio::time::sleep(time).await;
                    process.leave(ExitStatus::Code(0), false);
                });
            }
            Script::Sleep(None) | Script::Stubborn | Script::Cat => {}
        }
    }

    fn leave(&self, status: ExitStatus, out_of_memory: bool) {
        self.end(Exit { status, out_of_memory, at: Timestamp::now() });
    }

    fn deliver(&self, signal: Signal) {
        let mut inside = locked(&self.inside);
        if inside.frozen {
            inside.waiting.push(signal);
            return;
        }
        drop(inside);
        let ignored = matches!(signal.number(), SIGCHLD | SIGCONT | SIGURG | SIGWINCH);
        let stubborn = matches!(self.script, Script::Stubborn) && signal != Signal::KILL;
        if !ignored && !stubborn {
            self.leave(ExitStatus::Signal(signal), false);
        }
    }

    /// It writes this, if it runs.
    pub(super) fn write(&self, source: Source, text: &[u8]) {
        if self.exit().is_some() {
            return;
        }
        let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::new();
        if !self.terminal {
            bytes.extend([source as u8, 0, 0, 0]);
            bytes.extend(length.to_be_bytes());
        }
        bytes.extend(text);
        let mut inside = locked(&self.inside);
        if let Some(log) = &mut inside.log {
            let stream = match source {
                Source::Stdout => Stream::Output,
                Source::Stderr => Stream::Error,
            };
            log.append(Timestamp::now(), stream, text);
        }
        inside.attached.retain_mut(|socket| socket.write_all(&bytes).is_ok());
    }

    fn connect(self: &Arc<FakeProcess>, socket: OwnedFd) {
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(false).ok();
        if let (Script::Cat, Ok(mut input)) = (&self.script, socket.try_clone()) {
            let process = Arc::clone(self);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(length @ 1..) = input.read(&mut buffer) {
                    process.write(Source::Stdout, buffer.get(..length).unwrap_or_default());
                }
                process.leave(ExitStatus::Code(0), false);
            });
        }
        locked(&self.inside).attached.push(socket);
    }

    fn not_running(&self) -> DriverError {
        DriverError::State { what: format!("process {}", self.id), state: "not running".to_owned() }
    }

    fn running(&self) -> Result<(), DriverError> {
        if self.exit().is_some() { Err(self.not_running()) } else { Ok(()) }
    }
}

impl Process for FakeProcess {
    fn id(&self) -> &ProcessId {
        &self.id
    }

    fn host_pid(&self) -> Option<u32> {
        self.exit().is_none().then_some(self.pid)
    }

    fn signal(&self, signal: Signal) -> Pending<'_, Result<(), DriverError>> {
        Box::pin(async move {
            self.host.note(format!("signal {} {signal}", self.id));
            let by = Deadline::after(SHORT);
            self.host.faults.at(Point::Signal, by, "sending the signal").await?;
            self.running()?;
            self.deliver(signal);
            Ok(())
        })
    }

    fn resize(&self, _size: TerminalSize) -> Pending<'_, Result<(), DriverError>> {
        let result = match self.terminal {
            true => self.running(),
            false => Err(DriverError::State {
                what: format!("process {}", self.id),
                state: "without a terminal".to_owned(),
            }),
        };
        Box::pin(async move { result })
    }

    fn attach(
        &self,
        attachment: Attachment,
    ) -> Pending<'_, Result<Option<Timestamp>, DriverError>> {
        let Attachment { socket, mark, .. } = attachment;
        let result = self.running().map(|()| locked(&self.inside).attached.push(socket.into()));
        Box::pin(async move { result.map(|()| mark.then(Timestamp::now)) })
    }

    fn wait(&self) -> Pending<'_, Exit> {
        let mut exit = self.exit.subscribe();
        let host = Arc::clone(&self.host);
        Box::pin(async move {
            let wait = finished(async move {
                let known = exit.wait_for(Option::is_some).await;
                let known = known.ok().and_then(|exit| *exit);
                let far = Deadline::after(Duration::MAX);
                host.faults.at(Point::Wait, far, "waiting").await.ok();
                Ok(known)
            });
            let lost =
                Exit { status: ExitStatus::Lost, out_of_memory: false, at: Timestamp::now() };
            wait.await.ok().flatten().unwrap_or(lost)
        })
    }
}
