//! A small synchronous netlink socket: batches out, replies and acknowledgements in.
//!
//! Knows the framing that every netlink family shares (message headers, attributes,
//! acknowledgements with the kernel's own words) and no family's messages.
//!
//! Nothing here waits. The families in use (rtnetlink, nfnetlink) do their work inside
//! `sendmsg`, in the caller's context, so that every reply lies in the socket's queue when it
//! returns; a dump's next part is made by the `recvmsg` that takes the part before it.
//!
//! Source: netlink(7); RFC 3549; `net/netlink/af_netlink.c`.

#![expect(unsafe_code, reason = "UNSAFETY: netlink socket options, which rustix lacks")]

mod listener;

use std::{fmt, os::fd::AsRawFd, os::fd::OwnedFd};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, bind, getsockname,
        netlink::{NETFILTER, SocketAddrNetlink},
        recv, send, socket_with, sockopt,
    },
};

pub use listener::Listener;

/// Bytes of a message header: length, kind, flags, sequence, port.
const HEADER: usize = 16;
/// Everything in a netlink message begins at a multiple of this.
const ALIGN: usize = 4;
/// Longest datagram taken from the kernel, in bytes. Dumps are cut to the largest buffer the
/// reader has shown, at most 32 KiB (`netlink_dump` in `af_netlink.c`).
const DATAGRAM_MAX: usize = 32 << 10;
/// A send queue up to this long is every socket's own (`net.core.wmem_default`, in bytes).
const SEND_QUEUE: usize = 128 << 10;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// Bits of an attribute's kind that are not the kind: nested, and network byte order.
const ATTR_FLAGS: u16 = 0xc000;
const ATTR_NESTED: u16 = 0x8000;

/// Replace what is there (`NLM_F_REPLACE`).
pub const REPLACE: u16 = 0x100;
/// Fail where it is there already (`NLM_F_EXCL`).
pub const EXCLUSIVE: u16 = 0x200;
/// Make it where it is not there (`NLM_F_CREATE`).
pub const CREATE: u16 = 0x400;
/// Put it after its like (`NLM_F_APPEND`).
pub const APPEND: u16 = 0x800;
/// Answer with everything there is (`NLM_F_DUMP`).
pub const DUMP: u16 = 0x300;

/// Which part of the kernel a socket speaks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Links, addresses, routes: rtnetlink(7).
    Route,
    /// nf_tables and connection tracking.
    Netfilter,
}

/// What the kernel refused, in its own words where it gave some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetlinkError {
    /// Which message of the batch, counted from 0; none when the batch as a whole failed.
    pub message: Option<usize>,
    /// The error number.
    pub errno: Errno,
    /// The kernel's explanation (extended acknowledgement, Linux 4.12).
    pub text: Option<Box<str>>,
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => write!(f, "{} ({text})", self.errno),
            None => write!(f, "{}", self.errno),
        }
    }
}

impl std::error::Error for NetlinkError {}

impl From<Errno> for NetlinkError {
    fn from(errno: Errno) -> NetlinkError {
        NetlinkError { message: None, errno, text: None }
    }
}

/// Messages that are sent together, in one system call.
///
/// The kernel takes them in order. rtnetlink goes on after one that failed; nf_tables takes all
/// or none between its begin and end frames.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Where each message begins.
    starts: Vec<usize>,
    /// Where the message begins whose acknowledgement ends the batch.
    last: usize,
}

impl Batch {
    /// Adds a request: its kind, flags beside "request", the family's fixed header, and whatever
    /// attributes `fill` writes.
    pub fn message(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        self.last = self.bytes.len();
        self.frame(kind, flags, header, fill);
    }

    /// Adds a message that is not acknowledged itself: what stands around a transaction.
    pub fn frame(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut Attributes<'_>),
    ) {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        pad(&mut self.bytes);
        fill(&mut Attributes { bytes: &mut self.bytes });
        let length = u32::try_from(self.bytes.len() - start)
            .expect("a message is made of attributes of at most 64 KiB each");
        overwrite(&mut self.bytes, start, &length.to_ne_bytes());
    }

    /// Messages in it, frames counted too.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Numbers the messages from `first` and asks for the acknowledgement that ends the batch.
    fn number(&mut self, first: u32) {
        let mut sequence = first;
        for &start in &self.starts {
            overwrite(&mut self.bytes, start + 8, &sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
        let flags = read_u16(&self.bytes, self.last + 6) | NLM_F_ACK;
        overwrite(&mut self.bytes, self.last + 6, &flags.to_ne_bytes());
    }

    /// Which message, counted from 0, asks for the acknowledgement.
    fn last_index(&self) -> usize {
        self.starts.partition_point(|start| *start < self.last)
    }
}

/// The attributes of one message being written.
#[derive(Debug)]
pub struct Attributes<'a> {
    bytes: &'a mut Vec<u8>,
}

impl Attributes<'_> {
    /// One attribute.
    ///
    /// # Panics
    /// If the value is longer than 65,531 bytes, which an attribute's length cannot say.
    pub fn put(&mut self, kind: u16, value: &[u8]) {
        self.attribute(kind, |bytes| bytes.extend_from_slice(value));
    }

