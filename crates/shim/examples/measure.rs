//! What a shim costs: time for a sandbox's life through it, and memory while it is idle, beside
//! one process that holds all sandboxes.
//!
//! `cargo run --release -p shim --example measure`

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "a measurement")]

#[path = "../tests/shim/host.rs"]
mod host;

use std::{
    os::fd::OwnedFd,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base::Deadline;
use host::{HostDriver, sandbox, script};
use shim::{ForkServer, ShimConfig, ShimDriver};
use workload::{Driver, Materials, Streams};

const ROUNDS: usize = 300;
const IDLE: usize = 50;

fn main() {
    match std::env::args().nth(1) {
        Some(run_dir) => serve(run_dir.into()),
        None => {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(measure());
        }
    }
}

fn serve(run_dir: std::path::PathBuf) {
    let build = "measure".to_owned();
    let server = ForkServer {
        run_dir,
        build,
        prepare: Arc::new(|| ()),
        driver: Arc::new(|_| Ok(Arc::new(HostDriver))),
    };
    server.serve().unwrap();
}

fn start(run_dir: &Path, listener: OwnedFd) -> std::io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(run_dir).stdin(listener).stdout(Stdio::null()).status()?;
    Ok(())
}

async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let run_dir = dir.path().join("run");
    let config = ShimConfig {
        run_dir: run_dir.clone(),
        build: "measure".to_owned(),
        start: Arc::new(move |listener| start(&run_dir, listener)),
    };
    let shims = ShimDriver::new(Arc::new(HostDriver), config).unwrap();
    println!("medians of {ROUNDS} rounds, in microseconds");
    lives("through shims", &shims, dir.path()).await;
    lives("in this process", &HostDriver, dir.path()).await;
    println!("memory (PSS), with {IDLE} sandboxes, each running one process with a log");
    let mut kept = Vec::new();
    for number in 0..IDLE {
        kept.push(idle(&shims, dir.path(), number).await);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let shim_pids = named("wythe-shim");
    let total: u64 = shim_pids.iter().map(|pid| pss_kib(*pid)).sum();
    let server: u64 = named("wythe-fork").iter().map(|pid| pss_kib(*pid)).sum();
    println!(
        "  a shim: {} KiB, private {} KiB",
        total / shim_pids.len() as u64,
        shim_pids.iter().map(|pid| kib(*pid, "Private_Dirty")).sum::<u64>()
            / shim_pids.len() as u64
    );
    println!("  the fork server: {server} KiB");
    for sandbox in kept {
        sandbox.destroy(soon()).await.unwrap();
    }
    shims.stop_fork_server(soon()).await.unwrap();
    let before = pss_kib(std::process::id());
    let mut kept = Vec::new();
    for number in 0..IDLE {
        kept.push(idle(&HostDriver, dir.path(), number).await);
    }
    let held = pss_kib(std::process::id()).saturating_sub(before);
    println!("  one process that holds all: {} KiB for each", held / IDLE as u64);
    for sandbox in kept {
        sandbox.destroy(soon()).await.unwrap();
    }
}

async fn idle(driver: &dyn Driver, root: &Path, number: usize) -> Arc<dyn workload::Sandbox> {
    let spec = sandbox(root, &format!("idle-{number}"));
    let sandbox = driver.create(spec, Materials::default(), soon()).await.unwrap();
    let mut spec = script(root, &format!("idle-{number}"), "echo up; exec sleep 60");
    // As large as a specification with Docker's system call policy.
    spec.env = vec!["x".repeat(60); 1000];
    sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
    sandbox
}

async fn lives(name: &str, driver: &dyn Driver, root: &Path) {
    let mut times: [Vec<Duration>; 5] = Default::default();
    for number in 0..ROUNDS {
        let spec = sandbox(root, &format!("life-{number}"));
        let begin = Instant::now();
        let sandbox = driver.create(spec, Materials::default(), soon()).await.unwrap();
        let created = begin.elapsed();
        let mut spec = script(root, "life", "");
        spec.args = vec!["/bin/true".to_owned()];
        let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
        let spawned = begin.elapsed();
        process.wait().await;
        let waited = begin.elapsed();
        sandbox.destroy(soon()).await.unwrap();
        let destroyed = begin.elapsed();
        for (times, time) in times.iter_mut().zip([
            created,
            spawned - created,
            waited - spawned,
            destroyed - waited,
            waited,
        ]) {
            times.push(time);
        }
    }
    let [create, spawn, wait, destroy, together] = times.map(median);
    println!(
        "  {name}: create {create} + spawn {spawn} + wait {wait} = {together}, destroy {destroy}"
    );
}

fn median(mut times: Vec<Duration>) -> u128 {
    times.sort();
    times[times.len() / 2].as_micros()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn named(name: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap() {
        let Ok(pid) = entry.unwrap().file_name().into_string().unwrap().parse() else { continue };
        let exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        if comm.trim() == name && exe == std::env::current_exe().unwrap() {
            found.push(pid);
        }
    }
    found
}

fn pss_kib(pid: u32) -> u64 {
    kib(pid, "Pss")
}

fn kib(pid: u32, what: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let prefix = format!("{what}:");
    let line = text.lines().find_map(|line| line.strip_prefix(&prefix)).unwrap_or("0 kB");
    line.split_whitespace().next().unwrap().parse().unwrap()
}
