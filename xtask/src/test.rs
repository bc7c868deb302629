//! `cargo xtask test`: from a bare checkout to every test run.

use std::process::Command;

use anyhow::Result;

use crate::{
    command::{cargo, root, run},
    setup,
};

/// Installs, builds, tests. Words are handed to the test runner as filters.
pub(crate) fn all(filters: &[String]) -> Result<()> {
    setup::tools()?;
    let debian = setup::debian()?;
    // The program under test; `tests/it` finds it beside its own executable.
    run(&mut cargo(&["build", "--workspace", "--bins", "--locked"]))?;
    let profile = if std::env::var_os("CI").is_some() { "ci" } else { "default" };
    let mut test = Command::new(setup::nextest()?);
    test.args(["nextest", "run", "--workspace", "--locked", "--profile", profile]);
    test.current_dir(root()).env_remove("CARGO_MANIFEST_DIR");
    if let Some(kernels) = setup::kernels() {
        test.env("WYTHE_TEST_KERNELS", kernels);
    }
    if let Some(tar) = debian {
        test.env("WYTHE_TEST_DEBIAN", tar);
    }
    run(test.args(filters))
}
