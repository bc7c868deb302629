//! Output as messages to a syslog server. A server that hangs or is away holds nobody up: what
//! waits is bounded, what is beyond is lost and counted.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    future::Future as _,
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use base::clock::Timestamp;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, send,
        socket_with,
    },
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::Sleep,
};
use workload::{SyslogFormat, SyslogSpec, SyslogTarget};

use super::pipe::poll_write_with;
use crate::{
    descriptor::watch,
    log::{Civil, Lines, Stream},
};

/// Time between two tries to reach a server.
const RETRY: Duration = Duration::from_secs(1);

/// Severities of the two streams. Source: RFC 5424, section 6.2.1; Docker's choice.
const INFORMATIONAL: u8 = 6;
const ERROR: u8 = 3;

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Messages on their way to a server.
#[derive(Debug)]
pub(super) struct Syslog {
    spec: SyslogSpec,
    lines: Lines,
    link: Link,
    waiting: VecDeque<Vec<u8>>,
    waiting_bytes: u64,
    /// How much of the first message is sent.
    sent: usize,
    lost: u64,
}

#[derive(Debug)]
enum Link {
    Open { socket: AsyncFd<OwnedFd>, stream: bool },
    Broken(Pin<Box<Sleep>>),
}

impl Syslog {
    /// Opens the way to a server.
    ///
    /// # Errors
    /// If nobody is there: then a container is not started.
    pub(super) fn open(spec: &SyslogSpec) -> io::Result<Syslog> {
        Ok(Syslog {
            spec: spec.clone(),
            lines: Lines::default(),
            link: open(&spec.target)?,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: 0,
            lost: 0,
        })
    }

    /// Takes a piece of output; what goes out at once goes out.
    pub(super) fn append(&mut self, at: Timestamp, stream: Stream, output: &[u8]) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.push(stream, output, |line| self.line(at, stream, line));
        self.lines = lines;
    }

    /// Takes what is left, and sends what goes out at once. The rest goes out for as long as the
    /// keeper is there.
    pub(super) fn finish(&mut self, at: Timestamp) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.finish(|stream, line| self.line(at, stream, line));
    }

    fn line(&mut self, at: Timestamp, stream: Stream, line: &[u8]) {
        if self.lost > 0 && self.waiting.is_empty() {
            let lost = std::mem::take(&mut self.lost);
            let text = format!("[{lost} bytes of output could not be recorded]");
            self.queue(at, Stream::Error, text.as_bytes());
        }
        self.queue(at, stream, line.strip_suffix(b"\n").unwrap_or(line));
    }

    fn queue(&mut self, at: Timestamp, stream: Stream, text: &[u8]) {
        let mut message = head(&self.spec, at, stream).into_bytes();
        message.extend_from_slice(text);
        let length = message.len() as u64;
        if self.waiting_bytes + length > self.spec.waiting_bytes_max {
            self.lost += text.len() as u64;
            return;
        }
        if let Link::Open { stream: true, .. } = self.link {
            message.push(b'\n');
        }
        self.waiting_bytes += message.len() as u64;
        self.waiting.push_back(message);
    }

    /// Sends on; whether anything came of it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> bool {
        let mut progress = false;
        loop {
            match &mut self.link {
                Link::Broken(rest) => {
                    if self.waiting.is_empty() || rest.as_mut().poll(cx).is_pending() {
                        return progress;
                    }
                    self.link = open(&self.spec.target).unwrap_or_else(|_| broken());
                    self.sent = 0;
                }
                Link::Open { socket, .. } => {
                    let Some(message) = self.waiting.front() else { return progress };
                    let rest = message.get(self.sent..).unwrap_or_default();
                    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
                    match poll_write_with(socket, cx, |fd| send(fd, rest, flags)) {
                        Poll::Pending => return progress,
                        Poll::Ready(Ok(count)) => {
                            self.sent += count;
                            if count >= rest.len() {
                                self.drop_first();
                            }
                        }
                        // Too long for a datagram: it will never go out.
                        Poll::Ready(Err(error)) if is_too_long(&error) => {
                            self.lost += rest.len() as u64;
                            self.drop_first();
                        }
                        Poll::Ready(Err(_)) => self.link = broken(),
                    }
                    progress = true;
                }
            }
        }
    }

    fn drop_first(&mut self) {
        if let Some(message) = self.waiting.pop_front() {
            self.waiting_bytes -= message.len() as u64;
        }
        self.sent = 0;
    }
}

fn is_too_long(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error())
}

fn broken() -> Link {
    Link::Broken(Box::pin(tokio::time::sleep(RETRY)))
}

fn open(target: &SyslogTarget) -> io::Result<Link> {
    let (socket, stream) = match target {
        SyslogTarget::Unix(path) => return open_unix(path),
        SyslogTarget::Udp(address) => (inet(SocketType::DGRAM, address)?, false),
        SyslogTarget::Tcp(address) => (inet(SocketType::STREAM, address)?, true),
    };
    Ok(Link::Open { socket: watch(socket, Interest::WRITABLE)?, stream })
}

