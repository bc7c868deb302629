//! Limits as writes to version 1 files.
//!
//! Order matters where one value bounds another (memory and memory+swap, period and quota). The
//! writes stand in the order that is right for a fresh group; whoever carries them out writes
//! again at the end what the kernel answered with `EINVAL`, which is right for every change:
//! raising a memory limit above the old memory+swap limit, say.
//!
//! Source: Linux, Documentation/admin-guide/cgroup-v1.

use workload::{Limits, MemorySwap};

use super::{
    Write, block_weight, checked_list, checked_page_size, checked_rates, or_unlimited, swap_total,
    swap_unlimited,
};
use crate::{CgroupError, controller::Controller, devices};

/// What to write in the group of this controller; nothing if nothing is asked of it.
pub(crate) fn writes(controller: Controller, limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    match controller {
        Controller::Cpu => Ok(cpu(limits)),
        Controller::Cpuset => cpuset(limits),
        Controller::Memory => memory(limits),
        Controller::Block => block(limits),
        Controller::Devices => match &limits.devices {
            Some(rules) => devices(rules),
            None => Ok(Vec::new()),
        },
        Controller::Pids => Ok(limits
            .pids
            .iter()
            .map(|max| Write::new("pids", "pids.max", or_unlimited(*max, "max")))
            .collect()),
        Controller::Hugetlb => hugetlb(limits),
        Controller::Cpuacct | Controller::Freezer => Ok(Vec::new()),
    }
}

fn cpu(limits: &Limits) -> Vec<Write> {
    let cpu = &limits.cpu;
    let mut writes = Vec::new();
    let mut number = |what: &'static str, file: &'static str, value: Option<String>| {
        writes.extend(value.map(|value| Write::new(what, file, value)));
    };
    number("cpu.shares", "cpu.shares", cpu.shares.map(|n| n.to_string()));
    number("cpu.period_us", "cpu.cfs_period_us", cpu.period_us.map(|n| n.to_string()));
    number("cpu.quota_us", "cpu.cfs_quota_us", cpu.quota_us.map(|n| or_unlimited(n, "-1")));
    number("cpu.burst_us", "cpu.cfs_burst_us", cpu.burst_us.map(|n| n.to_string()));
    let period = cpu.realtime_period_us.map(|n| n.to_string());
    number("cpu.realtime_period_us", "cpu.rt_period_us", period);
    let runtime = cpu.realtime_runtime_us.map(|n| n.to_string());
    number("cpu.realtime_runtime_us", "cpu.rt_runtime_us", runtime);
    number("cpu.idle", "cpu.idle", cpu.idle.then(|| "1".to_owned()));
    writes
}

fn cpuset(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let mut writes = Vec::new();
    if let Some(cpus) = &limits.cpu.cpus {
        writes.push(Write::new("cpu.cpus", "cpuset.cpus", checked_list("cpu.cpus", cpus)?));
    }
    if let Some(mems) = &limits.cpu.mems {
        writes.push(Write::new("cpu.mems", "cpuset.mems", checked_list("cpu.mems", mems)?));
    }
    Ok(writes)
}

fn memory(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let memory = &limits.memory;
    let bytes = |size: base::ByteSize| or_unlimited(size.bytes(), "-1");
    let mut writes = Vec::new();
    if let Some(limit) = memory.limit {
        writes.push(Write::new("memory.limit", "memory.limit_in_bytes", bytes(limit)));
    }
    let total = match memory.swap {
        None => None,
        Some(MemorySwap::Unlimited) => Some("-1".to_owned()),
        Some(MemorySwap::Total(total)) => {
            Some(swap_total(memory, total)?.map_or("-1".to_owned(), |n| n.to_string()))
        }
    };
    if let Some(total) = total {
        let write = Write::new("memory.swap", "memory.memsw.limit_in_bytes", total);
        // A kernel that does not account swap limits none.
        writes.push(if swap_unlimited(memory.swap) { write.optional() } else { write });
    }
    if let Some(soft) = memory.reservation {
        writes.push(Write::new("memory.reservation", "memory.soft_limit_in_bytes", bytes(soft)));
    }
    if let Some(swappiness) = memory.swappiness {
        writes.push(Write::new("memory.swappiness", "memory.swappiness", swappiness));
    }
    if memory.disable_oom_killer {
        writes.push(Write::new("memory.disable_oom_killer", "memory.oom_control", 1));
    }
    if let Some(tcp) = memory.kernel_tcp {
        let file = "memory.kmem.tcp.limit_in_bytes";
        writes.push(Write::new("memory.kernel_tcp", file, bytes(tcp)));
    }
    Ok(writes)
}

/// Weights go to `blkio.weight` under CFQ (until Linux 5.0) and to `blkio.bfq.weight` under BFQ.
fn block(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let mut writes = Vec::new();
    if let Some(weight) = limits.block_weight {
        let weight = block_weight(weight)?;
        writes.push(
            Write::new("block_weight", "blkio.weight", weight).or("blkio.bfq.weight", weight),
        );
    }
    for rate in checked_rates(limits)? {
        let line = |value: u64| format!("{}:{} {value}", rate.major, rate.minor);
        if let Some(weight) = rate.weight {
            let line = line(weight.into());
            writes.push(
                Write::new("block_rates.weight", "blkio.weight_device", &line)
                    .or("blkio.bfq.weight_device", &line),
            );
        }
        let throttles = [
            ("block_rates.read_bytes", "blkio.throttle.read_bps_device", rate.read_bytes),
            ("block_rates.write_bytes", "blkio.throttle.write_bps_device", rate.write_bytes),
            (
                "block_rates.read_operations",
                "blkio.throttle.read_iops_device",
                rate.read_operations,
            ),
            (
                "block_rates.write_operations",
                "blkio.throttle.write_iops_device",
                rate.write_operations,
            ),
        ];
        for (what, file, value) in throttles {
            writes.extend(value.map(|value| Write::new(what, file, line(value))));
        }
    }
    Ok(writes)
}

