//! `vm-process`: the process that keeps a machine, and `vm-machine`, the one that it is in. Started
//! by `vm start`, and never typed.

use std::{
    ffi::OsString,
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use kernels::Store;
use machines::{Surroundings, process};

use crate::{daemon::machines::hypervisor, error::chain, output};

/// The word by which the program keeps a machine that runs.
pub(crate) const PROCESS: &str = "vm-process";

/// The word by which the program holds such a machine.
pub(crate) const MACHINE: &str = "vm-machine";

/// Makes the process, away from this terminal and from this directory. What it has to say goes to
/// a file.
pub(super) fn spawn(data: &Path, log: &Path, socket: OwnedFd) -> io::Result<Child> {
    let log = File::create(log)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wythe").arg(PROCESS).arg(data).current_dir("/");
    command.stdin(Stdio::from(socket)).stdout(log.try_clone()?).stderr(log);
    command.spawn()
}

/// Makes the process that holds a machine, with this one's log.
fn holder(socket: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wythe").arg(MACHINE).stdin(Stdio::from(socket)).stdout(Stdio::null());
    command.spawn()
}

/// Holds a machine.
pub(crate) fn hold() -> ExitCode {
    let held = io::stdin().as_fd().try_clone_to_owned().and_then(|socket| {
        // The last copy of the socket is the one that orders are taken from.
        rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
        machines::hold(socket, &hypervisor)
    });
    match held {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("wythe: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// Keeps a machine.
pub(crate) fn serve(args: &[OsString]) -> ExitCode {
    let [data] = args else {
        output::complain("wythe: vm-process is started by wythe vm start");
        return ExitCode::from(125);
    };
    match run(&PathBuf::from(data)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("wythe: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

fn run(data: &Path) -> io::Result<()> {
    // It is nobody's job at any terminal. Whoever leads a session already is none either.
    let _ = rustix::process::setsid();
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    // The last copy of the socket has to go when the machine runs.
    rustix::stdio::dup2_stdin(&File::open("/dev/null")?)?;
    let store = Store::new(data.join("kernels"));
    let kernel = move |name: &str| {
        let found = store.find(name).map_err(|error| chain(&error))?;
        // From here on it is not removed.
        let held = found.hold().map_err(|error| chain(&error))?;
        let file = File::open(found.boot_file()).map_err(|error| error.to_string())?;
        Ok((file, Box::new(held) as Box<dyn Send + Sync>))
    };
    process::serve(socket, &Surroundings { kernel: &kernel, process: &holder })
}
