//! Boots a kernel on the software CPU, with the terminal as its console.
//!
//! `cargo run --release -p vm --example boot -- --kernel vmlinuz --initrd initrd.gz --disk a.img`
#![allow(clippy::print_stderr, reason = "a tool for the terminal")]

use std::{
    error::Error,
    fs::File,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    time::Duration,
};

use base::Deadline;
use hv::{GuestMemory, Model, Shape};
use virtio::blk::{Blk, Image, Options, Raw};
use vm::{
    Announce, Builder, Cargo, Console,
    snapshot::{Save, Snapshot},
};

const USAGE: &str = "boot --kernel FILE [--initrd FILE]... [--cmdline TEXT] [--memory MIB] \
[--cpus N] [--disk FILE]... [--model x86-64-v2] [--no-acpi] [--seconds N] \
[--snapshot DIR] [--since DIR] [--restore DIR] [--copy] [--no-input]";

/// What was asked for.
struct Args {
    kernel: Option<PathBuf>,
    initrds: Vec<PathBuf>,
    cmdline: String,
    memory: u64,
    cpus: u8,
    disks: Vec<PathBuf>,
    model: Model,
    announce: Announce,
    seconds: u64,
    snapshot: Option<PathBuf>,
    since: Option<PathBuf>,
    restore: Option<PathBuf>,
    copy: bool,
    input: bool,
}

fn args() -> Result<Args, Box<dyn Error>> {
    let mut args = Args {
        kernel: None,
        initrds: Vec::new(),
        cmdline: "console=ttyS0 panic=-1".to_owned(),
        memory: 256,
        cpus: 1,
        disks: Vec::new(),
        model: Model::V2,
        announce: Announce::Acpi,
        seconds: u64::MAX,
        snapshot: None,
        since: None,
        restore: None,
        copy: false,
        input: true,
    };
    let mut words = std::env::args().skip(1);
    while let Some(flag) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{flag} wants a value\n{USAGE}"));
        match flag.as_str() {
            "--kernel" => args.kernel = Some(value()?.into()),
            "--initrd" => args.initrds.push(value()?.into()),
            "--cmdline" => args.cmdline = value()?,
            "--memory" => args.memory = value()?.parse()?,
            "--cpus" => args.cpus = value()?.parse()?,
            "--disk" => args.disks.push(value()?.into()),
            "--model" => args.model = value()?.parse()?,
            "--no-acpi" => args.announce = Announce::CommandLine,
            "--seconds" => args.seconds = value()?.parse()?,
            "--snapshot" => args.snapshot = Some(value()?.into()),
            "--since" => args.since = Some(value()?.into()),
            "--restore" => args.restore = Some(value()?.into()),
            "--copy" => args.copy = true,
            "--no-input" => args.input = false,
            _ => return Err(format!("{flag}: unknown\n{USAGE}").into()),
        }
    }
    Ok(args)
}

/// Whether a snapshot has this memory.
fn same(dir: &Path, memory: &GuestMemory) -> Result<bool, Box<dyn Error>> {
    let saved = Snapshot::open(dir)?.memory()?;
    let (mut one, mut other) = (vec![0; 1 << 20], vec![0; 1 << 20]);
    let same = |at| {
        let bytes = one.len().min(memory.bytes() - at);
        memory.copy_out(at, &mut one[..bytes]);
        saved.copy_out(at, &mut other[..bytes]);
        one[..bytes] == other[..bytes]
    };
    Ok((0..memory.bytes()).step_by(1 << 20).all(same))
}

fn main() -> Result<(), Box<dyn Error>> {
    let args = args()?;
    let hypervisor = softcpu::Soft;
    let saved = args.restore.as_deref().map(Snapshot::open).transpose()?;
    let (memory, shape) = match &saved {
        Some(saved) => (saved.memory()?, saved.manifest.shape.clone()),
        None => {
            let shape = Shape { vcpus: args.cpus, model: args.model };
            (GuestMemory::new(args.memory << 20)?, shape)
        }
    };
    let mut builder = Builder::new(&hypervisor, memory, shape, args.announce)?;
    let input = std::io::stdin().as_fd().try_clone_to_owned()?;
    builder.console(Console {
        input: args.input.then_some(input),
        output: Some(std::io::stdout().as_fd().try_clone_to_owned()?),
    });
    for disk in &args.disks {
        let file = File::options().read(true).write(true).open(disk)?;
        let disk = Blk::new(Image::Raw(Raw::new(file)?), &Options::default())?;
        builder.attach(disk)?;
    }
    if args.copy {
        builder.copy();
    }
    let start = base::clock::monotonic();
    let machine = match saved {
        Some(saved) => builder.restore(saved.manifest)?,
        None => builder.boot(&Cargo {
            kernel: File::open(args.kernel.ok_or(USAGE)?)?.into(),
            initrds: args
                .initrds
                .iter()
                .map(|path| Ok(File::open(path)?.into()))
                .collect::<std::io::Result<_>>()?,
            command_line: args.cmdline,
        })?,
    };
    machine.resume();
    let ready = start.elapsed();
    let limit = Deadline::after(Duration::from_secs(args.seconds));
    let end = machine.wait(limit);
    if let (None, Some(dir)) = (&end, &args.snapshot) {
        machine.pause(Deadline::after(Duration::from_secs(10)))?;
        let save = Save { parent: args.since.as_deref(), disks: Vec::new() };
        machine.save(dir, &save)?;
        eprintln!("saved; it is the same: {}", same(dir, machine.memory())?);
    }
    drop(machine);
    eprintln!("\n{end:?} after {:.3?}, of which {ready:.3?} before it ran", start.elapsed());
    Ok(())
}
