//! What a sandbox may use at most.
//!
//! `None` is "no limit of its own"; the units are the kernel's, so that nothing is rounded twice.

use base::ByteSize;
use serde::{Deserialize, Serialize};

use crate::DeviceKind;

/// One processor, in the unit of [`CpuLimits::nano_cpus`].
pub const NANO_CPUS_PER_CPU: u64 = 1_000_000_000;

/// Resource limits of one sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Memory and swap.
    pub memory: MemoryLimits,
    /// Processor time and placement.
    pub cpu: CpuLimits,
    /// Processes and threads together.
    pub pids: Option<u64>,
    /// Relative block I/O weight, 10..=1000 (cgroup v1 `blkio.weight`).
    pub block_weight: Option<u16>,
    /// Block I/O rates by device.
    pub block_rates: Vec<BlockRate>,
    /// Device nodes that may be opened or made, later rules before earlier ones; `None` leaves
    /// all devices open (an engine never does, `--privileged` does).
    pub devices: Option<Vec<DeviceRule>>,
    /// Huge page limits: page size as the kernel names it (`2MB`), and bytes.
    pub hugepages: Vec<(String, ByteSize)>,
    /// Raw cgroup v2 files and what to write to them (OCI `linux.resources.unified`).
    pub unified: Vec<(String, String)>,
}

/// Memory limits in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryLimits {
    /// Hard limit.
    pub limit: Option<ByteSize>,
    /// Soft limit, enforced when the host is short of memory.
    pub reservation: Option<ByteSize>,
    /// Memory and swap together; `None` for the kernel's default.
    pub swap: Option<MemorySwap>,
    /// Tendency to swap, 0..=100 (cgroup v1 only).
    pub swappiness: Option<u8>,
    /// Keep the kernel from killing anything when the limit is reached (cgroup v1 only).
    pub disable_oom_killer: bool,
    /// Kernel TCP buffer limit (cgroup v1 only).
    pub kernel_tcp: Option<ByteSize>,
}

/// How much swap may be used on top of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemorySwap {
    /// As much as the host has.
    Unlimited,
    /// Memory and swap together, in bytes; never below the memory limit.
    Total(ByteSize),
}

/// Processor limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuLimits {
    /// Relative share under contention, 2..=262144 (cgroup v1 `cpu.shares`; 1024 is the default).
    pub shares: Option<u64>,
    /// Time per period, in microseconds.
    pub quota_us: Option<u64>,
    /// The period, in microseconds; 100,000 if unset.
    pub period_us: Option<u64>,
    /// Time that may be saved up for a burst, in microseconds.
    pub burst_us: Option<u64>,
    /// Real-time time per period, in microseconds (cgroup v1 only).
    pub realtime_runtime_us: Option<i64>,
    /// The real-time period, in microseconds (cgroup v1 only).
    pub realtime_period_us: Option<u64>,
    /// Processors to run on, as cpuset(7) lists them: `0-3,7`.
    pub cpus: Option<String>,
    /// Memory nodes to use, as cpuset(7) lists them.
    pub mems: Option<String>,
    /// Runs only when nothing else does (`cpu.idle`).
    pub idle: bool,
}

impl CpuLimits {
    /// Quota and period that give this many billionths of a processor (`--cpus 0.5` is
    /// 500,000,000), as Docker sets them.
    pub fn nano_cpus(nano_cpus: u64) -> CpuLimits {
        const PERIOD_US: u64 = 100_000;
        let quota = u128::from(nano_cpus) * u128::from(PERIOD_US) / u128::from(NANO_CPUS_PER_CPU);
        CpuLimits {
            quota_us: Some(u64::try_from(quota).unwrap_or(u64::MAX)),
            period_us: Some(PERIOD_US),
            ..CpuLimits::default()
        }
    }
}

/// Rates of one block device, per second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockRate {
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// Relative weight of this device, 10..=1000.
    pub weight: Option<u16>,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Read operations.
    pub read_operations: Option<u64>,
    /// Write operations.
    pub write_operations: Option<u64>,
}

/// One line of a device allow-list.
///
/// Source: OCI runtime-spec, config-linux.md, "Allowed Device list".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Allowed or denied.
    pub allow: bool,
    /// Character or block device; `None` for both.
    pub kind: Option<DeviceKind>,
    /// Major number; `None` for all.
    pub major: Option<u32>,
    /// Minor number; `None` for all.
    pub minor: Option<u32>,
    /// May be read.
    pub read: bool,
    /// May be written.
    pub write: bool,
    /// May be made with mknod(2).
    pub mknod: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_processor_is_half_a_period() {
        let cpu = CpuLimits::nano_cpus(NANO_CPUS_PER_CPU / 2);
        assert_eq!((cpu.quota_us, cpu.period_us), (Some(50_000), Some(100_000)));
    }
}
