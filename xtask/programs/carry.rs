//! Bytes over TCP, and how fast they went. Compiled with rustc alone, as one static executable
//! that runs in every engine's containers.
//!
//! ```text
//! carry sink PORT                 takes all that comes, connection after connection
//! carry source HOST:PORT BYTES    sends so many, and prints how many megabytes a second it were
//! ```

use std::{
    env,
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// Bytes of one call.
const PART_BYTES: usize = 256 << 10;
/// How long the sink may take to listen.
const READY: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["sink", port] => sink(&format!("0.0.0.0:{port}")),
        ["source", to, bytes] => source(to, bytes.parse().map_err(io::Error::other)?),
        _ => Err(io::Error::other("usage: carry sink PORT | source HOST:PORT BYTES")),
    }
}

fn sink(at: &str) -> io::Result<()> {
    let listener = TcpListener::bind(at)?;
    let mut part = vec![0; PART_BYTES];
    loop {
        let (mut stream, _) = listener.accept()?;
        while stream.read(&mut part)? > 0 {}
        stream.write_all(b".")?;
    }
}

fn source(to: &str, bytes: u64) -> io::Result<()> {
    let until = Instant::now() + READY;
    let mut stream = loop {
        match TcpStream::connect(to) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > until => return Err(error),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    };
    let part = vec![0; PART_BYTES];
    let (began, mut left) = (Instant::now(), bytes);
    while left > 0 {
        let length = part.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        stream.write_all(&part[..length])?;
        left -= length as u64;
    }
    stream.shutdown(Shutdown::Write)?;
    // Nothing counts that has not arrived.
    stream.read_exact(&mut [0])?;
    println!("{}", bytes as f64 / 1e6 / began.elapsed().as_secs_f64());
    Ok(())
}
