//! A program at a terminal, as a person uses it.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::host::wait_until;

/// A running program whose three streams are a terminal that we hold the other end of.
#[derive(Debug)]
pub struct Pty {
    child: Child,
    master: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Pty {
    /// Starts a command at a terminal of this many rows and columns.
    pub fn start(mut command: Command, rows: u16, columns: u16) -> Pty {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC);
        let master = master.expect("a terminal can be made");
        grantpt(&master).expect("it is ours");
        unlockpt(&master).expect("it is ours");
        let name = ptsname(&master, Vec::new()).expect("it has a name");
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).expect("it can be opened");
        resize(&master, rows, columns);
        let stream = |fd: &OwnedFd| Stdio::from(fd.try_clone().expect("it can be doubled"));
        command.stdin(stream(&slave)).stdout(stream(&slave)).stderr(stream(&slave));
        let child = command.spawn().expect("the command runs");
        drop((slave, command));
        let master = File::from(master);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (mut from, to) = (master.try_clone().expect("it can be doubled"), Arc::clone(&seen));
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is how a terminal's other end says that all is over.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                to.lock().expect("nobody panics with it").extend_from_slice(&buffer[..length]);
            }
        });
        Pty { child, master, seen }
    }

    /// Types text.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("somebody reads");
    }

    /// Waits until this text has been seen, and forgets everything up to its end.
    ///
    /// # Panics
    /// If it is not seen.
    pub fn expect(&mut self, text: &str) {
        let mut found = None;
        let what = format!("{text:?} is seen");
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(&what, || {
                let seen = self.seen.lock().expect("nobody panics with it");
                found = String::from_utf8_lossy(&seen).find(text).map(|at| at + text.len());
                found.is_some()
            });
        }));
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        assert!(looked.is_ok(), "{text:?} is not in {:?}", String::from_utf8_lossy(&seen));
        // Positions are those of the lossy text, which is the same as long as it is ASCII.
        let end = found.unwrap_or(0).min(seen.len());
        drop(seen.drain(..end));
    }

    /// Gives the terminal another size and tells the program, as a terminal emulator does, until
    /// this text has been seen: a program that has just begun may not listen for it yet.
    ///
    /// # Panics
    /// As [`Pty::expect`].
    pub fn resize(&mut self, rows: u16, columns: u16, text: &str) {
        resize(&self.master, rows, columns);
        let pid = rustix::process::Pid::from_child(&self.child);
        wait_until(&format!("{text:?} is seen"), || {
            rustix::process::kill_process(pid, rustix::process::Signal::WINCH).expect("it runs");
            std::thread::sleep(std::time::Duration::from_millis(50));
            let seen = self.seen.lock().expect("nobody panics with it");
            String::from_utf8_lossy(&seen).contains(text)
        });
        self.expect(text);
    }

    /// Waits until it ends, and gives its exit code.
    pub fn code(mut self) -> i32 {
        let mut status = None;
        wait_until("the program ends", || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        status.and_then(|s| s.code()).unwrap_or(255)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        // It has ended already unless the test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn resize(terminal: impl std::os::fd::AsFd, rows: u16, columns: u16) {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).expect("it is a terminal");
}
