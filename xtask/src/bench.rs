//! `cargo xtask bench`: the same work by us and by each peer that is installed, in one run.
//!
//! ```text
//! place    a directory with a bundle, an image, our daemon's roots, podman's store
//! timed    commands from start to exit, each round every contender once
//! fleet    100 containers: started, held, left alone, removed
//! registry an image to a registry and from it
//! listen   1,000 listeners of events
//! between  bytes from container to container
//! machines kernels booted, machines begun, copied and at rest
//! crowd    1,000 containers
//! daemon   at rest, and ready
//! import   a large layer
//! logs     throughput, followers
//! budget   docs/budgets.toml: what each may cost
//! ```
//!
//! Contenders take turns, so that what else the machine does falls on all alike. Medians are
//! printed, the ratio to ours, and whether the budget is kept.

mod between;
mod budget;
mod crowd;
mod daemon;
mod docker;
mod fleet;
mod import;
mod listen;
mod logs;
mod machines;
mod place;
pub(crate) mod processes;
mod registry;
mod replay;
mod row;
mod timed;

use std::{env, fs, process::Command};

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::place::Place;
use self::{budget::Budgets, row::Row};
use crate::{command::run, setup};

/// What is asked for on the command line.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    rounds: usize,
    json: Option<String>,
    markdown: Option<String>,
    /// How long idle containers are left alone.
    idle_seconds: u64,
    /// Whether peers take part.
    peers: bool,
    filters: Vec<String>,
}

impl Options {
    /// Whether any of these rows is asked for.
    fn wants(&self, names: &[&str]) -> bool {
        let asked = |name: &&str| self.filters.iter().any(|filter| name.contains(filter.as_str()));
        self.filters.is_empty() || names.iter().any(asked)
    }
}

/// A part of the benchmarks: the rows it fills, and what fills them.
struct Part {
    rows: &'static [&'static str],
    measure: fn(&Place, &Options) -> Result<Vec<Row>>,
}

const PARTS: [Part; 11] = [
    Part { rows: &timed::ROWS, measure: timed::measure },
    Part { rows: &docker::ROWS, measure: docker::measure },
    Part { rows: &fleet::ROWS, measure: fleet::measure },
    Part { rows: &daemon::ROWS, measure: daemon::measure },
    Part { rows: &import::ROWS, measure: import::measure },
    Part { rows: &logs::ROWS, measure: logs::measure },
    Part { rows: &registry::ROWS, measure: registry::measure },
    Part { rows: &listen::ROWS, measure: listen::measure },
    Part { rows: &between::ROWS, measure: between::measure },
    Part { rows: &machines::ROWS, measure: machines::measure },
    Part { rows: &crowd::ROWS, measure: crowd::measure },
];

pub(crate) fn all(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    ensure!(setup::is_root(), "the benchmarks run containers: root is needed");
    setup::tools()?;
    if env::var_os(INSIDE).is_none() {
        return in_namespaces("bench", args);
    }
    let budgets = Budgets::read()?;
    let place = Place::new(options.peers)?;
    let mut rows = Vec::new();
    println!("{}", row::HEAD);
    for part in PARTS.iter().filter(|part| options.wants(part.rows)) {
        let mut measured = (part.measure)(&place, &options)?;
        measured.retain(|row| options.wants(&[row.work]));
        for row in &measured {
            row.print(&budgets);
        }
        rows.extend(measured);
    }
    if let Some(path) = &options.json {
        write(path, &row::json(&rows, &budgets)?)?;
    }
    if let Some(path) = &options.markdown {
        write(path, &row::markdown(&rows, &budgets))?;
    }
    let missed: Vec<_> = rows.iter().filter(|row| row.keeps(&budgets) == Some(false)).collect();
    if !missed.is_empty() {
        println!("{} of {} rows miss their budget (docs/budgets.toml)", missed.len(), rows.len());
    }
    Ok(())
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {path}"))
}

/// Set for the run that measures.
pub(crate) const INSIDE: &str = "WYTHE_BENCH_INSIDE";

/// Does it all again in a network namespace, so that no bridge of ours or a peer's touches the
/// host's network, and in a mount namespace without a second version's control groups beside the
/// first's: crun refuses such hosts, and so everybody is measured on the same one.
pub(crate) fn in_namespaces(task: &str, args: &[String]) -> Result<()> {
    let script = "umount /sys/fs/cgroup/unified 2>/dev/null; mount -t tracefs none \
                  /sys/kernel/tracing 2>/dev/null; ulimit -S -n \"$(ulimit -H -n)\"; ip link set lo up && exec \"$0\" \"$@\"";
    let mut inner = Command::new("unshare");
    inner.args(["--mount", "--net", "sh", "-c", script]).arg(env::current_exe()?);
    run(inner.arg(task).args(args).env(INSIDE, "1"))
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options {
        rounds: 20,
        json: None,
        markdown: None,
        idle_seconds: 30,
        peers: true,
        filters: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--rounds" => options.rounds = value()?.parse()?,
            "--json" => options.json = Some(value()?.clone()),
            "--markdown" => options.markdown = Some(value()?.clone()),
            "--idle-seconds" => options.idle_seconds = value()?.parse()?,
            "--no-peers" => options.peers = false,
            filter => options.filters.push(filter.to_owned()),
        }
    }
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    Ok(options)
}
