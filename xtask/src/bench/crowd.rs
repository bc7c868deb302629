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
/// So many starts are looked at: the last ones, and the first ones before and after the crowd.
const ENDS: usize = 40;
/// How often they are listed.
const LISTS: usize = 11;

pub(super) fn measure(place: &Place, _: &Options) -> Result<Vec<Row>> {
    let _cleared = place.cleared("crowd", "crowd-run");
    let ours = || place.wythe_at("crowd", "crowd-run");
    quietly(ours().args(["import", "--name", "bench"]).arg(place.path("rootfs.tar")))?;
    let start = |name: &str| {
        let args = ["run", "-d", "--name", name, "bench", "/bin/sleep", "100000"];
        timed_ms(ours().args(args))
    };
    start("first")?;
    let free = processes::available_mib()?;
    let names: Vec<String> = (1..COUNT).map(|number| format!("crowd-{number}")).collect();
    let starts: Vec<f64> = names.iter().map(|name| start(name)).collect::<Result<_>>()?;
    let used = (free - processes::available_mib()?) / starts.len() as f64;
    let mut first: Vec<f64> = starts.iter().copied().take(ENDS).collect();
    let last = median(starts.iter().rev().copied().take(ENDS).collect());
    let lists = (0..LISTS).map(|_| timed_ms(ours().arg("ps"))).collect::<Result<_>>()?;

    let began = Instant::now();
    timed(ours().args(["rm", "-f", "first"]).args(&names))?;
    let removed = began.elapsed().as_secs_f64() * 1000.0 / COUNT as f64;
    // The first ones once more: a machine that has become slower or faster since is no answer.
    let few = names.iter().take(ENDS);
    first.extend(few.clone().map(|name| start(name)).collect::<Result<Vec<f64>>>()?);
    timed(ours().args(["rm", "-f"]).args(few))?;
    Ok(vec![
        Row::ours(ROWS[0], "ms", Better::Lower, median(lists)),
        Row::ours(ROWS[1], "MiB", Better::Lower, used),
        Row::ours(ROWS[2], "ms", Better::Lower, last).beside("the first", Some(median(first))),
        Row::ours(ROWS[3], "ms", Better::Lower, removed),
    ])
}
