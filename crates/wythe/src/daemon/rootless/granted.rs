//! What the host does not grant to this user's daemon, in sentences, told once by `wythe info`.

use std::fs;

/// Sentences: what is not there, and what would grant it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Granted {
    lacks: Vec<String>,
}

impl Granted {
    /// Looks at the host, before this process has a network of its own.
    pub(super) fn by_host() -> Granted {
        let text = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
        // Linux 4.11 has the switch.
        let first = text.ok().and_then(|text| text.trim().parse::<u16>().ok()).unwrap_or(1024);
        let ports = (first > 0).then(|| {
            format!(
                "ports: those below {first} cannot be published; root allows it with `sysctl \
                 net.ipv4.ip_unprivileged_port_start=PORT`"
            )
        });
        Granted::default().with(ports)
    }

    /// Looks at the namespaces that this process is in by now.
    pub(super) fn inside(self) -> Granted {
        let limits = (!linux::has_control_groups()).then(|| {
            "limits: none can be set and nothing can be paused, for no control group was \
             delegated to this user; on a host with cgroup version 2 alone start the daemon with \
             `systemd-run --user --scope -p Delegate=yes wythe daemon`"
                .to_owned()
        });
        self.with(limits)
    }

    /// With one more thing that is not there.
    pub(crate) fn with(mut self, lack: Option<String>) -> Granted {
        self.lacks.extend(lack);
        self
    }

    /// Every sentence.
    pub(crate) fn lacks(self) -> Vec<String> {
        self.lacks
    }
}
