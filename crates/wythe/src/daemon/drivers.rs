//! Drivers: the only place where concrete ones are named.

use std::{
    ffi::OsString,
    io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    sync::{Arc, OnceLock},
    time::Duration,
};

use base::Deadline;
use linux::{LinuxDriver, Prepared, Protected};
use shim::{ForkServer, ShimConfig, ShimDriver};
use tracing::warn;
use workload::{Driver, DriverError, Isolation};

use super::{init, instance, machines};
use crate::{
    error::{CliError, chain},
    output,
    paths::Roots,
};

/// How long a fork server that is of no more use may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Where the shims' sockets are.
pub(super) fn shim_directory(roots: &Roots) -> PathBuf {
    roots.run.join("shims")
}

/// The drivers of this build, in shims. `joined` says that shims of an earlier daemon are there and
/// share our mounts.
pub(super) async fn open(roots: &Roots, joined: bool) -> Result<Drivers, CliError> {
    let build = build();
    let init = init::path(roots, &build);
    if let Err(error) = init::place(&init) {
        warn!(%error, "--init will be refused: its program cannot be put in place");
    }
    let kernels = roots.data.join("kernels");
    let config = ShimConfig {
        run_dir: shim_directory(roots),
        build: build.clone(),
        start: start_fork_server(shim_directory(roots), build, init.clone(), kernels.clone()),
    };
    let mut drivers: Vec<Arc<ShimDriver>> = Vec::new();
    let mut locals = Vec::new();
    let no_driver = |isolation: Isolation, error: &dyn std::error::Error| {
        CliError::Usage(format!("no driver for isolation {isolation}: {}", chain(error)))
    };
    let prepared = Prepared::new(init::open(&init).ok(), &instance::group(&roots.run))
        .map_err(|error| no_driver(Isolation::Container, &error))?;
    for isolation in [Isolation::Container, Isolation::Host] {
        let failed = |error: &dyn std::error::Error| no_driver(isolation, error);
        let local = Arc::new(prepared.driver(isolation).map_err(|error| failed(&error))?);
        locals.push(Arc::clone(&local));
        let driver = ShimDriver::new(local, config.clone()).map_err(|error| failed(&error))?;
        if !joined && drivers.is_empty() {
            // One that is left over lives in the mount namespace of a daemon that is gone.
            let stopped = driver.stop_fork_server(Deadline::after(STOP_WITHIN)).await;
            stopped.map_err(|error| failed(&error))?;
        }
        drivers.push(Arc::new(driver));
    }
    let machines = ShimDriver::new(Arc::new(machines::driver(&kernels, &prepared)), config);
    drivers.push(Arc::new(machines.map_err(|error| no_driver(Isolation::Vm, &error))?));
    Ok(Drivers { drivers, locals })
}

/// The drivers of this build. Their shims share one fork server.
pub(super) struct Drivers {
    drivers: Vec<Arc<ShimDriver>>,
    /// The same in this process, which makes nothing.
    locals: Vec<Arc<LinuxDriver>>,
}

impl Drivers {
    /// As the engine knows them.
    pub(super) fn list(&self) -> Vec<Arc<dyn Driver>> {
        self.drivers.iter().map(|driver| Arc::clone(driver) as Arc<dyn Driver>).collect()
    }

    /// Ends the fork server, which is of no use without a daemon; shims go on without it.
    pub(super) async fn stop(&self) {
        let Some(driver) = self.drivers.first() else { return };
        if let Err(error) = driver.stop_fork_server(Deadline::after(STOP_WITHIN)).await {
            // The next daemon tries again.
            warn!(%error, "the fork server goes on");
        }
        // The group that all sandboxes stand in goes with the last of them.
        self.locals.iter().for_each(|driver| driver.prune());
    }
}

/// The driver for an isolation, in this process.
fn drive(
    isolation: Isolation,
    prepared: &Prepared,
    kernels: &Path,
) -> Result<Arc<dyn Driver>, DriverError> {
    match isolation {
        Isolation::Vm => Ok(Arc::new(machines::driver(kernels, prepared))),
        Isolation::Container | Isolation::Host | Isolation::Wasm => {
            Ok(Arc::new(prepared.driver(isolation)?))
        }
    }
}

/// Names this build: of two programs of one version, the one that was built later is another.
fn build() -> String {
    let version = env!("CARGO_PKG_VERSION");
    match std::fs::metadata("/proc/self/exe") {
        Ok(exe) => format!("{version}-{:x}-{:x}", exe.mtime(), exe.mtime_nsec()),
        Err(_) => version.to_owned(),
    }
}

/// Starts this program again as the fork server, and so as every shim, from where no container can
/// change it.
fn start_fork_server(
    run_dir: PathBuf,
    build: String,
    init: PathBuf,
    kernels: PathBuf,
) -> Arc<shim::StartForkServer> {
    Arc::new(move |listener: OwnedFd| {
        let status = Protected::new()?
            .command()
            .arg0("wythe")
            .arg("shim")
            .arg(&run_dir)
            .arg(&build)
            .arg(&init)
            .arg(&kernels)
            .current_dir("/")
            .stdin(Stdio::from(listener))
            .stdout(Stdio::null())
            .status()?;
        match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(format!("it ended with {status}"))),
        }
    })
}

/// `wythe shim DIRECTORY BUILD INIT KERNELS`: the fork server, and in the end each shim.
pub(crate) fn shim(args: &[OsString]) -> ExitCode {
    let [run_dir, build, init, kernels] = args else {
        output::complain("wythe: shim is started by the daemon");
        return ExitCode::from(125);
    };
    let (init, kernels) = (PathBuf::from(init), PathBuf::from(kernels));
    // The sockets' directory is in the run root.
    let group = instance::group(Path::new(run_dir).parent().unwrap_or(Path::new("/")));
    // Made in the server, before there are shims; each has it from birth.
    let prepared: Arc<OnceLock<Prepared>> = Arc::default();
    let prepare = {
        let (prepared, init, group) = (Arc::clone(&prepared), init.clone(), group.clone());
        move || {
            // A shim that finds nothing prepared looks for itself, and can say what is wrong.
            if let Ok(found) = Prepared::new(init::open(&init).ok(), &group) {
                prepared.get_or_init(|| found.with_ground());
            }
        }
    };
    let server = ForkServer {
        run_dir: Path::new(run_dir).to_owned(),
        build: build.to_string_lossy().into_owned(),
        prepare: Arc::new(prepare),
        driver: Arc::new(move |isolation| match prepared.get() {
            Some(prepared) => drive(isolation, prepared, &kernels),
            None => drive(isolation, &Prepared::new(init::open(&init).ok(), &group)?, &kernels),
        }),
    };
    match server.serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("wythe: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}
