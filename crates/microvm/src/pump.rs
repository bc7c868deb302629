//! Streams of a process in a machine: one connection, as three pipes.
//!
//! Output comes in frames of Docker's multiplexed format, as [`workload::Process::attach`] has it;
//! input goes as it is, and ends when the pipe ends.

use std::{io, os::fd::OwnedFd};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf, pipe},
    },
};

/// Bytes of a frame's head.
const HEAD: usize = 8;

/// Largest piece that is read at once.
const PIECE: usize = 64 << 10;

/// Ends of pipes: from the keeper, and to it.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// None for a process that reads nothing.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

/// Carries until the other end has said everything. Input is carried beside it for as long.
///
/// # Errors
/// If a pipe cannot be waited for, or the stream breaks or is no sequence of frames.
pub(crate) async fn carry(stream: UnixStream, pipes: Pipes) -> io::Result<()> {
    let (from, to) = stream.into_split();
    let Pipes { stdin, stdout, stderr } = pipes;
    tokio::select! {
        biased;
        out = output(from, stdout, stderr) => out,
        // Input that has ended, or that nobody takes any more, is not the end.
        () = async {
            let _ = input(stdin, to).await;
            std::future::pending().await
        } => Ok(()),
    }
}

/// The same for a terminal, whose bytes are carried as they are.
///
/// # Errors
/// If the stream breaks.
pub(crate) async fn carry_terminal(stream: UnixStream, keeper: UnixStream) -> io::Result<()> {
    let (mut from, mut to) = stream.into_split();
    let (mut typed, mut shown) = keeper.into_split();
    tokio::select! {
        biased;
        out = tokio::io::copy(&mut from, &mut shown) => out.map(drop),
        () = async {
            let _ = tokio::io::copy(&mut typed, &mut to).await;
            std::future::pending().await
        } => Ok(()),
    }
}

async fn output(mut from: OwnedReadHalf, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<()> {
    let mut sinks = [pipe::Sender::from_owned_fd(stdout)?, pipe::Sender::from_owned_fd(stderr)?];
    let mut piece = vec![0; PIECE];
    loop {
        let mut head = [0; HEAD];
        match from.read_exact(&mut head).await {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        };
        let [stream, _, _, _, length @ ..] = head;
        let sink = match stream {
            1 => &mut sinks[0],
            2 => &mut sinks[1],
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame of no stream")),
        };
        let mut left = u32::from_be_bytes(length) as usize;
        while left > 0 {
            let part = left.min(PIECE);
            let read = from.read(&mut piece[..part]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= read;
            // A keeper that has closed its end takes no more; the rest is read all the same.
            let _ = sink.write_all(&piece[..read]).await;
        }
    }
}

async fn input(stdin: Option<OwnedFd>, mut to: OwnedWriteHalf) -> io::Result<()> {
    if let Some(stdin) = stdin {
        let mut stdin = pipe::Receiver::from_owned_fd(stdin)?;
        tokio::io::copy(&mut stdin, &mut to).await?;
    }
    to.shutdown().await
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Write as _},
    };

    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap()
    }

    #[tokio::test]
    async fn both_outputs_and_the_input_are_carried() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (stdin, to_stdin) = pipe();
        let (from_stdout, stdout) = pipe();
        let (from_stderr, stderr) = pipe();
        let carrying = tokio::spawn(carry(ours, Pipes { stdin: Some(stdin), stdout, stderr }));
        let (mut from, mut to) = theirs.into_split();
        to.write_all(b"\x01\0\0\0\0\0\0\x03one\x02\0\0\0\0\0\0\x05other\x01\0\0\0\0\0\0\0")
            .await
            .unwrap();
        File::from(to_stdin).write_all(b"words").unwrap();
        let mut words = String::new();
        from.read_to_string(&mut words).await.unwrap();
        assert_eq!(words, "words", "and it ends with the pipe");
        drop((to, from));
        carrying.await.unwrap().unwrap();
        let read = |fd| {
            let mut text = String::new();
            File::from(fd).read_to_string(&mut text).map(|_| text).unwrap()
        };
        assert_eq!((read(from_stdout).as_str(), read(from_stderr).as_str()), ("one", "other"));
    }

    #[tokio::test]
    async fn what_is_no_frame_is_an_error() {
        for (said, kind) in [
            (&b"\x07\0\0\0\0\0\0\x01x"[..], io::ErrorKind::InvalidData),
            (b"\x01\0\0\0\0\0\0\x05half", io::ErrorKind::UnexpectedEof),
        ] {
            let (ours, mut theirs) = UnixStream::pair().unwrap();
            let [(_b, stdout), (_c, stderr)] = [pipe(), pipe()];
            theirs.write_all(said).await.unwrap();
            drop(theirs);
            let broken = carry(ours, Pipes { stdin: None, stdout, stderr }).await.unwrap_err();
            assert_eq!(broken.kind(), kind, "{said:?}");
        }
    }
}
