//! The host's side: somebody to talk to over the network, and what processes take.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    thread,
    time::Duration,
};

use crate::error::CliError;

/// How long a process that has just started is given to come to rest.
const SETTLE: Duration = Duration::from_millis(200);

/// A listener for `measure`: echoes after the letter `e`, swallows all and answers with one byte
/// after the letter `s`. Its thread ends with this program.
#[derive(Debug)]
pub(super) struct Host {
    port: u16,
}

impl Host {
    /// # Errors
    /// If no port can be listened at.
    pub(super) fn open() -> Result<Host, CliError> {
        let failed = |error| CliError::io("listen for the measuring program", error);
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // One that breaks is told so by the other side.
                thread::spawn(move || serve(stream));
            }
        });
        Ok(Host { port })
    }

    pub(super) fn address(&self, ip: &str) -> String {
        format!("{ip}:{}", self.port)
    }
}

fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut what = [0];
    stream.read_exact(&mut what)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = stream.read(&mut buffer)?;
        match (&what, count) {
            (_, 0) => return stream.write_all(b"."),
            (b"e", count) => stream.write_all(buffer.get(..count).unwrap_or_default())?,
            (_, _) => {}
        }
    }
}

/// Lets what has just been started come to rest.
pub(super) fn settle() {
    thread::sleep(SETTLE);
}

/// Proportional set size of a process, in bytes. Source: proc_pid_smaps(5), `smaps_rollup`, Linux
/// 4.14.
pub(super) fn pss(pid: u32) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u32 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(f64::from(kilobytes) * 1024.0)
}

/// The process that holds this one, if it is of this program: the shim.
pub(super) fn holder(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?.trim().parse().ok()?;
    // By what the file is: a shim's has no path, see `linux::Protected`.
    let file = |path: &str| fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    (file(&format!("/proc/{parent}/exe"))? == file("/proc/self/exe")?).then_some(parent)
}
