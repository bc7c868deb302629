//! The OCI runtime command line as a program of its own, for tests and measurements.

use std::process::ExitCode;

fn main() -> ExitCode {
    linux::oci::main(std::env::args_os().skip(1).collect())
}
