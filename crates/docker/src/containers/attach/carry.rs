//! Streams that pass through the daemon, because a client wants something else than a shim sends.

use std::{io, os::fd::OwnedFd, os::unix::net};

use base::clock::Timestamp;
use engine::{Engine, LogQuery, Mark, Seat};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};
use tracing::debug;

use super::{
    Wish,
    websocket::{self, Control, Decoder},
};
use crate::{containers::logs, hijack};

/// Bytes that are carried at once.
const PART_BYTES: usize = 32 << 10;
/// Bytes before each part of output without a terminal: the stream, and the length.
///
/// Source: Docker Engine API, `ContainerAttach`, "Stream format".
const HEAD_BYTES: usize = 8;
/// Answers to a client's pings that wait to be sent.
const ANSWERS: usize = 4;

/// How a client is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// Docker's frames, or a terminal's bytes.
    Stream,
    /// Messages.
    WebSocket,
}

/// A client that is yet to be served.
#[derive(Debug)]
pub(super) struct Carry {
    pub(super) engine: Engine,
    pub(super) who: String,
    /// Its place, if it wants what is said from now on.
    pub(super) seat: Option<Seat>,
    pub(super) wish: Wish,
    /// A time at which the container did not run: all that was said until then is in the log.
    pub(super) ended: Option<Timestamp>,
    pub(super) terminal: bool,
    pub(super) wire: Wire,
}

impl Carry {
    /// Serves the client at this socket, until it leaves or all is said.
    pub(super) fn start(self, client: OwnedFd) {
        tokio::spawn(async move {
            if let Err(error) = self.run(client).await {
                debug!(%error, "an attached client was lost");
            }
        });
    }

    async fn run(mut self, client: OwnedFd) -> io::Result<()> {
        let client = net::UnixStream::from(client);
        client.set_nonblocking(true)?;
        let (from, mut to) = UnixStream::from_std(client)?.into_split();
        let live = match self.seat.take() {
            Some(seat) => {
                let (ours, theirs) = hijack::pair()?;
                Some((ours, seat.take(self.wish.attachment(theirs))))
            }
            None => None,
        };
        let live = match (live, self.wish.logs) {
            (Some((live, mark)), true) => {
                self.past(mark, &mut to).await?;
                Some(live)
            }
            (Some((live, _)), false) => Some(live),
            (None, logs) => {
                if logs {
                    self.log(None, Timestamp::now(), &mut to).await?;
                }
                None
            }
        };
        if let Some(live) = live {
            let (output, input) = live.into_split();
            let (answers, mut asked) = mpsc::channel(ANSWERS);
            let reading = tokio::spawn(read(from, input, self.wish.stdin, self.wire, answers));
            let written = self.write(output, &mut to, &mut asked).await;
            reading.abort();
            written?;
        }
        if self.wire == Wire::WebSocket {
            to.write_all(&websocket::close()).await?;
        }
        to.shutdown().await
    }

    /// What was said before the socket was attached. Of a container that does not run, that is
    /// all there is and, once it runs, what it said before it could be attached to.
    async fn past(&self, mark: Mark, to: &mut OwnedWriteHalf) -> io::Result<()> {
        if let Some(ended) = self.ended {
            self.log(None, ended, to).await?;
        }
        match mark.reached().await {
            Some(until) => self.log(self.ended, until, to).await,
            None if self.ended.is_some() => Ok(()),
            // It has just ended.
            None => self.log(None, Timestamp::now(), to).await,
        }
    }

    /// What the log has after one time and up to another.
    async fn log(
        &self,
        after: Option<Timestamp>,
        until: Timestamp,
        to: &mut OwnedWriteHalf,
    ) -> io::Result<()> {
        let Wish { stdout, stderr, .. } = self.wish;
        let since = after.map(|after| after.0.saturating_add(1));
        let until = Some(until.0);
        let query = LogQuery { stdout, stderr, since, until, ..LogQuery::default() };
        let raw = self.terminal || self.wire == Wire::WebSocket;
        let mut records = self
            .engine
            .logs(&self.who, query)
            .await
            .map_err(|error| io::Error::other(base::chain(&error)))?;
        while let Some(record) =
            records.next().await.map_err(|error| io::Error::other(base::chain(&error)))?
        {
            let mut part = Vec::new();
            logs::write(&record, logs::Form { raw, timestamps: false }, &mut part);
            match self.wire {
                Wire::Stream => to.write_all(&part).await?,
                Wire::WebSocket => to.write_all(&websocket::binary(&part)).await?,
            }
        }
        Ok(())
    }

    /// What is said from now on, and what the protocol asks for.
    async fn write(
        &self,
        mut output: OwnedReadHalf,
        to: &mut OwnedWriteHalf,
        asked: &mut mpsc::Receiver<Option<Vec<u8>>>,
    ) -> io::Result<()> {
        let mut part = Vec::with_capacity(PART_BYTES);
        let mut cut = Cut::new(self.wish, self.terminal);
        loop {
            part.clear();
            tokio::select! {
                answer = asked.recv() => match answer {
                    Some(Some(answer)) => to.write_all(&answer).await?,
                    // It has said good-bye.
                    Some(None) => return Ok(()),
                    None => {
                        // It says no more, and listens still.
                        while output.read_buf(&mut part).await? > 0 {
                            self.pass(&mut cut, &part, to).await?;
                            part.clear();
                        }
                        return Ok(());
                    }
                },
                read = output.read_buf(&mut part) => match read? {
                    0 => return Ok(()),
                    _ => self.pass(&mut cut, &part, to).await?,
                },
            }
        }
    }

