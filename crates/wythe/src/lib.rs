//! Wythe: one binary for the command line, the daemon, the shim's fork server and the OCI runtime.
//!
//! The only place where drivers are injected into the engine, and the only one that prints and
//! chooses exit codes. It knows every crate; nothing knows it.

use std::{ffi::OsString, path::Path, process::ExitCode};

mod cli;
mod command;
mod connect;
mod create;
mod daemon;
mod docker_config;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod output;
mod outside;
mod paths;
mod session;
mod show;
mod template;

#[cfg(test)]
mod compat;

pub(crate) use docker::time;

/// A name by which the program is the OCI runtime alone, for engines that add no word of their own.
const OCI_NAME: &str = "wythe-oci";

/// The whole program: its arguments in, its exit code out.
pub fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let name = args.first().map(Path::new).and_then(Path::file_name);
    if name.is_some_and(|name| name == OCI_NAME) {
        return linux::oci::main(args.split_off(1));
    }
    match args.get(1).and_then(|word| word.to_str()) {
        Some("oci") => linux::oci::main(args.split_off(2)),
        Some(outside::SERVE) => outside::serve(&args.split_off(2)),
        Some(outside::FACTORY) => outside::factory(&args.split_off(2)),
        Some(outside::NETWORK) => outside::network(),
        Some("shim") => daemon::shim(&args.split_off(2)),
        Some(command::VM_PROCESS) => command::vm_process(&args.split_off(2)),
        Some(command::VM_MACHINE) => command::vm_machine(),
        Some(daemon::machines::VMM) => daemon::machines::vmm(&args.split_off(2)),
        _ => cli::main(args),
    }
}
