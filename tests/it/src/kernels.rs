//! A real kernel for machines.

use std::{path::PathBuf, process::Command};

use testkit::need;

use crate::Instance;

/// A store of kernels with a default one; nothing where there is none, which is said.
///
/// # Panics
/// In CI, which must have it.
pub fn kernels() -> Option<PathBuf> {
    need::given("WYTHE_TEST_KERNELS")
}

/// An instance that has a kernel.
///
/// # Panics
/// As [`kernels`], and if the kernel cannot be copied.
pub fn instance_with_kernel() -> Option<Instance> {
    let store = kernels()?;
    let instance = Instance::start()?;
    let to = instance.path("data").join("kernels");
    let copied = Command::new("cp").arg("-aT").arg(store).arg(to).status();
    assert!(copied.expect("cp can be started").success());
    Some(instance)
}
