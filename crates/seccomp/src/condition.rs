//! Conditions on arguments: 64-bit comparisons out of 32-bit halves.

use workload::{SeccompArg, SeccompCompare};

use crate::bpf::{AND, Instruction, LOAD, Test, argument, plain};

/// Where a test goes: on, to the end of its condition (which holds), or out of the rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Next,
    Holds,
    Fails,
}

/// One step of a condition.
#[derive(Clone, Copy, Debug)]
enum Step {
    Plain(u16, u32),
    Test(Test, u32, To, To),
}

/// A rule's conditions followed by `verdict`, which does not fall through; if one does not hold,
/// control falls out at the end.
pub(crate) fn guarded(args: &[SeccompArg], verdict: Instruction) -> Vec<Instruction> {
    let conditions: Vec<Vec<Step>> = args.iter().map(steps).collect();
    let total = conditions.iter().map(Vec::len).sum::<usize>() + 1;
    let mut code: Vec<Instruction> = Vec::with_capacity(total);
    for condition in &conditions {
        let end = code.len() + condition.len();
        for step in condition {
            let here = code.len() + 1;
            let skip = |to: To| {
                let target = match to {
                    To::Next => here,
                    To::Holds => end,
                    To::Fails => total,
                };
                u8::try_from(target - here).expect("six conditions take at most 37 instructions")
            };
            code.push(match *step {
                Step::Plain(op, k) => plain(op, k),
                Step::Test(test, k, yes, no) => {
                    Instruction { code: test.code(), jt: skip(yes), jf: skip(no), k }
                }
            });
        }
    }
    code.push(verdict);
    code
}

/// The steps of one comparison: the high half decides unless it is equal.
fn steps(arg: &SeccompArg) -> Vec<Step> {
    use To::{Fails, Holds, Next};
    let (high, low) = halves(arg.value);
    let load = |half: bool| Step::Plain(LOAD, argument(arg.index, half));
    // Both halves, from: where a greater and a smaller high half lead, the test of the low half.
    let ordered = |greater: To, smaller: To, low_test: Test, yes: To, no: To| {
        vec![
            load(true),
            Step::Test(Test::Greater, high, greater, Next),
            Step::Test(Test::Equal, high, Next, smaller),
            load(false),
            Step::Test(low_test, low, yes, no),
        ]
    };
    let equal = |differs: To, yes: To, no: To| {
        vec![
            load(true),
            Step::Test(Test::Equal, high, Next, differs),
            load(false),
            Step::Test(Test::Equal, low, yes, no),
        ]
    };
    match arg.compare {
        SeccompCompare::Equal => equal(Fails, Holds, Fails),
        SeccompCompare::NotEqual => equal(Holds, Fails, Holds),
        SeccompCompare::Greater => ordered(Holds, Fails, Test::Greater, Holds, Fails),
        SeccompCompare::GreaterOrEqual => ordered(Holds, Fails, Test::GreaterOrEqual, Holds, Fails),
        SeccompCompare::Less => ordered(Fails, Holds, Test::GreaterOrEqual, Fails, Holds),
        SeccompCompare::LessOrEqual => ordered(Fails, Holds, Test::Greater, Fails, Holds),
        SeccompCompare::MaskedEqual => masked(arg),
    }
}

/// `argument & value == value_two`; halves that are not asked about are not looked at.
fn masked(arg: &SeccompArg) -> Vec<Step> {
    let (mask_high, mask_low) = halves(arg.value);
    let (high, low) = halves(arg.value_two);
    let half = |is_high: bool, mask: u32, value: u32| {
        if mask == 0 && value == 0 {
            return Vec::new();
        }
        vec![
            Step::Plain(LOAD, argument(arg.index, is_high)),
            Step::Plain(AND, mask),
            Step::Test(Test::Equal, value, To::Next, To::Fails),
        ]
    };
    [half(true, mask_high, high), half(false, mask_low, low)].concat()
}

#[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
fn halves(value: u64) -> (u32, u32) {
    ((value >> 32) as u32, value as u32)
}
