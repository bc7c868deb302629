//! Drivers as an engine sees them: in shims that the built program forks, over their sockets.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base::{Deadline, SandboxId};
use shim::{ShimConfig, ShimDriver};
use workload::Driver;

use crate::Instance;

/// Shims of the program under test, and their fork server, which ends with this value.
#[derive(Debug)]
pub struct Shims {
    local: Arc<dyn Driver>,
    config: ShimConfig,
}

/// What they say that they are a build of.
const BUILD: &str = "tests";

impl Shims {
    /// Shims with their sockets in an empty directory, for what this driver does in this process.
    /// They find kernels for machines in `kernels`.
    pub fn new(directory: &Path, local: Arc<dyn Driver>, kernels: &Path) -> Shims {
        let (run_dir, kernels) = (directory.to_owned(), kernels.to_owned());
        let start = move |listener| {
            let mut fork_server = Command::new(Instance::program());
            let init = run_dir.join("no-init");
            fork_server.arg("shim").arg(&run_dir).arg(BUILD).arg(init).arg(&kernels);
            let status = fork_server.stdin(Stdio::from(listener)).status()?;
            assert!(status.success(), "the fork server starts: {status}");
            Ok(())
        };
        let run_dir = directory.to_owned();
        let config = ShimConfig { run_dir, build: BUILD.to_owned(), start: Arc::new(start) };
        Shims { local, config }
    }

    /// A client of them.
    ///
    /// # Panics
    /// If their directory cannot be made.
    pub fn driver(&self) -> ShimDriver {
        let driver = ShimDriver::new(Arc::clone(&self.local), self.config.clone());
        driver.expect("the directory is ours")
    }

    /// Sockets that are left of a sandbox.
    pub fn residue(&self, id: &SandboxId) -> Vec<String> {
        let sockets = fs::read_dir(&self.config.run_dir).into_iter().flatten().flatten();
        let names = sockets.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| name.contains(id.as_str())).collect()
    }
}

impl Drop for Shims {
    fn drop(&mut self) {
        let driver = self.driver();
        let stop =
            async move { driver.stop_fork_server(Deadline::after(Duration::from_secs(10))).await };
        // A runtime of its own: this may be dropped inside of one.
        std::thread::spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(stop)
        })
        .join()
        .expect("stopping does not panic")
        .expect("the fork server stops");
    }
}
