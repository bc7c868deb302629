//! The processes of a sandbox where no control group knows them: an ordinary user who was granted
//! none has only what every process tells.
//!
//! They are the descendants of this process. That is a sandbox and nothing else in a process that
//! keeps one sandbox and adopts its orphans, as shims do.
//!
//! Source: proc_pid_stat(5).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use base::ByteSize;
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use workload::{CpuUsage, DriverError, MemoryUsage, Usage};

/// How often the processes of a session are looked for while they go on forking.
const ROUNDS_MAX: usize = 100;

/// What `/proc/PID/stat` says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    pid: u32,
    parent: u32,
    session: u32,
    ended: bool,
    /// Clock ticks, those of children that were waited for included.
    user_ticks: u64,
    system_ticks: u64,
    threads: u64,
    resident_pages: u64,
}

/// Every process of the sandbox that has not ended.
pub(crate) fn pids() -> Vec<u32> {
    living().map(|stat| stat.pid).collect()
}

/// Kills them all; what was forked meanwhile is there the next time.
///
/// # Errors
/// What the kernel says of one that is there.
pub(crate) fn kill() -> Result<(), DriverError> {
    kill_those(pids)
}

/// Kills what is left of the session that this process led. It must have ended and not been
/// waited for: until then nobody else can have its number.
///
/// # Errors
/// What the kernel says of one that is there.
pub(crate) fn kill_session(leader: u32) -> Result<(), DriverError> {
    let members = || -> Vec<u32> {
        living().filter(|stat| stat.session == leader).map(|stat| stat.pid).collect()
    };
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS_MAX {
        let found = members();
        if found.iter().all(|pid| killed.contains(pid)) {
            // What was killed cannot fork any more, and nobody else is there.
            break;
        }
        kill_those(members)?;
        killed.extend(found);
    }
    Ok(())
}

fn kill_those(list: impl Fn() -> Vec<u32>) -> Result<(), DriverError> {
    let open = |pid: u32| {
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        Some((pid, pidfd_open(number, PidfdFlags::empty()).ok()?))
    };
    let opened: Vec<_> = list().into_iter().filter_map(open).collect();
    // Who is listed after its descriptor was opened is who was meant.
    let still = list();
    for (pid, process) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
        match pidfd_send_signal(process, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => return Err(DriverError::step(format!("kill {pid}"), &error.into())),
        }
    }
    Ok(())
}

/// What they use, as far as they tell: processes that ended without being waited for by one that
/// is still there are not in it, and memory that several share is counted for each.
pub(crate) fn usage() -> Usage {
    let mut usage = Usage { pids: Some(0), ..Usage::default() };
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let nanoseconds = |count: u64| count.saturating_mul(1_000_000_000 / ticks);
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let (mut cpu, mut memory, mut threads) = (CpuUsage::default(), 0_u64, 0_u64);
    for stat in living() {
        cpu.user_ns += nanoseconds(stat.user_ticks);
        cpu.system_ns += nanoseconds(stat.system_ticks);
        memory += stat.resident_pages.saturating_mul(page);
        threads += stat.threads;
    }
    cpu.total_ns = cpu.user_ns + cpu.system_ns;
    usage.cpu = cpu;
    usage.memory = MemoryUsage { current: ByteSize(memory), ..MemoryUsage::default() };
    usage.pids = Some(threads);
    usage
}

fn living() -> impl Iterator<Item = Stat> {
    descendants(&all(), std::process::id()).into_iter().filter(|stat| !stat.ended)
}

fn all() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    // One that has ended meanwhile is not there any more.
    let stat = |pid| parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?);
    numbers.filter_map(stat).collect()
}

/// Those below a process, whichever order they are listed in.
fn descendants(all: &[Stat], root: u32) -> Vec<Stat> {
    let mut children: BTreeMap<u32, Vec<Stat>> = BTreeMap::new();
    for stat in all {
        children.entry(stat.parent).or_default().push(*stat);
    }
    let (mut found, mut todo) = (Vec::new(), vec![root]);
    while let Some(parent) = todo.pop() {
        let below = children.remove(&parent).unwrap_or_default();
        todo.extend(below.iter().map(|stat| stat.pid));
        found.extend(below);
    }
    found
}

/// The name stands in parentheses and may contain any character, these too.
fn parse(text: &str) -> Option<Stat> {
    let (pid, _) = text.split_once(" (")?;
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    // Fields are numbered from 1 and the state is the third.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Stat {
        pid: pid.parse().ok()?,
        parent: u32::try_from(number(4)?).ok()?,
        session: u32::try_from(number(6)?).ok()?,
        ended: matches!(fields.first(), Some(&"Z" | &"X")),
        user_ticks: number(14)? + number(16)?,
        system_ticks: number(15)? + number(17)?,
        threads: number(20)?,
        resident_pages: number(24)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "7 (a) b (c) S 5 7 7 0 -1 4194560 1 0 0 0 11 12 13 14 20 0 3 0 100 2170880 \
        210 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n";

    #[test]
    fn fields_are_read_behind_any_name() {
        let expected = Stat {
            pid: 7,
            parent: 5,
            session: 7,
            ended: false,
            user_ticks: 24,
            system_ticks: 26,
            threads: 3,
            resident_pages: 210,
        };
        assert_eq!(parse(LINE), Some(expected));
        assert!(parse(&LINE.replace(" S ", " Z ")).unwrap().ended);
        assert_eq!(parse("7 (a) S 5"), None);
    }

    #[test]
    fn only_those_below_are_found() {
        let stat = |pid, parent| Stat { pid, parent, ..parse(LINE).unwrap() };
        let all = [stat(4, 3), stat(2, 1), stat(3, 2), stat(9, 8), stat(1, 0)];
        let mut found: Vec<u32> = descendants(&all, 2).iter().map(|stat| stat.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }

    #[test]
    fn a_child_is_found_counted_and_killed() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert!(pids().contains(&child.id()));
        assert!(usage().memory.current.0 > 0);
        kill().unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(!pids().contains(&child.id()));
    }
}
