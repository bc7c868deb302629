//! Kernel parameters: only those of the sandbox's own namespaces, and where they stand.
//!
//! Source: ipc_namespaces(7), network_namespaces(7), uts_namespaces(7).

use std::ffi::CString;

use workload::{DriverError, Isolation, Namespace, Network, SandboxSpec};

use crate::op::Op;

/// Parameters of System V IPC, by their names below `kernel`.
const IPC: [&str; 8] =
    ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Which namespace a parameter belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Ipc,
    Network,
    Uts,
}

/// A parameter: its path below `/proc`, and its value.
pub(crate) type Parameter = (CString, CString);

/// Operations that set the sandbox's parameters from inside.
pub(crate) fn ops(sandbox: &SandboxSpec, isolation: Isolation) -> Result<Vec<Op>, DriverError> {
    let inside = |name: &str| !is_of_parents(sandbox, name);
    let all = sandbox.sysctls.iter().filter(|(name, _)| inside(name));
    all.map(|(name, value)| {
        let (path, value) = parameter(sandbox, isolation, name, value)?;
        Ok(Op::Sysctl { path, value })
    })
    .collect()
}

/// Parameters that the parent sets: those of a network that is older than the container's user
/// namespace, which has no power over it.
pub(crate) fn by_parent(
    sandbox: &SandboxSpec,
    isolation: Isolation,
) -> Result<Vec<Parameter>, DriverError> {
    let all = sandbox.sysctls.iter().filter(|(name, _)| is_of_parents(sandbox, name));
    all.map(|(name, value)| {
        let value = if name == PING { groups_outside(sandbox, value) } else { value.clone() };
        parameter(sandbox, isolation, name, &value)
    })
    .collect()
}

fn is_of_parents(sandbox: &SandboxSpec, name: &str) -> bool {
    let older = matches!(sandbox.network, Network::Given | Network::Join(_));
    let of_network = parts(name).is_some_and(|parts| owner(&parts) == Some(Owner::Network));
    older && of_network && sandbox.user.is_some()
}

/// The one parameter whose value is ids: a range of groups. Source: icmp(7).
const PING: &str = "net.ipv4.ping_group_range";

/// A range of groups as it is called outside; what is no such range stays as it is.
fn groups_outside(sandbox: &SandboxSpec, value: &str) -> String {
    let numbers: Vec<u32> = value.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    let ([first, last], Some(map)) = (numbers.as_slice(), &sandbox.user) else {
        return value.to_owned();
    };
    let range = map.gids.iter().find(|range| {
        *first >= range.inside && last.checked_sub(range.inside).is_some_and(|at| at < range.count)
    });
    match range {
        Some(range) => {
            let outside = |id: u32| range.outside.saturating_add(id.saturating_sub(range.inside));
            format!("{} {}", outside(*first), outside(*last))
        }
        None => value.to_owned(),
    }
}

fn parameter(
    sandbox: &SandboxSpec,
    isolation: Isolation,
    name: &str,
    value: &str,
) -> Result<Parameter, DriverError> {
    let invalid =
        |why: &str| DriverError::Invalid { what: format!("sysctl {name}"), why: why.into() };
    let parts = parts(name).ok_or_else(|| invalid("it must be words joined by dots"))?;
    let owner = owner(&parts)
        .ok_or_else(|| invalid("it belongs to no namespace: it would change the whole host"))?;
    let (own, which) = match owner {
        Owner::Ipc => (sandbox.ipc != Namespace::Host, "IPC"),
        Owner::Network => (sandbox.network != Network::Host, "network"),
        Owner::Uts => (sandbox.uts != Namespace::Host, "UTS"),
    };
    if !own || isolation == Isolation::Host {
        return Err(invalid(&format!("the {which} namespace is the host's")));
    }
    let text = |text: String| CString::new(text).map_err(|_| invalid("it holds a zero byte"));
    Ok((text(format!("sys/{}", parts.join("/")))?, text(value.into())?))
}

/// A name as path: dots and slashes change places if the first separator is a dot.
///
/// Source: sysctl(8), "PARAMETERS": `net.ipv4.conf.eth0/1.forwarding`.
fn parts(name: &str) -> Option<Vec<String>> {
    let first = name.find(['.', '/'])?;
    let dots = name.get(first..)?.starts_with('.');
    let (separator, other) = if dots { ('.', '/') } else { ('/', '.') };
    let parts: Vec<String> = name
        .split(separator)
        .map(|part| if dots { part.replace(other, ".") } else { part.to_owned() })
        .collect();
    let bad = |part: &String| matches!(part.as_str(), "" | "." | "..") || part.contains('\0');
    if parts.iter().any(bad) { None } else { Some(parts) }
}

fn owner(parts: &[String]) -> Option<Owner> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["kernel", "domainname" | "hostname"] => Some(Owner::Uts),
        ["kernel", name] if IPC.contains(name) => Some(Owner::Ipc),
        ["fs", "mqueue", _] => Some(Owner::Ipc),
        ["net", _, ..] => Some(Owner::Network),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_parameters_of_namespaces_are_let_through() {
        let own = |name: &str| parts(name).and_then(|parts| owner(&parts));
        assert_eq!(own("net.ipv4.ip_forward"), Some(Owner::Network));
        assert_eq!(own("net/ipv4/conf/eth0.1/forwarding"), Some(Owner::Network));
        assert_eq!(own("kernel.shmmax"), Some(Owner::Ipc));
        assert_eq!(own("kernel.domainname"), Some(Owner::Uts));
        let bad =
            ["kernel.core_pattern", "vm.swappiness", "net", "net..", "net/../kernel/panic", "a"];
        for bad in bad {
            assert_eq!(own(bad), None, "{bad}");
        }
    }

    #[test]
    fn interfaces_with_dots_are_written_with_slashes() {
        let joined = |name: &str| parts(name).map(|parts| parts.join("/"));
        let path = Some("net/ipv4/conf/eth0.1/forwarding".to_owned());
        assert_eq!(joined("net.ipv4.conf.eth0/1.forwarding"), path);
        assert_eq!(joined("net/ipv4/conf/eth0.1/forwarding"), path);
    }
}
