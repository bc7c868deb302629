//! `httpd`: a small HTTP/1.0 server, for trying published ports. Serves a directory, or the
//! report where none is given.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::{Component, Path, PathBuf},
    thread,
    time::Duration,
};

use crate::{fail, report};

/// Longest request line and header we read, in bytes.
const HEADER_BYTES_MAX: u64 = 16 << 10;
/// How long a client may keep a connection silent.
const SILENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(args: &[String]) -> u8 {
    let (port, rest) = match args {
        [flag, port, rest @ ..] if flag == "-p" => (port.as_str(), rest),
        rest => ("80", rest),
    };
    let Ok(port) = port.parse::<u16>() else {
        return fail("httpd", format_args!("{port}: not a port"));
    };
    let root = rest.first().map(PathBuf::from);
    let listener = match TcpListener::bind(("0.0.0.0", port)) {
        Ok(listener) => listener,
        Err(error) => return fail("httpd", format_args!("port {port}: {error}")),
    };
    println!("httpd: listening on port {port}");
    for client in listener.incoming().flatten() {
        let root = root.clone();
        // A client that breaks its connection is its own affair.
        thread::spawn(move || serve(&client, root.as_deref()).ok());
    }
    0
}

fn serve(client: &TcpStream, root: Option<&Path>) -> io::Result<()> {
    client.set_read_timeout(Some(SILENCE))?;
    let mut lines = BufReader::new(client.take(HEADER_BYTES_MAX)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    while lines.next().transpose()?.is_some_and(|line| !line.is_empty()) {}
    let (status, body) = match request.split(' ').collect::<Vec<_>>()[..] {
        ["GET" | "HEAD", path, ..] => answer(path, root),
        _ => ("400 Bad Request", b"only GET and HEAD are served\n".to_vec()),
    };
    let mut out = client;
    write!(
        out,
        "HTTP/1.0 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )?;
    if !request.starts_with("HEAD") {
        out.write_all(&body)?;
    }
    out.flush()
}

fn answer(path: &str, root: Option<&Path>) -> (&'static str, Vec<u8>) {
    let Some(root) = root else { return ("200 OK", report::text().into_bytes()) };
    let missing = || ("404 Not Found", format!("{path}: not found\n").into_bytes());
    let wanted = Path::new(path.trim_start_matches('/'));
    // No `..` and no absolute path: what is served stays below the root.
    if wanted.components().any(|part| !matches!(part, Component::Normal(_))) {
        return missing();
    }
    let mut file = root.join(wanted);
    if file.is_dir() {
        file.push("index.html");
    }
    fs::read(file).map_or_else(|_| missing(), |body| ("200 OK", body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_above_the_root_is_served() {
        for path in ["/../etc/passwd", "/a/../../etc/passwd", "//etc/passwd/.."] {
            assert_eq!(answer(path, Some(Path::new("/proc"))).0, "404 Not Found", "{path}");
        }
    }
}
