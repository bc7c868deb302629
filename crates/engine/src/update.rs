//! New limits and another restart policy for a container that exists: what is merged, what its
//! driver is told, and what is told it to undo that.
//!
//! Pure: no clock, no I/O. `actor/update.rs` carries it out.

use base::ByteSize;
use serde::{Deserialize, Serialize};
use workload::{CpuLimits, Limits, MemoryLimits, MemorySwap};

use crate::{Create, EngineError, RestartPolicy, plan};

/// A limit of this much is none: what lifts one that there is.
const LIFTED: u64 = u64::MAX;
/// What the kernel gives a group that nobody gave anything. Source: Linux,
/// Documentation/admin-guide/cgroup-v1 and Documentation/scheduler/sched-bwc.rst.
const SHARES_DEFAULT: u64 = 1024;
/// The same of a period. Source: as above.
const PERIOD_US_DEFAULT: u64 = 100_000;
/// The same of a real-time period. Source: Linux, Documentation/scheduler/sched-rt-group.rst.
const REALTIME_PERIOD_US_DEFAULT: u64 = 1_000_000;
/// The same of a block weight. Source: Linux, Documentation/block/bfq-iosched.rst.
const BLOCK_WEIGHT_DEFAULT: u16 = 100;

/// What changes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Update {
    /// New limits. What is `None` stays as it is, and `u64::MAX` lifts a limit. Of devices, their
    /// rates, huge pages and raw files there are no new ones.
    pub limits: Limits,
    /// Another restart policy.
    pub restart: Option<RestartPolicy>,
}

/// Where processes may run if nothing is said: processors and memory nodes that are online.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    pub(crate) cpus: Option<String>,
    pub(crate) mems: Option<String>,
}

/// The container as it will be, checked as a new one is.
///
/// # Errors
/// [`EngineError::Invalid`], in Docker's words.
pub(crate) fn merge(config: &Create, update: &Update) -> Result<Create, EngineError> {
    let mut config = config.clone();
    let new = &update.limits;
    let memory = &mut config.limits.memory;
    if let (Some(limit), None, Some(MemorySwap::Total(total))) =
        (new.memory.limit, new.memory.swap, memory.swap)
        && limit > total
        && limit.bytes() != LIFTED
    {
        let why = "Memory limit should be smaller than already set memoryswap limit, update the \
                   memoryswap at the same time";
        return Err(plan::invalid("memory", why.to_owned()));
    }
    let lifted = Some(ByteSize(LIFTED));
    replace(&mut memory.limit, new.memory.limit.as_ref(), lifted);
    replace(&mut memory.reservation, new.memory.reservation.as_ref(), lifted);
    replace(&mut memory.swap, new.memory.swap.as_ref(), None);
    if memory.limit.is_none() && matches!(memory.swap, Some(MemorySwap::Total(_))) {
        memory.swap = None;
    }
    let (cpu, asked) = (&mut config.limits.cpu, &new.cpu);
    replace(&mut cpu.shares, asked.shares.as_ref(), None);
    replace(&mut cpu.quota_us, asked.quota_us.as_ref(), Some(LIFTED));
    replace(&mut cpu.period_us, asked.period_us.as_ref(), None);
    replace(&mut cpu.realtime_runtime_us, asked.realtime_runtime_us.as_ref(), None);
    replace(&mut cpu.realtime_period_us, asked.realtime_period_us.as_ref(), None);
    replace(&mut cpu.cpus, asked.cpus.as_ref(), None);
    replace(&mut cpu.mems, asked.mems.as_ref(), None);
    replace(&mut config.limits.pids, new.pids.as_ref(), Some(LIFTED));
    replace(&mut config.limits.block_weight, new.block_weight.as_ref(), None);
    if let Some(policy) = update.restart {
        if config.auto_remove && policy != RestartPolicy::No {
            let why = "Restart policy cannot be updated because AutoRemove is enabled for the \
                       container";
            return Err(plan::invalid("restart", why.to_owned()));
        }
        config.restart = policy;
    }
    plan::check_limits(&config)?;
    Ok(config)
}

fn replace<T: Clone + PartialEq>(old: &mut Option<T>, new: Option<&T>, lifted: Option<T>) {
    if let Some(new) = new {
        *old = (lifted.as_ref() != Some(new)).then(|| new.clone());
    }
}

