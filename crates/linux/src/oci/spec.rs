//! spec: a `config.json` to start from.

use std::{fs::OpenOptions, io, io::Write as _, path::Path};

use oci_spec::runtime::{
    LinuxIdMappingBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount, Spec,
};
use serde::Serialize as _;

use super::{args::Parsed, error::OciError};

/// The configuration, which is runc's.
const DEFAULT: &str = include_str!("spec/default.json");

/// `spec`.
pub(super) fn spec(arguments: &Parsed) -> Result<(), OciError> {
    let path = Path::new(arguments.value("bundle").unwrap_or(".")).join("config.json");
    let mut spec: Spec = serde_json::from_str(DEFAULT).expect("a test reads the same text");
    if arguments.has("rootless") {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        make_rootless(&mut spec, uid, gid);
    }
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(OciError::FileExists { path });
        }
        other => other.map_err(OciError::io(format!("make {}", path.display())))?,
    };
    file.write_all(&tabbed(&spec)).map_err(OciError::io(format!("write {}", path.display())))
}

/// JSON indented with tabs, as runc writes it.
fn tabbed(spec: &Spec) -> Vec<u8> {
    let mut json = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut serializer = serde_json::Serializer::with_formatter(&mut json, formatter);
    spec.serialize(&mut serializer).expect("a configuration is always JSON");
    json.push(b'\n');
    json
}

/// Changes what a caller without privileges cannot have: root inside is the caller, and network
/// and control groups stay the host's.
fn make_rootless(spec: &mut Spec, uid: u32, gid: u32) {
    let Some(linux) = spec.linux_mut() else { return };
    let map = |outside| {
        let one = LinuxIdMappingBuilder::default().container_id(0_u32).host_id(outside).size(1_u32);
        one.build().map(|map| vec![map]).ok()
    };
    linux.set_uid_mappings(map(uid));
    linux.set_gid_mappings(map(gid));
    linux.set_resources(None);
    let mut namespaces = linux.namespaces().clone().unwrap_or_default();
    namespaces.retain(|namespace| namespace.typ() != LinuxNamespaceType::Network);
    namespaces.extend(LinuxNamespaceBuilder::default().typ(LinuxNamespaceType::User).build().ok());
    linux.set_namespaces(Some(namespaces));
    for mount in spec.mounts_mut().iter_mut().flatten() {
        rootless_mount(mount);
    }
}

fn rootless_mount(mount: &mut Mount) {
    let mut options = mount.options().clone().unwrap_or_default();
    // Group 5 is not mapped.
    options.retain(|option| !option.starts_with("gid="));
    if mount.typ().as_deref() == Some("sysfs") {
        mount.set_typ(Some("none".into()));
        mount.set_source(Some("/sys".into()));
        options.insert(0, "rbind".into());
    }
    mount.set_options((!options.is_empty()).then_some(options));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::convert;

    fn check(rootless: bool) -> Spec {
        let mut spec: Spec = serde_json::from_str(DEFAULT).unwrap();
        if rootless {
            make_rootless(&mut spec, 1000, 1000);
        }
        let again: Spec = serde_json::from_slice(&tabbed(&spec)).unwrap();
        assert_eq!(again, spec);
        convert::convert(&spec, &"box".parse().unwrap(), Path::new("/bundle")).unwrap();
        spec
    }

    #[test]
    fn the_configuration_is_one_that_this_runtime_carries_out() {
        check(false);
    }

    #[test]
    fn without_privileges_root_is_the_caller() {
        let spec = check(true);
        let linux = spec.linux().as_ref().unwrap();
        assert_eq!(linux.uid_mappings().as_ref().unwrap()[0].host_id(), 1000);
        let json = String::from_utf8(tabbed(&spec)).unwrap();
        assert!(!json.contains("network") && !json.contains("gid=5") && json.contains("rbind"));
    }
}
