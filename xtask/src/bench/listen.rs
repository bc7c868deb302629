//! Events to a thousand connections of Docker's API that listen: does each see all of them, how
//! long until the last one has the last, and what does it cost the daemon?

use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    sync::{
        Arc, Barrier,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options, docker,
    place::{Place, median},
    processes,
    row::{Better, Row},
};
use crate::command::quietly;

pub(super) const ROWS: [&str; 2] = ["200 events to 1,000 listeners", "memory of 1,000 listeners"];

const LISTENERS: usize = 1000;
const EVENTS: usize = 200;
/// What a listener's thread needs.
const STACK_BYTES: usize = 128 << 10;
/// How long a listener waits for the next event before it counts as lost.
const LOST_AFTER: Duration = Duration::from_secs(60);
/// It takes seconds; medians of a few do.
const ROUNDS_MAX: usize = 3;

pub(super) fn measure(place: &Place, options: &Options) -> Result<Vec<Row>> {
    let _cleared = place.cleared("listen", "listen-run");
    let ours = || place.wythe_at("listen", "listen-run");
    quietly(ours().args(["import", "--name", "bench"]).arg(place.path("rootfs.tar")))?;
    let socket = place.path("listen-run/docker.sock");
    quietly(ours().args(["create", "--name", "heard", "--network", "none", "bench", "/bin/true"]))?;
    let daemon = place.daemon("listen-run")?;
    let dockerd = docker::dockerd(place)?;
    if let Some(peer) = &dockerd {
        quietly(&mut peer.client(&["create", "--name", "heard", "bench", "/bin/true"]))?;
    }
    let (mut times, mut theirs, mut grown) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds.min(ROUNDS_MAX) {
        let before = processes::pss_mib(&[daemon]);
        let (seconds, during) = heard(&socket, || processes::pss_mib(&[daemon]))?;
        times.push(seconds);
        grown.push(during - before);
        if let Some(peer) = &dockerd {
            theirs.push(heard(&peer.socket, || 0.0).context("dockerd")?.0);
        }
    }
    if let Some(peer) = &dockerd {
        quietly(&mut peer.client(&["rm", "heard"]))?;
    }
    let theirs = (!theirs.is_empty()).then(|| median(theirs));
    Ok(vec![
        Row::ours(ROWS[0], "s", Better::Lower, median(times)).beside("dockerd", theirs),
        Row::ours(ROWS[1], "MiB", Better::Lower, median(grown)),
    ])
}

/// Seconds from the first event until every listener has heard the last one, and what `memory`
/// says while all of them listen.
fn heard(socket: &Path, memory: impl Fn() -> f64) -> Result<(f64, f64)> {
    let (all, ready) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(LISTENERS + 1)));
    let mut threads = Vec::with_capacity(LISTENERS);
    for _ in 0..LISTENERS {
        let listener = Listener::connect(socket)?;
        let (all, ready) = (Arc::clone(&all), Arc::clone(&ready));
        let thread = thread::Builder::new().stack_size(STACK_BYTES);
        threads.push(thread.spawn(move || {
            ready.wait();
            let seen = listener.renames();
            all.fetch_add(usize::from(seen == EVENTS), Ordering::Relaxed);
            Instant::now()
        })?);
    }
    ready.wait();
    let began = Instant::now();
    for number in 0..EVENTS {
        // There and back again: the name is what it was in the end.
        let (from, to) = if number % 2 == 0 { ("heard", "told") } else { ("told", "heard") };
        let path = format!("/v1.40/containers/{from}/rename?name={to}");
        docker::call(socket, "POST", &path, "")?;
    }
    let during = memory();
    let ends = threads.into_iter().map(|thread| thread.join().expect("a listener does not panic"));
    let last = ends.max().context("somebody listens")?;
    let all = all.load(Ordering::Relaxed);
    ensure!(all == LISTENERS, "{all} of {LISTENERS} listeners saw all of {EVENTS} events");
    Ok(((last - began).as_secs_f64(), during))
}

/// A connection on which events come.
struct Listener(BufReader<UnixStream>);

impl Listener {
    fn connect(socket: &Path) -> Result<Listener> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(LOST_AFTER))?;
        let filters = "%7B%22event%22%3A%5B%22rename%22%5D%7D";
        write!(stream, "GET /v1.40/events?filters={filters} HTTP/1.1\r\nHost: d\r\n\r\n")?;
        let mut listener = Listener(BufReader::with_capacity(4096, stream));
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            ensure!(listener.0.read_line(&mut line)? > 0, "no answer to a listener");
        }
        Ok(listener)
    }

    /// How many come, up to as many as there are.
    fn renames(mut self) -> usize {
        let (mut seen, mut line) = (0, String::new());
        while seen < EVENTS {
            line.clear();
            match self.0.read_line(&mut line) {
                Ok(1..) => seen += usize::from(line.contains("\"rename\"")),
                Ok(0) | Err(_) => break,
            }
        }
        seen
    }
}