/// A datagram socket, or a stream if the server has one of those.
fn open_unix(path: &Path) -> io::Result<Link> {
    let address = SocketAddrUnix::new(path)?;
    let mut kinds = [(SocketType::DGRAM, false), (SocketType::STREAM, true)].into_iter();
    loop {
        let (kind, stream) = kinds.next().ok_or(io::ErrorKind::Unsupported)?;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, kind, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => {
                return Ok(Link::Open { socket: watch(socket, Interest::WRITABLE)?, stream });
            }
            Err(Errno::PROTOTYPE) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Connected or about to be: a refusal shows when something is sent.
fn inet(kind: SocketType, address: &SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, kind, flags, None)?;
    match connect(socket.as_fd(), address) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// What stands before the text of a message.
fn head(spec: &SyslogSpec, at: Timestamp, stream: Stream) -> String {
    let severity = match stream {
        Stream::Output => INFORMATIONAL,
        Stream::Error => ERROR,
    };
    let priority = u16::from(spec.facility) * 8 + u16::from(severity);
    let (tag, host, process) = (&spec.tag, &spec.hostname, std::process::id());
    let Civil { year, month, day, hour, minute, second, nanos } = Civil::from(at);
    let mut head = format!("<{priority}>");
    let name = usize::try_from(month).ok().and_then(|month| MONTHS.get(month.wrapping_sub(1)));
    let name = name.copied().unwrap_or_default();
    // Writing to a String cannot fail.
    let _ = match spec.format {
        SyslogFormat::Local => {
            write!(head, "{name} {day:2} {hour:02}:{minute:02}:{second:02} {tag}[{process}]: ")
        }
        SyslogFormat::Rfc3164 => write!(
            head,
            "{name} {day:2} {hour:02}:{minute:02}:{second:02} {host} {tag}[{process}]: "
        ),
        SyslogFormat::Rfc5424 | SyslogFormat::Rfc5424Micro => {
            let micros = match spec.format {
                SyslogFormat::Rfc5424Micro => format!(".{:06}", nanos / 1000),
                SyslogFormat::Local | SyslogFormat::Rfc3164 | SyslogFormat::Rfc5424 => {
                    String::new()
                }
            };
            // Docker has the tag twice: as application and as message id.
            write!(
                head,
                "1 {year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{micros}Z \
                 {host} {tag} {process} {tag} - "
            )
        }
    };
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(target: SyslogTarget, format: SyslogFormat) -> SyslogSpec {
        SyslogSpec {
            target,
            facility: 3,
            format,
            tag: "web".to_owned(),
            hostname: "host".to_owned(),
            waiting_bytes_max: 1000,
        }
    }

    #[test]
    fn messages_have_the_forms_of_the_rfcs() {
        let at = Timestamp(1_795_248_000_123_456_789);
        let process = std::process::id();
        let target = || SyslogTarget::Unix("/dev/log".into());
        for (format, stream, want) in [
            (SyslogFormat::Local, Stream::Output, format!("<30>Nov 21 08:00:00 web[{process}]: ")),
            (
                SyslogFormat::Rfc3164,
                Stream::Error,
                format!("<27>Nov 21 08:00:00 host web[{process}]: "),
            ),
            (
                SyslogFormat::Rfc5424,
                Stream::Output,
                format!("<30>1 2026-11-21T08:00:00Z host web {process} web - "),
            ),
            (
                SyslogFormat::Rfc5424Micro,
                Stream::Output,
                format!("<30>1 2026-11-21T08:00:00.123456Z host web {process} web - "),
            ),
        ] {
            assert_eq!(head(&spec(target(), format), at, stream), want);
        }
    }

    /// Sends until everything is out, or for a moment.
    async fn pump(syslog: &mut Syslog) {
        let all = std::future::poll_fn(|cx| {
            while syslog.poll_send(cx) {}
            if syslog.waiting.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(Duration::from_millis(20), all).await;
    }

    #[tokio::test]
    async fn a_server_that_does_not_read_holds_nobody_up_and_the_loss_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let server = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let spec = spec(SyslogTarget::Unix(path), SyslogFormat::Local);
        let mut syslog = Syslog::open(&spec).unwrap();
        let line = format!("{}\n", "x".repeat(99));
        // Until the kernel's buffers are full as well.
        while syslog.lost == 0 {
            for _ in 0..8 {
                syslog.append(Timestamp(0), Stream::Output, line.as_bytes());
            }
            pump(&mut syslog).await;
        }
        assert!(syslog.waiting_bytes <= 1000, "{}", syslog.waiting_bytes);
        let (client, _) = server.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        let mut text = Vec::new();
        for round in 0..6 {
            let mut chunk = vec![0; 1 << 20];
            while let Ok(count @ 1..) = io::Read::read(&mut &client, &mut chunk) {
                text.extend_from_slice(&chunk[..count]);
            }
            if round == 3 {
                syslog.append(Timestamp(0), Stream::Output, b"again\n");
            }
            pump(&mut syslog).await;
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("bytes of output could not be recorded]\n"), "the loss is told");
        assert!(text.ends_with(": again\n"), "{}", &text[text.len() - 200..]);
    }

    #[tokio::test]
    async fn datagrams_are_lines_and_a_server_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let spec = spec(SyslogTarget::Unix(path.clone()), SyslogFormat::Local);
        assert!(Syslog::open(&spec).is_err());
        let server = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::open(&spec).unwrap();
        syslog.append(Timestamp(0), Stream::Output, b"one\ntw");
        syslog.append(Timestamp(0), Stream::Output, b"o\nlast");
        syslog.finish(Timestamp(0));
        pump(&mut syslog).await;
        for want in ["one", "two", "last"] {
            let mut bytes = [0; 200];
            server.set_nonblocking(true).unwrap();
            let count = server.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..count]);
            assert!(text.starts_with("<30>Jan  1 00:00:00 web["), "{text}");
            assert!(text.ends_with(&format!("]: {want}")), "{text}");
        }
    }
}
