//! `cargo xtask bench`: the same work by us and by each peer that is installed, in one run.
//!
//! Every round does every contender once, in turn, so that what else the machine does falls on
//! all alike. Medians are printed, and the ratio to ours.

mod contenders;

use std::{env, fs, process::Command, time::Duration};

use anyhow::{Context as _, Result, ensure};

use crate::{
    command::{cargo, run},
    setup,
};

/// One way of doing a piece of work.
pub(crate) struct Contender {
    /// Who does it.
    name: &'static str,
    /// Does it once, and says how long it took.
    once: Box<dyn FnMut() -> Result<Duration>>,
}

/// A piece of work that several can do.
pub(crate) struct Work {
    /// What is done, as the table names it.
    name: &'static str,
    /// Ours first.
    contenders: Vec<Contender>,
}

struct Options {
    rounds: usize,
    json: Option<String>,
    filters: Vec<String>,
}

pub(crate) fn all(args: &[String]) -> Result<()> {
    let options = parse(args)?;
    ensure!(setup::is_root(), "the benchmarks run containers: root is needed");
    setup::tools()?;
    if env::var_os(INSIDE).is_none() {
        return in_namespaces(args);
    }
    run(&mut cargo(&["build", "--release", "--package", "wythe", "--locked"]))?;
    let bench = contenders::Bench::new()?;
    let mut results = Vec::new();
    println!("{:<34} {:<10} {:>10} {:>10} {:>8}", "work", "by", "median ms", "best ms", "ratio");
    for mut work in bench.works() {
        if !options.filters.is_empty() && !options.filters.iter().any(|f| work.name.contains(f)) {
            continue;
        }
        let times = measure(&mut work, options.rounds)?;
        report(&work, &times, &mut results);
    }
    if let Some(path) = options.json {
        fs::write(&path, serde_json::to_vec_pretty(&results)?)
            .with_context(|| format!("cannot write {path}"))?;
    }
    Ok(())
}

/// Set for the run that measures.
const INSIDE: &str = "WYTHE_BENCH_INSIDE";

/// Does it all again in a network namespace, so that no bridge of ours or a peer's touches the
/// host's network, and in a mount namespace without a second version's control groups beside the
/// first's: crun refuses such hosts, and so everybody is measured on the same one.
fn in_namespaces(args: &[String]) -> Result<()> {
    let script =
        "umount /sys/fs/cgroup/unified 2>/dev/null; ip link set lo up && exec \"$0\" bench \"$@\"";
    let mut inner = Command::new("unshare");
    inner.args(["--mount", "--net", "sh", "-c", script]).arg(env::current_exe()?).args(args);
    run(inner.env(INSIDE, "1"))
}

fn parse(args: &[String]) -> Result<Options> {
    let mut options = Options { rounds: 20, json: None, filters: Vec::new() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--rounds" => {
                options.rounds = args.next().context("--rounds wants a number")?.parse()?
            }
            "--json" => options.json = Some(args.next().context("--json wants a file")?.clone()),
            filter => options.filters.push(filter.to_owned()),
        }
    }
    ensure!(options.rounds > 0, "--rounds must be at least 1");
    Ok(options)
}

/// Times by contender, after one round that is not counted.
fn measure(work: &mut Work, rounds: usize) -> Result<Vec<Vec<Duration>>> {
    let mut times = vec![Vec::with_capacity(rounds); work.contenders.len()];
    for round in 0..=rounds {
        for (contender, times) in work.contenders.iter_mut().zip(&mut times) {
            let time =
                (contender.once)().with_context(|| format!("{}: {}", work.name, contender.name))?;
            if round > 0 {
                times.push(time);
            }
        }
    }
    for times in &mut times {
        times.sort_unstable();
    }
    Ok(times)
}

fn report(work: &Work, times: &[Vec<Duration>], results: &mut Vec<serde_json::Value>) {
    let ms = |time: Option<&Duration>| time.map_or(f64::NAN, |t| t.as_secs_f64() * 1000.0);
    let median = |times: &[Duration]| ms(times.get(times.len() / 2));
    let ours = times.first().map_or(f64::NAN, |t| median(t));
    for (contender, times) in work.contenders.iter().zip(times) {
        let (median, best) = (median(times), ms(times.first()));
        let (name, ratio) = (contender.name, median / ours);
        println!("{:<34} {name:<10} {median:>10.2} {best:>10.2} {ratio:>7.2}x", work.name);
        results.push(serde_json::json!({
            "work": work.name, "by": name, "median_ms": median, "best_ms": best,
            "ratio_to_ours": ratio, "rounds": times.len(),
        }));
    }
}
