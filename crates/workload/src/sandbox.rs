//! One isolation boundary, described.

use std::{collections::BTreeMap, fmt, os::fd::OwnedFd, path::PathBuf, str::FromStr};

use base::SandboxId;
use serde::{Deserialize, Serialize};

use crate::{Limits, UserMap};

/// What separates a workload from the host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces, cgroups and a system call filter on the host's kernel.
    #[default]
    Container,
    /// A machine of its own, with its own kernel.
    Vm,
    /// A WebAssembly sandbox.
    Wasm,
    /// A cgroup and nothing else; what Windows calls a host process.
    Host,
}

/// A word that names no isolation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("isolation \"{0}\" is not known: use container, vm, wasm or host")]
pub struct IsolationError(pub String);

impl FromStr for Isolation {
    type Err = IsolationError;
    /// Reads our words and the synonyms that clients send (`default`, `process`, `hyperv`,
    /// `microvm`).
    fn from_str(word: &str) -> Result<Isolation, IsolationError> {
        match word.to_ascii_lowercase().as_str() {
            "" | "default" | "process" | "container" => Ok(Isolation::Container),
            "vm" | "microvm" | "hyperv" => Ok(Isolation::Vm),
            "wasm" => Ok(Isolation::Wasm),
            "host" => Ok(Isolation::Host),
            _ => Err(IsolationError(word.chars().take(64).collect())),
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Isolation::Container => "container",
            Isolation::Vm => "vm",
            Isolation::Wasm => "wasm",
            Isolation::Host => "host",
        })
    }
}

/// What carries out a machine's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    /// The host's processor, through KVM.
    Kvm,
    /// A processor in software.
    Soft,
}

/// What is asked of a machine, where the wall is one ([`Isolation::Vm`]); nothing, for what is best.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MachineSpec {
    /// Its kernel, by name or id.
    pub kernel: Option<String>,
    /// Words for the end of the kernel's command line.
    pub arguments: Vec<String>,
    /// What carries out its instructions.
    pub accel: Option<Accel>,
}

impl MachineSpec {
    /// Whether nothing is asked.
    pub fn is_default(&self) -> bool {
        *self == MachineSpec::default()
    }
}

/// Everything a driver needs to make one sandbox, but for descriptors ([`Materials`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Whose sandbox it is; unique on the node.
    pub id: SandboxId,
    /// What is asked of its machine.
    #[serde(default, skip_serializing_if = "MachineSpec::is_default")]
    pub machine: MachineSpec,
    /// Host name inside, `None` to keep the host's.
    pub hostname: Option<String>,
    /// NIS domain name inside, `None` to keep the host's.
    #[serde(default)]
    pub domainname: Option<String>,
    /// The network it lives on.
    pub network: Network,
    /// Inter-process communication: System V IPC and POSIX message queues.
    #[serde(default)]
    pub ipc: Namespace,
    /// Host name and domain name.
    #[serde(default)]
    pub uts: Namespace,
    /// User and group ids inside, or `None` for the host's.
    #[serde(default)]
    pub user: Option<UserMap>,
    /// Clocks that run ahead of or behind the host's, or `None` for the host's.
    #[serde(default)]
    pub time: Option<TimeOffsets>,
    /// Kernel parameters of the sandbox's own namespaces, as `sysctl(8)` names them.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
    /// What it may use at most, all its processes together.
    #[serde(default)]
    pub limits: Limits,
    /// Where its control group stands, relative to the hierarchy's root, such as
    /// `/wythe/<id>`. `None` leaves the choice to the driver.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// The directory into which another one was saved ([`crate::Forkable::save`]), from where this
    /// one is to go on; `None` for one that begins with nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<PathBuf>,
}

/// Descriptors that go with a [`SandboxSpec`].
#[derive(Debug, Default)]
pub struct Materials {
    /// The network namespace meant by [`Network::Given`].
    pub network: Option<OwnedFd>,
}

/// A sandbox's network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// A new, empty one: only a loopback interface, which is up.
    None,
    /// The host's.
    Host,
    /// One that somebody made and handed over in [`Materials::network`].
    Given,
    /// The one this namespace file names (`/proc/PID/ns/net`).
    Join(PathBuf),
}

/// One kernel namespace of a sandbox or container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Namespace {
    /// A new one.
    #[default]
    Private,
    /// The host's.
    Host,
    /// The one this namespace file names (`/proc/PID/ns/…`).
    Join(PathBuf),
}

/// Offsets of a time namespace, in seconds and nanoseconds.
///
/// Source: time_namespaces(7), Linux 5.6.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeOffsets {
    /// Added to `CLOCK_MONOTONIC`.
    pub monotonic: (i64, u32),
    /// Added to `CLOCK_BOOTTIME`.
    pub boottime: (i64, u32),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_synonyms_choose_our_isolations() {
        for (word, want) in [
            ("", Isolation::Container),
            ("process", Isolation::Container),
            ("HyperV", Isolation::Vm),
            ("microvm", Isolation::Vm),
            ("host", Isolation::Host),
        ] {
            assert_eq!(word.parse(), Ok(want), "{word}");
        }
        assert!("jail".parse::<Isolation>().is_err());
    }
}
