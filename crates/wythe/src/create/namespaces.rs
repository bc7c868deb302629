//! Flags that say whose namespaces are used.

use docker::spec::namespace;
use engine::{Create, NamespaceMode};

use super::FlagError;

#[derive(Debug, clap::Args)]
pub(super) struct NamespaceFlags {
    /// PID namespace to use
    #[arg(long, value_name = "string")]
    pid: Option<String>,
    /// IPC mode to use
    #[arg(long, value_name = "string")]
    ipc: Option<String>,
    /// UTS namespace to use
    #[arg(long, value_name = "string")]
    uts: Option<String>,
    /// User namespace to use (host|auto|remap:FIRST[:COUNT])
    #[arg(long, value_name = "string")]
    userns: Option<String>,
    /// Cgroup namespace to use (host|private)
    #[arg(long, value_name = "string")]
    cgroupns: Option<String>,
}

impl NamespaceFlags {
    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        create.pid = mode("pid", self.pid.as_deref(), &["private"])?;
        create.ipc = mode("ipc", self.ipc.as_deref(), &["private", "shareable"])?;
        create.uts = mode("uts", self.uts.as_deref(), &["private"])?;
        create.cgroupns = mode("cgroupns", self.cgroupns.as_deref(), &["private"])?;
        no_container("uts", &create.uts)?;
        no_container("cgroupns", &create.cgroupns)?;
        let users = self.userns.as_deref().unwrap_or_default();
        create.user_map =
            namespace::user_map(users).map_err(|why| FlagError::invalid("userns", users, why))?;
        Ok(())
    }
}

fn mode(flag: &'static str, text: Option<&str>, own: &[&str]) -> Result<NamespaceMode, FlagError> {
    let text = text.unwrap_or_default();
    namespace::mode(text, own).map_err(|why| FlagError::invalid(flag, text, why))
}

fn no_container(flag: &'static str, mode: &NamespaceMode) -> Result<(), FlagError> {
    match mode {
        NamespaceMode::Container(who) => {
            let given = format!("container:{who}");
            Err(FlagError::invalid(flag, &given, "use host or private"))
        }
        NamespaceMode::Private | NamespaceMode::Host => Ok(()),
    }
}
