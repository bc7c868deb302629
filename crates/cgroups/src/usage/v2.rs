//! Counters of version 2.
//!
//! Source: Linux, Documentation/admin-guide/cgroup-v2.rst.

use base::ByteSize;
use workload::{BlockUsage, CpuUsage, MemoryUsage};

use super::{Blocks, Read, device, flat, number, value_of};
use crate::CgroupError;

const NS_PER_US: u64 = 1000;

pub(super) fn cpu(read: &Read<'_>, cpu: &mut CpuUsage) -> Result<(), CgroupError> {
    for (key, value) in flat(&read("cpu.stat")?.unwrap_or_default()) {
        let ns = value.saturating_mul(NS_PER_US);
        match key {
            "usage_usec" => cpu.total_ns = ns,
            "user_usec" => cpu.user_ns = ns,
            "system_usec" => cpu.system_ns = ns,
            "nr_periods" => cpu.periods = value,
            "nr_throttled" => cpu.throttled_periods = value,
            "throttled_usec" => cpu.throttled_ns = ns,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn memory(read: &Read<'_>, memory: &mut MemoryUsage) -> Result<(), CgroupError> {
    let alone =
        |file: &str| Ok::<_, CgroupError>(read(file)?.as_deref().and_then(number).map(ByteSize));
    memory.current = alone("memory.current")?.unwrap_or_default();
    memory.peak = alone("memory.peak")?;
    memory.limit = alone("memory.max")?;
    memory.swap = alone("memory.swap.current")?;
    let events = read("memory.events")?.unwrap_or_default();
    memory.failures = value_of(&events, "max").unwrap_or(0);
    memory.oom_kills = value_of(&events, "oom_kill").unwrap_or(0);
    let stat = read("memory.stat")?.unwrap_or_default();
    memory.inactive_file = ByteSize(value_of(&stat, "inactive_file").unwrap_or(0));
    memory.stat = flat(&stat).map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(())
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
pub(super) fn block(read: &Read<'_>, block: &mut Vec<BlockUsage>) -> Result<(), CgroupError> {
    let text = read("io.stat")?.unwrap_or_default();
    let mut blocks = Blocks::default();
    for line in text.lines() {
        let mut words = line.split(' ');
        let Some(id) = words.next().and_then(device) else { continue };
        let entry = blocks.entry(id);
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = number(value).unwrap_or(0);
            match key {
                "rbytes" => entry.read_bytes = value,
                "wbytes" => entry.write_bytes = value,
                "rios" => entry.read_operations = value,
                "wios" => entry.write_operations = value,
                _ => {}
            }
        }
    }
    *block = blocks.used();
    Ok(())
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
    fn microseconds_become_nanoseconds() {
        let mut cpu = CpuUsage::default();
        let stat = "usage_usec 7\nuser_usec 4\nsystem_usec 3\nnr_periods 2\nthrottled_usec 1\n";
        super::cpu(&recorded(&[("cpu.stat", stat)]), &mut cpu).unwrap();
        assert_eq!((cpu.total_ns, cpu.user_ns, cpu.system_ns), (7000, 4000, 3000));
        assert_eq!((cpu.periods, cpu.throttled_ns), (2, 1000));
    }

    #[test]
    fn memory_events_count_kills_and_max_is_no_limit() {
        let mut memory = MemoryUsage::default();
        let read = recorded(&[
            ("memory.current", "4096\n"),
            ("memory.max", "max\n"),
            ("memory.events", "low 0\nhigh 0\nmax 9\noom 2\noom_kill 1\noom_group_kill 0\n"),
            ("memory.stat", "anon 1\ninactive_file 2\n"),
        ]);
        super::memory(&read, &mut memory).unwrap();
        assert_eq!((memory.current, memory.limit), (ByteSize(4096), None));
        assert_eq!((memory.failures, memory.oom_kills), (9, 1));
        assert_eq!(memory.inactive_file, ByteSize(2));
    }

    #[test]
    fn io_lines_are_read() {
        let mut block = Vec::new();
        let text = "8:0 rbytes=4096 wbytes=1 rios=2 wios=1 dbytes=0\n254:0 \n";
        super::block(&recorded(&[("io.stat", text)]), &mut block).unwrap();
        assert_eq!(block.len(), 1);
        assert_eq!((block[0].read_bytes, block[0].write_operations), (4096, 1));
    }
}
