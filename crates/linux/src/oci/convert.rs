//! `config.json` to the contract's values: what the specification says, or a refusal by name.
//!
//! Source: OCI runtime-spec 1.2, config.md and config-linux.md. A property that is not carried out
//! is an error that names it, never silence.

mod limits;
mod mounts;
mod process;
mod sandbox;

use std::path::Path;

use base::SandboxId;
use oci_spec::runtime::Spec;
use workload::{ContainerSpec, ProcessSpec, RootFs, SandboxSpec};

pub(super) use limits::limits;
pub(super) use process::process;

/// Why a configuration cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConvertError {
    /// A property is missing or has a value it cannot have.
    #[error("config.json: {property}: {why}")]
    Invalid {
        /// Dotted path of the property.
        property: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A property that this runtime does not carry out.
    #[error("config.json: {property} is not supported by this runtime")]
    Unsupported {
        /// Dotted path of the property.
        property: String,
    },
}

impl ConvertError {
    fn invalid(property: impl Into<String>, why: impl Into<String>) -> ConvertError {
        ConvertError::Invalid { property: property.into(), why: why.into() }
    }

    fn unsupported(property: impl Into<String>) -> ConvertError {
        ConvertError::Unsupported { property: property.into() }
    }
}

/// A configuration, taken apart for the driver.
#[derive(Debug)]
pub(crate) struct Converted {
    /// The sandbox.
    pub(crate) sandbox: SandboxSpec,
    /// The container's own process.
    pub(crate) process: ProcessSpec,
    /// The execution domain of every process inside, where it is not the caller's.
    pub(crate) personality: Option<u32>,
}

/// What `spec` means for a container of this name, whose bundle is at `bundle`.
pub(crate) fn convert(
    spec: &Spec,
    id: &SandboxId,
    bundle: &Path,
) -> Result<Converted, ConvertError> {
    refuse_other_platforms(spec)?;
    let namespaces = sandbox::Namespaces::of(spec)?;
    let container = container(spec, bundle, &namespaces)?;
    let sandbox = sandbox::sandbox(spec, id, namespaces)?;
    let process = spec.process().as_ref();
    let process = process.ok_or_else(|| ConvertError::invalid("process", "it is missing"))?;
    let seccomp = process::seccomp(spec, process)?;
    let personality = sandbox::personality(spec)?;
    let root = workload::ProcessRoot::Own(Box::new(container));
    let process = process::process(process, base::ProcessId::main(), root, seccomp)?;
    Ok(Converted { sandbox, process, personality })
}

fn refuse_other_platforms(spec: &Spec) -> Result<(), ConvertError> {
    let others = [
        ("solaris", spec.solaris().is_some()),
        ("windows", spec.windows().is_some()),
        ("vm", spec.vm().is_some()),
        ("zos", spec.zos().is_some()),
    ];
    match others.iter().find(|(_, there)| *there) {
        Some((name, _)) => Err(ConvertError::unsupported(*name)),
        None => Ok(()),
    }
}

fn container(
    spec: &Spec,
    bundle: &Path,
    namespaces: &sandbox::Namespaces,
) -> Result<ContainerSpec, ConvertError> {
    let root = spec.root().as_ref();
    let root = root.ok_or_else(|| ConvertError::invalid("root", "it is missing"))?;
    let linux = spec.linux().as_ref();
    let paths = |paths: Option<&Option<Vec<String>>>| {
        paths.and_then(Option::as_ref).into_iter().flatten().map(Into::into).collect()
    };
    let propagation =
        linux.and_then(|l| l.rootfs_propagation().as_deref()).filter(|p| !p.is_empty());
    Ok(ContainerSpec {
        // A relative path is relative to the bundle (config.md, "Root").
        root: RootFs::Directory(bundle.join(root.path())),
        read_only_root: root.readonly().unwrap_or(false),
        root_propagation: propagation.map(mounts::root_propagation).transpose()?,
        mounts: mounts::mounts(spec, bundle)?,
        devices: sandbox::device_nodes(spec)?,
        masked_paths: paths(linux.map(|l| l.masked_paths())),
        read_only_paths: paths(linux.map(|l| l.readonly_paths())),
        pid: namespaces.pid.clone(),
        cgroup: namespaces.cgroup.clone(),
        init: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(json: &str) -> Result<Converted, ConvertError> {
        let spec: Spec = serde_json::from_str(json).unwrap();
        convert(&spec, &"box".parse().unwrap(), Path::new("/bundle"))
    }

    const PROCESS: &str =
        r#""process": {"user": {"uid": 1, "gid": 2}, "args": ["sh"], "cwd": "/"}"#;

    #[test]
    fn a_relative_root_is_relative_to_the_bundle() {
        let linux = r#""linux": {"namespaces": [{"type": "mount"}]}"#;
        let root = r#""root": {"path": "rootfs"}"#;
        let json = format!(r#"{{"ociVersion": "1.0.2", {root}, {PROCESS}, {linux}}}"#);
        let converted = converted(&json).unwrap();
        let workload::ProcessRoot::Own(container) = converted.process.root else { panic!() };
        assert_eq!(container.root, RootFs::Directory("/bundle/rootfs".into()));
    }

    #[test]
    fn without_linux_namespaces_everything_is_the_hosts() {
        let json = format!(
            r#"{{"ociVersion": "1.0.2", "root": {{"path": "r"}}, {PROCESS}, "linux": {{}}}}"#
        );
        let error = converted(&json).unwrap_err().to_string();
        assert!(
            error.contains("mount"),
            "a container without a mount namespace is refused: {error}"
        );
    }

    #[test]
    fn other_platforms_are_refused_by_name() {
        let json = format!(
            r#"{{"ociVersion": "1.0.2", "root": {{"path": "r"}}, {PROCESS}, "vm": {{"kernel": {{"path": "/k"}}}}}}"#
        );
        assert_eq!(
            converted(&json).unwrap_err().to_string(),
            "config.json: vm is not supported by this runtime"
        );
    }
}
