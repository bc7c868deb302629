//! The console: one serial port, any number of terminals that come and go.
//!
//! ```text
//! machine ══ socket ══ Hub ──▶ the last 64 KiB ──▶ who comes
//!                       │└───────────────────────▶ all terminals
//!                       └◀──────────────────────── whichever of them types
//! ```
//!
//! One thread, one poll(2). A terminal that does not read is not waited for: when too much waits
//! for it, it is dropped, and the machine goes on.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::net::{UnixListener, UnixStream},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use base::Deadline;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// What a terminal sees of what was before it came, in bytes.
pub const BACKLOG_BYTES: usize = 64 << 10;

/// Most that waits for a terminal, in bytes.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Most terminals at a time; one more is sent away.
const TERMINALS_MAX: usize = 16;

/// Most that waits for the machine, in bytes: a guest that does not read its port makes whoever
/// types wait.
const TYPED_BYTES_MAX: usize = 4096;

/// How long terminals may take to read a machine's last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Serves a console on a thread of its own. `port` is the other end of the machine's serial port;
/// the thread ends when nobody has the machine's end any more.
pub(crate) fn serve(port: UnixStream, listener: UnixListener) -> io::Result<JoinHandle<()>> {
    port.set_nonblocking(true)?;
    listener.set_nonblocking(true)?;
    let hub =
        Hub { port, listener, backlog: VecDeque::new(), typed: Vec::new(), terminals: Vec::new() };
    thread::Builder::new().name("console".to_owned()).spawn(move || hub.run())
}

struct Hub {
    port: UnixStream,
    listener: UnixListener,
    backlog: VecDeque<u8>,
    /// What was typed and the port has not taken.
    typed: Vec<u8>,
    terminals: Vec<Terminal>,
}

struct Terminal {
    socket: UnixStream,
    waiting: VecDeque<u8>,
    /// It sends no more, and may read on.
    silent: bool,
    gone: bool,
}

