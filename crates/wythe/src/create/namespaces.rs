//! Flags that say whose namespaces are used.

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
    /// User namespace to use
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
        match self.userns.as_deref() {
            None | Some("" | "host") => Ok(()),
            Some(other) => {
                let what = "containers use the host's user ids; use host";
                Err(FlagError::unbuilt(format!("--userns {other}"), what))
            }
        }
    }
}

fn mode(flag: &'static str, text: Option<&str>, own: &[&str]) -> Result<NamespaceMode, FlagError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return Ok(NamespaceMode::Private);
    };
    match text.split_once(':') {
        Some(("container", who)) if !who.is_empty() => Ok(NamespaceMode::Container(who.to_owned())),
        None if text == "host" => Ok(NamespaceMode::Host),
        None if own.contains(&text) => Ok(NamespaceMode::Private),
        None if flag == "ipc" && text == "none" => {
            Err(FlagError::unbuilt("--ipc none", "use private"))
        }
        _ => Err(FlagError::invalid(flag, text, format!("use host or {}", own.join(" or ")))),
    }
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
