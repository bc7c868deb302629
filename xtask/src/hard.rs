//! `cargo xtask faults | churn`: what the tests do a little of, done to the end.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::{
    command::{cargo, root, run},
    setup,
};

/// How many containers come and go if nobody says.
const CYCLES: &str = "1000";

/// Lets something go wrong at every step of every operation, or of those that are named.
pub(crate) fn faults(operations: &[String]) -> Result<()> {
    test("faults", ("WYTHE_FAULTS", "all"), operations)
}

/// Lets containers come and go, and compares the host before and after.
pub(crate) fn churn(cycles: &[String]) -> Result<()> {
    let cycles = cycles.first().map_or(CYCLES, String::as_str);
    ensure!(cycles.parse::<u32>().is_ok(), "{cycles:?} is not a number of cycles");
    test("churn", ("WYTHE_CYCLES", cycles), &[])
}

fn test(file: &str, (variable, value): (&str, &str), filters: &[String]) -> Result<()> {
    ensure!(setup::is_root(), "this needs root");
    setup::tools()?;
    run(&mut cargo(&["build", "-p", "wythe", "--locked"]))?;
    let mut test = Command::new(setup::nextest()?);
    test.args(["nextest", "run", "-p", "it", "--test", file, "--profile", "long"]);
    test.args(["--success-output", "final"]).args(filters);
    run(test.env(variable, value).current_dir(root()).env_remove("CARGO_MANIFEST_DIR"))
}
