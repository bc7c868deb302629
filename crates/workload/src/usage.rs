//! What a sandbox has used so far.

use base::ByteSize;
use serde::{Deserialize, Serialize};

/// Counters of one sandbox; what the host does not count is `None` or empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Processor time.
    pub cpu: CpuUsage,
    /// Memory.
    pub memory: MemoryUsage,
    /// Processes and threads now.
    pub pids: Option<u64>,
    /// Most processes and threads allowed.
    pub pids_limit: Option<u64>,
    /// Block I/O by device.
    pub block: Vec<BlockUsage>,
    /// Network by interface.
    pub network: Vec<InterfaceUsage>,
}

/// Processor time in nanoseconds since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CpuUsage {
    /// Altogether.
    pub total_ns: u64,
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
    /// By processor, where the host counts it (cgroup v1).
    pub per_cpu_ns: Vec<u64>,
    /// Periods that passed under a quota.
    pub periods: u64,
    /// Periods in which it was held back.
    pub throttled_periods: u64,
    /// Time for which it was held back.
    pub throttled_ns: u64,
}

/// Memory in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemoryUsage {
    /// In use now, page cache included.
    pub current: ByteSize,
    /// The most there ever was.
    pub peak: Option<ByteSize>,
    /// The limit.
    pub limit: Option<ByteSize>,
    /// Swap in use now.
    pub swap: Option<ByteSize>,
    /// Page cache that could be dropped (`inactive_file`); tables show `current` less this.
    pub inactive_file: ByteSize,
    /// Times the limit was hit.
    pub failures: u64,
    /// Processes killed for want of memory.
    pub oom_kills: u64,
    /// Every line of the kernel's `memory.stat`.
    pub stat: Vec<(String, u64)>,
}

/// Block I/O of one device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct BlockUsage {
    /// Major device number.
    pub major: u32,
    /// Minor device number.
    pub minor: u32,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub write_bytes: u64,
    /// Read operations.
    pub read_operations: u64,
    /// Write operations.
    pub write_operations: u64,
}

/// Counters of one network interface, as seen from inside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfaceUsage {
    /// Its name.
    pub name: String,
    /// Bytes received.
    pub receive_bytes: u64,
    /// Packets received.
    pub receive_packets: u64,
    /// Errors receiving.
    pub receive_errors: u64,
    /// Packets dropped receiving.
    pub receive_dropped: u64,
    /// Bytes sent.
    pub transmit_bytes: u64,
    /// Packets sent.
    pub transmit_packets: u64,
    /// Errors sending.
    pub transmit_errors: u64,
    /// Packets dropped sending.
    pub transmit_dropped: u64,
}
