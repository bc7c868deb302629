//! Which machine a sandbox gets. Pure.

use base::ByteSize;
use hv::Accel;
use workload::{CpuLimits, DriverError, Limits, MemoryLimits};

/// Memory of a machine whose sandbox has no limit: 256 MiB.
const MEMORY_DEFAULT: u64 = 256 << 20;

/// Memory for the kernel and the agent beside a limit of the sandbox: 48 MiB.
const RESERVE: u64 = 48 << 20;

/// Memory of a machine's process beside the guest's, in bytes: 48 MiB. It takes a few of them; the
/// rest is for what the host's kernel keeps of disks, files and sockets on its behalf.
const BESIDE: u64 = 48 << 20;

/// The same for each processor: 16 MiB. One of software keeps what it has decoded, 13 MiB at most.
const BESIDE_CPU: u64 = 16 << 20;

/// Of so many bytes of the guest's memory one goes to page tables of the host: 8 for each page of
/// 4096, and as many again that KVM has.
const PAGE_TABLES: u64 = 256;

/// Most threads and processes of a machine: one for each processor, for the devices, for interrupt
/// lines, for orders, for its end, for shares, and some of the host's kernel for KVM.
const TASKS_MAX: u64 = 32;

/// Machines have memory in steps of 2 MiB.
const STEP: u64 = 2 << 20;

/// Most processors of a machine.
const CPUS_MAX: u64 = 4;

/// What no kernel need do that is to cost nothing while its container does nothing: it would look
/// twice a second whether memory that nobody asked for in large pieces lies in small ones.
///
/// Source: Linux `Documentation/admin-guide/sysctl/vm.rst`, `compaction_proactiveness`.
const QUIET: &str = "sysctl.vm.compaction_proactiveness=0";

/// Who waits until nobody looks at what is old any more does not wait for ticks: so few processors
/// are asked. A file system that is to stand still waits so three times, and every fork for it.
///
/// Source: Linux `Documentation/admin-guide/kernel-parameters.txt`, `rcupdate.rcu_expedited`.
const PROMPT: &str = "rcupdate.rcu_expedited=1";

/// What a kernel need not do on a processor in software. That guesses nothing, so nobody can learn
/// from what it guessed; it takes in a program that was just translated for it no faster than it
/// carries out the few system call filters that were not; and its time stamp counter is the host's
/// clock, which need not be compared with another one twice a second. What it keeps for each processor
/// lies in pages, not in one of 2 MiB: that would spare translations, which cost nothing here, and is
/// looked through for every few bytes that are asked for, a tenth of what a container's start takes.
///
/// Source: Linux `Documentation/admin-guide/kernel-parameters.txt`, `mitigations`, `sysctl.*`,
/// `tsc`, `percpu_alloc`; `Documentation/admin-guide/sysctl/net.rst`, `bpf_jit_enable`.
const SOFT: &str =
    "mitigations=off sysctl.net.core.bpf_jit_enable=0 tsc=reliable percpu_alloc=page";

/// What a machine's kernel is told; what was asked for comes last, and so counts.
pub(crate) fn command_line(arguments: &str, accel: Accel, asked: &[String]) -> String {
    let soft = match accel {
        Accel::Kvm => None,
        Accel::Soft => Some(SOFT),
    };
    let ours = [arguments, QUIET, PROMPT].into_iter().chain(soft);
    let words = ours.chain(asked.iter().map(String::as_str));
    words.collect::<Vec<_>>().join(" ")
}

/// A machine's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) memory_bytes: u64,
    pub(crate) cpus: u8,
}

/// The machine for these limits: as many processors as they can keep busy, and memory for the
/// limit beside what kernel and agent take.
pub(crate) fn size(limits: &Limits) -> Size {
    let memory = limits.memory.limit.map(ByteSize::bytes);
    let memory = memory.map_or(MEMORY_DEFAULT, |limit| limit.saturating_add(RESERVE));
    Size { memory_bytes: memory.next_multiple_of(STEP), cpus: cpus(&limits.cpu) }
}

fn cpus(limits: &CpuLimits) -> u8 {
    let (Some(quota), Some(period)) = (limits.quota_us, limits.period_us) else { return 1 };
    let cpus = quota.div_ceil(period.max(1)).clamp(1, CPUS_MAX);
    u8::try_from(cpus).unwrap_or(1)
}

