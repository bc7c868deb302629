//! A real kernel for machines.

use std::path::PathBuf;

use testkit::need;

/// A store of kernels with a default one; nothing where there is none, which is said.
///
/// # Panics
/// In CI, which must have it.
pub fn kernels() -> Option<PathBuf> {
    need::given("WYTHE_TEST_KERNELS")
}
