//! What containers use, as rows of `stats`.

use docker::shape::stats::Look;
use engine::ContainerState;
use serde::Serialize;
use workload::{BlockUsage, InterfaceUsage, MemoryUsage, Usage};

use crate::output::{format::Column, human};

/// The headings of what a template can have.
pub(crate) const COLUMNS: [Column; 9] = [
    ("BlockIO", "BLOCK I/O"),
    ("CPUPerc", "CPU %"),
    ("Container", "CONTAINER"),
    ("ID", "CONTAINER ID"),
    ("MemPerc", "MEM %"),
    ("MemUsage", "MEM USAGE / LIMIT"),
    ("Name", "NAME"),
    ("NetIO", "NET I/O"),
    ("PIDs", "PIDS"),
];

/// The table.
pub(crate) const TABLE: &str = "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t\
                                {{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}";

/// The fields that Docker's `stats` has.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Row {
    #[serde(rename = "BlockIO")]
    block_io: String,
    #[serde(rename = "CPUPerc")]
    cpu_percent: String,
    container: String,
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "MemPerc")]
    memory_percent: String,
    mem_usage: String,
    name: String,
    #[serde(rename = "NetIO")]
    net_io: String,
    #[serde(rename = "PIDs")]
    pids: String,
}

/// A row, and every counter.
#[derive(Debug, Serialize)]
pub(crate) struct InFull {
    #[serde(flatten)]
    row: Row,
    #[serde(rename = "Stats")]
    counters: serde_json::Value,
}

impl Row {
    /// The same with every counter.
    pub(crate) fn with(self, counters: serde_json::Value) -> InFull {
        InFull { row: self, counters }
    }
}

fn runs(state: ContainerState) -> bool {
    matches!(state, ContainerState::Running | ContainerState::Paused)
}

/// Its share of one processor's time since it was seen before: all of two is 200 %.
///
/// Source: docker/cli, `calculateCPUPercentUnix`.
fn cpu_percent(look: &Look<'_>, usage: &Usage) -> Option<String> {
    let before = look.before?;
    // A container that was started again counts from nothing again.
    let spent = usage.cpu.total_ns.saturating_sub(before.cpu.total_ns);
    let passed = look.host.cpu_ns.saturating_sub(before.host.cpu_ns);
    Some(percent(u128::from(spent) * u128::from(look.host.online_cpus), passed))
}

/// Memory less the page cache that can be dropped.
///
/// Source: docker/cli, `calculateMemUsageUnixNoCache`.
fn memory_used(memory: &MemoryUsage) -> u64 {
    let (current, cache) = (memory.current.bytes(), memory.inactive_file.bytes());
    if cache < current { current - cache } else { current }
}

/// The row of a container, which its user may have called by another name than its own.
pub(crate) fn row(look: &Look<'_>, called: Option<&str>, no_trunc: bool) -> Row {
    let container = look.container;
    let id = if no_trunc { container.id.as_str() } else { container.id.short() };
    let row = Row {
        block_io: "--".to_owned(),
        cpu_percent: "--".to_owned(),
        container: called.unwrap_or(id).to_owned(),
        id: id.to_owned(),
        memory_percent: "--".to_owned(),
        mem_usage: "-- / --".to_owned(),
        name: container.name.as_str().to_owned(),
        net_io: "--".to_owned(),
        pids: "--".to_owned(),
    };
    match &container.usage {
        Some(usage) => used(look, usage, row),
        None if runs(container.state) => row,
        // One that has ended uses nothing of nothing.
        None => Row {
            block_io: "0B / 0B".to_owned(),
            cpu_percent: "0.00%".to_owned(),
            memory_percent: "0.00%".to_owned(),
            mem_usage: "0B / 0B".to_owned(),
            net_io: "0B / 0B".to_owned(),
            pids: "0".to_owned(),
            ..row
        },
    }
}

fn used(look: &Look<'_>, usage: &Usage, row: Row) -> Row {
    let pair = |a: u64, b: u64| format!("{} / {}", human::size(a), human::size(b));
    let net = |of: fn(&InterfaceUsage) -> u64| usage.network.iter().map(of).sum();
    let block = |of: fn(&BlockUsage) -> u64| usage.block.iter().map(of).sum();
    let (memory, limit) = (memory_used(&usage.memory), look.memory_limit(usage));
    Row {
        block_io: pair(block(|b| b.read_bytes), block(|b| b.write_bytes)),
        cpu_percent: cpu_percent(look, usage).unwrap_or(row.cpu_percent),
        memory_percent: percent(memory.into(), limit),
        mem_usage: format!("{} / {}", human::memory(memory), human::memory(limit)),
        net_io: pair(net(|i| i.receive_bytes), net(|i| i.transmit_bytes)),
        pids: usage.pids.map_or(row.pids, |pids| pids.to_string()),
        ..row
    }
}

