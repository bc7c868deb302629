//! The vm driver as this program has it: its own file as a machine's process, kernels from the
//! store.

use std::{
    ffi::OsString,
    fs::File,
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    process::ExitCode,
    sync::Arc,
};

use hv::{Accel, HvError, Hypervisor, kvm::Kvm, probe};
use kernels::{Kernel as Kept, Store, StoreError, WANTED};
use linux::{Prepared, Protected};
use microvm::{Kernel, VmConfig, VmDriver, Walls};
use softcpu::Soft;
use workload::DriverError;

use crate::{error::chain, output};

/// The word by which the program is a machine's process.
pub(crate) const VMM: &str = "vmm";

/// First descriptor that is not a standard stream.
const FIRST_DESCRIPTOR: u32 = 3;

/// What a machine's command line begins with. A machine is quiet unless its kernel has to say
/// something; its first process needs nothing from it.
const ARGUMENTS: &str = "console=ttyS0 quiet loglevel=5 reboot=k panic=-1 dummy.numdummies=0";

/// The vm driver over the kernels of this store.
pub(super) fn driver(kernels: &Path, prepared: &Prepared) -> VmDriver {
    let store = Store::new(kernels);
    let walls = Walls {
        hierarchy: prepared.hierarchy().clone(),
        group: prepared.group().clone(),
        ground: prepared.ground().cloned(),
    };
    VmDriver::new(VmConfig {
        start: Arc::new(|socket: OwnedFd, group| {
            Protected::new()?.spawn(&[c"wythe", c"vmm"], socket.as_fd(), group)
        }),
        walls,
        kernel: Arc::new(move |name| kernel(&store, name)),
        accel: None,
        warm: Some(kernels.with_file_name("machines").join("warm")),
    })
}

fn kernel(store: &Store, name: Option<&str>) -> Result<Kernel, DriverError> {
    let unreadable = |error: &StoreError| DriverError::Invalid {
        what: "the kernels of this host".to_owned(),
        why: chain(error),
    };
    if let Some(name) = name {
        let kept = store.find(name).map_err(|error| DriverError::Invalid {
            what: "kernel".to_owned(),
            why: chain(&error),
        })?;
        return read(&kept);
    }
    let kept = store.default().map_err(|error| unreadable(&error))?;
    let kept = kept.ok_or_else(|| DriverError::Unsupported {
        what: "machines".to_owned(),
        why: "there is no kernel: wythe kernel pull fetches one".to_owned(),
    })?;
    read(&kept)
}

fn read(kept: &Kept) -> Result<Kernel, DriverError> {
    opened(kept).map_err(|error| {
        DriverError::step(format!("read the kernel {}", kept.manifest.name), &error)
    })
}

fn opened(kept: &Kept) -> std::io::Result<Kernel> {
    let modules = kept
        .modules(WANTED)
        .into_iter()
        .map(|module| (format!("{}.ko", module.name), kept.module_file(module)));
    Ok(Kernel {
        identity: kept.digest.to_string(),
        image: File::open(kept.boot_file())?,
        modules: modules.collect(),
        acpi: true,
        arguments: ARGUMENTS.to_owned(),
    })
}

/// `wythe vmm`: a machine's process, started by the driver.
pub(crate) fn vmm(args: &[OsString]) -> ExitCode {
    if !args.is_empty() {
        output::complain("wythe: vmm is started by the daemon");
        return ExitCode::from(125);
    }
    // It ends with the shim that holds it.
    let run = || {
        sys::process::die_with_parent(true)?;
        // What it has of the host is what it is handed.
        sys::fork::close_from(FIRST_DESCRIPTOR)?;
        // It is only for `ps`.
        let _ = rustix::thread::set_name(c"wythe-vmm");
        let socket = std::io::stdin().as_fd().try_clone_to_owned()?;
        microvm::vmm::run(socket, &hypervisor)
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&format!("wythe: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}

/// What carries out a machine's instructions: what was named, or the best there is.
pub(crate) fn hypervisor(accel: Option<Accel>) -> Result<Arc<dyn Hypervisor>, HvError> {
    let kvm = match accel {
        Some(accel) => accel == Accel::Kvm,
        None => probe::probe().is_usable(),
    };
    Ok(if kvm { Arc::new(Kvm::open()?) } else { Arc::new(Soft) })
}
