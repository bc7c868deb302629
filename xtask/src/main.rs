//! What a developer runs: `cargo xtask test | bench | fuzz | faults | churn | dist`.
//!
//! Knows the outside of the product only: the built program, the README's commands, the peers.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is a command-line program")]

mod bench;
mod command;
mod dist;
mod fuzz;
mod hard;
mod setup;
mod test;
mod trace;

use std::{env, process::ExitCode};

const USAGE: &str = "\
cargo xtask test [FILTER…]   install what the tests need, build, run every test
cargo xtask bench [FILTER…]  measure beside the peers that are installed, print ratios
                             and whether docs/budgets.toml is kept: --rounds N (default 20),
                             --idle-seconds N (default 30), --no-peers, --json FILE,
                             --markdown FILE
cargo xtask trace            draw one run from the command line to exit, for the book
cargo xtask fuzz [TARGET [FILE]]  every parser under libFuzzer, one of them, or one input
                             --seconds N (default 60) for each; needs a C++ compiler
cargo xtask faults [NAME…]   kill or refuse at every step of create, start, stop, remove, import,
                             garbage_collection and recovery; the tests try some of them
cargo xtask churn [N]        create, run and remove N containers (default 1000), and compare
                             what the host has before and after
cargo xtask dist             one stripped, static binary in target/dist";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let (task, rest) = match args.split_first() {
        Some((task, rest)) => (task.as_str(), rest),
        None => ("help", args.as_slice()),
    };
    let done = match task {
        "test" => test::all(rest),
        "bench" => bench::all(rest),
        "fuzz" => fuzz::all(rest),
        "faults" => hard::faults(rest),
        "churn" => hard::churn(rest),
        "trace" => trace::draw(rest),
        "dist" => dist::build(),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => {
            eprintln!("xtask: there is no task \"{unknown}\"\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
