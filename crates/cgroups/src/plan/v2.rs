//! Limits as writes to version 2 files.
//!
//! Device rules are not among them: they are an eBPF program (`devices/program.rs`).
//!
//! Source: Linux, Documentation/admin-guide/cgroup-v2.rst.

use workload::{Limits, MemorySwap};

use super::{
    UNLIMITED, Write, block_weight, checked_list, checked_page_size, checked_rates, or_unlimited,
    swap_total, unsupported,
};
use crate::{CgroupError, controller::Controller};

/// What to write in the group for this controller; nothing if nothing is asked of it.
pub(crate) fn writes(controller: Controller, limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    match controller {
        Controller::Cpu => cpu(limits),
        Controller::Cpuset => cpuset(limits),
        Controller::Memory => memory(limits),
        Controller::Block => block(limits),
        Controller::Pids => Ok(limits
            .pids
            .iter()
            .map(|max| Write::new("pids", "pids.max", or_unlimited(*max, "max")))
            .collect()),
        Controller::Hugetlb => hugetlb(limits),
        Controller::Cpuacct | Controller::Devices | Controller::Freezer => Ok(Vec::new()),
    }
}

/// The raw files of `unified`, checked to be files of controllers.
pub(crate) fn unified(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let write = |(file, value): &(String, String)| {
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let core = file.starts_with("cgroup.") && !file.starts_with("cgroup.max.");
        if !file.contains('.') || file.starts_with('.') || !file.bytes().all(word) || core {
            let what = format!("unified \"{}\"", file.escape_default());
            return Err(CgroupError::Invalid { what, why: "it is no limit's file".into() });
        }
        Ok(Write::new(format!("unified \"{file}\""), file.clone(), value))
    };
    limits.unified.iter().map(write).collect()
}

fn cpu(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let cpu = &limits.cpu;
    if cpu.realtime_runtime_us.is_some() || cpu.realtime_period_us.is_some() {
        return Err(unsupported("cpu.realtime", "cgroup v2 does not limit real-time processes"));
    }
    let mut writes = Vec::new();
    if let Some(shares) = cpu.shares {
        writes.push(Write::new("cpu.shares", "cpu.weight", weight_of_shares(shares)));
    }
    // Both in one file. A quota alone keeps the period; a period alone means no quota, as in runc.
    let quota = cpu.quota_us.map(|quota| or_unlimited(quota, "max"));
    let max = match (quota, cpu.period_us) {
        (Some(quota), None) => Some(quota),
        (quota, Some(period)) => Some(format!("{} {period}", quota.unwrap_or("max".into()))),
        (None, None) => None,
    };
    writes.extend(max.map(|max| Write::new("cpu.quota_us", "cpu.max", max)));
    writes.extend(cpu.burst_us.map(|burst| Write::new("cpu.burst_us", "cpu.max.burst", burst)));
    if cpu.idle {
        writes.push(Write::new("cpu.idle", "cpu.idle", 1));
    }
    Ok(writes)
}

