//! Wythe: one binary for the command line, the daemon, the shim's fork server and the OCI runtime.
//!
//! The only place where drivers are injected into the engine, and the only one that prints and
//! chooses exit codes. It knows every crate; nothing knows it.

use std::process::ExitCode;

mod cli;
mod command;
mod connect;
mod create;
mod daemon;
mod error;
mod output;
mod paths;
mod session;
mod show;
mod template;
mod time;

#[cfg(test)]
mod compat;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().collect();
    match args.get(1).and_then(|word| word.to_str()) {
        Some("shim") => daemon::shim(args),
        Some("oci") => daemon::oci(args),
        _ => cli::main(args),
    }
}
