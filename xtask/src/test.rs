//! `cargo xtask test`: from a bare checkout to every test run.

use anyhow::Result;

use crate::{
    command::{cargo, run, which},
    setup,
};

/// Installs, builds, tests. Words are handed to the test runner as filters.
pub(crate) fn all(filters: &[String]) -> Result<()> {
    setup::tools()?;
    let debian = setup::debian()?;
    // The program under test; `tests/it` finds it beside its own executable.
    run(&mut cargo(&["build", "--workspace", "--bins", "--locked"]))?;
    let mut test = if which("cargo-nextest").is_some() {
        let profile = if std::env::var_os("CI").is_some() { "ci" } else { "default" };
        cargo(&["nextest", "run", "--workspace", "--locked", "--profile", profile])
    } else {
        cargo(&["test", "--workspace", "--locked", "--quiet"])
    };
    if let Some(tar) = debian {
        test.env("WYTHE_TEST_DEBIAN", tar);
    }
    run(test.args(filters))
}
