//! Counters of version 1.
//!
//! Source: Linux, Documentation/admin-guide/cgroup-v1.

use base::ByteSize;
use workload::{BlockUsage, CpuUsage, MemoryUsage};

use super::{Blocks, Read, device, flat, number, value_of};
use crate::CgroupError;

/// A limit from here on is none: the kernel rounds its largest down to whole pages of up to
/// 64 KiB.
const LIMIT_NONE: u64 = 0x7fff_ffff_ffff_0000;

/// One tick of `cpuacct.stat` (USER_HZ is 100 on every architecture Linux still has).
const TICK_NS: u64 = 10_000_000;

pub(super) fn cpu(read: &Read<'_>, cpu: &mut CpuUsage) -> Result<(), CgroupError> {
    let alone = |file: &str| Ok::<_, CgroupError>(read(file)?.as_deref().and_then(number));
    cpu.total_ns = alone("cpuacct.usage")?.unwrap_or(0);
    let per_cpu = read("cpuacct.usage_percpu")?.unwrap_or_default();
    cpu.per_cpu_ns = per_cpu.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    // Since Linux 4.6 there are files in nanoseconds; before, there are ticks.
    match (alone("cpuacct.usage_user")?, alone("cpuacct.usage_sys")?) {
        (Some(user), Some(system)) => (cpu.user_ns, cpu.system_ns) = (user, system),
        _ => {
            let text = read("cpuacct.stat")?.unwrap_or_default();
            let ticks = |key| value_of(&text, key).unwrap_or(0).saturating_mul(TICK_NS);
            (cpu.user_ns, cpu.system_ns) = (ticks("user"), ticks("system"));
        }
    }
    Ok(())
}

pub(super) fn throttling(read: &Read<'_>, cpu: &mut CpuUsage) -> Result<(), CgroupError> {
    for (key, value) in flat(&read("cpu.stat")?.unwrap_or_default()) {
        match key {
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_time" => cpu.throttled_ns = value,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn memory(read: &Read<'_>, memory: &mut MemoryUsage) -> Result<(), CgroupError> {
    let alone = |file: &str| Ok::<_, CgroupError>(read(file)?.as_deref().and_then(number));
    memory.current = ByteSize(alone("memory.usage_in_bytes")?.unwrap_or(0));
    memory.peak = alone("memory.max_usage_in_bytes")?.map(ByteSize);
    let limit = alone("memory.limit_in_bytes")?.filter(|limit| *limit < LIMIT_NONE);
    memory.limit = limit.map(ByteSize);
    memory.failures = alone("memory.failcnt")?.unwrap_or(0);
    let control = read("memory.oom_control")?.unwrap_or_default();
    memory.oom_kills = value_of(&control, "oom_kill").unwrap_or(0);
    let stat = read("memory.stat")?.unwrap_or_default();
    // The totals include groups below; a kernel without hierarchies has only the plain ones.
    let total = |key: &str| value_of(&stat, &format!("total_{key}")).or(value_of(&stat, key));
    memory.inactive_file = ByteSize(total("inactive_file").unwrap_or(0));
    memory.swap = total("swap").map(ByteSize);
    memory.stat = flat(&stat).map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(())
}

/// The throttling layer counts whatever the scheduler; `_recursive` is there since Linux 5.2.
pub(super) fn block(read: &Read<'_>, block: &mut Vec<BlockUsage>) -> Result<(), CgroupError> {
    let either = |file: &str| {
        let recursive = read(&format!("blkio.throttle.{file}_recursive"))?;
        Ok::<_, CgroupError>(match recursive {
            Some(text) => text,
            None => read(&format!("blkio.throttle.{file}"))?.unwrap_or_default(),
        })
    };
    let (bytes, operations) = (either("io_service_bytes")?, either("io_serviced")?);
    let mut blocks = Blocks::default();
    for (id, operation, value) in lines(&bytes) {
        match operation {
            "Read" => blocks.entry(id).read_bytes = value,
            "Write" => blocks.entry(id).write_bytes = value,
            _ => {}
        }
    }
    for (id, operation, value) in lines(&operations) {
        match operation {
            "Read" => blocks.entry(id).read_operations = value,
            "Write" => blocks.entry(id).write_operations = value,
            _ => {}
        }
    }
    *block = blocks.used();
    Ok(())
}

/// `8:0 Read 4096`.
fn lines(text: &str) -> impl Iterator<Item = ((u32, u32), &str, u64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        Some((device(words.next()?)?, words.next()?, number(words.next()?)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded<'a>(
        files: &'a [(&'a str, &'a str)],
    ) -> impl Fn(&str) -> Result<Option<String>, CgroupError> + 'a {
        |file| Ok(files.iter().find(|(name, _)| *name == file).map(|(_, text)| (*text).to_owned()))
    }

    #[test]
    fn memory_counts_what_is_below_and_knows_no_limit() {
        let mut memory = MemoryUsage::default();
        let read = recorded(&[
            ("memory.usage_in_bytes", "8192\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("memory.stat", "inactive_file 1\nswap 2\ntotal_inactive_file 4096\ntotal_swap 5\n"),
        ]);
        super::memory(&read, &mut memory).unwrap();
        assert_eq!((memory.current, memory.limit, memory.peak), (ByteSize(8192), None, None));
        assert_eq!((memory.inactive_file, memory.swap), (ByteSize(4096), Some(ByteSize(5))));
        assert_eq!((memory.oom_kills, memory.stat.len()), (3, 4));
    }

    #[test]
    fn ticks_serve_where_there_are_no_nanoseconds() {
        let mut cpu = CpuUsage::default();
        let read = recorded(&[
            ("cpuacct.usage", "5000\n"),
            ("cpuacct.usage_percpu", "2000 3000 \n"),
            ("cpuacct.stat", "user 3\nsystem 1\n"),
        ]);
        super::cpu(&read, &mut cpu).unwrap();
        assert_eq!((cpu.total_ns, cpu.user_ns, cpu.system_ns), (5000, 30_000_000, 10_000_000));
        assert_eq!(cpu.per_cpu_ns, [2000, 3000]);
    }

    #[test]
    fn devices_that_did_nothing_are_left_out() {
        let mut block = Vec::new();
        let read = recorded(&[
            (
                "blkio.throttle.io_service_bytes",
                "8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\n7:0 Read 0\nTotal 4097\n",
            ),
            ("blkio.throttle.io_serviced", "8:0 Read 2\n8:0 Write 1\nTotal 3\n"),
        ]);
        super::block(&read, &mut block).unwrap();
        let used = BlockUsage {
            major: 8,
            minor: 0,
            read_bytes: 4096,
            write_bytes: 1,
            read_operations: 2,
            write_operations: 1,
        };
        assert_eq!(block, [used]);
    }
}
