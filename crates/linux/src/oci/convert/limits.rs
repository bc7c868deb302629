//! `linux.resources`.

use base::ByteSize;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceType, LinuxMemory, LinuxResources, LinuxThrottleDevice,
};
use workload::{BlockRate, CpuLimits, DeviceKind, DeviceRule, Limits, MemoryLimits, MemorySwap};

use super::ConvertError;

/// Resource limits in the contract's words. Zero and -1 are "no limit" where the kernel's files
/// and runc have them so.
pub(crate) fn limits(resources: &LinuxResources) -> Result<Limits, ConvertError> {
    let rare = [
        (
            "linux.resources.network",
            resources.network().as_ref().is_some_and(|n| {
                n.class_id().is_some() || n.priorities().as_ref().is_some_and(|p| !p.is_empty())
            }),
        ),
        ("linux.resources.rdma", resources.rdma().as_ref().is_some_and(|r| !r.is_empty())),
        (
            "linux.resources.memory.checkBeforeUpdate",
            resources.memory().as_ref().is_some_and(|m| m.check_before_update() == Some(true)),
        ),
        // Linux 5.0 took them out.
        (
            "linux.resources.blockIO.leafWeight",
            resources.block_io().as_ref().is_some_and(|b| b.leaf_weight().is_some()),
        ),
        ("linux.resources.blockIO.weightDevice.leafWeight", has_leaf_weights(resources)),
    ];
    if let Some((name, _)) = rare.iter().find(|(_, there)| *there) {
        return Err(ConvertError::unsupported(*name));
    }
    let block = resources.block_io().as_ref();
    let pids = resources.pids().as_ref().and_then(|p| u64::try_from(p.limit()).ok());
    Ok(Limits {
        memory: resources.memory().as_ref().map(memory).transpose()?.unwrap_or_default(),
        cpu: resources.cpu().as_ref().map(cpu).transpose()?.unwrap_or_default(),
        pids: pids.filter(|limit| *limit > 0),
        block_weight: block.and_then(LinuxBlockIo::weight).filter(|w| *w > 0),
        block_rates: block.map(block_rates).transpose()?.unwrap_or_default(),
        devices: devices(resources)?,
        hugepages: hugepages(resources)?,
        unified: resources.unified().clone().unwrap_or_default().into_iter().collect(),
    })
}

fn has_leaf_weights(resources: &LinuxResources) -> bool {
    let devices = resources.block_io().as_ref().and_then(|block| block.weight_device().as_ref());
    devices.into_iter().flatten().any(|device| device.leaf_weight().is_some())
}

fn memory(memory: &LinuxMemory) -> Result<MemoryLimits, ConvertError> {
    let size = |value: Option<i64>| {
        value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0).map(ByteSize)
    };
    let swap = match memory.swap() {
        None | Some(0) => None,
        Some(-1) => Some(MemorySwap::Unlimited),
        Some(_) => size(memory.swap()).map(MemorySwap::Total),
    };
    let swappiness = memory.swappiness().map(u8::try_from).transpose();
    let why = "it must be between 0 and 100";
    let swappiness = swappiness.ok().filter(|s| s.is_none_or(|s| s <= 100));
    Ok(MemoryLimits {
        limit: size(memory.limit()),
        reservation: size(memory.reservation()),
        swap,
        swappiness: swappiness
            .ok_or_else(|| ConvertError::invalid("linux.resources.memory.swappiness", why))?,
        disable_oom_killer: memory.disable_oom_killer().unwrap_or(false),
        kernel_tcp: size(memory.kernel_tcp()),
    })
}

fn cpu(cpu: &LinuxCpu) -> Result<CpuLimits, ConvertError> {
    let list = |value: &Option<String>| value.clone().filter(|v| !v.is_empty());
    let quota = cpu.quota().and_then(|q| u64::try_from(q).ok());
    Ok(CpuLimits {
        shares: cpu.shares().filter(|s| *s > 0),
        quota_us: quota.filter(|q| *q > 0),
        period_us: cpu.period().filter(|p| *p > 0),
        burst_us: cpu.burst(),
        realtime_runtime_us: cpu.realtime_runtime().filter(|r| *r != 0),
        realtime_period_us: cpu.realtime_period().filter(|p| *p > 0),
        cpus: list(cpu.cpus()),
        mems: list(cpu.mems()),
        idle: match cpu.idle() {
            None | Some(0) => false,
            Some(1) => true,
            Some(other) => {
                let why = format!("{other} is neither 0 nor 1");
                return Err(ConvertError::invalid("linux.resources.cpu.idle", why));
            }
        },
    })
}

