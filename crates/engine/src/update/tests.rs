//! What becomes of limits when others are asked for.

use super::*;

const MIB: u64 = 1 << 20;

fn memory(limit: u64, total: Option<u64>) -> Limits {
    let swap = total.map(|total| MemorySwap::Total(ByteSize(total * MIB)));
    let limit = Some(ByteSize(limit * MIB));
    Limits { memory: MemoryLimits { limit, swap, ..MemoryLimits::default() }, ..Limits::default() }
}

fn of(limits: Limits) -> Create {
    Create { limits, ..Create::default() }
}

fn to(limits: Limits) -> Update {
    Update { limits, restart: None }
}

fn refusal(config: &Create, update: &Update) -> String {
    merge(config, update).unwrap_err().to_string()
}

#[test]
fn what_is_not_asked_stays_and_what_is_lifted_is_none() {
    let cpu = CpuLimits { shares: Some(512), ..CpuLimits::nano_cpus(500_000_000) };
    let old = of(Limits { pids: Some(10), cpu, ..memory(64, Some(128)) });
    assert_eq!(merge(&old, &Update::default()).unwrap(), old);
    let mut update = to(Limits { pids: Some(LIFTED), ..Limits::default() });
    update.limits.cpu.quota_us = Some(LIFTED);
    let new = merge(&old, &update).unwrap();
    assert_eq!((new.limits.pids, new.limits.cpu.quota_us), (None, None));
    assert_eq!((new.limits.cpu.shares, new.limits.cpu.period_us), (Some(512), Some(100_000)));
    assert_eq!(new.limits.memory, old.limits.memory);
}

#[test]
fn memory_is_checked_against_what_is_there() {
    let old = of(memory(64, Some(128)));
    let said = refusal(&old, &to(memory(256, None)));
    assert!(said.contains("smaller than already set memoryswap limit"), "{said}");
    let said = refusal(&old, &to(memory(256, Some(200))));
    assert!(said.contains("larger than memory limit"), "{said}");
    let said = refusal(&old, &to(memory(1, None)));
    assert!(said.contains("Minimum memory limit allowed is 6MB"), "{said}");
    let mut swap = memory(64, Some(32));
    swap.memory.limit = None;
    assert!(refusal(&old, &to(swap)).contains("larger than memory limit"));
    let mut soft = Limits::default();
    soft.memory.reservation = Some(ByteSize(65 * MIB));
    assert!(refusal(&old, &to(soft)).contains("memory reservation"));
    let new = merge(&old, &to(memory(256, Some(512)))).unwrap();
    assert_eq!(new.limits, memory(256, Some(512)));
}

#[test]
fn one_that_removes_itself_takes_no_policy_but_none() {
    let transient = Create { auto_remove: true, ..Create::default() };
    let update =
        |policy: &str| Update { restart: Some(policy.parse().unwrap()), ..to(Limits::default()) };
    assert!(refusal(&transient, &update("always")).contains("AutoRemove is enabled"));
    assert_eq!(merge(&transient, &update("no")).unwrap(), transient);
    let new = merge(&Create::default(), &update("on-failure:3")).unwrap();
    assert_eq!(new.restart, RestartPolicy::OnFailure { most: Some(3) });
}

#[test]
fn what_belongs_together_is_told_together() {
    let old = memory(64, Some(128));
    let asked = memory(32, None);
    let merged = merge(&of(old), &to(asked.clone())).unwrap().limits;
    assert_eq!(change(&asked, &merged), memory(32, Some(128)));
    let mut old = Limits { cpu: CpuLimits::nano_cpus(2_000_000_000), ..Limits::default() };
    old.pids = Some(9);
    let mut asked = Limits::default();
    asked.cpu.period_us = Some(50_000);
    let merged = merge(&of(old), &to(asked.clone())).unwrap().limits;
    let told = change(&asked, &merged);
    assert_eq!((told.cpu.quota_us, told.cpu.period_us), (Some(200_000), Some(50_000)));
    assert_eq!(told.pids, None, "nobody asked");
}

#[test]
fn undoing_names_every_limit_that_was_asked_for_and_no_other() {
    let mut asked = Limits { pids: Some(5), block_weight: Some(20), ..memory(32, None) };
    asked.cpu.cpus = Some("0".to_owned());
    let placement = Placement { cpus: Some("0-1".to_owned()), mems: Some("0".to_owned()) };
    let parts = undo(&asked, &memory(64, Some(128)), &placement);
    let cpu = CpuLimits { cpus: Some("0-1".to_owned()), ..CpuLimits::default() };
    let want = [
        memory(64, Some(128)),
        Limits { cpu, ..Limits::default() },
        Limits { pids: Some(LIFTED), ..Limits::default() },
        Limits { block_weight: Some(100), ..Limits::default() },
    ];
    assert_eq!(parts, want);
    assert!(undo(&Limits::default(), &asked, &placement).is_empty());
}

#[test]
fn a_value_that_no_kernel_takes_is_refused_before_one_is_asked() {
    let mut weight = Limits { block_weight: Some(5), ..Limits::default() };
    assert!(refusal(&Create::default(), &to(weight.clone())).contains("10 to 1000"));
    weight.block_weight = None;
    weight.cpu.cpus = Some("two".to_owned());
    assert!(refusal(&Create::default(), &to(weight)).contains("two"));
    let mut quota = Limits::default();
    quota.cpu.quota_us = Some(5);
    assert!(refusal(&Create::default(), &to(quota)).contains("quota"));
}
