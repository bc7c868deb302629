//! Flags that say which container it is.

use base::ContainerName;
use engine::Create;
use workload::{Accel, Isolation, MachineSpec};

use super::{FlagError, Surroundings, env::LabelFlags};

#[derive(Debug, clap::Args)]
pub(super) struct IdentityFlags {
    /// Assign a name to the container
    #[arg(long, value_name = "string")]
    name: Option<ContainerName>,
    /// Container host name
    #[arg(short = 'h', long, value_name = "string")]
    hostname: Option<String>,
    /// Container NIS domain name
    #[arg(long, value_name = "string")]
    domainname: Option<String>,
    #[command(flatten)]
    labels: LabelFlags,
    /// What separates the container from the host (container, host, vm or wasm)
    #[arg(long, value_name = "string")]
    isolation: Option<Isolation>,
    /// Kernel of the machine, by name or id (see "wythe kernel ls"); with --isolation vm
    #[arg(long, value_name = "string")]
    kernel: Option<String>,
    /// Add this to the kernel's command line; with --isolation vm
    #[arg(long, value_name = "string", allow_hyphen_values = true)]
    kernel_arg: Vec<String>,
    /// What carries out the machine's instructions ("auto", "kvm", "soft"); with --isolation vm
    #[arg(long, value_name = "string", default_value = "auto", hide_default_value = true)]
    accel: String,
    /// Set platform if server is multi-platform capable
    #[arg(long, value_name = "string")]
    platform: Option<image::Platform>,
    /// Pull image before running ("always", "missing", "never")
    #[arg(long, value_name = "string", default_value = "missing")]
    pull: String,
    /// Suppress the pull output
    #[arg(short, long)]
    quiet: bool,
    /// Skip image verification
    #[arg(long, hide = true)]
    disable_content_trust: bool,
}

/// When an image is asked of its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    /// Each time.
    Always,
    /// If it is not here.
    Missing,
    /// Not at all.
    Never,
}

impl IdentityFlags {
    /// When the image is pulled, and whether silently.
    pub(super) fn pull(&self) -> Result<(PullPolicy, bool), FlagError> {
        let policy = match self.pull.as_str() {
            "always" => PullPolicy::Always,
            "missing" => PullPolicy::Missing,
            "never" => PullPolicy::Never,
            other => {
                let why = "use always, missing or never";
                return Err(FlagError::invalid("pull", other, why));
            }
        };
        Ok((policy, self.quiet))
    }

    pub(super) fn apply(
        self,
        create: &mut Create,
        around: &dyn Surroundings,
    ) -> Result<(), FlagError> {
        create.platform = self.platform.map(|platform| platform.to_string());
        create.name = self.name;
        create.hostname = self.hostname;
        create.domainname = self.domainname;
        create.labels = self.labels.resolve(around)?;
        create.isolation = self.isolation.unwrap_or_default();
        create.machine = MachineSpec {
            kernel: self.kernel,
            arguments: self.kernel_arg,
            accel: accel(&self.accel)?,
        };
        Ok(())
    }
}

/// What carries out instructions, by name; nothing for what is best here.
fn accel(name: &str) -> Result<Option<Accel>, FlagError> {
    match name {
        "auto" => Ok(None),
        "kvm" => Ok(Some(Accel::Kvm)),
        "soft" => Ok(Some(Accel::Soft)),
        other => Err(FlagError::invalid("accel", other, "use auto, kvm or soft")),
    }
}

/// This host's architecture in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