    /// One attribute whose value is text, with the NUL that ends it.
    pub fn put_text(&mut self, kind: u16, text: &str) {
        self.attribute(kind, |bytes| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        });
    }

    /// One attribute that holds attributes.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Attributes<'_>)) {
        self.nest_after(kind, &[], fill);
    }

    /// One attribute that holds a fixed header and then attributes, as `VETH_INFO_PEER` does.
    pub fn nest_after(&mut self, kind: u16, header: &[u8], fill: impl FnOnce(&mut Attributes<'_>)) {
        self.attribute(kind | ATTR_NESTED, |bytes| {
            bytes.extend_from_slice(header);
            fill(&mut Attributes { bytes });
        });
    }

    fn attribute(&mut self, kind: u16, fill: impl FnOnce(&mut Vec<u8>)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        fill(self.bytes);
        let length =
            u16::try_from(self.bytes.len() - start).expect("callers keep attributes below 64 KiB");
        overwrite(self.bytes, start, &length.to_ne_bytes());
        pad(self.bytes);
    }
}

/// The attributes in some bytes of a reply, as kind and value; ends at the first that is cut.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(ALIGN..length)?;
        rest = rest.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((kind & !ATTR_FLAGS, value))
    })
}

/// A netlink socket. It stays in the network namespace of the thread that opened it, whichever
/// thread uses it.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Box<[u8]>,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// What socket(2), bind(2) and setsockopt(2) say.
    pub fn open(family: Family) -> Result<Socket, Errno> {
        let fd = open(family)?;
        set_option(&fd, libc::NETLINK_CAP_ACK)?;
        set_option(&fd, libc::NETLINK_EXT_ACK)?;
        let buffer = vec![0; DATAGRAM_MAX].into_boxed_slice();
        Ok(Socket { fd, sequence: 1, buffer })
    }

    /// The number that the kernel knows it by in its namespace: what it changes bears this number.
    ///
    /// # Errors
    /// What getsockname(2) says.
    pub fn port(&self) -> Result<u32, Errno> {
        Ok(SocketAddrNetlink::try_from(getsockname(&self.fd)?)?.pid())
    }

    /// Sends a batch and takes its acknowledgement. An empty batch is done at once.
    ///
    /// # Errors
    /// The first message the kernel refused.
    pub fn execute(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        self.query(batch, |_, _| ())
    }

    /// Sends a batch and hands every reply, its kind and what follows its header, to `visit`.
    ///
    /// # Errors
    /// The first message the kernel refused; replies before and after it have been visited.
    pub fn query(
        &mut self,
        mut batch: Batch,
        visit: impl FnMut(u16, &[u8]),
    ) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let first = self.sequence;
        batch.number(first);
        let count = u32::try_from(batch.len()).map_err(|_| Errno::MSGSIZE)?;
        self.sequence = first.wrapping_add(count);
        if batch.bytes.len() > SEND_QUEUE {
            sockopt::set_socket_send_buffer_size_force(&self.fd, batch.bytes.len() * 2)?;
        }
        send(&self.fd, &batch.bytes, SendFlags::empty())?;
        let awaited = Awaited { first, count, last: batch.last_index() };
        self.collect(&awaited, visit)
    }

    fn collect(
        &mut self,
        awaited: &Awaited,
        mut visit: impl FnMut(u16, &[u8]),
    ) -> Result<(), NetlinkError> {
        let mut failed = None;
        loop {
            let flags = RecvFlags::DONTWAIT | RecvFlags::TRUNC;
            let length = match recv(&self.fd, &mut *self.buffer, flags) {
                Ok((_, length)) => length,
                Err(Errno::INTR) => continue,
                // A transaction refused as a whole acknowledges nothing but its first frame.
                Err(Errno::AGAIN) => return Err(failed.unwrap_or(Errno::NOMSG.into())),
                Err(errno) => return Err(errno.into()),
            };
            let datagram = self.buffer.get(..length).ok_or(Errno::MSGSIZE)?;
            for reply in replies(datagram) {
                match awaited.judge(&reply) {
                    Judgement::Stray => {}
                    Judgement::Reply => visit(reply.kind, reply.body),
                    Judgement::Failed(error) => {
                        let last = error.message == Some(awaited.last);
                        let first = failed.get_or_insert(error);
                        if last {
                            return Err(first.clone());
                        }
                    }
                    Judgement::Done => return failed.map_or(Ok(()), Err),
                }
            }
        }
    }
}

/// One message of a datagram from the kernel.
struct Reply<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

fn replies(datagram: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        let header = rest.get(..HEADER)?;
        let body = rest.get(HEADER..length)?;
        let reply = Reply {
            kind: read_u16(header, 4),
            flags: read_u16(header, 6),
            sequence: read_u32(header, 8),
            body,
        };
        rest = rest.get(length.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some(reply)
    })
}

