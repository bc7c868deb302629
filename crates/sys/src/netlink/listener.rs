//! Hearing what others change: a socket that belongs to multicast groups.

#![expect(unsafe_code, reason = "UNSAFETY: socket options that rustix lacks")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};

use super::{DATAGRAM_MAX, Family, replies};
use crate::seccomp::SockFilter;

/// A socket that hears what is changed in its network namespace, by whomever.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    buffer: Box<[u8]>,
}

/// Most instructions of a filter; the kernel's own bound is 4,096 (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 64;

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    length: u16,
    filter: *const SockFilter,
}

impl Listener {
    /// Opens a socket in the calling thread's network namespace, in these groups of the family,
    /// which hears what the filter lets through: it sees each datagram from its first message's
    /// header on, and answers 0 for what is not to be heard.
    ///
    /// # Errors
    /// What socket(2), bind(2) and setsockopt(2) say.
    pub fn open(family: Family, groups: &[u32], filter: &[SockFilter]) -> Result<Listener, Errno> {
        let fd = super::open(family)?;
        let listener = Listener { fd, buffer: vec![0; DATAGRAM_MAX].into_boxed_slice() };
        listener.filter(filter)?;
        for group in groups {
            set(&listener.fd, libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP, group)?;
        }
        Ok(listener)
    }

    /// Hears something else from now on.
    ///
    /// # Errors
    /// `EINVAL` if the program is none.
    pub fn filter(&self, filter: &[SockFilter]) -> Result<(), Errno> {
        if filter.len() > INSTRUCTIONS_MAX {
            return Err(Errno::INVAL);
        }
        let length = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
        let program = Program { length, filter: filter.as_ptr() };
        set(&self.fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
    }

    /// Hands every message that has come, its kind and what follows its header, to `visit`, and
    /// does not wait for others.
    ///
    /// # Errors
    /// `ENOBUFS` if more came than there was room for: what it was is not known.
    pub fn hear(&mut self, mut visit: impl FnMut(u16, &[u8])) -> Result<(), Errno> {
        loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let length = match recv(&self.fd, &mut *self.buffer, flags) {
                Ok((_, length)) => length,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            // One that is longer than anything the kernel sends is lost.
            let datagram = self.buffer.get(..length).ok_or(Errno::NOBUFS)?;
            replies(datagram).for_each(|message| visit(message.kind, message.body));
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn set<T>(fd: &OwnedFd, level: i32, option: i32, value: &T) -> Result<(), Errno> {
    let size = libc::socklen_t::try_from(size_of::<T>()).map_err(|_| Errno::INVAL)?;
    // SAFETY: the value outlives the call, its size is given, and a program's instructions outlive
    // it too; the kernel only reads them.
    let result = unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size)
    };
    if result == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(errno))
}

#[cfg(test)]
mod tests {
    use super::super::{Batch, Socket};
    use super::*;

    /// `BPF_RET | BPF_K`
    const RETURN: u16 = 6;

    #[test]
    fn what_others_change_is_heard_unless_it_is_filtered() {
        if !testkit::need::root() {
            return;
        }
        let all = [SockFilter { code: RETURN, jt: 0, jf: 0, k: u32::MAX }];
        let none = [SockFilter { code: RETURN, jt: 0, jf: 0, k: 0 }];
        let open =
            || Ok((Socket::open(Family::Route)?, Listener::open(Family::Route, &[1], &all)?));
        let (_, (mut socket, mut listener)) = crate::netns::create(open).unwrap();
        let up = |socket: &mut Socket, flags: u32| {
            // RTM_NEWLINK of lo. Source: `struct ifinfomsg`.
            let header = [&[0; 4][..], &1_u32.to_ne_bytes(), &flags.to_ne_bytes(), &[0xff; 4]];
            let mut batch = Batch::default();
            batch.message(16, 0, &header.concat(), |_| ());
            socket.execute(batch).unwrap();
        };
        let mut kinds = Vec::new();
        up(&mut socket, 1);
        listener.hear(|kind, _| kinds.push(kind)).unwrap();
        assert!(kinds.contains(&16), "{kinds:?}");
        listener.filter(&none).unwrap();
        up(&mut socket, 0);
        listener.hear(|kind, _| panic!("{kind}")).unwrap();
    }
}
