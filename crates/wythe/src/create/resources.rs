//! Flags that limit what a container may use.

use base::ByteSize;
use docker::spec::host;
use engine::Create;
use workload::{BlockRate, CpuLimits, MemoryLimits, MemorySwap};

use super::{FlagError, value};

/// Least memory a container can be given, as in Docker: below it, nothing starts.
const MEMORY_BYTES_MIN: u64 = 6 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct ResourceFlags {
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = value::size)]
    memory: Option<ByteSize>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_negative_numbers = true,
          value_parser = value::memory_swap)]
    memory_swap: Option<MemorySwap>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = value::size)]
    memory_reservation: Option<ByteSize>,
    /// Tune container memory swappiness (0 to 100)
    #[arg(long, value_name = "int", allow_negative_numbers = true,
          value_parser = clap::value_parser!(i8).range(-1..=100))]
    memory_swappiness: Option<i8>,
    /// Disable OOM Killer
    #[arg(long)]
    oom_kill_disable: bool,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = value::nano_cpus)]
    cpus: Option<u64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Limit CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<u64>,
    /// Limit CPU real-time runtime in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_runtime: Option<i64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Block IO weight (relative device weight)
    #[arg(long, value_name = "list")]
    blkio_weight_device: Vec<String>,
    /// Limit read rate (bytes per second) from a device
    #[arg(long, value_name = "list")]
    device_read_bps: Vec<String>,
    /// Limit write rate (bytes per second) to a device
    #[arg(long, value_name = "list")]
    device_write_bps: Vec<String>,
    /// Limit read rate (IO per second) from a device
    #[arg(long, value_name = "list")]
    device_read_iops: Vec<String>,
    /// Limit write rate (IO per second) to a device
    #[arg(long, value_name = "list")]
    device_write_iops: Vec<String>,
    /// Optional parent cgroup for the container
    #[arg(long, value_name = "string")]
    cgroup_parent: Option<String>,
}

impl ResourceFlags {
    pub(super) fn apply(self, create: &mut Create) -> Result<(), FlagError> {
        create.limits.memory = self.memory()?;
        create.limits.cpu = self.cpu()?;
        create.limits.pids =
            self.pids_limit.and_then(|pids| u64::try_from(pids).ok()).filter(|pids| *pids > 0);
        create.limits.block_weight = self.weight()?;
        create.limits.block_rates = self.block_rates()?;
        create.cgroup_parent = self.cgroup_parent;
        Ok(())
    }

    fn memory(&self) -> Result<MemoryLimits, FlagError> {
        let given = |size: Option<ByteSize>| size.filter(|size| size.bytes() > 0);
        let limit = given(self.memory);
        if let Some(small) = limit.filter(|limit| limit.bytes() < MEMORY_BYTES_MIN) {
            return Err(FlagError::invalid("memory", &small.to_string(), "the least is 6m"));
        }
        let swap = match self.memory_swap.filter(|swap| *swap != MemorySwap::Total(ByteSize(0))) {
            // Docker's default: as much swap as memory.
            None => limit.map(|limit| MemorySwap::Total(ByteSize(limit.bytes().saturating_mul(2)))),
            Some(_) if limit.is_none() => {
                return Err(FlagError::Conflict("--memory-swap needs --memory".to_owned()));
            }
            Some(MemorySwap::Total(total)) if limit.is_some_and(|limit| total < limit) => {
                let why = "it counts memory and swap together, so it cannot be below --memory";
                return Err(FlagError::invalid("memory-swap", &total.to_string(), why));
            }
            given => given,
        };
        let reservation = given(self.memory_reservation);
        if reservation.zip(limit).is_some_and(|(soft, hard)| soft > hard) {
            let why = "--memory-reservation above --memory".to_owned();
            return Err(FlagError::Conflict(why));
        }
        Ok(MemoryLimits {
            limit,
            reservation,
            swap,
            swappiness: self.memory_swappiness.and_then(|percent| u8::try_from(percent).ok()),
            disable_oom_killer: self.oom_kill_disable,
            kernel_tcp: None,
        })
    }

