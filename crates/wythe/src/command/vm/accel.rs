//! What carries out a machine's instructions: the host's processor, or one in software.

use std::sync::Arc;

use hv::{Hypervisor, kvm::Kvm, probe};
use softcpu::Soft;
use workload::Finding;

use crate::error::{CliError, chain};

/// A choice of the user's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Accel {
    /// KVM where it is usable, else the software processor
    #[default]
    Auto,
    /// KVM, whatever it is like
    Kvm,
    /// The software processor
    Soft,
}

impl Accel {
    /// What was named, if anything was.
    pub(super) fn choice(self) -> Option<hv::Accel> {
        match self {
            Accel::Auto => None,
            Accel::Kvm => Some(hv::Accel::Kvm),
            Accel::Soft => Some(hv::Accel::Soft),
        }
    }

    pub(super) fn hypervisor(self) -> Result<Arc<dyn Hypervisor>, CliError> {
        let kvm = match self {
            Accel::Auto => probe::probe().is_usable(),
            Accel::Kvm => true,
            Accel::Soft => false,
        };
        if !kvm {
            return Ok(Arc::new(Soft));
        }
        match Kvm::open() {
            Ok(kvm) => Ok(Arc::new(kvm)),
            Err(error) => Err(CliError::Usage(format!("KVM cannot be used: {}", chain(&error)))),
        }
    }
}

/// What the host's KVM is worth, for `doctor`.
pub(crate) fn finding() -> Finding {
    let found = probe::probe();
    let works = found.is_usable();
    let detail = match works {
        true => found.to_string(),
        false => format!("{found}; machines run on the software processor"),
    };
    Finding { subject: "KVM".to_owned(), works, detail, mend: None }
}
