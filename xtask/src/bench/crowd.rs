//! A thousand containers on the bridge, one after the other. No peer takes part: theirs would take
//! half an hour to start.

use std::{process::Command, time::Instant};

use anyhow::Result;

use super::{
    Options,
    place::{Place, median, timed, timed_ms},
    processes,
    row::{Better, Row},
};
use crate::command::{quietly, which};

pub(super) const ROWS: [&str; 5] = [
    "ps of 1,000",
    "docker ps of 1,000",
    "memory per container, of 1,000",
    "start of the 1,000th",
    "removing 1,000, each",
];

const COUNT: usize = 1000;
/// How often they come and go: one time the machine is slower at the end, another time faster.
const TIMES: usize = 3;
/// So many starts are looked at: the last ones, and the first ones before and after the crowd.
const ENDS: usize = 40;
/// How often they are listed.
const LISTS: usize = 11;

/// All figures of all times.
#[derive(Default)]
struct Seen {
    /// MiB that are no longer free, for each container.
    memory: Vec<f64>,
    first: Vec<f64>,
    last: Vec<f64>,
    lists: Vec<f64>,
    /// The same by the stock client, where it is installed.
    docker_lists: Vec<f64>,
    removals: Vec<f64>,
}

pub(super) fn measure(place: &Place, _: &Options) -> Result<Vec<Row>> {
    let _cleared = place.cleared("crowd", "crowd-run");
    let ours = || place.wythe_at("crowd", "crowd-run");
    quietly(ours().args(["import", "--name", "bench"]).arg(place.path("rootfs.tar")))?;
    let start = |name: &str| {
        let args = ["run", "-d", "--name", name, "bench", "/bin/sleep", "100000"];
        timed_ms(ours().args(args))
    };
    start("first")?;
    let (docker, socket) = (which("docker"), place.path("crowd-run/docker.sock"));
    let socket = format!("unix://{}", socket.display());
    let names: Vec<String> = (1..COUNT).map(|number| format!("crowd-{number}")).collect();
    let mut seen = Seen::default();
    for _ in 0..TIMES {
        let free = processes::available_mib()?;
        let starts: Vec<f64> = names.iter().map(|name| start(name)).collect::<Result<_>>()?;
        seen.memory.push((free - processes::available_mib()?) / starts.len() as f64);
        seen.first.extend(starts.iter().take(ENDS));
        seen.last.extend(starts.iter().rev().take(ENDS));
        for _ in 0..LISTS {
            seen.lists.push(timed_ms(ours().arg("ps"))?);
            if let Some(docker) = &docker {
                let ps = ["-H", &socket, "ps"];
                seen.docker_lists.push(timed_ms(Command::new(docker).args(ps))?);
            }
        }
        let began = Instant::now();
        timed(ours().args(["rm", "-f"]).args(&names))?;
        seen.removals.push(began.elapsed().as_secs_f64() * 1000.0 / names.len() as f64);
    }
    // The first ones once more, for the last that have come.
    let few = names.iter().take(ENDS);
    seen.first.extend(few.clone().map(|name| start(name)).collect::<Result<Vec<f64>>>()?);
    timed(ours().args(["rm", "-f", "first"]).args(few))?;
    let (first, last) = (median(seen.first), median(seen.last));
    let mut rows = vec![Row::ours(ROWS[0], "ms", Better::Lower, median(seen.lists))];
    if docker.is_some() {
        rows.push(Row::ours(ROWS[1], "ms", Better::Lower, median(seen.docker_lists)));
    }
    rows.extend([
        Row::ours(ROWS[2], "MiB", Better::Lower, median(seen.memory)),
        Row::ours(ROWS[3], "ms", Better::Lower, last).beside("the first", Some(first)),
        Row::ours(ROWS[4], "ms", Better::Lower, median(seen.removals)),
    ]);
    Ok(rows)
}
