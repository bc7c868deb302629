//! Policy to program.
//!
//! ```text
//! load arch ─┬─ native ──▶ load number ──▶ search tree ──▶ conditions ──▶ action
//!            ├─ i386   ──▶ load number ──▶ search tree ──▶ …
//!            └─ others ──▶ kill the process
//! ```
//!
//! Calls with neighbouring numbers and one decision are one leaf of the tree, so that a call
//! without conditions costs some eight comparisons. Up to there the program looks at number and
//! architecture only, which lets the kernel (5.11) remember calls that are always allowed and
//! not run the program for them at all.

use base::ErrorKind;
use workload::{SeccompAction, SeccompPolicy};

use crate::{
    Arch, Instruction,
    bpf::{self, Backwards, Test, plain},
    condition::guarded,
    decide::{self, Decision},
};

/// Most instructions that the kernel takes (`BPF_MAXINSNS`).
const INSTRUCTIONS_MAX: usize = 4096;

/// Largest error number that a call can return (`MAX_ERRNO`).
const ERRNO_MAX: u16 = 4095;

/// Numbers of x32 calls have this bit, under the architecture of x86-64.
const X32_BIT: u32 = 0x4000_0000;

/// Why a policy has no program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// More than the kernel takes.
    #[error(
        "the seccomp policy compiles to {instructions} instructions; the kernel takes \
         {INSTRUCTIONS_MAX}"
    )]
    TooLong {
        /// How many there would be.
        instructions: usize,
    },
    /// A call has six arguments.
    #[error("seccomp rule for {name}: there is no argument {index}; they are 0 to 5")]
    Argument {
        /// The first call of the rule.
        name: String,
        /// The argument.
        index: u8,
    },
    /// No call returns such a number.
    #[error("seccomp action errno {errno}: the largest error number is {ERRNO_MAX}")]
    Errno {
        /// The number.
        errno: u16,
    },
}

impl CompileError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

/// The program for a policy on a host of this architecture.
///
/// The host's own architecture is always judged, as in libseccomp. Calls of architectures that
/// the policy does not list, or that this crate has no numbers for, kill the process. x32 calls
/// are killed too, and answered with `ENOSYS` if the policy lists x32, as by the many kernels
/// that are built without it.
///
/// # Errors
/// If the policy says what cannot be, or is too long for the kernel.
pub fn compile(policy: &SeccompPolicy, native: Arch) -> Result<Vec<Instruction>, CompileError> {
    check(policy)?;
    let listed = policy.architectures.iter().filter_map(|name| Arch::from_scmp_name(name));
    let mut arches: Vec<Arch> = listed.filter(|arch| arch.runs_on(native)).collect();
    arches.push(native);
    arches.sort_unstable();
    arches.dedup();

    // Written backwards: what comes last here is tested first, and that is the native one.
    arches.sort_by_key(|arch| *arch == native);
    let mut code = Backwards::default();
    let starts: Vec<usize> = arches.iter().map(|arch| program(&mut code, policy, *arch)).collect();
    code.before(verdict(SeccompAction::KillProcess));
    for (arch, start) in arches.iter().zip(starts) {
        code.test(Test::Equal, arch.audit(), start);
    }
    code.before(plain(bpf::LOAD, bpf::ARCH));
    if code.len() > INSTRUCTIONS_MAX {
        return Err(CompileError::TooLong { instructions: code.len() });
    }
    Ok(code.forwards())
}

fn check(policy: &SeccompPolicy) -> Result<(), CompileError> {
    let actions = policy.rules.iter().map(|rule| rule.action).chain([policy.default_action]);
    for action in actions {
        if let SeccompAction::Errno(errno) = action
            && errno > ERRNO_MAX
        {
            return Err(CompileError::Errno { errno });
        }
    }
    for rule in &policy.rules {
        if let Some(arg) = rule.args.iter().find(|arg| arg.index > 5) {
            let name = rule.names.first().cloned().unwrap_or_default();
            return Err(CompileError::Argument { name, index: arg.index });
        }
    }
    Ok(())
}

/// What judges the calls of one architecture. Answers where it begins.
fn program(code: &mut Backwards, policy: &SeccompPolicy, arch: Arch) -> usize {
    if arch == Arch::X86_64 {
        code.before(verdict(x32_action(policy)));
    }
    let x32 = code.len();
    tree(code, &decide::ranges(policy, arch));
    if arch == Arch::X86_64 {
        code.test(Test::GreaterOrEqual, X32_BIT, x32);
    }
    code.before(plain(bpf::LOAD, bpf::NUMBER));
    code.len()
}

/// See [`compile`].
fn x32_action(policy: &SeccompPolicy) -> SeccompAction {
    const ENOSYS: u16 = 38;
    match policy.architectures.iter().any(|name| name == "SCMP_ARCH_X32") {
        true => SeccompAction::Errno(ENOSYS),
        false => SeccompAction::KillProcess,
    }
}

/// A binary search over ranges of numbers, of which there is at least one.
fn tree(code: &mut Backwards, ranges: &[(u32, Decision<'_>)]) {
    let (low, high) = ranges.split_at(ranges.len() / 2);
    match (low, high) {
        (_, []) => {}
        ([], [(_, decision), ..]) => leaf(code, decision),
        (_, [(start, _), ..]) => {
            tree(code, high);
            let holds_at = code.len();
            tree(code, low);
            code.test(Test::GreaterOrEqual, *start, holds_at);
        }
    }
}

fn leaf(code: &mut Backwards, decision: &Decision<'_>) {
    code.before(verdict(decision.otherwise));
    for (args, action) in decision.cases.iter().rev() {
        guarded(args, verdict(*action)).into_iter().rev().for_each(|step| code.before(step));
    }
}

/// Source: linux/seccomp.h, `SECCOMP_RET_…`.
fn verdict(action: SeccompAction) -> Instruction {
    let value = match action {
        SeccompAction::KillProcess => 0x8000_0000,
        SeccompAction::KillThread => 0,
        SeccompAction::Trap => 0x0003_0000,
        SeccompAction::Errno(errno) => 0x0005_0000 | u32::from(errno),
        SeccompAction::Notify => 0x7fc0_0000,
        SeccompAction::Trace(data) => 0x7ff0_0000 | u32::from(data),
        SeccompAction::Log => 0x7ffc_0000,
        SeccompAction::Allow => 0x7fff_0000,
    };
    plain(bpf::RETURN, value)
}
