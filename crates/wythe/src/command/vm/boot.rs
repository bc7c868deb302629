//! `vm boot`.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Read as _, Write as _},
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::Duration,
};

use base::{ByteSize, Deadline};
use hv::{GuestMemory, Model, Shape};
use rustix::pipe::{PipeFlags, pipe_with};
use virtio::{
    blk::{Blk, Image, Options, Raw},
    rng::Rng,
};
use vm::{Announce, Builder, Cargo, Console, End, Machine};

use super::accel::Accel;
use crate::{
    command::kernel,
    connect::Endpoint,
    error::{CliError, chain},
    output,
    session::terminal::Raw as RawMode,
};

/// What every command line begins with: where the console is, and that a panic is an end.
const COMMAND_LINE: &str = "console=ttyS0 reboot=k panic=-1";

/// The key that ends the machine: Ctrl-], as telnet(1) and virsh(1) have it.
const ESCAPE: u8 = 0x1d;

/// Between two looks whether the machine has ended, should nobody say so.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

/// Most processors of a machine.
const CPUS_MAX: i64 = 4;

/// Exit code of a machine that did not end by itself.
const BROKEN: u8 = 1;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A kernel of "wythe kernel ls", or a file (bzImage or ELF); without it, the one that is used
    /// unless another is named
    #[arg(long, value_name = "KERNEL")]
    kernel: Option<String>,
    /// An archive of the first root file system (cpio); may be given several times
    #[arg(long, value_name = "file")]
    initrd: Vec<PathBuf>,
    /// Words to add to the kernel's command line
    #[arg(long, value_name = "words", default_value = "")]
    append: String,
    /// A raw disk image; may be given several times
    #[arg(long, value_name = "file")]
    disk: Vec<PathBuf>,
    /// Memory of the machine
    #[arg(short, long, value_name = "bytes", default_value = "256m")]
    memory: ByteSize,
    /// Processors of the machine
    #[arg(long, value_name = "n", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=CPUS_MAX))]
    cpus: u8,
    /// What carries out its instructions
    #[arg(long, value_enum, value_name = "accelerator", default_value_t)]
    accel: Accel,
    /// Tell the kernel of its devices on its command line instead of by ACPI
    #[arg(long)]
    no_acpi: bool,
}

impl Args {
    pub(super) fn run(self, endpoint: &Endpoint) -> Result<u8, CliError> {
        let (machine, keys) = self.machine(endpoint)?;
        let machine = Arc::new(machine);
        let ended = Arc::clone(&machine);
        type_into(keys, move || ended.stop())?;
        let raw = io::stdin().is_terminal().then(RawMode::enter).transpose()?;
        machine.resume();
        let end = loop {
            if let Some(end) = machine.wait(Deadline::after(LOOK_AGAIN)) {
                break end;
            }
        };
        drop(raw);
        Ok(told(&end))
    }

    /// The machine, paused at its first instruction, and where what is typed goes.
    fn machine(self, endpoint: &Endpoint) -> Result<(Machine, OwnedFd), CliError> {
        let kernel = self.kernel_file(endpoint)?;
        let cargo = Cargo {
            kernel: opened(&kernel)?.into(),
            initrds: self
                .initrd
                .iter()
                .map(|path| Ok(opened(path)?.into()))
                .collect::<Result<Vec<_>, CliError>>()?,
            command_line: format!("{COMMAND_LINE} {}", self.append).trim_end().to_owned(),
        };
        let memory = GuestMemory::new(self.memory.bytes())
            .map_err(|error| CliError::Usage(format!("--memory: {error}")))?;
        let shape = Shape { vcpus: self.cpus, model: Model::default() };
        let announce = if self.no_acpi { Announce::CommandLine } else { Announce::Acpi };
        let mut builder = Builder::new(&*self.accel.hypervisor()?, memory, shape, announce)
            .map_err(|error| refused(&error))?;
        let (keys, typed) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| CliError::io("make a pipe", error))?;
        let screen = io::stdout().as_fd().try_clone_to_owned();
        let screen = screen.map_err(|error| CliError::io("write to the terminal", error))?;
        builder.console(Console { input: Some(keys), output: Some(screen) });
        builder.attach(Rng).map_err(|error| refused(&error))?;
        for path in &self.disk {
            builder.attach(disk(path)?).map_err(|error| refused(&error))?;
        }
        let machine = builder.boot(&cargo).map_err(|error| refused(&error))?;
        Ok((machine, typed))
    }

    /// The kernel that was named: in the store, or else a file.
    fn kernel_file(&self, endpoint: &Endpoint) -> Result<PathBuf, CliError> {
        let store = kernel::store(&endpoint.roots);
        let found = match self.kernel.as_deref() {
            Some(name) if Path::new(name).is_file() => return Ok(name.into()),
            Some(name) => Some(store.find(name)),
            None => store.default().transpose(),
        };
        match found {
            Some(Ok(kernel)) => Ok(kernel.boot_file()),
            Some(Err(error)) => Err(CliError::Usage(chain(&error))),
            None => {
                Err(CliError::Usage("there is no kernel: wythe kernel pull fetches one".to_owned()))
            }
        }
    }
}

fn refused(error: &dyn std::error::Error) -> CliError {
    CliError::Usage(chain(error))
}

fn opened(path: &Path) -> Result<File, CliError> {
    File::open(path).map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))
}

fn disk(path: &Path) -> Result<Blk, CliError> {
    let failed = |error: io::Error| CliError::Usage(format!("{}: {error}", path.display()));
    let file = File::options().read(true).write(true).open(path).map_err(failed)?;
    let image = Image::Raw(Raw::new(file).map_err(failed)?);
    Blk::new(image, &Options::default()).map_err(failed)
}

/// Has what is typed carried to the machine, until the key that ends it.
fn type_into(keys: OwnedFd, stop: impl Fn() + Send + 'static) -> Result<(), CliError> {
    let typing = move || {
        let (mut keys, mut typed) = (File::from(keys), [0; 256]);
        // Input that has ended is no reason to end: a machine may be run without any.
        while let Ok(read @ 1..) = io::stdin().read(&mut typed) {
            let text = &typed[..read];
            if io::stdin().is_terminal() && text.contains(&ESCAPE) {
                return stop();
            }
            if keys.write_all(text).is_err() {
                return;
            }
        }
    };
    let thread = thread::Builder::new().name("keys".to_owned()).spawn(typing);
    thread.map(drop).map_err(|error| CliError::io("start a thread", error))
}

/// Tells how it ended, if not by itself.
fn told(end: &End) -> u8 {
    let how = match end {
        End::PoweredOff | End::Reset | End::Stopped => return 0,
        End::Panicked => "its kernel panicked".to_owned(),
        End::TripleFault => "triple fault: it could not even deliver a double fault".to_owned(),
        End::Stuck => "all its processors wait with interrupts off".to_owned(),
        End::Failed { why } => why.clone(),
    };
    output::complain(&format!("wythe: the machine has ended: {how}"));
    BROKEN
}
