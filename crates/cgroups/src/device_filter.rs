//! Device rules of version 2: an eBPF program attached to the group.

use rustix::fs::OFlags;
use sys::bpf;
use workload::DeviceRule;

use crate::{CgroupError, GroupName, devices, files, hierarchy::Slot};

/// Attaches the rules' program, then detaches whatever was attached before. In between both
/// must agree, so nothing is ever allowed that neither allows.
pub(crate) fn replace(
    slot: &Slot,
    name: &GroupName,
    rules: &[DeviceRule],
) -> Result<(), CgroupError> {
    let program = devices::program(rules)?;
    let failed = |verb: &str, error| {
        CgroupError::step(format!("{verb} the device filter of cgroup {name}"), error)
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let group = files::open(slot, name.as_str(), flags)?
        .ok_or_else(|| failed("attach", std::io::Error::from(rustix::io::Errno::NOENT)))?;
    let before = bpf::attached_device_filters(&group).map_err(|e| failed("list", e))?;
    let program = bpf::load_device_filter(&program).map_err(|e| failed("load", e))?;
    bpf::attach_device_filter(&group, &program).map_err(|e| failed("attach", e))?;
    for id in before {
        bpf::detach_device_filter(&group, id).map_err(|e| failed("detach", e))?;
    }
    Ok(())
}
