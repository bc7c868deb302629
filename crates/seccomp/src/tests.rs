//! Programs against policies: an interpreter, a word-for-word reading, and the kernel itself.

mod kernel;
mod machine;
mod profiles;

use std::collections::BTreeSet;

use proptest::prelude::*;
use workload::{SeccompAction, SeccompArg, SeccompCompare, SeccompPolicy, SeccompRule};

use self::machine::{Call, run};
use crate::{Arch, CompileError, compile, tables};

/// What a policy says about a call, read word for word.
fn judge(policy: &SeccompPolicy, native: Arch, call: &Call) -> SeccompAction {
    let listed = |arch: Arch| policy.architectures.iter().any(|name| name == arch.scmp_name());
    let arch = [Arch::X86_64, Arch::X86, Arch::Aarch64]
        .into_iter()
        .filter(|arch| *arch == native || (listed(*arch) && arch.runs_on(native)))
        .find(|arch| arch.audit() == call.arch);
    let Some(arch) = arch else { return SeccompAction::KillProcess };
    if arch == Arch::X86_64 && call.number >= 0x4000_0000 {
        return match policy.architectures.iter().any(|name| name == "SCMP_ARCH_X32") {
            true => SeccompAction::Errno(38),
            false => SeccompAction::KillProcess,
        };
    }
    let numbers = |rule: &SeccompRule| -> Vec<u32> {
        rule.names.iter().filter_map(|name| tables::number(arch, name)).collect()
    };
    let hit = policy.rules.iter().find(|rule| {
        numbers(rule).contains(&call.number) && rule.args.iter().all(|arg| holds(arg, call))
    });
    let highest = policy.rules.iter().flat_map(numbers).max();
    match (hit, policy.default_action) {
        (Some(rule), _) => rule.action,
        // Calls newer than the policy.
        (None, SeccompAction::Errno(_)) if highest.is_some_and(|n| call.number > n) => {
            SeccompAction::Errno(38)
        }
        (None, action) => action,
    }
}

fn holds(arg: &SeccompArg, call: &Call) -> bool {
    let actual = call.args[usize::from(arg.index)];
    match arg.compare {
        SeccompCompare::NotEqual => actual != arg.value,
        SeccompCompare::Less => actual < arg.value,
        SeccompCompare::LessOrEqual => actual <= arg.value,
        SeccompCompare::Equal => actual == arg.value,
        SeccompCompare::GreaterOrEqual => actual >= arg.value,
        SeccompCompare::Greater => actual > arg.value,
        SeccompCompare::MaskedEqual => actual & arg.value == arg.value_two,
    }
}

const ARCHES: [Arch; 3] = [Arch::X86_64, Arch::X86, Arch::Aarch64];

fn actions() -> impl Strategy<Value = SeccompAction> {
    prop_oneof![
        Just(SeccompAction::Allow),
        Just(SeccompAction::Log),
        Just(SeccompAction::KillThread),
        Just(SeccompAction::KillProcess),
        Just(SeccompAction::Trap),
        Just(SeccompAction::Notify),
        (0_u16..4096).prop_map(SeccompAction::Errno),
        any::<u16>().prop_map(SeccompAction::Trace),
    ]
}

/// Values that are near one another in both halves.
fn values() -> impl Strategy<Value = u64> {
    (prop_oneof![0_u64..3, Just(0xffff_ffff)], prop_oneof![0_u64..4, 0xffff_fffe_u64..=0xffff_ffff])
        .prop_map(|(high, low)| high << 32 | low)
}

fn args() -> impl Strategy<Value = Vec<SeccompArg>> {
    let compare = prop_oneof![
        Just(SeccompCompare::NotEqual),
        Just(SeccompCompare::Less),
        Just(SeccompCompare::LessOrEqual),
        Just(SeccompCompare::Equal),
        Just(SeccompCompare::GreaterOrEqual),
        Just(SeccompCompare::Greater),
        Just(SeccompCompare::MaskedEqual),
    ];
    let arg =
        (0_u8..6, values(), values(), compare).prop_map(|(index, value, value_two, compare)| {
            SeccompArg { index, value, value_two, compare }
        });
    prop::collection::vec(arg, 0..4)
}

/// Any call's name, few names often, and one that nobody has.
fn names() -> impl Strategy<Value = String> {
    let all: Vec<&str> = tables::table(Arch::X86_64).iter().map(|(name, _)| *name).collect();
    prop_oneof![
        prop::sample::select(all).prop_map(str::to_owned),
        prop::sample::select(vec!["read", "write", "open", "close", "stat64", "nobody_has_this"])
            .prop_map(str::to_owned),
    ]
}

