//! A real kernel for machines.

use std::path::PathBuf;

/// A store of kernels with a default one, which `cargo xtask test` makes; nothing where there is
/// none, which is said.
///
/// # Panics
/// In CI, which must have it.
pub fn kernels() -> Option<PathBuf> {
    let store = std::env::var_os("WYTHE_TEST_KERNELS").map(PathBuf::from);
    if store.is_none() {
        assert!(std::env::var_os("CI").is_none(), "CI must have WYTHE_TEST_KERNELS");
        eprintln!("SKIPPED: needs a kernel for machines: use cargo xtask test");
    }
    store
}
