//! What containers use, with the figures of the host that shares are computed of.

use std::{fs, path::Path};

use base::{ByteSize, ContainerId, ContainerName};
use serde::{Deserialize, Serialize};
use workload::Usage;

use crate::{ContainerState, EngineError, files::failed};

/// Of which containers [`crate::Engine::stats`] tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StatsQuery {
    /// These, in this order; without any, all that run. Who is not there is left out.
    pub who: Vec<String>,
    /// Without `who`: those that do not run, too.
    pub all: bool,
}

/// One look at the host and its containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The host.
    pub host: HostStats,
    /// The containers.
    pub containers: Vec<ContainerStats>,
}

/// What there is to share.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostStats {
    /// Time that all processors together have spent since the boot, idle or not.
    pub cpu_ns: u64,
    /// Processors that are online.
    pub online_cpus: u64,
    /// Memory altogether.
    pub memory: ByteSize,
}

/// One container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStats {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: ContainerName,
    /// Where it stands.
    pub state: ContainerState,
    /// What it has used since its start; none if it does not run, or could not be counted in
    /// time.
    pub usage: Option<Usage>,
}

impl HostStats {
    /// Reads them. Memory and processors that a container's own limits hide do not matter here:
    /// the daemon has none.
    ///
    /// # Errors
    /// [`EngineError::Files`].
    pub(crate) fn read() -> Result<HostStats, EngineError> {
        let path = Path::new("/proc/stat");
        let text = fs::read_to_string(path).map_err(failed("read", path))?;
        let (cpu_ns, online_cpus) = processors(&text, rustix::param::clock_ticks_per_second());
        let info = rustix::system::sysinfo();
        let memory = info.totalram.saturating_mul(u64::from(info.mem_unit.max(1)));
        Ok(HostStats { cpu_ns, online_cpus, memory: ByteSize(memory) })
    }
}

/// Time of all processors, and how many are online.
///
/// Time is the sum of user, nice, system, idle, iowait, irq and softirq, as Docker has it; guests'
/// is in user's already, and stolen time nobody here could have had.
///
/// Source: proc_stat(5); moby, `daemon/stats`.
fn processors(text: &str, ticks_per_second: u64) -> (u64, u64) {
    let tick_ns = 1_000_000_000 / ticks_per_second.max(1);
    let (mut time, mut online) = (0_u64, 0_u64);
    // Processors come first; the lines behind them are long.
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_whitespace();
        if words.next() != Some("cpu") {
            online += 1;
            continue;
        }
        let ticks = words.take(7).filter_map(|word| word.parse::<u64>().ok()).sum::<u64>();
        time = ticks.saturating_mul(tick_ns);
    }
    (time, online)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_summed_without_what_was_stolen_and_processors_are_counted() {
        let text = "cpu  1 2 3 4 5 6 7 1000 1000 1000\ncpu0 1 2 3 4 5 6 7 0 0 0\n\
                    cpu2 0 0 0 0 0 0 0 0 0 0\nintr 1 2 3\ncpufreq\n";
        assert_eq!(processors(text, 100), (280_000_000, 2));
        assert_eq!(processors("", 0), (0, 0));
    }

    #[test]
    fn this_host_has_something_to_share() {
        let before = HostStats::read().unwrap();
        assert!(before.cpu_ns > 0 && before.online_cpus > 0 && before.memory > ByteSize(1 << 20));
    }
}
