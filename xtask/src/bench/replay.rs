//! Gives the stock client an engine's own answer, ready made: what the client itself takes.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context as _, Result, ensure};

/// A socket that answers one request as an engine did. It listens until the program ends.
pub(super) struct Replay {
    pub(super) socket: PathBuf,
}

impl Replay {
    /// Asks `engine` once for `path`, and answers the same to all who ask at `socket`.
    pub(super) fn of(engine: &Path, path: &str, socket: PathBuf) -> Result<Replay> {
        let ping = ask(engine, "HEAD /_ping")?;
        let answer = ask(engine, &format!("GET {path}"))?;
        ensure!(answer.starts_with(b"HTTP/1.1 200 "), "{path} is not answered");
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).context("cannot listen")?;
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One who leaves early shows in its own exit status.
                drop(serve(stream, &ping, &answer));
            }
        });
        Ok(Replay { socket })
    }
}

/// The whole answer, status line and all; the connection closes behind it.
fn ask(engine: &Path, request: &str) -> Result<Vec<u8>> {
    let mut stream = UnixStream::connect(engine).context("nobody serves Docker's API")?;
    write!(stream, "{request} HTTP/1.1\r\nHost: engine\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}

fn serve(mut stream: UnixStream, ping: &[u8], answer: &[u8]) -> Result<()> {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut buffer)?;
        ensure!(count > 0, "half a request");
        request.extend_from_slice(buffer.get(..count).unwrap_or_default());
    }
    Ok(stream.write_all(if request.starts_with(b"HEAD ") { ping } else { answer })?)
}
