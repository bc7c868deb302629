//! What a test needs of its host. A need that is not met is said loudly, and fails in CI.

use std::path::PathBuf;

/// Whether this process is root. A test returns at once where it is not:
/// `if !need::root() { return }`.
///
/// # Panics
/// In CI (`CI` set in the environment), where every need must be met.
pub fn root() -> bool {
    met(rustix::process::geteuid().is_root(), "root")
}

/// The path of a program, or nothing where it is not installed.
///
/// # Panics
/// In CI (`CI` set in the environment), where every need must be met.
pub fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file());
    met(found.is_some(), name);
    found
}

/// Whether a child may be traced, as the test found: `need::ptrace(host.is_ok())`.
///
/// # Panics
/// In CI (`CI` set in the environment), where every need must be met.
pub fn ptrace(permitted: bool) -> bool {
    met(permitted, "ptrace")
}

/// What stands in this variable of the environment, which `cargo xtask test` sets where it can.
///
/// # Panics
/// In CI (`CI` set in the environment), where every need must be met.
pub fn given(variable: &str) -> Option<PathBuf> {
    let given = std::env::var_os(variable).map(PathBuf::from);
    met(given.is_some(), variable);
    given
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
fn met(met: bool, need: &str) -> bool {
    assert!(met || std::env::var_os("CI").is_none(), "this test needs {need}, and CI must have it");
    if !met {
        eprintln!("SKIPPED: this test needs {need}; `cargo xtask test` sets it up");
    }
    met
}