/// `cpu.weight` (1..=10000, default 100) for `cpu.shares` (2..=262144, default 1024).
///
/// The curve goes through the three points that matter: least to least, default to default, most
/// to most. The older linear formula gave the default of one 39 of the other.
///
/// Source: runc 1.3.2 and crun 1.23, `10^((l² + 125 l)/612 - 7/34)` with `l = log2 shares`.
fn weight_of_shares(shares: u64) -> u64 {
    let log = match shares {
        0..=2 => return 1,
        262_144.. => return 10_000,
        // Below 2^53, so exact.
        shares => f64::from(u32::try_from(shares).expect("below 262144")).log2(),
    };
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    // The default must come out as the default: 10^2 may be a rounding error above 100.
    let weight = (10_f64.powf(exponent) - 1e-9).ceil().clamp(1.0, 10_000.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within 1..=10000")]
    let weight = weight as u64;
    weight
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
    for (what, asked) in [
        ("memory.swappiness", memory.swappiness.is_some()),
        ("memory.disable_oom_killer", memory.disable_oom_killer),
        ("memory.kernel_tcp", memory.kernel_tcp.is_some()),
    ] {
        if asked {
            return Err(unsupported(what, "cgroup v2 has no such limit"));
        }
    }
    let bytes = |size: base::ByteSize| or_unlimited(size.bytes(), "max");
    let mut writes = Vec::new();
    if let Some(limit) = memory.limit {
        writes.push(Write::new("memory.limit", "memory.max", bytes(limit)));
    }
    match memory.swap {
        None => {}
        Some(MemorySwap::Unlimited) => {
            writes.push(Write::new("memory.swap", "memory.swap.max", "max").optional());
        }
        // Version 2 limits swap apart from memory.
        Some(MemorySwap::Total(total)) => {
            let alone = swap_total(memory, total)?
                .map(|total| total - memory.limit.map_or(0, base::ByteSize::bytes));
            let value = alone.map_or("max".to_owned(), |n| n.to_string());
            writes.push(Write::new("memory.swap", "memory.swap.max", value));
        }
    }
    if let Some(soft) = memory.reservation {
        // Unlike every other one it protects, so that none of it is 0.
        let low = if soft.bytes() >= UNLIMITED { 0 } else { soft.bytes() };
        writes.push(Write::new("memory.reservation", "memory.low", low));
    }
    Ok(writes)
}

/// Weights go to `io.bfq.weight` under BFQ as they are, and to `io.weight` scaled.
fn block(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let mut writes = Vec::new();
    if let Some(weight) = limits.block_weight {
        let weight = block_weight(weight)?;
        writes.push(
            Write::new("block_weight", "io.bfq.weight", weight).or("io.weight", io_weight(weight)),
        );
    }
    for rate in checked_rates(limits)? {
        let device = format!("{}:{}", rate.major, rate.minor);
        if let Some(weight) = rate.weight {
            writes.push(
                Write::new("block_rates.weight", "io.bfq.weight", format!("{device} {weight}"))
                    .or("io.weight", format!("{device} {}", io_weight(weight))),
            );
        }
        let rates = [
            ("rbps", rate.read_bytes),
            ("wbps", rate.write_bytes),
            ("riops", rate.read_operations),
            ("wiops", rate.write_operations),
        ];
        let rates: Vec<String> = rates
            .iter()
            .filter_map(|(key, value)| value.map(|value| format!("{key}={value}")))
            .collect();
        if !rates.is_empty() {
            let line = format!("{device} {}", rates.join(" "));
            writes.push(Write::new("block_rates", "io.max", line));
        }
    }
    Ok(writes)
}

/// 1..=10000 for 10..=1000, linear, as runc has it.
fn io_weight(weight: u16) -> u32 {
    1 + (u32::from(weight).saturating_sub(10)) * 9999 / 990
}

fn hugetlb(limits: &Limits) -> Result<Vec<Write>, CgroupError> {
    let mut writes = Vec::new();
    for (size, bytes) in &limits.hugepages {
        let size = checked_page_size(size)?;
        let value = or_unlimited(bytes.bytes(), "max");
        writes.push(Write::new("hugepages", format!("hugetlb.{size}.max"), &value));
        // Reservations count apart since Linux 5.7.
        writes.push(Write::new("hugepages", format!("hugetlb.{size}.rsvd.max"), &value).optional());
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

    #[test]
    fn shares_keep_least_default_and_most() {
        let weights = [0, 2, 512, 1024, 2048, 262_143, 262_144, u64::MAX].map(weight_of_shares);
        assert_eq!(weights, [1, 1, 59, 100, 174, 10_000, 10_000, 10_000]);
        assert!((2..3000).all(|n| weight_of_shares(n) <= weight_of_shares(n + 1)));
    }

    #[test]
    fn quota_and_period_share_a_file() {
        let cpu = |quota_us, period_us| Limits {
            cpu: CpuLimits { quota_us, period_us, ..CpuLimits::default() },
            ..Limits::default()
        };
        check(Controller::Cpu, cpu(Some(5000), Some(10_000)), &["cpu.max=5000 10000"]);
        check(Controller::Cpu, cpu(Some(5000), None), &["cpu.max=5000"]);
        check(Controller::Cpu, cpu(None, Some(10_000)), &["cpu.max=max 10000"]);
        check(Controller::Cpu, cpu(Some(u64::MAX), None), &["cpu.max=max"]);
    }

    #[test]
    fn swap_is_limited_apart_from_memory() {
        let limits = |limit: u64, swap| Limits {
            memory: MemoryLimits {
                limit: Some(ByteSize(limit)),
                swap: Some(swap),
                reservation: Some(ByteSize(50)),
                ..MemoryLimits::default()
            },
            ..Limits::default()
        };
        check(
            Controller::Memory,
            limits(100, MemorySwap::Total(ByteSize(250))),
            &["memory.max=100", "memory.swap.max=150", "memory.low=50"],
        );
        check(
            Controller::Memory,
            limits(100, MemorySwap::Total(ByteSize(100))),
            &["memory.max=100", "memory.swap.max=0", "memory.low=50"],
        );
        check(
            Controller::Memory,
            limits(100, MemorySwap::Unlimited),
            &["memory.max=100", "memory.swap.max=max ?", "memory.low=50"],
        );
    }

    #[test]
    fn a_reservation_that_is_lifted_protects_nothing() {
        let mut limits = Limits::default();
        limits.memory.reservation = Some(ByteSize(u64::MAX));
        check(Controller::Memory, limits, &["memory.low=0"]);
    }

    #[test]
    fn rates_of_a_device_are_one_line() {
        let rate = BlockRate {
            major: 8,
            minor: 0,
            weight: Some(1000),
            read_bytes: Some(1),
            write_operations: Some(2),
            ..BlockRate::default()
        };
        check(
            Controller::Block,
            Limits { block_weight: Some(10), block_rates: vec![rate], ..Limits::default() },
            &[
                "io.bfq.weight=10 | io.weight=1",
                "io.bfq.weight=8:0 1000 | io.weight=8:0 10000",
                "io.max=8:0 rbps=1 wiops=2",
            ],
        );
    }

    #[test]
    fn what_version_2_lacks_is_refused_by_name() {
        let memory = MemoryLimits { swappiness: Some(0), ..MemoryLimits::default() };
        let refused = writes(Controller::Memory, &Limits { memory, ..Limits::default() });
        assert!(refused.unwrap_err().to_string().contains("memory.swappiness"));
    }

    #[test]
    fn raw_files_are_files_of_controllers() {
        let ask = |file: &str| {
            unified(&Limits { unified: vec![(file.into(), "1".into())], ..Limits::default() })
        };
        for good in ["memory.high", "cgroup.max.depth", "hugetlb.2MB.max"] {
            assert!(ask(good).is_ok(), "{good}");
        }
        for bad in ["cgroup.procs", "../memory.max", "memory", "", ".", "cgroup.kill", "a/b.c"] {
            assert!(ask(bad).is_err(), "{bad}");
        }
    }
}
