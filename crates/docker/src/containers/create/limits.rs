//! Docker's `Resources`: of a container to be made, and of one that is given others.

use base::ByteSize;
use engine::DeviceRequest;
use workload::{BlockRate, CpuLimits, Limits, MemoryLimits, MemorySwap};

use crate::{error::ApiError, fields::Fields, spec::host};

/// What lifts a limit; see [`engine::Update`].
const LIFTED: u64 = u64::MAX;
/// Range of block weights. Source: moby, `verifyPlatformContainerResources`.
const WEIGHTS: std::ops::RangeInclusive<u16> = 10..=1000;

/// The limits of a container to be made.
pub(super) fn read(given: &mut Fields<'_>) -> Result<Limits, ApiError> {
    let pids = given.take::<i64>("PidsLimit")?;
    Ok(Limits {
        memory: memory(given)?,
        cpu: cpu(given)?,
        // 0 and less are without limit.
        pids: u64::try_from(pids).ok().filter(|most| *most > 0),
        block_weight: given.some::<u16>("BlkioWeight")?.filter(|weight| *weight != 0),
        block_rates: block_rates(given)?,
        ..Limits::default()
    })
}

/// Limits that change. 0 is as if it were not there, but for the number of processes.
pub(super) fn changed(given: &mut Fields<'_>) -> Result<Limits, ApiError> {
    let memory = MemoryLimits {
        limit: given.above_zero("Memory")?.map(ByteSize),
        reservation: given.above_zero("MemoryReservation")?.map(ByteSize),
        swap: swap(given)?,
        ..MemoryLimits::default()
    };
    // What lifts a quota must not be taken for none.
    let lifts = given.peek("CpuQuota").is_some_and(|quota| quota < 0);
    let mut cpu = cpu(given)?;
    if lifts {
        cpu.quota_us = Some(LIFTED);
    }
    let pids = given.some::<i64>("PidsLimit")?;
    let pids = pids.map(|most| u64::try_from(most).ok().filter(|most| *most > 0).unwrap_or(LIFTED));
    let block_weight = given.some::<u16>("BlkioWeight")?.filter(|weight| *weight != 0);
    Ok(Limits { memory, cpu, pids, block_weight, ..Limits::default() })
}

/// What of Docker's `Resources` cannot be changed: as with Docker, it is ignored.
pub(super) fn fixed(given: &mut Fields<'_>) -> Result<(), ApiError> {
    let fixed = "it is chosen when a container is made";
    for name in [
        "CgroupParent",
        "BlkioWeightDevice",
        "BlkioDeviceReadBps",
        "BlkioDeviceWriteBps",
        "BlkioDeviceReadIOps",
        "BlkioDeviceWriteIOps",
        "Devices",
        "DeviceCgroupRules",
        "DeviceRequests",
        "KernelMemoryTCP",
        "OomKillDisable",
        "Ulimits",
    ] {
        given.refuse(name, fixed)?;
    }
    // Clients send -1 for nothing.
    given.ignore(&["MemorySwappiness", "Init"]);
    given.ignore(&FOREIGN);
    Ok(())
}

/// Windows', and what kernels have dropped.
const FOREIGN: [&str; 5] =
    ["CpuCount", "CpuPercent", "IOMaximumIOps", "IOMaximumBandwidth", "KernelMemory"];

/// What is not for this host, and what it cannot do.
pub(super) fn refused(given: &mut Fields<'_>) -> Result<(), ApiError> {
    given.ignore(&FOREIGN);
    given.refuse("DeviceRequests", "there are no drivers of devices; hand them in as Devices")
}

fn memory(given: &mut Fields<'_>) -> Result<MemoryLimits, ApiError> {
    let limit = given.above_zero("Memory")?.map(ByteSize);
    // Docker's default: as much swap as memory.
    let both = || limit.map(|limit| MemorySwap::Total(ByteSize(limit.bytes().saturating_mul(2))));
    let swap = swap(given)?.or_else(both);
    let swappiness = match given.some::<i64>("MemorySwappiness")? {
        None | Some(-1) => None,
        Some(percent) => match u8::try_from(percent).ok().filter(|percent| *percent <= 100) {
            Some(percent) => Some(percent),
            None => {
                let why =
                    format!("Invalid value: {percent}, valid memory swappiness range is 0-100");
                return Err(given.wrong("MemorySwappiness", why));
            }
        },
    };
    Ok(MemoryLimits {
        limit,
        reservation: given.above_zero("MemoryReservation")?.map(ByteSize),
        // Without a limit there is nothing that swap could be on top of.
        swap: swap.filter(|swap| limit.is_some() || *swap != MemorySwap::Unlimited),
        swappiness,
        disable_oom_killer: given.take("OomKillDisable")?,
        kernel_tcp: given.above_zero("KernelMemoryTCP")?.map(ByteSize),
    })
}