fn policies() -> impl Strategy<Value = SeccompPolicy> {
    let rule = (prop::collection::vec(names(), 0..16), actions(), args())
        .prop_map(|(names, action, args)| SeccompRule { names, action, args });
    let arches = prop::sample::subsequence(
        vec![
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32",
            "SCMP_ARCH_AARCH64",
            "SCMP_ARCH_ARM",
        ],
        0..=5,
    );
    (actions(), arches, prop::collection::vec(rule, 0..10)).prop_map(
        |(default_action, architectures, rules)| SeccompPolicy {
            default_action,
            architectures: architectures.into_iter().map(str::to_owned).collect(),
            flags: Vec::new(),
            rules,
        },
    )
}

fn calls() -> impl Strategy<Value = Call> {
    let audit =
        prop_oneof![prop::sample::select(ARCHES.map(Arch::audit).to_vec()), Just(0x4000_0028),];
    let number = prop_oneof![0_u32..480, 0x4000_0000_u32..0x4000_0010, any::<u32>()];
    (audit, number, prop::array::uniform6(values())).prop_map(|(arch, number, args)| Call {
        arch,
        number,
        args,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn a_program_judges_as_its_policy_does(
        policy in policies(),
        native in prop::sample::select(ARCHES.to_vec()),
        calls in prop::collection::vec(calls(), 40),
    ) {
        let program = compile(&policy, native).unwrap();
        for call in calls {
            let (verdict, _) = run(&program, &call);
            prop_assert_eq!(verdict, judge(&policy, native, &call), "{:?}", call);
        }
    }
}

#[test]
fn conditions_far_from_the_test_are_reached() {
    // Ten rules with three conditions each put a leaf beyond the 255 instructions of a test.
    let arg = |index| SeccompArg { index, value: 7, value_two: 0, compare: SeccompCompare::Equal };
    let rule = |errno| SeccompRule {
        names: vec!["read".into(), "write".into()],
        action: SeccompAction::Errno(errno),
        args: vec![arg(0), SeccompArg { value: errno.into(), ..arg(1) }, arg(2)],
    };
    let policy = SeccompPolicy {
        default_action: SeccompAction::Allow,
        architectures: Vec::new(),
        flags: Vec::new(),
        rules: (0..30).map(rule).collect(),
    };
    let program = compile(&policy, Arch::X86_64).unwrap();
    assert!(program.len() > 300, "{}", program.len());
    for second in 0..31 {
        let call = Call { arch: Arch::X86_64.audit(), number: 1, args: [7, second, 7, 0, 0, 0] };
        assert_eq!(run(&program, &call).0, judge(&policy, Arch::X86_64, &call));
    }
}

#[test]
fn what_the_kernel_would_not_take_is_refused() {
    let rule = SeccompRule {
        names: tables::table(Arch::X86_64).iter().map(|(name, _)| (*name).to_owned()).collect(),
        action: SeccompAction::Allow,
        args: vec![SeccompArg { index: 0, value: 1, value_two: 0, compare: SeccompCompare::Equal }],
    };
    let policy = |rule: SeccompRule| SeccompPolicy {
        default_action: SeccompAction::Trap,
        architectures: Vec::new(),
        flags: Vec::new(),
        rules: vec![rule],
    };
    let mut long = policy(rule.clone());
    for (at, rule) in (0..20).map(|at| (at, rule.clone())) {
        let arg = SeccompArg { value: at, ..rule.args[0] };
        // Alternating names keep neighbours from sharing a leaf.
        let names = rule.names.into_iter().skip(usize::from(at % 2 == 0)).step_by(2).collect();
        long.rules.push(SeccompRule { names, args: vec![arg], ..rule });
    }
    let too_long = compile(&long, Arch::X86_64);
    assert!(matches!(too_long, Err(CompileError::TooLong { .. })), "{too_long:?}");

    let mut seventh = rule.clone();
    seventh.args[0].index = 6;
    let seventh = compile(&policy(seventh), Arch::X86_64);
    assert!(matches!(seventh, Err(CompileError::Argument { index: 6, .. })));

    let errno = SeccompRule { action: SeccompAction::Errno(4096), ..rule };
    let errno = compile(&policy(errno), Arch::X86_64);
    assert_eq!(errno, Err(CompileError::Errno { errno: 4096 }));
}

/// Docker's fourteen default capabilities.
fn default_capabilities() -> BTreeSet<u8> {
    let names = workload::profile::DEFAULT_CAPABILITIES;
    names.iter().filter_map(|name| workload::profile::capability(name)).collect()
}
