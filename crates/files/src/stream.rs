//! A pipe or socket as it was handed over: whether or not it blocks.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::event::{PollFd, PollFlags, poll};

/// Reads and writes a descriptor, and waits where it would rather not.
#[derive(Debug)]
pub struct Stream(File);

impl From<OwnedFd> for Stream {
    fn from(fd: OwnedFd) -> Stream {
        Stream(File::from(fd))
    }
}

impl Stream {
    fn wait(&self, for_what: PollFlags) -> io::Result<()> {
        let fd = self.0.as_fd();
        match poll(&mut [PollFd::from_borrowed_fd(fd, for_what)], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.0.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::IN)?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                answer => return answer,
            }
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.0.write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(PollFlags::OUT)?;
                }
                answer => return answer,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
