//! The daemon: how soon it serves, what it is at rest, and how large its program is.

use std::{
    io::Read as _,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{
    Options,
    place::{Place, median},
    processes,
    row::{Better, Row},
};

pub(super) const ROWS: [&str; 3] = ["daemon ready after start", "daemon at rest, RSS", "program"];

/// How often it is started.
const STARTS: usize = 9;
/// Until it is at rest.
const REST: Duration = Duration::from_secs(2);

pub(super) fn measure(place: &Place, _: &Options) -> Result<Vec<Row>> {
    let _cleared = place.cleared("rest", "rest-run");
    let mut ready = Vec::new();
    let mut resident = Vec::new();
    for at in 0..STARTS {
        ready.push(start(place)?);
        // Memory is the same every time; a look at the first ones is enough.
        if at < 3 {
            thread::sleep(REST);
            resident.push(processes::rss_mib(place.daemon("rest-run")?)?);
        }
        place.stop_daemon("rest-run");
    }
    let program = std::fs::metadata(&place.wythe)?.len() as f64 / f64::from(1 << 20);
    Ok(vec![
        Row::ours(ROWS[0], "ms", Better::Lower, median(ready)),
        Row::ours(ROWS[1], "MiB", Better::Lower, median(resident)),
        Row::ours(ROWS[2], "MiB", Better::Lower, program),
    ])
}

/// Starts one as the command line does; milliseconds until it says that it serves.
fn start(place: &Place) -> Result<f64> {
    let mut command = place.wythe_at("rest", "rest-run");
    command.args(["daemon", "--background"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let began = Instant::now();
    let mut daemon = command.spawn()?;
    let mut said = String::new();
    daemon.stdout.take().context("its output is piped")?.read_to_string(&mut said)?;
    let ms = began.elapsed().as_secs_f64() * 1000.0;
    ensure!(said.starts_with("ready"), "the daemon says \"{}\"", said.trim());
    // Reaped once it has been stopped.
    thread::spawn(move || daemon.wait());
    Ok(ms)
}