    fn cpu(&self) -> Result<CpuLimits, FlagError> {
        let quota = self.cpu_quota.and_then(|quota| u64::try_from(quota).ok());
        let quota = quota.filter(|quota| *quota > 0);
        let period = self.cpu_period.filter(|period| *period > 0);
        let time = match self.cpus.filter(|cpus| *cpus > 0) {
            Some(_) if quota.or(period).is_some() => {
                let both = "--cpus and --cpu-quota or --cpu-period".to_owned();
                return Err(FlagError::Conflict(both));
            }
            Some(cpus) => CpuLimits::nano_cpus(cpus),
            None => CpuLimits { quota_us: quota, period_us: period, ..CpuLimits::default() },
        };
        Ok(CpuLimits {
            shares: self.cpu_shares.filter(|shares| *shares > 0),
            realtime_runtime_us: self.cpu_rt_runtime.filter(|runtime| *runtime != 0),
            realtime_period_us: self.cpu_rt_period.filter(|period| *period != 0),
            cpus: self.cpuset_cpus.clone(),
            mems: self.cpuset_mems.clone(),
            ..time
        })
    }

    fn weight(&self) -> Result<Option<u16>, FlagError> {
        match self.blkio_weight {
            None | Some(0) => Ok(None),
            Some(weight @ 10..=1000) => Ok(Some(weight)),
            Some(weight) => {
                let why = "the range is 10 to 1000";
                Err(FlagError::invalid("blkio-weight", &weight.to_string(), why))
            }
        }
    }

    fn block_rates(&self) -> Result<Vec<BlockRate>, FlagError> {
        let mut rates = Vec::new();
        let bytes = |text: &str| value::size(text).map(ByteSize::bytes);
        let count = |text: &str| text.parse::<u64>().map_err(|_| "not a number".to_owned());
        let weight = |text: &str| {
            let number = text.parse::<u16>().ok().filter(|weight| (10..=1000).contains(weight));
            number.ok_or_else(|| "the range is 10 to 1000".to_owned())
        };
        each("device-read-bps", &self.device_read_bps, bytes, &mut rates, |rate, value| {
            rate.read_bytes = Some(value);
        })?;
        each("device-write-bps", &self.device_write_bps, bytes, &mut rates, |rate, value| {
            rate.write_bytes = Some(value);
        })?;
        each("device-read-iops", &self.device_read_iops, count, &mut rates, |rate, value| {
            rate.read_operations = Some(value);
        })?;
        each("device-write-iops", &self.device_write_iops, count, &mut rates, |rate, value| {
            rate.write_operations = Some(value);
        })?;
        each(
            "blkio-weight-device",
            &self.blkio_weight_device,
            weight,
            &mut rates,
            |rate, value| {
                rate.weight = Some(value);
            },
        )?;
        Ok(rates)
    }
}

/// Reads `device:value` entries and sets each on its device's entry in `rates`.
fn each<T>(
    flag: &'static str,
    entries: &[String],
    parse: impl Fn(&str) -> Result<T, String>,
    rates: &mut Vec<BlockRate>,
    set: impl Fn(&mut BlockRate, T),
) -> Result<(), FlagError> {
    for entry in entries {
        let invalid = |why: String| FlagError::invalid(flag, entry, why);
        let (device, value) = entry
            .rsplit_once(':')
            .filter(|(device, _)| device.starts_with("/dev/"))
            .ok_or_else(|| invalid("write /dev/NAME:value".to_owned()))?;
        let value = parse(value).map_err(invalid)?;
        let (major, minor) = host::block_device(device).map_err(|source| FlagError::File {
            flag,
            path: device.to_owned(),
            source,
        })?;
        let same = |rate: &BlockRate| (rate.major, rate.minor) == (major, minor);
        if !rates.iter().any(same) {
            rates.push(BlockRate { major, minor, ..BlockRate::default() });
        }
        if let Some(rate) = rates.iter_mut().find(|rate| same(rate)) {
            set(rate, value);
        }
    }
    Ok(())
}
