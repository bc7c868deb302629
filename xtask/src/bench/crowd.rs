//! A thousand containers on the bridge. No peer takes part: theirs would take half an hour to start.

use std::{path::Path, process::Command, time::Instant};

use anyhow::Result;

use super::{
    Options,
    place::{Place, median, timed, timed_ms},
    processes,
    replay::Replay,
    row::{Better, Row},
    timed::{Contender, take_turns},
};
use crate::command::{quietly, which};

pub(super) const ROWS: [&str; 5] = [
    "ps of 1,000",
    "docker ps of 1,000",
    "memory per container, of 1,000",
    "start among 1,000",
    "removing 1,000, each",
];

const COUNT: usize = 1000;
/// How often one more is started.
const STARTS: usize = 40;
/// How often they are listed.
const LISTS: usize = 11;

pub(super) fn measure(place: &Place, _: &Options) -> Result<Vec<Row>> {
    let _cleared = (place.cleared("crowd", "crowd-run"), place.cleared("few", "few-run"));
    let crowd = || place.wythe_at("crowd", "crowd-run");
    let few = || place.wythe_at("few", "few-run");
    import(place, crowd())?;
    // The first command brings the daemon: this one is to have a network and mounts of its own.
    import(place, elsewhere(&few()))?;
    start(few(), "crowd-0")?;
    start(crowd(), "crowd-0")?;
    let names: Vec<String> = (1..COUNT).map(|number| format!("crowd-{number}")).collect();
    let free = processes::available_mib()?;
    names.iter().try_for_each(|name| start(crowd(), name).map(drop))?;
    let memory = (free - processes::available_mib()?) / names.len() as f64;
    let lists = (0..LISTS).map(|_| timed_ms(crowd().arg("ps"))).collect::<Result<_>>()?;
    let mut rows = vec![Row::ours(ROWS[0], "ms", Better::Lower, median(lists))];
    rows.extend(stock_client(place)?);
    rows.push(Row::ours(ROWS[2], "MiB", Better::Lower, memory));
    let mut contenders = [one_more("wythe", crowd), one_more("among one", few)];
    rows.push(take_turns(ROWS[3], &mut contenders, STARTS)?);
    let began = Instant::now();
    timed(crowd().args(["rm", "-f"]).args(&names))?;
    let each = began.elapsed().as_secs_f64() * 1000.0 / names.len() as f64;
    rows.push(Row::ours(ROWS[4], "ms", Better::Lower, each));
    Ok(rows)
}

fn import(place: &Place, mut wythe: Command) -> Result<()> {
    quietly(wythe.args(["import", "--name", "bench"]).arg(place.path("rootfs.tar")))
}

fn start(mut wythe: Command, name: &str) -> Result<f64> {
    timed_ms(wythe.args(["run", "-d", "--name", name, "bench", "/bin/sleep", "100000"]))
}

/// One container more, which goes again.
fn one_more<'p>(name: &'static str, wythe: impl Fn() -> Command + 'p) -> Contender<'p> {
    let once = move || {
        let time = start(wythe(), "one-more")?;
        quietly(wythe().args(["rm", "-f", "one-more"]))?;
        Ok(time)
    };
    Contender { name, once: Box::new(once) }
}

/// The same command in namespaces of its own.
fn elsewhere(command: &Command) -> Command {
    let mut other = Command::new("unshare");
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    other.args(["--mount", "--net", "sh", "-c", script]).arg(command.get_program());
    other.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    other
}

/// The stock client's list, and what the client takes of it.
fn stock_client(place: &Place) -> Result<Option<Row>> {
    let Some(docker) = which("docker") else { return Ok(None) };
    let ours = place.path("crowd-run/docker.sock");
    let replay = Replay::of(&ours, "/containers/json", place.path("replay.sock"))?;
    let list = |name, socket: &Path| {
        let mut ps = Command::new(&docker);
        ps.arg("-H").arg(format!("unix://{}", socket.display())).arg("ps");
        Contender { name, once: Box::new(move || timed_ms(&mut ps)) }
    };
    let mut contenders = [list("wythe", &ours), list("its answer replayed", &replay.socket)];
    Ok(Some(take_turns(ROWS[1], &mut contenders, LISTS)?))
}
