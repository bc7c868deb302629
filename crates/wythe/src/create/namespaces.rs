//! Flags that say whose namespaces are used.

use engine::{Create, NamespaceMode};
use workload::{IdMap, UserMap};

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
        create.user_map = user_map(self.userns.as_deref().unwrap_or_default())?;
        Ok(())
    }
}

/// How many ids `remap:FIRST` means.
const COUNT: u32 = 65_536;

/// `host`; a namespace with ids of its own (`auto`, podman's word, or `private`, as of the other
/// namespaces); or which ids of the host stand for those inside: `remap:FIRST[:COUNT]`. A map
/// without ranges leaves them to the daemon.
fn user_map(text: &str) -> Result<Option<UserMap>, FlagError> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    let wrong = || {
        let right = "use host, auto or remap:FIRST[:COUNT]";
        FlagError::invalid("userns", text, right)
    };
    match (word, rest) {
        ("" | "host", "") => Ok(None),
        ("auto" | "private" | "remap", "") => Ok(Some(UserMap::default())),
        ("remap", ids) => {
            let (first, count) = ids.split_once(':').map_or((ids, None), |(f, c)| (f, Some(c)));
            let number = |text: &str| text.parse::<u32>().map_err(|_| wrong());
            let outside = number(first)?;
            let count = count.map_or(Ok(COUNT), number)?;
            if count == 0 || outside.checked_add(count).is_none() {
                return Err(wrong());
            }
            let map = vec![IdMap { inside: 0, outside, count }];
            Ok(Some(UserMap { uids: map.clone(), gids: map, join: None }))
        }
        ("keep-id" | "nomap" | "container" | "ns", _) => {
            let instead = "use host, auto or remap:FIRST[:COUNT]";
            Err(FlagError::unbuilt(format!("--userns {text}"), instead))
        }
        _ => Err(wrong()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_namespaces_are_the_hosts_open_or_said() {
        let map = |text| user_map(text).ok();
        assert_eq!(map(""), Some(None));
        assert_eq!(map("host"), Some(None));
        assert_eq!(map("auto"), Some(Some(UserMap::default())));
        let said = |text| map(text).flatten().map(|map| map.uids);
        let range = |outside, count| Some(vec![IdMap { inside: 0, outside, count }]);
        assert_eq!(said("remap:100000"), range(100_000, 65_536));
        assert_eq!(said("remap:100000:10"), range(100_000, 10));
        for bad in ["keep-id", "remap:x", "remap:1:0", "remap:4294967295:2", "other", "host:1"] {
            assert_eq!(map(bad), None, "{bad}");
        }
    }
}
