//! The little language of `--security-opt`.
//!
//! Source: Docker's documentation, `docker run`, "Optional security options".

use engine::SecurityOptions;

/// What is right.
const RIGHT: &str = "use no-new-privileges, seccomp=, apparmor=, label= or systempaths=unconfined";

/// Sets options one after the other: `name`, `name=value` or, as of old, `name:value`. What
/// follows `seccomp=` is handed to `profile`, unless it is a word of its own.
///
/// # Errors
/// What `profile` says, and what `invalid` makes of an option and of what is wrong with it.
pub fn options<E>(
    mut security: SecurityOptions,
    given: &[String],
    profile: impl Fn(&str) -> Result<String, E>,
    invalid: impl Fn(&str, String) -> E,
) -> Result<SecurityOptions, E> {
    let mut label = Label::default();
    for option in given {
        let wrong = |why: &str| invalid(option, why.to_owned());
        let (name, value) = option
            .split_once('=')
            .or_else(|| option.split_once(':'))
            .map_or((option.as_str(), None), |(name, value)| (name, Some(value)));
        match (name, value) {
            ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
            ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
            ("seccomp", Some("builtin")) => security.seccomp = None,
            ("seccomp", Some("unconfined")) => security.seccomp = Some("unconfined".to_owned()),
            ("seccomp", Some(given)) => security.seccomp = Some(profile(given)?),
            ("apparmor", Some(profile)) => security.apparmor = Some(profile.to_owned()),
            ("label", Some(part)) => label.set(part).map_err(wrong)?,
            ("systempaths", Some("unconfined")) => security.unmasked = true,
            ("writable-cgroups", Some("false")) => {}
            ("writable-cgroups", _) => {
                return Err(wrong("not built yet: use --privileged for cgroups to be written"));
            }
            _ => return Err(wrong(RIGHT)),
        }
    }
    if let Some(text) = label.text() {
        security.selinux = Some(text);
    }
    Ok(security)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(given: &[&str]) -> Result<SecurityOptions, String> {
        let given: Vec<String> = given.iter().map(|text| (*text).to_owned()).collect();
        let profile = |text: &str| Ok(text.to_owned());
        options(SecurityOptions::default(), &given, profile, |option, why| {
            format!("{option}: {why}")
        })
    }

    #[test]
    fn options_are_read_in_both_forms() {
        let json = r#"seccomp={"defaultAction":"SCMP_ACT_ALLOW"}"#;
        let read_all = read(&["no-new-privileges:true", json, "label=type:t", "label:level:s0:c1"]);
        let security = read_all.unwrap();
        assert!(security.no_new_privileges);
        assert_eq!(security.seccomp.unwrap(), r#"{"defaultAction":"SCMP_ACT_ALLOW"}"#);
        assert_eq!(security.selinux.unwrap(), "system_u:system_r:t:s0:c1");
        assert_eq!(read(&["label=disable"]).unwrap(), SecurityOptions::default());
        assert!(read(&["systempaths=unconfined"]).unwrap().unmasked);
        for bad in ["other", "seccomp", "label=colour:red", "writable-cgroups=true"] {
            assert!(read(&[bad]).unwrap_err().starts_with(bad), "{bad}");
        }
    }
}