/// A share in per cent with two decimals; of nothing, none.
fn percent(part: u128, whole: u64) -> String {
    let hundredths = (part * 20_000).checked_div(whole.into()).unwrap_or(0).div_ceil(2);
    format!("{}.{:02}%", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use base::{ByteSize, clock::Timestamp};
    use docker::{fixture, shape::stats::Moment};
    use engine::{ContainerStats, HostStats};
    use workload::CpuUsage;

    use super::*;
    use crate::{
        output::format::{Format, list},
        template::Value,
    };

    fn stats(state: ContainerState, usage: Option<Usage>) -> ContainerStats {
        let of = fixture::container();
        ContainerStats { id: of.id, name: of.name, state, usage }
    }

    fn usage() -> Usage {
        let mut usage = Usage { pids: Some(3), ..Usage::default() };
        usage.cpu.total_ns = 2_000_000_000;
        usage.cpu.throttled_periods = 7;
        usage.memory.current = ByteSize(6 << 20);
        usage.memory.inactive_file = ByteSize(2 << 20);
        usage.memory.limit = Some(ByteSize(256 << 20));
        for (name, bytes) in [("eth0", 1000), ("eth1", 500)] {
            let transmit_bytes = 2 * bytes;
            usage.network.push(InterfaceUsage {
                name: name.to_owned(),
                receive_bytes: bytes,
                transmit_bytes,
                ..InterfaceUsage::default()
            });
        }
        usage.block.push(BlockUsage { major: 8, write_bytes: 4096, ..BlockUsage::default() });
        usage
    }

    fn host(cpu_ns: u64) -> HostStats {
        HostStats { cpu_ns, online_cpus: 4, memory: ByteSize(8 << 30) }
    }

    /// Of a second on each of four processors it had a half on one.
    fn before() -> Moment {
        let cpu = CpuUsage { total_ns: 1_500_000_000, ..CpuUsage::default() };
        Moment { at: Timestamp(0), cpu, host: host(6_000_000_000) }
    }

    fn table(container: &ContainerStats, before: Option<&Moment>) -> String {
        let look = Look { container, host: &host(10_000_000_000), before };
        let rows = [Value::of(&row(&look, None, false))];
        list(&Format::Table, TABLE, &COLUMNS, &rows).unwrap()
    }

    #[test]
    fn usage_is_shown_as_docker_shows_it() {
        let running = stats(ContainerState::Running, Some(usage()));
        insta::assert_snapshot!(table(&running, Some(&before())), @r"
        CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O       BLOCK I/O    PIDS
        c0c0c0c0c0c0   web       50.00%    4MiB / 256MiB       1.56%     1.5kB / 3kB   0B / 4.1kB   3
        ");
        let ended = stats(ContainerState::Exited, None);
        insta::assert_snapshot!(table(&ended, None), @r"
        CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS
        c0c0c0c0c0c0   web       0.00%     0B / 0B             0.00%     0B / 0B   0B / 0B     0
        ");
        let silent = stats(ContainerState::Running, None);
        insta::assert_snapshot!(table(&silent, None), @r"
        CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O   BLOCK I/O   PIDS
        c0c0c0c0c0c0   web       --        -- / --             --        --        --          --
        ");
    }

    #[test]
    fn without_a_limit_the_host_is_the_limit_and_a_first_look_knows_no_share() {
        let mut usage = usage();
        for limit in [None, Some(ByteSize(1 << 50))] {
            usage.memory.limit = limit;
            let container = stats(ContainerState::Paused, Some(usage.clone()));
            let text = table(&container, None);
            assert!(text.contains("  --        4MiB / 8GiB         0.05%"), "{text}");
        }
    }

    #[test]
    fn shares_are_rounded_and_nothing_is_divided_by_nothing() {
        assert_eq!(percent(1, 3), "33.33%");
        assert_eq!(percent(2, 3), "66.67%");
        assert_eq!(percent(8, 4), "200.00%");
        assert_eq!(percent(8, 0), "0.00%");
    }

    #[test]
    fn cache_beyond_what_is_counted_is_not_taken_off() {
        let memory = |current, cache| MemoryUsage {
            current: ByteSize(current),
            inactive_file: ByteSize(cache),
            ..MemoryUsage::default()
        };
        assert_eq!(memory_used(&memory(10, 4)), 6);
        assert_eq!(memory_used(&memory(10, 11)), 10);
    }
}