impl Hub {
    fn run(mut self) {
        while let Ok(ready) = self.wait() {
            if ready.listener {
                self.accept();
            }
            for (terminal, flags) in self.terminals.iter_mut().zip(&ready.terminals) {
                if flags.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
                    terminal.read(&mut self.typed);
                }
            }
            self.type_in();
            let goes_on = self.take();
            for terminal in &mut self.terminals {
                terminal.write();
            }
            self.terminals.retain(|terminal| !terminal.gone);
            if !goes_on {
                return self.finish();
            }
        }
    }

    /// Waits until something can be done.
    fn wait(&self) -> io::Result<Ready> {
        let when = |condition, flags| if condition { flags } else { PollFlags::empty() };
        let typing = self.typed.len() < TYPED_BYTES_MAX;
        let port = PollFlags::IN | when(!self.typed.is_empty(), PollFlags::OUT);
        let mut all =
            vec![PollFd::new(&self.port, port), PollFd::new(&self.listener, PollFlags::IN)];
        for terminal in &self.terminals {
            let reads = when(typing && !terminal.silent, PollFlags::IN);
            let writes = when(!terminal.waiting.is_empty(), PollFlags::OUT);
            all.push(PollFd::new(&terminal.socket, reads | writes));
        }
        loop {
            match poll(&mut all, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let listener = !all[1].revents().is_empty();
        Ok(Ready { listener, terminals: all[2..].iter().map(PollFd::revents).collect() })
    }

    fn accept(&mut self) {
        while let Ok((socket, _)) = self.listener.accept() {
            if self.terminals.len() < TERMINALS_MAX && socket.set_nonblocking(true).is_ok() {
                let waiting = self.backlog.clone();
                self.terminals.push(Terminal { socket, waiting, silent: false, gone: false });
            }
        }
    }

    /// Gives the port what was typed, as far as it takes it.
    fn type_in(&mut self) {
        while !self.typed.is_empty() {
            match (&self.port).write(&self.typed) {
                Ok(count) => drop(self.typed.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // It takes no more now, or ever.
                Err(_) => return,
            }
        }
    }

    /// Takes what the machine says; false when it says no more, ever.
    fn take(&mut self) -> bool {
        let mut said = [0; 4096];
        loop {
            match (&self.port).read(&mut said) {
                Ok(0) => return false,
                Ok(count) => self.say(&said[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    fn say(&mut self, said: &[u8]) {
        for terminal in &mut self.terminals {
            terminal.waiting.extend(said);
            // While much is said, what can go goes.
            if terminal.waiting.len() > WAITING_BYTES_MAX / 2 {
                terminal.write();
            }
            terminal.gone |= terminal.waiting.len() > WAITING_BYTES_MAX;
        }
        self.backlog.extend(said);
        let surplus = self.backlog.len().saturating_sub(BACKLOG_BYTES);
        self.backlog.drain(..surplus);
    }

    /// Lets those who are there read the last words.
    fn finish(mut self) {
        let by = Deadline::after(LAST_WORDS);
        while !by.passed() {
            self.terminals.iter_mut().for_each(Terminal::write);
            self.terminals.retain(|terminal| !terminal.gone && !terminal.waiting.is_empty());
            if self.terminals.is_empty() {
                return;
            }
            let all = self.terminals.iter();
            let mut all: Vec<_> = all.map(|it| PollFd::new(&it.socket, PollFlags::OUT)).collect();
            let timeout = Timespec::try_from(by.remaining()).ok();
            if poll(&mut all, timeout.as_ref()).is_err_and(|error| error != Errno::INTR) {
                return;
            }
        }
    }
}

struct Ready {
    listener: bool,
    terminals: Vec<PollFlags>,
}

impl Terminal {
    fn read(&mut self, typed: &mut Vec<u8>) {
        let mut bytes = [0; 1024];
        while typed.len() < TYPED_BYTES_MAX && !self.silent {
            match (&self.socket).read(&mut bytes) {
                Ok(0) => {
                    self.silent = true;
                    // It may only have ended its half; if it is gone, this says so.
                    self.gone = hung_up(&self.socket);
                }
                Ok(count) => typed.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.gone = true,
            }
            if self.gone {
                return;
            }
        }
        // One of which nothing more is read would else be heard of for ever.
        if self.silent || typed.len() >= TYPED_BYTES_MAX {
            self.gone |= hung_up(&self.socket);
        }
    }

    fn write(&mut self) {
        while !self.waiting.is_empty() && !self.gone {
            let (bytes, _) = self.waiting.as_slices();
            match (&self.socket).write(bytes) {
                Ok(count) => drop(self.waiting.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.gone = true,
            }
        }
    }
}

/// Whether the other end of a socket is closed, and not only its sending half.
fn hung_up(socket: &UnixStream) -> bool {
    let mut one = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut one, Some(&now)).is_ok() && one[0].revents().contains(PollFlags::HUP)
}

/// A machine's end of its serial port's line, for a machine that begins.
pub(crate) fn end(line: &UnixStream) -> io::Result<vm::Console> {
    line.set_nonblocking(true)?;
    let [input, output] = [line.try_clone()?, line.try_clone()?].map(OwnedFd::from);
    Ok(vm::Console { input: Some(input), output: Some(output) })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Rig {
        machine: UnixStream,
        dir: tempfile::TempDir,
        thread: JoinHandle<()>,
    }

    fn rig() -> Rig {
        let (machine, port) = UnixStream::pair().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("s")).unwrap();
        Rig { machine, thread: serve(port, listener).unwrap(), dir }
    }

    impl Rig {
        fn terminal(&self) -> UnixStream {
            let terminal = UnixStream::connect(self.dir.path().join("s")).unwrap();
            terminal.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            terminal
        }
    }

    fn expect(terminal: &mut UnixStream, text: &[u8]) {
        let mut seen = vec![0; text.len()];
        terminal.read_exact(&mut seen).unwrap();
        assert!(seen == text, "{:?}", String::from_utf8_lossy(&seen));
    }

    #[test]
    fn who_comes_late_sees_what_was_before_and_all_see_what_follows() {
        let mut rig = rig();
        let mut first = rig.terminal();
        rig.machine.write_all(b"hello ").unwrap();
        expect(&mut first, b"hello ");
        let mut second = rig.terminal();
        expect(&mut second, b"hello ");
        rig.machine.write_all(b"world").unwrap();
        expect(&mut first, b"world");
        expect(&mut second, b"world");
        second.write_all(b"typed").unwrap();
        expect(&mut rig.machine, b"typed");
        // One that only listens from now on.
        first.shutdown(std::net::Shutdown::Write).unwrap();
        rig.machine.write_all(b"!").unwrap();
        expect(&mut first, b"!");
        drop(second);
        drop(rig.machine);
        let mut rest = Vec::new();
        first.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"");
        rig.thread.join().unwrap();
    }

    #[test]
    fn only_so_much_is_kept() {
        let mut rig = rig();
        let mut first = rig.terminal();
        let text: Vec<u8> = (b'a'..b'x').cycle().take(3 * BACKLOG_BYTES).collect();
        rig.machine.write_all(&text).unwrap();
        expect(&mut first, &text);
        let mut second = rig.terminal();
        expect(&mut second, &text[2 * BACKLOG_BYTES..]);
        drop(rig.machine);
        rig.thread.join().unwrap();
    }

    #[test]
    fn a_terminal_that_does_not_read_stops_nobody() {
        let mut rig = rig();
        let lazy = rig.terminal();
        let mut eager = rig.terminal();
        let chunk = [b'x'; 4096];
        for _ in 0..2 * WAITING_BYTES_MAX / chunk.len() {
            rig.machine.write_all(&chunk).unwrap();
            expect(&mut eager, &chunk);
        }
        drop(rig.machine);
        rig.thread.join().unwrap();
        drop(lazy);
    }
}
