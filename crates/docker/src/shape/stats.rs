//! What containers use: every counter in the shape of the answer to `GET /containers/{id}/stats`.

use base::clock::Timestamp;
use engine::{ContainerStats, HostStats};
use serde_json::json;
use workload::{BlockUsage, CpuUsage, InterfaceUsage, Usage};

use crate::time;

/// Processor time at one moment, the container's and the host's.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When.
    pub at: Timestamp,
    /// The container's.
    pub cpu: CpuUsage,
    /// The host's.
    pub host: HostStats,
}

/// A container at one moment, and what was seen of it before.
#[derive(Debug)]
pub struct Look<'a> {
    /// The container.
    pub container: &'a ContainerStats,
    /// The host.
    pub host: &'a HostStats,
    /// What was seen before, if it was.
    pub before: Option<&'a Moment>,
}

impl Look<'_> {
    /// What the next look compares with.
    pub fn moment(&self, at: Timestamp) -> Option<Moment> {
        let cpu = self.container.usage.as_ref()?.cpu.clone();
        Some(Moment { at, cpu, host: self.host.clone() })
    }

    /// The most memory it can have, in bytes.
    pub fn memory_limit(&self, usage: &Usage) -> u64 {
        let host = self.host.memory;
        usage.memory.limit.map_or(host, |limit| limit.min(host)).bytes()
    }
}

/// Every counter. One that does not run has none.
pub fn counters(look: &Look<'_>) -> serde_json::Value {
    let container = look.container;
    let none = Usage::default();
    let usage = container.usage.as_ref().unwrap_or(&none);
    let networks = usage.network.iter().map(|of| (of.name.clone(), interface(of)));
    let stat = usage.memory.stat.iter().map(|(key, value)| (key.clone(), json!(value)));
    json!({
        "id": container.id.as_str(),
        "name": format!("/{}", container.name.as_str()),
        "read": time::rfc3339(Some(Timestamp::now())),
        "preread": time::rfc3339(look.before.map(|before| before.at)),
        "cpu_stats": cpu(&usage.cpu, look.host),
        "precpu_stats": look.before.map(|before| cpu(&before.cpu, &before.host)),
        "memory_stats": {
            "usage": usage.memory.current.bytes(),
            "max_usage": usage.memory.peak.map(base::ByteSize::bytes),
            "limit": container.usage.as_ref().map_or(0, |usage| look.memory_limit(usage)),
            "failcnt": usage.memory.failures,
            "oom_kills": usage.memory.oom_kills,
            "swap": usage.memory.swap.map(base::ByteSize::bytes),
            "stats": stat.collect::<serde_json::Map<_, _>>(),
        },
        "pids_stats": { "current": usage.pids, "limit": usage.pids_limit },
        "blkio_stats": {
            "io_service_bytes_recursive":
                blocks(&usage.block, |block| (block.read_bytes, block.write_bytes)),
            "io_serviced_recursive":
                blocks(&usage.block, |block| (block.read_operations, block.write_operations)),
        },
        "networks": networks.collect::<serde_json::Map<_, _>>(),
    })
}

fn cpu(cpu: &CpuUsage, host: &HostStats) -> serde_json::Value {
    json!({
        "cpu_usage": {
            "total_usage": cpu.total_ns,
            "usage_in_usermode": cpu.user_ns,
            "usage_in_kernelmode": cpu.system_ns,
            "percpu_usage": cpu.per_cpu_ns,
        },
        "system_cpu_usage": host.cpu_ns,
        "online_cpus": host.online_cpus,
        "throttling_data": {
            "periods": cpu.periods,
            "throttled_periods": cpu.throttled_periods,
            "throttled_time": cpu.throttled_ns,
        },
    })
}

fn interface(of: &InterfaceUsage) -> serde_json::Value {
    json!({
        "rx_bytes": of.receive_bytes,
        "rx_packets": of.receive_packets,
        "rx_errors": of.receive_errors,
        "rx_dropped": of.receive_dropped,
        "tx_bytes": of.transmit_bytes,
        "tx_packets": of.transmit_packets,
        "tx_errors": of.transmit_errors,
        "tx_dropped": of.transmit_dropped,
    })
}

fn blocks(blocks: &[BlockUsage], of: fn(&BlockUsage) -> (u64, u64)) -> Vec<serde_json::Value> {
    let both = |block: &BlockUsage| {
        let (read, write) = of(block);
        [("read", read), ("write", write)].map(|(op, value)| {
            json!({ "major": block.major, "minor": block.minor, "op": op, "value": value })
        })
    };
    blocks.iter().flat_map(both).collect()
}

#[cfg(test)]
mod tests {
    use base::ByteSize;
    use engine::ContainerState;

    use super::*;
    use crate::fixture;

    #[test]
    fn every_counter_can_be_had() {
        let host = |cpu_ns| HostStats { cpu_ns, online_cpus: 4, memory: ByteSize(8 << 30) };
        let mut usage = Usage::default();
        usage.cpu.throttled_periods = 7;
        usage.memory.limit = Some(ByteSize(256 << 20));
        let name = "eth1".to_owned();
        let interface = InterfaceUsage { name, transmit_bytes: 1000, ..InterfaceUsage::default() };
        usage.network.push(interface);
        usage.block.push(BlockUsage { major: 8, write_bytes: 4096, ..BlockUsage::default() });
        let of = fixture::container();
        let state = ContainerState::Running;
        let container = ContainerStats { id: of.id, name: of.name, state, usage: Some(usage) };
        let cpu = CpuUsage { total_ns: 1_500_000_000, ..CpuUsage::default() };
        let before = Moment { at: Timestamp(0), cpu, host: host(6_000_000_000) };
        let host = host(10_000_000_000);
        let all = counters(&Look { container: &container, host: &host, before: Some(&before) });
        let at = |path: &str| all.pointer(path).cloned().unwrap();
        assert_eq!(at("/cpu_stats/throttling_data/throttled_periods"), 7);
        assert_eq!(at("/precpu_stats/cpu_usage/total_usage"), 1_500_000_000);
        assert_eq!(at("/networks/eth1/tx_bytes"), 1000);
        assert_eq!(at("/blkio_stats/io_service_bytes_recursive/1/value"), 4096);
        assert_eq!(at("/memory_stats/limit"), 256 << 20);
    }
}