fn devices(rules: &[workload::DeviceRule]) -> Result<Vec<Write>, CgroupError> {
    let judgement = devices::Judgement::of(rules)?;
    let lines = judgement.v1_lines();
    Ok(lines
        .into_iter()
        .map(|(allow, line)| {
            Write::new("devices", if allow { "devices.allow" } else { "devices.deny" }, line)
        })
        .collect())
}

fn hugetlb(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let mut writes = Vec::new();
    for (size, bytes) in &limits.hugepages {
        let size = checked_page_size(size)?;
        let value = or_unlimited(bytes.bytes(), "-1");
        let file = |kind: &str| format!("hugetlb.{size}.{kind}limit_in_bytes");
        writes.push(Write::new("hugepages", file(""), &value));
        // Reservations count apart since Linux 5.7.
        writes.push(Write::new("hugepages", file("rsvd."), &value).optional());
    }
    Ok(writes)
}

#[cfg(test)]
mod tests {
    use base::ByteSize;
    use workload::{BlockRate, CpuLimits, MemoryLimits};

    use super::*;

    fn check(controller: Controller, limits: Limits, expected: &[&str]) {
        let writes = writes(controller, &limits).unwrap();
        let lines: Vec<String> = writes
            .iter()
            .map(|write| {
                let choices: Vec<String> =
                    write.choices.iter().map(|(file, value)| format!("{file}={value}")).collect();
                choices.join(" | ") + if write.optional { " ?" } else { "" }
            })
            .collect();
        assert_eq!(lines, expected);
    }

    fn memory(limit: u64, swap: Option<MemorySwap>) -> Limits {
        let memory = MemoryLimits { limit: Some(ByteSize(limit)), swap, ..MemoryLimits::default() };
        Limits { memory, ..Limits::default() }
    }

    #[test]
    fn nothing_asked_is_nothing_written() {
        for controller in Controller::ALL {
            check(controller, Limits::default(), &[]);
        }
    }

    #[test]
    fn memory_is_limited_before_memory_and_swap() {
        check(
            Controller::Memory,
            memory(100, Some(MemorySwap::Total(ByteSize(200)))),
            &["memory.limit_in_bytes=100", "memory.memsw.limit_in_bytes=200"],
        );
        check(
            Controller::Memory,
            memory(u64::MAX, Some(MemorySwap::Unlimited)),
            &["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1 ?"],
        );
        let less = memory(100, Some(MemorySwap::Total(ByteSize(99))));
        assert!(matches!(writes(Controller::Memory, &less), Err(CgroupError::Invalid { .. })));
    }

    #[test]
    fn a_period_is_written_before_its_quota() {
        let cpu = CpuLimits { shares: Some(512), idle: true, ..CpuLimits::nano_cpus(500_000_000) };
        check(
            Controller::Cpu,
            Limits { cpu, ..Limits::default() },
            &["cpu.shares=512", "cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000", "cpu.idle=1"],
        );
    }

    #[test]
    fn weights_go_to_whichever_scheduler_is_there() {
        let rate = BlockRate {
            major: 8,
            minor: 16,
            weight: Some(20),
            read_bytes: Some(1000),
            write_operations: Some(5),
            ..BlockRate::default()
        };
        check(
            Controller::Block,
            Limits { block_weight: Some(500), block_rates: vec![rate], ..Limits::default() },
            &[
                "blkio.weight=500 | blkio.bfq.weight=500",
                "blkio.weight_device=8:16 20 | blkio.bfq.weight_device=8:16 20",
                "blkio.throttle.read_bps_device=8:16 1000",
                "blkio.throttle.write_iops_device=8:16 5",
            ],
        );
    }

    #[test]
    fn huge_pages_are_limited_by_size() {
        let hugepages = vec![("2MB".into(), ByteSize(4 << 20)), ("1GB".into(), ByteSize(u64::MAX))];
        check(
            Controller::Hugetlb,
            Limits { hugepages, ..Limits::default() },
            &[
                "hugetlb.2MB.limit_in_bytes=4194304",
                "hugetlb.2MB.rsvd.limit_in_bytes=4194304 ?",
                "hugetlb.1GB.limit_in_bytes=-1",
                "hugetlb.1GB.rsvd.limit_in_bytes=-1 ?",
            ],
        );
    }

    #[test]
    fn values_that_are_no_list_or_size_never_reach_a_file() {
        let cpu = CpuLimits { cpus: Some("0\n1".into()), ..CpuLimits::default() };
        assert!(writes(Controller::Cpuset, &Limits { cpu, ..Limits::default() }).is_err());
        let hugepages = vec![("../2MB".into(), ByteSize(1))];
        assert!(writes(Controller::Hugetlb, &Limits { hugepages, ..Limits::default() }).is_err());
        let limits = Limits { block_weight: Some(5), ..Limits::default() };
        assert!(writes(Controller::Block, &limits).is_err());
    }
}