    async fn pass(&self, cut: &mut Cut, part: &[u8], to: &mut OwnedWriteHalf) -> io::Result<()> {
        let framed = self.wire == Wire::Stream && !self.terminal;
        for (stream, bytes) in cut.pieces(part) {
            if self.wire == Wire::WebSocket {
                to.write_all(&websocket::binary(bytes)).await?;
                continue;
            }
            if framed {
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes();
                to.write_all(&[&[stream, 0, 0, 0][..], &length].concat()).await?;
            }
            to.write_all(bytes).await?;
        }
        Ok(())
    }
}

/// Carries a client's input to the container, or away. The sender tells what the client asks of
/// the protocol: `None` is its good-bye.
async fn read(
    mut from: OwnedReadHalf,
    input: OwnedWriteHalf,
    stdin: bool,
    wire: Wire,
    answers: mpsc::Sender<Option<Vec<u8>>>,
) {
    let mut input = Some(input);
    let mut decoder = Decoder::default();
    let (mut part, mut data) = (Vec::with_capacity(PART_BYTES), Vec::new());
    loop {
        part.clear();
        data.clear();
        if !matches!(from.read_buf(&mut part).await, Ok(1..)) {
            break;
        }
        match wire {
            Wire::Stream => data.extend(&part),
            Wire::WebSocket => {
                let Ok(asked) = decoder.feed(&part, &mut data) else {
                    answers.send(None).await.ok();
                    return;
                };
                for control in asked {
                    let answer = match control {
                        Control::Ping(payload) => Some(websocket::pong(&payload)),
                        Control::Close => None,
                    };
                    answers.send(answer).await.ok();
                }
            }
        }
        if let Some(to) = input.as_mut().filter(|_| stdin)
            && to.write_all(&data).await.is_err()
        {
            input = None;
        }
    }
    match (wire, stdin) {
        (Wire::WebSocket, _) => drop(answers.send(None).await),
        // The end of input is the container's to see.
        (Wire::Stream, true) => drop(input.take()),
        // The other half goes with the output.
        (Wire::Stream, false) => input.into_iter().for_each(OwnedWriteHalf::forget),
    }
}

/// Cuts a shim's frames into pieces of output, and leaves out what is not wanted.
#[derive(Debug)]
struct Cut {
    wish: Wish,
    terminal: bool,
    head: Vec<u8>,
    stream: u8,
    left: usize,
}

impl Cut {
    fn new(wish: Wish, terminal: bool) -> Cut {
        Cut { wish, terminal, head: Vec::new(), stream: 1, left: 0 }
    }

    fn is_wanted(&self) -> bool {
        match self.terminal {
            true => self.wish.stdout || self.wish.stderr,
            false if self.stream == 2 => self.wish.stderr,
            false => self.wish.stdout,
        }
    }

    /// Pieces of what came, each with its stream.
    fn pieces<'a>(&mut self, mut bytes: &'a [u8]) -> Vec<(u8, &'a [u8])> {
        let mut pieces = Vec::new();
        while !bytes.is_empty() {
            let count = match (self.terminal, self.left) {
                (true, _) => bytes.len(),
                (false, 0) => {
                    let (head, rest) =
                        bytes.split_at(bytes.len().min(HEAD_BYTES - self.head.len()));
                    self.head.extend(head);
                    bytes = rest;
                    if let [stream, _, _, _, a, b, c, d] = *self.head.as_slice() {
                        self.stream = stream;
                        self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                        self.head.clear();
                    }
                    continue;
                }
                (false, left) => left.min(bytes.len()),
            };
            let (piece, rest) = bytes.split_at(count);
            self.left = self.left.saturating_sub(count);
            bytes = rest;
            if self.is_wanted() {
                pieces.push((self.stream, piece));
            }
        }
        pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(stdout: bool, stderr: bool) -> Wish {
        Wish { logs: false, stream: true, stdin: false, stdout, stderr }
    }

    #[test]
    fn frames_are_cut_and_chosen_in_whatever_pieces_they_come() {
        let frames =
            [&b"\x01\0\0\0\0\0\0\x02hi"[..], b"\x02\0\0\0\0\0\0\x00", b"\x02\0\0\0\0\0\0\x03err"]
                .concat();
        for piece in 1..frames.len() {
            let read = |wish| {
                let mut cut = Cut::new(wish, false);
                let mut all: Vec<u8> = Vec::new();
                for part in frames.chunks(piece) {
                    cut.pieces(part).into_iter().for_each(|(_, bytes)| all.extend(bytes));
                }
                all
            };
            assert_eq!(read(wish(true, false)), b"hi");
            assert_eq!(read(wish(false, true)), b"err");
            assert_eq!(read(wish(true, true)), b"hierr");
            assert_eq!(read(wish(false, false)), b"");
        }
    }

    #[test]
    fn a_terminal_has_no_frames() {
        let mut cut = Cut::new(wish(false, true), true);
        assert_eq!(cut.pieces(b"\x01abc"), [(1, &b"\x01abc"[..])]);
    }
}
