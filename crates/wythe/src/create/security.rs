//! Flags about what a container may ask of the kernel.

use std::path::PathBuf;

use docker::spec::security;
use engine::{Create, DeviceRequest, SecurityOptions};
use workload::profile;

use super::{FlagError, Surroundings};

#[derive(Debug, clap::Args)]
pub(super) struct SecurityFlags {
    /// Add Linux capabilities
    #[arg(long, value_name = "list", value_parser = capability)]
    cap_add: Vec<String>,
    /// Drop Linux capabilities
    #[arg(long, value_name = "list", value_parser = capability)]
    cap_drop: Vec<String>,
    /// Security Options
    #[arg(long, value_name = "list")]
    security_opt: Vec<String>,
    /// Give extended privileges to this container
    #[arg(long)]
    privileged: bool,
    /// Sysctl options
    #[arg(long, value_name = "map", value_parser = sysctl)]
    sysctl: Vec<(String, String)>,
    /// Add a host device to the container
    #[arg(long, value_name = "list", value_parser = device)]
    device: Vec<DeviceRequest>,
    /// Add a rule to the cgroup allowed devices list
    #[arg(long, value_name = "list", value_parser = device_rule)]
    device_cgroup_rule: Vec<String>,
}

impl SecurityFlags {
    pub(super) fn apply(
        self,
        create: &mut Create,
        around: &dyn Surroundings,
    ) -> Result<(), FlagError> {
        let options = SecurityOptions {
            privileged: self.privileged,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            ..SecurityOptions::default()
        };
        let read = |path: &str| {
            around.read(path).map_err(|source| FlagError::File {
                flag: "security-opt seccomp",
                path: path.to_owned(),
                source,
            })
        };
        let invalid = |option: &str, why: String| FlagError::invalid("security-opt", option, why);
        create.security = security::options(options, &self.security_opt, read, invalid)?;
        create.sysctls = self.sysctl.into_iter().collect();
        create.devices = self.device;
        create.device_rules = self.device_cgroup_rule;
        Ok(())
    }
}

fn capability(text: &str) -> Result<String, String> {
    let upper = text.to_ascii_uppercase();
    if upper == "ALL" || profile::capability(text).is_some() {
        return Ok(upper);
    }
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    Err(match api::closest(bare, profile::CAPABILITY_NAMES) {
        Some(name) => format!("there is no such capability; did you mean {name}?"),
        None => "there is no such capability; see capabilities(7)".to_owned(),
    })
}

fn sysctl(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write name=value".to_owned()),
    }
}

/// `/dev/host[:/dev/container][:rwm]`.
fn device(text: &str) -> Result<DeviceRequest, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, permissions) = match parts.as_slice() {
        [host] => (*host, *host, "rwm"),
        [host, last] if is_permissions(last) => (*host, *host, *last),
        [host, container] => (*host, *container, "rwm"),
        [host, container, permissions] => (*host, *container, *permissions),
        _ => return Err("write /dev/host[:/dev/container][:rwm]".to_owned()),
    };
    if !host.starts_with('/') || !container.starts_with('/') {
        return Err("both paths must be absolute".to_owned());
    }
    if !is_permissions(permissions) {
        return Err(format!("\"{permissions}\" is not of the letters r, w and m"));
    }
    let (host, container) = (PathBuf::from(host), PathBuf::from(container));
    Ok(DeviceRequest { host, container, permissions: permissions.to_owned() })
}

fn is_permissions(text: &str) -> bool {
    (1..=3).contains(&text.len()) && text.chars().all(|letter| "rwm".contains(letter))
}

/// `a|b|c major:minor rwm`, with `*` for every number.
fn device_rule(text: &str) -> Result<String, String> {
    let bad = || "write the likes of \"c 1:3 rwm\"".to_owned();
    let parts: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, permissions] = parts.as_slice() else { return Err(bad()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(bad)?;
    let number = |text: &str| text == "*" || text.parse::<u32>().is_ok();
    let good = ["a", "b", "c"].contains(kind) && number(major) && number(minor);
    if good && is_permissions(permissions) { Ok(text.to_owned()) } else { Err(bad()) }
}
