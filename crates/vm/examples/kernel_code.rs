//! How fast the processor in software is on a kernel's code.
//!
//! `cargo run --release -p vm --example kernel_code -- KERNEL INITRD` boots a machine whose first process
//! says `begin` and `end` on its first serial line around what it has the kernel do, and counts the
//! instructions between them.
#![allow(clippy::print_stdout, reason = "a tool for the terminal")]

use std::{
    error::Error,
    fs::File,
    io::{BufRead, BufReader},
    time::Duration,
};

use base::{Deadline, clock::monotonic};
use hv::{GuestMemory, Model, Shape};
use vm::{Announce, Builder, Cargo, Console, Machine};

/// What the kernel is told.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 mitigations=off tsc=reliable";

/// Memory of the machine: 256 MiB.
const MEMORY: u64 = 256 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let [kernel, initrd] = [1, 2].map(|n| std::env::args_os().nth(n));
    let (kernel, initrd) = kernel.zip(initrd).ok_or("kernel_code KERNEL INITRD")?;
    let shape = Shape { vcpus: 1, model: Model::V2 };
    let memory = GuestMemory::new(MEMORY)?;
    let mut builder = Builder::new(&softcpu::Soft, memory, shape, Announce::Acpi)?;
    let (said, says) = std::io::pipe()?;
    builder.console(Console { input: None, output: Some(says.into()) });
    let machine = builder.boot(&Cargo {
        kernel: File::open(kernel)?.into(),
        initrds: vec![File::open(initrd)?.into()],
        command_line: COMMAND_LINE.to_owned(),
    })?;
    machine.resume();
    let mut said = BufReader::new(said);
    until(&mut said, b"begin")?;
    let (before, began) = (count(&machine)?, monotonic());
    until(&mut said, b"end")?;
    let took = began.elapsed();
    let all = count(&machine)?.wrapping_sub(before);
    let rate = all as f64 / took.as_secs_f64() / 1e6;
    println!("kernel code: {rate:.0} million a second, {all} in {took:.2?}");
    Ok(())
}

/// Reads lines until one has this.
fn until(said: &mut impl BufRead, what: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if said.read_until(b'\n', &mut line)? == 0 {
            return Err("the machine ended before it said so".into());
        }
        if line.windows(what.len()).any(|words| words == what) {
            return Ok(());
        }
    }
}

/// How many instructions it has carried out; it stands still for a moment.
fn count(machine: &Machine) -> Result<u64, Box<dyn Error>> {
    machine.pause(Deadline::after(Duration::from_secs(10)))?;
    let count = machine.instructions().ok_or("it does not count")?;
    machine.resume();
    Ok(count)
}
