//! `cargo xtask trace`: one run from the command line to exit, as the kernel saw it, drawn for the
//! book.
//!
//! The kernel's own tracer (Documentation/trace/ftrace.rst) notes who ran when, and every system
//! call; it costs each of them less than a microsecond. Of several runs the one of median length
//! is drawn.

mod events;
mod picture;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

use self::events::Run;
use crate::{
    bench::{INSIDE, Place, in_namespaces},
    command::{quietly, root},
    setup,
};

/// Where the kernel's tracer is.
const TRACING: &str = "/sys/kernel/tracing";
/// What is noted.
const EVENTS: [&str; 6] = [
    "raw_syscalls/sys_enter",
    "raw_syscalls/sys_exit",
    "sched/sched_switch",
    "sched/sched_process_fork",
    "sched/sched_process_exec",
    "sched/sched_process_exit",
];
/// Runs, of which the median is drawn.
const RUNS: usize = 15;
/// Until what runs on behind the answer has ended.
const AFTER: Duration = Duration::from_millis(60);

/// What is drawn, and into which file of the book.
const PICTURES: [(&str, &[&str], &str); 2] = [
    (
        "wythe run --rm --network none IMAGE true",
        &["run", "--rm", "--network", "none", "bench", "/bin/true"],
        "one-run.svg",
    ),
    (
        "wythe run --rm IMAGE true, on the bridge",
        &["run", "--rm", "bench", "/bin/true"],
        "one-run-bridge.svg",
    ),
];

pub(crate) fn draw(args: &[String]) -> Result<()> {
    ensure!(setup::is_root(), "the kernel's tracer is root's");
    if env::var_os(INSIDE).is_none() {
        return in_namespaces("trace", args);
    }
    ensure!(Path::new(TRACING).join("instances").is_dir(), "this kernel has no tracer");
    let place = Place::new(false)?;
    let tracer = Tracer::new()?;
    for (title, args, file) in PICTURES {
        let mut runs = Vec::new();
        for _ in 0..RUNS {
            runs.push(tracer.one_run(&place, args)?);
        }
        runs.sort_by(|a, b| a.length_ms().total_cmp(&b.length_ms()));
        let typical = runs.swap_remove(RUNS / 2);
        let path = root().join("docs/book/src").join(file);
        fs::write(&path, picture::svg(title, &typical))
            .with_context(|| format!("cannot write {}", path.display()))?;
        println!("{title}: {:.2} ms", typical.length_ms());
        for (phase, from, to) in typical.phases() {
            println!("  {phase:<34} {:>7.2} ms", to - from);
        }
        for (name, took, who) in typical.longest_calls() {
            println!("    {took:>7.3} ms  {who:<12} {name}");
        }
    }
    Ok(())
}

/// An instance of the tracer of our own. Dropped, it is gone.
struct Tracer(PathBuf);

impl Tracer {
    fn new() -> Result<Tracer> {
        let dir = Path::new(TRACING).join(format!("instances/wythe-{}", std::process::id()));
        fs::create_dir(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let tracer = Tracer(dir);
        tracer.set("tracing_on", "0")?;
        tracer.set("buffer_size_kb", "16384")?;
        tracer.set("trace_clock", "mono")?;
        for event in EVENTS {
            tracer.set(&format!("events/{event}/enable"), "1")?;
        }
        Ok(tracer)
    }

    fn set(&self, file: &str, value: &str) -> Result<()> {
        let path = self.0.join(file);
        fs::write(&path, value).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Runs the client once and reads what happened meanwhile and a moment longer.
    fn one_run(&self, place: &Place, args: &[&str]) -> Result<Run> {
        self.set("trace", "")?;
        self.set("tracing_on", "1")?;
        let mut client = place.wythe();
        let child = client.args(args).stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let pid = child.id();
        let output = child.wait_with_output()?;
        thread::sleep(AFTER);
        self.set("tracing_on", "0")?;
        ensure!(output.status.success(), "the client ended with {}", output.status);
        let text = fs::read_to_string(self.0.join("trace"))?;
        let daemon = place.daemon("run")?;
        let threads = fs::read_dir(format!("/proc/{daemon}/task"))?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        let servers = place.ours("wythe-fork", "run")?;
        match Run::read(&text, pid, threads, &servers) {
            Some(run) => Ok(run),
            None => bail!("the trace does not show a whole run"),
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = fs::write(self.0.join("tracing_on"), "0");
        drop(quietly(Command::new("rmdir").arg(&self.0)));
    }
}
