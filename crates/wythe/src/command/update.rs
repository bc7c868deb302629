//! `update`: new limits and another restart policy for containers.

use base::ByteSize;
use engine::{RestartPolicy, Update};
use workload::{CpuLimits, Limits, MemoryLimits, MemorySwap};

use super::each::each;
use crate::{connect::Endpoint, create, error::CliError};

/// What lifts a limit; see [`Update::limits`].
const LIFTED: u64 = u64::MAX;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Block IO (relative weight), between 10 and 1000, or 0 to disable
    #[arg(long, value_name = "uint16")]
    blkio_weight: Option<u16>,
    /// Limit CPU CFS (Completely Fair Scheduler) period
    #[arg(long, value_name = "int")]
    cpu_period: Option<u64>,
    /// Limit CPU CFS (Completely Fair Scheduler) quota
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    cpu_quota: Option<i64>,
    /// Limit the CPU real-time period in microseconds
    #[arg(long, value_name = "int")]
    cpu_rt_period: Option<u64>,
    /// Limit the CPU real-time runtime in microseconds
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    cpu_rt_runtime: Option<i64>,
    /// CPU shares (relative weight)
    #[arg(short, long, value_name = "int")]
    cpu_shares: Option<u64>,
    /// Number of CPUs
    #[arg(long, value_name = "decimal", value_parser = create::nano_cpus)]
    cpus: Option<u64>,
    /// CPUs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_cpus: Option<String>,
    /// MEMs in which to allow execution (0-3, 0,1)
    #[arg(long, value_name = "string")]
    cpuset_mems: Option<String>,
    /// Memory limit
    #[arg(short, long, value_name = "bytes", value_parser = create::size)]
    memory: Option<ByteSize>,
    /// Memory soft limit
    #[arg(long, value_name = "bytes", value_parser = create::size)]
    memory_reservation: Option<ByteSize>,
    /// Swap limit equal to memory plus swap: '-1' to enable unlimited swap
    #[arg(long, value_name = "bytes", allow_negative_numbers = true,
          value_parser = create::memory_swap)]
    memory_swap: Option<MemorySwap>,
    /// Tune container pids limit (set -1 for unlimited)
    #[arg(long, value_name = "int", allow_negative_numbers = true)]
    pids_limit: Option<i64>,
    /// Restart policy to apply when a container exits
    #[arg(long, value_name = "string")]
    restart: Option<RestartPolicy>,
    /// Which containers
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Args {
    pub(super) async fn run(self, to: &Endpoint) -> Result<u8, CliError> {
        let update = self.update()?;
        each(to, &self.containers, async |client, name| {
            client.update(name, update.clone()).await?;
            Ok(name.to_owned())
        })
        .await
    }

    /// What was typed means this. As with Docker, 0 is as if the flag were not there, but for the
    /// number of processes, where it lifts the limit.
    fn update(&self) -> Result<Update, CliError> {
        if !self.asks() {
            let why = "you must provide one or more flags when using this command";
            return Err(CliError::Usage(why.to_owned()));
        }
        let memory = MemoryLimits {
            limit: self.memory.filter(|size| size.bytes() > 0),
            reservation: self.memory_reservation.filter(|size| size.bytes() > 0),
            swap: self.memory_swap.filter(|swap| *swap != MemorySwap::Total(ByteSize(0))),
            ..MemoryLimits::default()
        };
        let limits = Limits {
            memory,
            cpu: self.cpu()?,
            pids: self.pids_limit.map(|most| match u64::try_from(most) {
                Ok(0) | Err(_) => LIFTED,
                Ok(most) => most,
            }),
            block_weight: self.blkio_weight.filter(|weight| *weight != 0),
            ..Limits::default()
        };
        Ok(Update { limits, restart: self.restart })
    }

    fn cpu(&self) -> Result<CpuLimits, CliError> {
        let quota = self.cpu_quota.filter(|quota| *quota != 0);
        let quota = quota.map(|quota| u64::try_from(quota).unwrap_or(LIFTED));
        let period = self.cpu_period.filter(|period| *period != 0);
        let time = match self.cpus.filter(|cpus| *cpus > 0) {
            Some(_) if quota.or(period).is_some() => {
                let both = "conflicting options: --cpus and --cpu-quota or --cpu-period";
                return Err(CliError::Usage(both.to_owned()));
            }
            Some(cpus) => CpuLimits::nano_cpus(cpus),
            None => CpuLimits { quota_us: quota, period_us: period, ..CpuLimits::default() },
        };
        let list = |list: &Option<String>| list.clone().filter(|list| !list.is_empty());
        Ok(CpuLimits {
            shares: self.cpu_shares.filter(|shares| *shares != 0),
            realtime_runtime_us: self.cpu_rt_runtime.filter(|runtime| *runtime != 0),
            realtime_period_us: self.cpu_rt_period.filter(|period| *period != 0),
            cpus: list(&self.cpuset_cpus),
            mems: list(&self.cpuset_mems),
            ..time
        })
    }

    /// Whether any flag was given.
    fn asks(&self) -> bool {
        let numbers = [
            self.blkio_weight.is_some(),
            self.cpu_period.is_some(),
            self.cpu_quota.is_some(),
            self.cpu_rt_period.is_some(),
            self.cpu_rt_runtime.is_some(),
            self.cpu_shares.is_some(),
            self.cpus.is_some(),
            self.pids_limit.is_some(),
        ];
        let rest = [
            self.cpuset_cpus.is_some(),
            self.cpuset_mems.is_some(),
            self.memory.is_some(),
            self.memory_reservation.is_some(),
            self.memory_swap.is_some(),
            self.restart.is_some(),
        ];
        numbers.into_iter().chain(rest).any(|given| given)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn read(line: &str) -> Result<Update, String> {
        let words = ["update"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args.update().map_err(|error| error.to_string())
    }

    #[test]
    fn flags_say_what_changes_and_nothing_else() {
        let update = read("-m 64m --memory-swap -1 -c 9 --pids-limit 7 a b").unwrap();
        let mut want = Update::default();
        want.limits.memory.limit = Some(ByteSize(64 << 20));
        want.limits.memory.swap = Some(MemorySwap::Unlimited);
        want.limits.cpu.shares = Some(9);
        want.limits.pids = Some(7);
        assert_eq!(update, want);
        let update = read("--restart on-failure:3 a").unwrap();
        assert_eq!(update.restart, Some(RestartPolicy::OnFailure { most: Some(3) }));
        assert_eq!(update.limits, Limits::default());
    }

    #[test]
    fn limits_are_lifted_and_nothing_given_is_nothing_to_do() {
        let update = read("--pids-limit -1 --cpu-quota -1 a").unwrap();
        assert_eq!((update.limits.pids, update.limits.cpu.quota_us), (Some(LIFTED), Some(LIFTED)));
        assert!(read("a").unwrap_err().contains("one or more flags"));
        assert!(read("--cpus 1 --cpu-quota 5000 a").unwrap_err().contains("conflicting"));
        assert!(read("--restart sometimes a").unwrap_err().contains("unknown policy"));
    }
}
