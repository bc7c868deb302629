//! Why there are no user namespaces for this user, and what would mend it.

use std::{fs, io};

use crate::error::CliError;

/// A switch by which hosts forbid user namespaces.
struct Switch {
    /// Its file below `/proc/sys`.
    file: &'static str,
    forbids: &'static str,
    mend: &'static str,
}

/// Source: user_namespaces(7) for the second; Debian's and Ubuntu's kernels for the others.
const SWITCHES: [Switch; 3] = [
    Switch {
        file: "kernel/unprivileged_userns_clone",
        forbids: "0",
        mend: "sysctl kernel.unprivileged_userns_clone=1",
    },
    Switch {
        file: "user/max_user_namespaces",
        forbids: "0",
        mend: "sysctl user.max_user_namespaces=10000",
    },
    Switch {
        file: "kernel/apparmor_restrict_unprivileged_userns",
        forbids: "1",
        mend: "sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile for \
               wythe with `userns,`",
    },
];

/// The refusal with what root would have to do.
pub(super) fn explain(error: &io::Error) -> CliError {
    CliError::Usage(sentence(error, |file| fs::read_to_string(format!("/proc/sys/{file}")).ok()))
}

fn sentence(error: &io::Error, read: impl Fn(&str) -> Option<String>) -> String {
    let forbids = |switch: &&Switch| read(switch.file).is_some_and(|v| v.trim() == switch.forbids);
    let start = "containers of an ordinary user need user namespaces, which this host";
    match SWITCHES.iter().find(forbids) {
        Some(switch) => format!("{start} forbids; root allows them with: {}", switch.mend),
        None => format!("{start} does not give: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_switch_that_forbids_is_named() {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::PERM.raw_os_error());
        let with = |file: &'static str, value: &'static str| {
            sentence(&error, move |asked| (asked == file).then(|| format!("{value}\n")))
        };
        let text = with("user/max_user_namespaces", "0");
        assert!(text.ends_with("sysctl user.max_user_namespaces=10000"), "{text}");
        let text = with("user/max_user_namespaces", "100");
        assert!(text.contains("does not give: Operation not permitted"), "{text}");
        assert!(with("kernel/unprivileged_userns_clone", "0").contains("clone=1"));
        assert!(with("kernel/apparmor_restrict_unprivileged_userns", "1").contains("AppArmor"));
    }
}
