//! How long a snapshot takes to its first instruction, and what a machine costs beside its memory.
//!
//! `cargo run --release -p vm --example restore` makes a snapshot of 128 MiB of its own;
//! `… --example restore -- DIR` takes one that `boot --snapshot` wrote, of a machine without disks.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for the terminal")]

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use base::{Deadline, clock::monotonic};
use hv::{GuestMemory, Model, Shape};
use vm::{Announce, Builder, Cargo, Machine, snapshot::Snapshot};

/// How many machines there are.
const MACHINES: usize = 50;

/// Where the guest counts.
const COUNTER: u64 = 0x20_0000;

/// Its code, at 1 MiB: `inc dword [COUNTER]`, over and over.
const GUEST: [u8; 8] = [0xff, 0x05, 0x00, 0x00, 0x20, 0x00, 0xeb, 0xf8];

/// Writes the snapshot of a machine all of whose memory was written.
fn make(dir: &Path) -> Result<(), Box<dyn Error>> {
    let memory = GuestMemory::new(128 << 20)?;
    memory.fill(0x30_0000, 0x5a, 125 << 20)?;
    let shape = Shape { vcpus: 1, model: Model::V2 };
    let builder = Builder::new(&softcpu::Soft, memory, shape, Announce::Acpi)?;
    let cargo = Cargo {
        kernel: testkit::kernel::pvh(&GUEST).into(),
        initrds: vec![],
        command_line: String::new(),
    };
    let machine = builder.boot(&cargo)?;
    machine.resume();
    while machine.memory().load::<u32>(COUNTER)? == 0 {
        std::thread::yield_now();
    }
    machine.pause(Deadline::after(Duration::from_secs(10)))?;
    Ok(machine.snapshot(dir)?)
}

/// Times since the beginning: read, mapped, its parts there, ready, its first instruction done.
type Steps = [Duration; 5];

fn restore(dir: &Path, counts: bool) -> Result<(Machine, Steps), Box<dyn Error>> {
    let start = monotonic();
    let saved = Snapshot::open(dir)?;
    let read = start.elapsed();
    let memory = saved.memory()?;
    let mapped = start.elapsed();
    let shape = saved.manifest.shape.clone();
    let builder = Builder::new(&softcpu::Soft, memory, shape, Announce::Acpi)?;
    let there = start.elapsed();
    let before = saved.memory()?.load::<u32>(COUNTER)?;
    let machine = builder.restore(saved.manifest)?;
    machine.resume();
    let ready = start.elapsed();
    while counts && machine.memory().load::<u32>(COUNTER)? == before {
        std::hint::spin_loop();
    }
    Ok((machine, [read, mapped, there, ready, start.elapsed()]))
}

/// Kibibytes of this process: a line of a file of `/proc`.
fn kibibytes(file: &str, line: &str) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/self/{file}"))?;
    let found = text.lines().find_map(|found| found.strip_prefix(line));
    let number = found.ok_or("no such line")?.trim().trim_end_matches(" kB");
    Ok(number.parse()?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let own = tempfile::tempdir()?;
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let dir = given.as_deref().unwrap_or(own.path());
    if given.is_none() {
        make(dir)?;
    }
    let mut all: Vec<Steps> = Vec::new();
    for _ in 0..MACHINES {
        all.push(restore(dir, given.is_none())?.1);
    }
    let names = ["read", "mapped", "parts there", "ready", "first instruction"];
    for (n, name) in names.iter().enumerate() {
        let mut times: Vec<Duration> = all.iter().map(|steps| steps[n]).collect();
        times.sort_unstable();
        let (least, most) = (times[0], times[MACHINES - 1]);
        println!("{name:20} {:8.3?}  ({least:.3?} to {most:.3?})", times[MACHINES / 2]);
    }
    let before = (kibibytes("smaps_rollup", "Private_Dirty:")?, kibibytes("smaps_rollup", "Pss:")?);
    let machines: Result<Vec<_>, _> = (0..MACHINES).map(|_| restore(dir, false)).collect();
    let machines = machines?;
    std::thread::sleep(Duration::from_secs(3));
    if given.is_none() {
        for (machine, _) in &machines {
            machine.pause(Deadline::after(Duration::from_secs(10)))?;
        }
    }
    let after = (kibibytes("smaps_rollup", "Private_Dirty:")?, kibibytes("smaps_rollup", "Pss:")?);
    println!(
        "{MACHINES} machines: {} KiB private and {} KiB proportional each; {} KiB virtual in all",
        (after.0 - before.0) / MACHINES as u64,
        (after.1 - before.1) / MACHINES as u64,
        kibibytes("status", "VmSize:")?,
    );
    Ok(())
}
