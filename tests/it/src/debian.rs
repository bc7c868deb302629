//! A real distribution to run.

use std::path::PathBuf;

use testkit::need;

/// The Debian root file system that `cargo xtask test` makes, as a tar archive; nothing where there is
/// none, which is said.
///
/// # Panics
/// In CI, which must have it.
pub fn debian() -> Option<PathBuf> {
    need::given("WYTHE_TEST_DEBIAN")
}
