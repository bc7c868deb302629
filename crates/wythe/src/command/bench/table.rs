//! The figures side by side.

use std::fmt::Write as _;

use super::{Cost, MEMORY, START};
use crate::output::{human, table::align};

/// How a figure is shown.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Milliseconds,
    Microseconds,
    Nanoseconds,
    Bytes,
    BytesPerSecond,
    PerSecond,
}

const ROWS: [(&str, &str, Unit); 11] = [
    ("start to exit", START, Unit::Milliseconds),
    ("memory, idle", MEMORY, Unit::Bytes),
    ("processor", "cpu_ops_per_s", Unit::PerSecond),
    ("memory copied", "memory_bytes_per_s", Unit::BytesPerSecond),
    ("system call", "syscall_ns", Unit::Nanoseconds),
    ("page fault", "page_fault_ns", Unit::Nanoseconds),
    ("process inside", "process_start_us", Unit::Microseconds),
    ("disk, written", "disk_write_bytes_per_s", Unit::BytesPerSecond),
    ("disk, cached", "disk_read_bytes_per_s", Unit::BytesPerSecond),
    ("network, round trip", "network_round_trip_us", Unit::Microseconds),
    ("network, sent", "network_bytes_per_s", Unit::BytesPerSecond),
];

/// The figures that there should be.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ROWS.into_iter().map(|(_, name, _)| name)
}

/// A row for each figure, a column for each wall, with its ratio to the bare process.
pub(super) fn text(costs: &[Cost]) -> String {
    let mut text = String::new();
    let names = costs.iter().map(|cost| cost.isolation.to_uppercase());
    let _ = writeln!(text, "\t{}", names.collect::<Vec<_>>().join("\t"));
    for (label, name, unit) in ROWS {
        let bare = costs.first().and_then(|cost| cost.figures.get(name)).copied();
        let cells = costs.iter().enumerate().map(|(at, cost)| match cost.figures.get(name) {
            None => "-".to_owned(),
            Some(value) => match bare.filter(|bare| at > 0 && *bare > 0.0) {
                Some(bare) => format!("{} ({:.2} ×)", shown(*value, unit), value / bare),
                None => shown(*value, unit),
            },
        });
        let _ = writeln!(text, "{label}\t{}", cells.collect::<Vec<_>>().join("\t"));
    }
    align(&text)
}

fn shown(value: f64, unit: Unit) -> String {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a figure is not negative, and a float's cast saturates"
    )]
    let size = |value: f64| human::size(value as u64);
    match unit {
        Unit::Milliseconds => format!("{value:.1} ms"),
        Unit::Microseconds => format!("{value:.0} µs"),
        Unit::Nanoseconds => format!("{value:.0} ns"),
        Unit::Bytes => size(value),
        Unit::BytesPerSecond => format!("{}/s", size(value)),
        Unit::PerSecond => format!("{:.0} M/s", value / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn walls_stand_beside_the_bare_process() {
        let cost = |isolation: &str, start: f64| {
            let mut cost = Cost::of(isolation);
            cost.put(START, Some(start));
            cost
        };
        let text = text(&[cost("bare", 1.0), cost("container", 12.5)]);
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].contains("BARE") && lines[0].contains("CONTAINER"), "{text}");
        assert!(lines[1].starts_with("start to exit"), "{text}");
        assert!(lines[1].contains("1.0 ms") && lines[1].contains("12.5 ms (12.50 ×)"), "{text}");
        assert!(lines[2].contains('-'), "{text}");
    }
}