/// Rates by device, each device once.
fn block_rates(block: &LinuxBlockIo) -> Result<Vec<BlockRate>, ConvertError> {
    let mut rates: Vec<BlockRate> = Vec::new();
    let mut set = |major: i64, minor: i64, change: &dyn Fn(&mut BlockRate)| {
        let number = |n: i64| {
            let why = || format!("{n} is not a device number");
            u32::try_from(n).map_err(|_| ConvertError::invalid("linux.resources.blockIO", why()))
        };
        let (major, minor) = (number(major)?, number(minor)?);
        match rates.iter_mut().find(|r| (r.major, r.minor) == (major, minor)) {
            Some(rate) => change(rate),
            None => {
                let mut rate = BlockRate { major, minor, ..BlockRate::default() };
                change(&mut rate);
                rates.push(rate);
            }
        }
        Ok(())
    };
    for device in block.weight_device().iter().flatten() {
        let weight = device.weight();
        set(device.major(), device.minor(), &|rate| rate.weight = weight)?;
    }
    /// The field of a rate that a list of devices is about.
    type Field = fn(&mut BlockRate) -> &mut Option<u64>;
    let lists: [(&Option<Vec<LinuxThrottleDevice>>, Field); 4] = [
        (block.throttle_read_bps_device(), |rate| &mut rate.read_bytes),
        (block.throttle_write_bps_device(), |rate| &mut rate.write_bytes),
        (block.throttle_read_iops_device(), |rate| &mut rate.read_operations),
        (block.throttle_write_iops_device(), |rate| &mut rate.write_operations),
    ];
    for (devices, field) in lists {
        for device in devices.iter().flatten() {
            let value = device.rate();
            set(device.major(), device.minor(), &|rate| *field(rate) = Some(value))?;
        }
    }
    Ok(rates)
}

fn devices(resources: &LinuxResources) -> Result<Option<Vec<DeviceRule>>, ConvertError> {
    let Some(given) = resources.devices() else { return Ok(None) };
    let number = |n: Option<i64>| match n {
        // runc's wildcard.
        None | Some(-1) => Ok(None),
        Some(n) => {
            let why = || format!("{n} is not a device number");
            u32::try_from(n)
                .map(Some)
                .map_err(|_| ConvertError::invalid("linux.resources.devices", why()))
        }
    };
    let rule = |device: &oci_spec::runtime::LinuxDeviceCgroup| {
        let access = device.access().as_deref().unwrap_or("rwm");
        Ok(DeviceRule {
            allow: device.allow(),
            kind: match device.typ().unwrap_or(LinuxDeviceType::A) {
                LinuxDeviceType::A => None,
                LinuxDeviceType::B => Some(DeviceKind::Block),
                LinuxDeviceType::C | LinuxDeviceType::U => Some(DeviceKind::Character),
                LinuxDeviceType::P => {
                    let why = "p: a named pipe is not a device";
                    return Err(ConvertError::invalid("linux.resources.devices.type", why));
                }
            },
            major: number(device.major())?,
            minor: number(device.minor())?,
            read: access.contains('r'),
            write: access.contains('w'),
            mknod: access.contains('m'),
        })
    };
    let mut rules = given.iter().map(rule).collect::<Result<Vec<_>, _>>()?;
    if rules.is_empty() {
        return Ok(None);
    }
    // What every container may use, whatever the list says (config-linux.md, "Default Devices").
    rules.extend(workload::profile::device_rules().into_iter().filter(|rule| rule.allow));
    Ok(Some(rules))
}

fn hugepages(resources: &LinuxResources) -> Result<Vec<(String, ByteSize)>, ConvertError> {
    let limits = resources.hugepage_limits().iter().flatten();
    limits
        .map(|limit| {
            let bytes = u64::try_from(limit.limit());
            let bytes = bytes.map_err(|_| {
                ConvertError::invalid("linux.resources.hugepageLimits", "it is negative")
            })?;
            Ok((limit.page_size().clone(), ByteSize(bytes)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Limits, ConvertError> {
        limits(&serde_json::from_str(json).unwrap())
    }

    #[test]
    fn zero_and_minus_one_are_no_limit() {
        let limits = of(
            r#"{"memory": {"limit": 0, "swap": -1}, "pids": {"limit": -1}, "cpu": {"quota": -1, "shares": 0}}"#,
        );
        let want = MemoryLimits { swap: Some(MemorySwap::Unlimited), ..MemoryLimits::default() };
        assert_eq!(limits.unwrap(), Limits { memory: want, ..Limits::default() });
    }

    #[test]
    fn rates_of_one_device_come_together() {
        let json = r#"{"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                       "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 300}]}}"#;
        let rates = of(json).unwrap().block_rates;
        let want = BlockRate {
            major: 8,
            read_bytes: Some(600),
            write_operations: Some(300),
            ..BlockRate::default()
        };
        assert_eq!(rates, [want]);
    }

    #[test]
    fn a_device_list_keeps_the_default_devices_open() {
        let json = r#"{"devices": [{"allow": false, "access": "rwm"}]}"#;
        let rules = of(json).unwrap().devices.unwrap();
        assert!(!rules[0].allow && rules[0].kind.is_none() && rules[0].major.is_none());
        assert!(
            rules.iter().any(|r| r.allow && (r.major, r.minor) == (Some(1), Some(3)) && r.read)
        );
    }

    #[test]
    fn what_is_not_carried_out_is_named() {
        let error = of(r#"{"rdma": {"mlx5_1": {"hcaHandles": 3}}}"#).unwrap_err();
        assert!(error.to_string().contains("linux.resources.rdma"), "{error}");
    }
}
