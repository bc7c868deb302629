//! Sockets of the daemon's network for a process that is not in it: a second process makes them
//! there and hands them over.
//!
//! A socket stays in the network it was made in, whoever uses it (network_namespaces(7)).

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, Stdio},
};

use net::Protocol;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socket_with,
        socketpair,
    },
    process::{Pid, PidfdFlags, pidfd_open},
};
use sys::{clone::Namespaces, namespace};

/// Makes sockets in one network.
#[derive(Debug)]
pub(super) enum Factory {
    /// In this process's own.
    Here,
    /// In another.
    There(There),
}

/// The process that makes them. Dropped, it ends.
#[derive(Debug)]
pub(super) struct There {
    channel: OwnedFd,
    process: Child,
}

impl Factory {
    /// One in the network of a process, over whose user namespace this user has power.
    pub(super) fn start(pid: u32) -> io::Result<Factory> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("wythe").args([super::FACTORY, &pid.to_string()]).current_dir("/");
        let process = command.stdin(Stdio::from(theirs)).stdout(Stdio::null()).spawn()?;
        let factory = Factory::There(There { channel: ours, process });
        // The first shows that it is where it should be.
        factory.make(Protocol::Udp)?;
        Ok(factory)
    }

    /// A socket that is neither bound nor connected, and does not block.
    pub(super) fn make(&self, protocol: Protocol) -> io::Result<OwnedFd> {
        match self {
            Factory::Here => Ok(socket(protocol)?),
            Factory::There(there) => there.make(protocol),
        }
    }
}

/// An IPv4 socket.
fn socket(protocol: Protocol) -> Result<OwnedFd, Errno> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)
}

impl There {
    fn make(&self, protocol: Protocol) -> io::Result<OwnedFd> {
        let word = match protocol {
            Protocol::Tcp => b"t",
            Protocol::Udp => b"u",
        };
        rustix::net::send(&self.channel, word, SendFlags::NOSIGNAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        recvmsg(
            &self.channel,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        let fd = control.drain().find_map(|message| {
            let RecvAncillaryMessage::ScmRights(mut fds) = message else { return None };
            fds.next()
        });
        fd.ok_or_else(|| io::Error::other("no socket could be made in the daemon's network"))
    }
}

impl Drop for There {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The second process: enters the network of a process and makes a socket for each byte.
pub(super) fn run(pid: u32) -> io::Result<()> {
    let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let process = pidfd_open(number.ok_or(io::ErrorKind::InvalidInput)?, PidfdFlags::empty())?;
    namespace::enter(process.as_fd(), Namespaces(Namespaces::USER | Namespaces::NET))?;
    drop(process);
    let channel = rustix::stdio::stdin();
    let mut byte = [0];
    loop {
        match rustix::io::read(channel, &mut byte) {
            Ok(1) => answer(channel, byte)?,
            // Whom it works for is gone.
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn answer(channel: BorrowedFd<'_>, asked: [u8; 1]) -> io::Result<()> {
    let made = socket(if asked == *b"t" { Protocol::Tcp } else { Protocol::Udp });
    let fds: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(channel, &[IoSlice::new(&asked)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
