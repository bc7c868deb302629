//! A thousand containers on the bridge, one after the other.

use std::time::Instant;

use anyhow::Result;

use super::{
    Options,
    place::{Place, median, timed, timed_ms},
    processes,
    row::{Better, Row},
};
use crate::command::quietly;

pub(super) const ROWS: [&str; 4] = [
    "ps of 1,000",
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
    Ok(vec![
        Row::ours(ROWS[0], "ms", Better::Lower, median(seen.lists)),
        Row::ours(ROWS[1], "MiB", Better::Lower, median(seen.memory)),
        Row::ours(ROWS[2], "ms", Better::Lower, last).beside("the first", Some(first)),
        Row::ours(ROWS[3], "ms", Better::Lower, median(seen.removals)),
    ])
}
