//! What a policy says about each system call of one architecture.

use std::collections::BTreeMap;

use workload::{SeccompAction, SeccompArg, SeccompPolicy};

use crate::{Arch, tables};

/// `ENOSYS`: what a kernel answers that does not have the call.
const ENOSYS: u16 = 38;

/// What happens to one call: the first case whose conditions hold, or else the last action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision<'p> {
    pub(crate) cases: Vec<(&'p [SeccompArg], SeccompAction)>,
    pub(crate) otherwise: SeccompAction,
}

impl Decision<'_> {
    fn always(action: SeccompAction) -> Self {
        Decision { cases: Vec::new(), otherwise: action }
    }
}

/// Decisions by ranges of numbers: each from its first number up to the next range's. The first
/// range begins at 0.
pub(crate) fn ranges(policy: &SeccompPolicy, arch: Arch) -> Vec<(u32, Decision<'_>)> {
    let named = named(policy, arch);
    let default = Decision::always(policy.default_action);
    let mut ranges = vec![(0, default.clone())];
    let mut next = 0;
    for (number, decision) in &named {
        if *number != next {
            push(&mut ranges, next, default.clone());
        }
        push(&mut ranges, *number, decision.clone());
        next = number + 1;
    }
    push(&mut ranges, next, Decision::always(beyond(policy, !named.is_empty())));
    ranges
}

/// What happens to calls with numbers above all that the policy names.
///
/// A policy that answers with an error number was written when those calls did not exist; C
/// libraries that try them first fall back on `ENOSYS` and on nothing else. runc does the same.
fn beyond(policy: &SeccompPolicy, names_any: bool) -> SeccompAction {
    let answers = matches!(policy.default_action, SeccompAction::Errno(_));
    if answers && names_any { SeccompAction::Errno(ENOSYS) } else { policy.default_action }
}

fn push<'p>(ranges: &mut Vec<(u32, Decision<'p>)>, from: u32, decision: Decision<'p>) {
    match ranges.last_mut() {
        Some((_, last)) if *last == decision => {}
        Some((start, last)) if *start == from => *last = decision,
        _ => ranges.push((from, decision)),
    }
}

/// The calls that rules name, with what the rules say in order.
fn named(policy: &SeccompPolicy, arch: Arch) -> BTreeMap<u32, Decision<'_>> {
    let mut calls: BTreeMap<u32, (Decision<'_>, bool)> = BTreeMap::new();
    for rule in &policy.rules {
        for number in rule.names.iter().filter_map(|name| tables::number(arch, name)) {
            let (decision, decided) = calls
                .entry(number)
                .or_insert_with(|| (Decision::always(policy.default_action), false));
            if *decided {
                continue;
            }
            if rule.args.is_empty() {
                decision.otherwise = rule.action;
                *decided = true;
            } else {
                decision.cases.push((&rule.args, rule.action));
            }
        }
    }
    calls.into_iter().map(|(number, (decision, _))| (number, simplified(decision))).collect()
}

/// Without the last cases that say what is said anyway.
fn simplified(mut decision: Decision<'_>) -> Decision<'_> {
    while decision.cases.last().is_some_and(|(_, action)| *action == decision.otherwise) {
        decision.cases.pop();
    }
    decision
}
