//! Many clients at once over Docker's API, on a daemon that is killed under them.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use it::Instance;

/// How many clients there are.
const CLIENTS: u64 = 50;
/// How often the daemon is killed.
const KILLS: u32 = 3;
/// Seconds of it all, unless `WYTHE_STORM_SECONDS` says otherwise: two minutes are the full test.
const SECONDS: u64 = 12;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// One request on a connection of its own: status and body. Nothing if the daemon was not there,
/// or went away before it had answered.
fn call(socket: &Path, method: &str, path: &str, body: &str) -> Option<(u16, String)> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let length = body.len();
    let head = format!("{method} /v1.44{path} HTTP/1.1\r\nHost: d\r\nConnection: close\r\n");
    let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(
            !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
            "no answer to {method} {path}"
        );
        return None;
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// A client that does this and that to a few containers of which others make use too.
fn client(socket: &Path, seed: u64, over: &AtomicBool, good: &AtomicU64) {
    // Xorshift: which way it goes does not matter, only that they all go different ones.
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    while !over.load(Ordering::Relaxed) {
        let name = format!("storm-{}", random(20));
        let of = |rest: &str| format!("/containers/{name}{rest}");
        let answer = match random(8) {
            0 | 1 => {
                let body = r#"{"Image":"demo","Cmd":["sleep","1000"],
                               "HostConfig":{"NetworkMode":"none"}}"#;
                call(socket, "POST", &format!("/containers/create?name={name}"), body)
            }
            2 | 3 => call(socket, "POST", &of("/start"), ""),
            4 => exec(socket, &of("/exec")),
            5 => call(socket, "POST", &of("/stop?t=0"), ""),
            6 => call(socket, "DELETE", &of("?force=1"), ""),
            _ => call(socket, "GET", "/containers/json?all=1", ""),
        };
        match answer {
            Some((status, body)) => {
                let known = matches!(status, 200 | 201 | 204 | 304 | 400 | 404 | 409 | 503);
                let killed = status == 500 && body.contains("daemon");
                assert!(known || killed, "{name}: {status} {body}");
                good.fetch_add(u64::from(status < 400), Ordering::Relaxed);
            }
            None => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// Runs something and asks for its end.
fn exec(socket: &Path, path: &str) -> Option<(u16, String)> {
    let made = call(socket, "POST", path, r#"{"Cmd":["true"],"AttachStdout":true}"#)?;
    let id = made.1.split('"').nth(3).unwrap_or_default().to_owned();
    if made.0 != 201 {
        return Some(made);
    }
    call(socket, "POST", &format!("/exec/{id}/start"), r#"{"Detach":true}"#)?;
    call(socket, "GET", &format!("/exec/{id}/json"), "")
}

#[test]
fn fifty_clients_and_a_daemon_that_is_killed_leave_everything_agreed() {
    let Some(mut instance) = Instance::start() else { return };
    instance.ok(&["run", "--rm", "--network", "none", "demo", "true"]);
    let seconds = std::env::var("WYTHE_STORM_SECONDS").ok().and_then(|text| text.parse().ok());
    let whole = Duration::from_secs(seconds.unwrap_or(SECONDS));
    let socket = instance.path("run/docker.sock");
    let (over, good) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for seed in 1..=CLIENTS {
            let (socket, over, good) = (&socket, &over, &good);
            scope.spawn(move || client(socket, seed, over, good));
        }
        for _ in 0..KILLS {
            thread::sleep(whole / (KILLS + 1));
            instance.kill_daemon();
            instance.start_daemon();
        }
        let until = Instant::now() + whole / (KILLS + 1);
        while Instant::now() < until {
            thread::sleep(Duration::from_millis(50));
        }
        over.store(true, Ordering::Relaxed);
    });
    let good = good.into_inner();
    assert!(good > 100, "only {good} requests did what they asked for");
    instance.wait_until_agreed("after the storm");
    instance.kill_daemon();
    instance.start_daemon();
    instance.wait_until_agreed("after the storm, by a new daemon");
    let diagnosis = instance.diagnosis();
    assert_eq!(diagnosis["leftovers"], serde_json::json!([]));
    instance.remove_all();
    assert_eq!(instance.ok(&["ps", "-aq"]), "");
}