/// Memory and swap together; -1 is without limit.
fn swap(given: &mut Fields<'_>) -> Result<Option<MemorySwap>, ApiError> {
    match given.take::<i64>("MemorySwap")? {
        0 => Ok(None),
        -1 => Ok(Some(MemorySwap::Unlimited)),
        bytes => match u64::try_from(bytes) {
            Ok(bytes) => Ok(Some(MemorySwap::Total(ByteSize(bytes)))),
            Err(_) => Err(given.wrong("MemorySwap", format!("{bytes} is neither -1 nor a size"))),
        },
    }
}

fn cpu(given: &mut Fields<'_>) -> Result<CpuLimits, ApiError> {
    // Below nothing, a quota is without limit.
    let quota = u64::try_from(given.take::<i64>("CpuQuota")?).ok().filter(|quota| *quota > 0);
    let period = given.above_zero("CpuPeriod")?;
    let time = match given.above_zero("NanoCpus")? {
        Some(_) if period.is_some() => {
            let why = "Conflicting options: Nano CPUs and CPU Period cannot both be set";
            return Err(given.wrong("NanoCpus", why));
        }
        Some(_) if quota.is_some() => {
            let why = "Conflicting options: Nano CPUs and CPU Quota cannot both be set";
            return Err(given.wrong("NanoCpus", why));
        }
        Some(cpus) => nano_cpus(given, cpus)?,
        None => CpuLimits { quota_us: quota, period_us: period, ..CpuLimits::default() },
    };
    let runtime = given.take::<i64>("CpuRealtimeRuntime")?;
    Ok(CpuLimits {
        shares: given.above_zero("CpuShares")?,
        realtime_runtime_us: Some(runtime).filter(|runtime| *runtime != 0),
        realtime_period_us: given.above_zero("CpuRealtimePeriod")?,
        cpus: given.text("CpusetCpus")?,
        mems: given.text("CpusetMems")?,
        ..time
    })
}

fn nano_cpus(given: &Fields<'_>, cpus: u64) -> Result<CpuLimits, ApiError> {
    let have = std::thread::available_parallelism().map_or(u64::MAX, |have| have.get() as u64);
    if cpus > have.saturating_mul(workload::NANO_CPUS_PER_CPU) {
        let why = format!(
            "Range of CPUs is from 0.01 to {have}.00, as there are only {have} CPUs available"
        );
        return Err(given.wrong("NanoCpus", why));
    }
    Ok(CpuLimits::nano_cpus(cpus))
}

fn block_rates(given: &mut Fields<'_>) -> Result<Vec<BlockRate>, ApiError> {
    let mut rates = Vec::new();
    for mut one in given.objects("BlkioWeightDevice")? {
        let weight = one.take::<u16>("Weight")?;
        if !WEIGHTS.contains(&weight) {
            return Err(one.wrong("Weight", "Range of blkio weight is from 10 to 1000"));
        }
        rate_of(one, &mut rates)?.weight = Some(weight);
    }
    type Set = fn(&mut BlockRate, u64);
    let kinds: [(&str, Set); 4] = [
        ("BlkioDeviceReadBps", |rate, value| rate.read_bytes = Some(value)),
        ("BlkioDeviceWriteBps", |rate, value| rate.write_bytes = Some(value)),
        ("BlkioDeviceReadIOps", |rate, value| rate.read_operations = Some(value)),
        ("BlkioDeviceWriteIOps", |rate, value| rate.write_operations = Some(value)),
    ];
    for (name, set) in kinds {
        for mut one in given.objects(name)? {
            let value = one.take("Rate")?;
            set(rate_of(one, &mut rates)?, value);
        }
    }
    Ok(rates)
}

/// The entry of the device at `Path`.
fn rate_of<'r>(
    mut one: Fields<'_>,
    rates: &'r mut Vec<BlockRate>,
) -> Result<&'r mut BlockRate, ApiError> {
    let path: String = one.take("Path")?;
    let (major, minor) =
        host::block_device(&path).map_err(|error| one.wrong("Path", format!("{path}: {error}")))?;
    one.done()?;
    let at = rates.iter().position(|rate| (rate.major, rate.minor) == (major, minor));
    let at = at.unwrap_or_else(|| {
        rates.push(BlockRate { major, minor, ..BlockRate::default() });
        rates.len() - 1
    });
    Ok(&mut rates[at])
}

/// Devices of the host. As with Docker, a device is where it is on the host, and may be read,
/// written and made, where nothing else is said.
pub(super) fn devices(given: &mut Fields<'_>) -> Result<Vec<DeviceRequest>, ApiError> {
    let mut devices = Vec::new();
    for mut one in given.objects("Devices")? {
        let host: String = one.take("PathOnHost")?;
        let container = one.text("PathInContainer")?.unwrap_or_else(|| host.clone());
        let permissions = one.text("CgroupPermissions")?.unwrap_or_else(|| "rwm".to_owned());
        if !host.starts_with('/') || !container.starts_with('/') {
            return Err(one.wrong("PathOnHost", "both paths of a device must be absolute"));
        }
        one.done()?;
        devices.push(DeviceRequest { host: host.into(), container: container.into(), permissions });
    }
    Ok(devices)
}