/// Whether one of the two that belong together is asked for: memory and swap, quota and period.
fn asks_memory(asked: &Limits) -> bool {
    asked.memory.limit.is_some() || asked.memory.swap.is_some()
}

fn asks_time(asked: &Limits) -> bool {
    asked.cpu.quota_us.is_some() || asked.cpu.period_us.is_some()
}

/// What the driver of a running container is told: what is asked, and what belongs to it.
pub(crate) fn change(asked: &Limits, merged: &Limits) -> Limits {
    let mut change = Limits {
        memory: MemoryLimits { reservation: asked.memory.reservation, ..MemoryLimits::default() },
        cpu: CpuLimits {
            shares: asked.cpu.shares,
            realtime_runtime_us: asked.cpu.realtime_runtime_us,
            realtime_period_us: asked.cpu.realtime_period_us,
            cpus: asked.cpu.cpus.clone(),
            mems: asked.cpu.mems.clone(),
            ..CpuLimits::default()
        },
        pids: asked.pids,
        block_weight: asked.block_weight,
        ..Limits::default()
    };
    if asks_memory(asked) {
        change.memory.limit = asked.memory.limit.or(merged.memory.limit);
        change.memory.swap = asked.memory.swap.or(merged.memory.swap);
    }
    if asks_time(asked) {
        change.cpu.quota_us = asked.cpu.quota_us.or(merged.cpu.quota_us);
        change.cpu.period_us = asked.cpu.period_us.or(merged.cpu.period_us);
    }
    change
}

/// What puts the old limits back in force where new ones were asked for: each by itself, since
/// the one that was refused is among them.
pub(crate) fn undo(asked: &Limits, old: &Limits, placement: &Placement) -> Vec<Limits> {
    let mut parts = Vec::new();
    let mut memory = |memory| parts.push(Limits { memory, ..Limits::default() });
    if asks_memory(asked) {
        memory(MemoryLimits {
            limit: old.memory.limit.or(Some(ByteSize(LIFTED))),
            swap: old.memory.swap.or(Some(MemorySwap::Unlimited)),
            ..MemoryLimits::default()
        });
    }
    if asked.memory.reservation.is_some() {
        let reservation = old.memory.reservation.or(Some(ByteSize(LIFTED)));
        memory(MemoryLimits { reservation, ..MemoryLimits::default() });
    }
    let mut cpu = |cpu| parts.push(Limits { cpu, ..Limits::default() });
    if asks_time(asked) {
        cpu(CpuLimits {
            quota_us: old.cpu.quota_us.or(Some(LIFTED)),
            period_us: old.cpu.period_us.or(Some(PERIOD_US_DEFAULT)),
            ..CpuLimits::default()
        });
    }
    if asked.cpu.shares.is_some() {
        let shares = old.cpu.shares.or(Some(SHARES_DEFAULT));
        cpu(CpuLimits { shares, ..CpuLimits::default() });
    }
    if asked.cpu.realtime_runtime_us.is_some() || asked.cpu.realtime_period_us.is_some() {
        cpu(CpuLimits {
            realtime_runtime_us: old.cpu.realtime_runtime_us.or(Some(0)),
            realtime_period_us: old.cpu.realtime_period_us.or(Some(REALTIME_PERIOD_US_DEFAULT)),
            ..CpuLimits::default()
        });
    }
    if asked.cpu.cpus.is_some() {
        let cpus = old.cpu.cpus.clone().or_else(|| placement.cpus.clone());
        cpu(CpuLimits { cpus, ..CpuLimits::default() });
    }
    if asked.cpu.mems.is_some() {
        let mems = old.cpu.mems.clone().or_else(|| placement.mems.clone());
        cpu(CpuLimits { mems, ..CpuLimits::default() });
    }
    if asked.pids.is_some() {
        parts.push(Limits { pids: old.pids.or(Some(LIFTED)), ..Limits::default() });
    }
    if asked.block_weight.is_some() {
        let block_weight = old.block_weight.or(Some(BLOCK_WEIGHT_DEFAULT));
        parts.push(Limits { block_weight, ..Limits::default() });
    }
    parts
}

#[cfg(test)]
mod tests;