/// The numbers of the messages of one batch.
struct Awaited {
    first: u32,
    count: u32,
    last: usize,
}

enum Judgement {
    /// The tail of something given up before.
    Stray,
    Reply,
    Failed(NetlinkError),
    Done,
}

impl Awaited {
    fn judge(&self, reply: &Reply<'_>) -> Judgement {
        let index = reply.sequence.wrapping_sub(self.first);
        if index >= self.count {
            return Judgement::Stray;
        }
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let code = i32::from_ne_bytes(reply.body.first_chunk().copied().unwrap_or_default());
        match reply.kind {
            NLMSG_ERROR | NLMSG_DONE if code < 0 => Judgement::Failed(NetlinkError {
                message: Some(index),
                errno: Errno::from_raw_os_error(code.saturating_neg()),
                text: explanation(reply),
            }),
            NLMSG_DONE => Judgement::Done,
            NLMSG_ERROR if index == self.last => Judgement::Done,
            NLMSG_ERROR => Judgement::Stray,
            _ => Judgement::Reply,
        }
    }
}

/// The text of an extended acknowledgement. Source: `nlmsgerr` in `linux/netlink.h`.
fn explanation(reply: &Reply<'_>) -> Option<Box<str>> {
    if reply.flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let echoed = match reply.kind {
        NLMSG_DONE => 0,
        _ if reply.flags & NLM_F_CAPPED != 0 => HEADER,
        _ => usize::try_from(read_u32(reply.body, 4)).ok()?.next_multiple_of(ALIGN),
    };
    let (_, text) = attributes(reply.body.get(4 + echoed..)?).find(|a| a.0 == NLMSGERR_ATTR_MSG)?;
    let text = text.strip_suffix(&[0]).unwrap_or(text);
    Some(String::from_utf8_lossy(text).into())
}

fn open(family: Family) -> Result<OwnedFd, Errno> {
    let protocol = match family {
        Family::Route => None, // NETLINK_ROUTE is 0, a socket's default
        Family::Netfilter => Some(NETFILTER),
    };
    let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    bind(&fd, &SocketAddrNetlink::new(0, 0))?;
    Ok(fd)
}

fn set_option(fd: &OwnedFd, option: libc::c_int) -> Result<(), Errno> {
    const INT_SIZE: libc::socklen_t = 4;
    let on: i32 = 1;
    // SAFETY: the value is an int that outlives the call, and its size is given.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            (&raw const on).cast(),
            INT_SIZE,
        )
    };
    if result == 0 {
        return Ok(());
    }
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO);
    Err(Errno::from_raw_os_error(errno))
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
}

fn overwrite(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes
        .get_mut(at..at + value.len())
        .expect("the header was written before its fields are filled in")
        .copy_from_slice(value);
}

fn read_u16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u16::from_ne_bytes(*b))
}

fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |b| u32::from_ne_bytes(*b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_attributes_are_padded_and_their_lengths_are_not() {
        let mut batch = Batch::default();
        batch.message(16, CREATE, &[0; 4], |a| {
            a.put_text(3, "eth0");
            a.nest(18, |a| a.put(1, &[7]));
        });
        assert_eq!(batch.bytes.len(), 16 + 4 + 12 + 12);
        assert_eq!(read_u32(&batch.bytes, 0), 44);
        let read: Vec<_> = attributes(&batch.bytes[20..]).collect();
        assert_eq!(read, [(3, &b"eth0\0"[..]), (18, &[5, 0, 1, 0, 7, 0, 0, 0][..])]);
    }

    #[test]
    fn cut_attributes_end_the_reading() {
        assert_eq!(attributes(&[8, 0, 1, 0, 1, 2]).count(), 0);
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(attributes(&[0, 0, 0, 0, 0, 0, 0, 0]).count(), 0);
    }

    #[test]
    fn the_kernel_names_the_message_it_refuses_and_says_why() {
        // Reading links needs no privilege. RTM_GETLINK = 18.
        let mut socket = Socket::open(Family::Route).unwrap();
        let get = |index: i32| {
            let mut header = [0; 16];
            header[4..8].copy_from_slice(&index.to_ne_bytes());
            header
        };
        let mut batch = Batch::default();
        batch.message(18, 0, &get(1), |_| ());
        batch.message(18, 0, &get(i32::MAX), |_| ());
        batch.message(18, 0, &get(1), |_| ());
        let mut seen = 0;
        let error = socket.query(batch, |_, _| seen += 1).unwrap_err();
        assert_eq!((error.message, error.errno, seen), (Some(1), Errno::NODEV, 2));

        let mut batch = Batch::default();
        // IFLA_EXT_MASK (29) is four bytes long.
        batch.message(18, 0, &get(1), |a| a.put(29, &[1]));
        let error = socket.execute(batch).unwrap_err();
        assert!(error.text.is_some(), "{error:?}");

        let mut batch = Batch::default();
        batch.message(18, DUMP, &get(0), |_| ());
        let mut seen = 0;
        socket.query(batch, |_, _| seen += 1).unwrap();
        assert!(seen >= 1);
    }
}