/// The limits that hold outside, for the machine's process: the memory that it may take, and the
/// processor time of the sandbox, so that it is not the guest's kernel alone that keeps to it.
pub(crate) fn outside(limits: &Limits, size: Size) -> Limits {
    let Size { memory_bytes, cpus } = size;
    let beside = BESIDE + BESIDE_CPU * u64::from(cpus) + memory_bytes / PAGE_TABLES;
    let memory = ByteSize(memory_bytes.saturating_add(beside));
    Limits {
        memory: MemoryLimits { limit: Some(memory), ..MemoryLimits::default() },
        pids: Some(TASKS_MAX),
        ..change(limits)
    }
}

/// What of changed limits holds outside: the machine's memory stays as it is.
pub(crate) fn change(limits: &Limits) -> Limits {
    let CpuLimits { shares, quota_us, period_us, burst_us, idle, .. } = limits.cpu;
    let cpu = CpuLimits { shares, quota_us, period_us, burst_us, idle, ..CpuLimits::default() };
    Limits { cpu, ..Limits::default() }
}

/// The limits that hold inside: those whose subjects are the same there.
///
/// # Errors
/// [`DriverError::Unsupported`] for what means a processor, a device or a file of this host.
pub(crate) fn inside(limits: &Limits) -> Result<Limits, DriverError> {
    let what = [
        ("the host's processors", limits.cpu.cpus.is_some()),
        ("the host's memory nodes", limits.cpu.mems.is_some()),
        ("rates of the host's disks", !limits.block_rates.is_empty()),
        ("huge pages of the host", !limits.hugepages.is_empty()),
        ("control group files of the host", !limits.unified.is_empty()),
    ];
    if let Some((what, _)) = what.into_iter().find(|(_, given)| *given) {
        return Err(DriverError::Unsupported {
            what: what.to_owned(),
            why: "a machine has its own".to_owned(),
        });
    }
    Ok(limits.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_room_for_the_limit_and_its_kernel() {
        let none = size(&Limits::default());
        assert_eq!(none, Size { memory_bytes: 256 << 20, cpus: 1 });
        let limits = |memory: u64, nano_cpus| Limits {
            memory: MemoryLimits { limit: Some(ByteSize(memory)), ..MemoryLimits::default() },
            cpu: CpuLimits::nano_cpus(nano_cpus),
            ..Limits::default()
        };
        let odd = size(&limits((64 << 20) + 1, 1_500_000_000));
        assert_eq!(odd, Size { memory_bytes: 114 << 20, cpus: 2 });
        assert_eq!(size(&limits(1 << 30, 64_000_000_000)).cpus, 4);
        assert_eq!(size(&limits(1 << 30, 1)).cpus, 1);
    }

    #[test]
    fn the_process_may_use_what_its_guest_may_and_a_little_more() {
        let limits = Limits {
            cpu: CpuLimits { cpus: Some("0".into()), ..CpuLimits::nano_cpus(500_000_000) },
            devices: Some(Vec::new()),
            block_weight: Some(10),
            ..Limits::default()
        };
        let outside = outside(&limits, Size { memory_bytes: 256 << 20, cpus: 1 });
        let memory = MemoryLimits { limit: Some(ByteSize(321 << 20)), ..MemoryLimits::default() };
        let cpu = CpuLimits::nano_cpus(500_000_000);
        let wanted = Limits { memory, cpu, pids: Some(32), ..Limits::default() };
        assert_eq!(outside, wanted);
        let changed = change(&Limits { pids: Some(7), ..limits });
        assert_eq!(changed, Limits { cpu: wanted.cpu, ..Limits::default() });
    }

    #[test]
    fn what_means_this_host_is_refused() {
        let pinned = CpuLimits { cpus: Some("0".into()), ..CpuLimits::default() };
        let refused = inside(&Limits { cpu: pinned, ..Limits::default() }).unwrap_err();
        assert!(refused.to_string().contains("the host's processors"), "{refused}");
        let pids = Limits { pids: Some(5), ..Limits::default() };
        assert_eq!(inside(&pids).unwrap(), pids);
    }
}
