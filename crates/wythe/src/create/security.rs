//! Flags about what a container may ask of the kernel.

use std::path::PathBuf;

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
        let mut security = SecurityOptions {
            privileged: self.privileged,
            cap_add: self.cap_add,
            cap_drop: self.cap_drop,
            ..SecurityOptions::default()
        };
        let mut label = Label::default();
        for option in &self.security_opt {
            set(&mut security, &mut label, option, around)?;
        }
        security.selinux = label.text();
        create.security = security;
        create.sysctls = self.sysctl.into_iter().collect();
        create.devices = self.device;
        create.device_rules = self.device_cgroup_rule;
        Ok(())
    }
}

/// One `--security-opt`: `name`, `name=value` or, as of old, `name:value`.
fn set(
    security: &mut SecurityOptions,
    label: &mut Label,
    option: &str,
    around: &dyn Surroundings,
) -> Result<(), FlagError> {
    let invalid = |why: &str| FlagError::invalid("security-opt", option, why);
    let (name, value) = option
        .split_once('=')
        .or_else(|| option.split_once(':'))
        .map_or((option, None), |(name, value)| (name, Some(value)));
    match (name, value) {
        ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
        ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
        ("seccomp", Some("builtin")) => security.seccomp = None,
        ("seccomp", Some("unconfined")) => security.seccomp = Some("unconfined".to_owned()),
        ("seccomp", Some(path)) => {
            let text = around.read(path).map_err(|source| FlagError::File {
                flag: "security-opt seccomp",
                path: path.to_owned(),
                source,
            })?;
            security.seccomp = Some(text);
        }
        ("apparmor", Some(profile)) => security.apparmor = Some(profile.to_owned()),
        ("label", Some(part)) => label.set(part).map_err(invalid)?,
        ("systempaths", Some("unconfined")) => security.unmasked = true,
        ("writable-cgroups", Some("false")) => {}
        ("writable-cgroups", _) => {
            let what = "use --privileged for cgroups that can be written";
            return Err(FlagError::unbuilt("--security-opt writable-cgroups", what));
        }
        _ => {
            return Err(invalid(
                "use no-new-privileges, seccomp=, apparmor=, label= or systempaths=unconfined",
            ));
        }
    }
    Ok(())
}

/// Parts of an SELinux label, `user:role:type:level`.
#[derive(Default)]
struct Label {
    disabled: bool,
    user: Option<String>,
    role: Option<String>,
    kind: Option<String>,
    level: Option<String>,
}

impl Label {
    fn set(&mut self, part: &str) -> Result<(), &'static str> {
        let (name, value) = part.split_once(':').unwrap_or((part, ""));
        let place = match (name, value) {
            ("disable", "") => {
                self.disabled = true;
                return Ok(());
            }
            ("user", _) => &mut self.user,
            ("role", _) => &mut self.role,
            ("type", _) => &mut self.kind,
            ("level", _) => &mut self.level,
            _ => return Err("use label=disable, user:, role:, type: or level:"),
        };
        *place = Some(value.to_owned());
        Ok(())
    }

    /// The whole label, with container-selinux's words for what was not given.
    fn text(self) -> Option<String> {
        let given = [&self.user, &self.role, &self.kind, &self.level];
        if self.disabled || given.iter().all(|part| part.is_none()) {
            return None;
        }
        let part = |part: Option<String>, default: &str| part.unwrap_or_else(|| default.to_owned());
        Some(format!(
            "{}:{}:{}:{}",
            part(self.user, "system_u"),
            part(self.role, "system_r"),
            part(self.kind, "container_t"),
            part(self.level, "s0")
        ))
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
