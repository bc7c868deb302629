//! Sockets of the daemon's network, and the device that leads out of it, for a process that is not
//! in it: a second process makes them there and hands them over.
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

use super::network;

/// What it can be asked for.
const TCP: u8 = b't';
const UDP: u8 = b'u';
const TAP: u8 = b'n';

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
            Factory::There(there) => there.ask(match protocol {
                Protocol::Tcp => TCP,
                Protocol::Udp => UDP,
            }),
        }
    }

    /// A tap device that everything without another way leaves by. The host needs none.
    pub(super) fn tap(&self) -> io::Result<OwnedFd> {
        match self {
            Factory::Here => Err(io::ErrorKind::Unsupported.into()),
            Factory::There(there) => there.ask(TAP),
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
    fn ask(&self, word: u8) -> io::Result<OwnedFd> {
        rustix::net::send(&self.channel, &[word], SendFlags::NOSIGNAL)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut errno = [0; 4];
        let mut place = [IoSliceMut::new(&mut errno)];
        recvmsg(&self.channel, &mut place, &mut control, RecvFlags::CMSG_CLOEXEC)?;
        let fd = control.drain().find_map(|message| {
            let RecvAncillaryMessage::ScmRights(mut fds) = message else { return None };
            fds.next()
        });
        fd.ok_or_else(|| match i32::from_ne_bytes(errno) {
            0 => io::Error::other("nothing can be made in the daemon's network"),
            errno => io::Error::from_raw_os_error(errno),
        })
    }
}

impl Drop for There {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The second process: enters the network of a process and makes what each byte asks for.
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

/// Answers with a descriptor, or with the number of the error.
fn answer(channel: BorrowedFd<'_>, [asked]: [u8; 1]) -> io::Result<()> {
    let made = match asked {
        TAP => network::device(),
        TCP => socket(Protocol::Tcp).map_err(io::Error::from),
        _ => socket(Protocol::Udp).map_err(io::Error::from),
    };
    let errno = match &made {
        Ok(_) => 0,
        Err(error) => error.raw_os_error().unwrap_or(0),
    };
    let fds: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    sendmsg(channel, &[IoSlice::new(&errno.to_ne_bytes())], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
