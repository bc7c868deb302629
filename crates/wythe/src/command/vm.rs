//! `vm …`: machines that are no containers.
//!
//! They are kept in the data root, each under a lock of its own, and each that runs is a process
//! of its own: no daemon is asked.

use clap::Subcommand;
use machines::{Kept, Machines, Name};

use crate::{
    cli,
    connect::Endpoint,
    error::{CliError, chain},
    output,
    paths::Roots,
};

mod accel;
mod boot;
mod console;
mod create;
mod inspect;
mod ls;
mod process;
mod resize;
mod restore;
mod rm;
mod snapshot;
mod start;
mod stop;

pub(crate) use accel::finding;
pub(crate) use process::{MACHINE, PROCESS, hold, serve};

/// What can be done with machines.
#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// Boot a kernel in a machine, with the terminal as its serial console
    Boot(boot::Args),
    /// Connect the terminal with a machine's serial console
    Console(console::Args),
    /// Make a machine that is kept
    Create(create::Args),
    /// Show all about one or more machines
    Inspect(inspect::Args),
    /// List machines
    #[command(visible_alias = "list")]
    Ls(ls::Args),
    /// Give a machine more or less memory, processors or disk
    Resize(resize::Args),
    /// Go back to a snapshot of a machine, and let it run on from there
    Restore(restore::Args),
    /// Remove one or more machines with their own disks and snapshots
    #[command(visible_alias = "remove")]
    Rm(rm::Args),
    /// Save machines that run: their memory, devices and disks
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Start one or more machines
    Start(start::Args),
    /// Press the power button of one or more machines, and end those that do not switch off
    Stop(stop::Args),
}

impl VmCommand {
    pub(super) fn run(self, endpoint: &Endpoint) -> Result<u8, CliError> {
        let machines = Machines::new(&endpoint.roots.data, &endpoint.roots.run);
        match self {
            VmCommand::Boot(args) => args.run(endpoint),
            VmCommand::Console(args) => args.run(&machines),
            VmCommand::Create(args) => args.run(endpoint, &machines),
            VmCommand::Inspect(args) => args.run(&machines),
            VmCommand::Ls(args) => args.run(&machines),
            VmCommand::Resize(args) => args.run(&machines),
            VmCommand::Restore(args) => args.run(&endpoint.roots, &machines),
            VmCommand::Rm(args) => args.run(&machines),
            VmCommand::Snapshot(command) => command.run(&machines),
            VmCommand::Start(args) => args.run(&endpoint.roots, &machines),
            VmCommand::Stop(args) => args.run(&machines),
        }
    }
}

/// An error of machines, with all its causes.
fn failed(error: &dyn std::error::Error) -> CliError {
    CliError::Usage(chain(error))
}

/// The machine of a name that was typed.
fn find(machines: &Machines, name: &str) -> Result<Kept, CliError> {
    let name: Name = name.parse().map_err(|error| failed(&error))?;
    machines.find(&name).map_err(|error| failed(&error))
}

/// Does it to each in turn, prints the name of each that worked and the error of each that did
/// not, and fails if any failed.
fn each<N: AsRef<str>>(
    names: &[N],
    mut act: impl FnMut(&N) -> Result<(), CliError>,
) -> Result<u8, CliError> {
    let mut all = true;
    for name in names {
        match act(name) {
            Ok(()) => output::line(name.as_ref())?,
            Err(error) => {
                cli::tell(&error);
                all = false;
            }
        }
    }
    if all { Ok(0) } else { Err(CliError::Said) }
}

/// Makes a machine's process.
fn spawn<'a>(
    roots: &'a Roots,
    kept: &'a Kept,
) -> impl FnOnce(std::os::fd::OwnedFd) -> std::io::Result<std::process::Child> + use<'a> {
    let log = kept.directory.join("process.log");
    move |socket| process::spawn(&roots.data, &log, socket)
}
