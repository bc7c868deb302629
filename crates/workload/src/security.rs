//! What a process may ask of the kernel.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The five capability sets of a process, by kernel number (capabilities(7); `CAP_CHOWN` is 0).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CapabilitySets {
    /// What may ever be gained.
    pub bounding: BTreeSet<u8>,
    /// What is in force.
    pub effective: BTreeSet<u8>,
    /// What may be put in force.
    pub permitted: BTreeSet<u8>,
    /// What survives execve(2) of a file with inheritable capabilities.
    pub inheritable: BTreeSet<u8>,
    /// What survives execve(2) of an ordinary file without being root.
    pub ambient: BTreeSet<u8>,
}

/// A system call filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Yet to be compiled, where the processor is.
    Policy(SeccompPolicy),
    /// Compiled for the processor it is loaded on.
    Program(SeccompProgram),
}

impl From<SeccompPolicy> for Seccomp {
    fn from(policy: SeccompPolicy) -> Seccomp {
        Seccomp::Policy(policy)
    }
}

/// A compiled system call filter.
///
/// Source: seccomp(2); linux/filter.h, `struct sock_filter`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompProgram {
    /// Instructions of classic BPF, each as 8 bytes in little endian: `code`, `jt`, `jf`, `k`.
    pub instructions: Vec<u64>,
    /// Flags with which it is loaded.
    pub flags: u32,
}

/// A system call filter, ready to be compiled: resolved for this host and these capabilities.
///
/// Source: OCI runtime-spec, config-linux.md, "Seccomp".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompPolicy {
    /// What happens to a call that no rule names.
    pub default_action: SeccompAction,
    /// Architectures whose calls are judged, as `SCMP_ARCH_…`; all others are killed.
    pub architectures: Vec<String>,
    /// Filter flags, as `SECCOMP_FILTER_FLAG_…`.
    #[serde(default)]
    pub flags: Vec<String>,
    /// Rules; the first whose name and arguments match decides.
    pub rules: Vec<SeccompRule>,
}

/// One rule of a system call filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompRule {
    /// System call names. Ones that this architecture does not have are passed over.
    pub names: Vec<String>,
    /// What happens.
    pub action: SeccompAction,
    /// Conditions on arguments, all of which must hold.
    #[serde(default)]
    pub args: Vec<SeccompArg>,
}

/// What happens to a system call.
///
/// Source: seccomp(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompAction {
    /// The process is killed.
    KillProcess,
    /// The thread is killed.
    KillThread,
    /// The thread gets `SIGSYS`.
    Trap,
    /// It fails with this error number.
    Errno(u16),
    /// A tracer is told, with this data.
    Trace(u16),
    /// It is written to the audit log and done.
    Log,
    /// It is done.
    Allow,
    /// A supervisor decides.
    Notify,
}

/// A condition on one argument of a system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeccompArg {
    /// Which argument, 0..=5.
    pub index: u8,
    /// What it is compared with.
    pub value: u64,
    /// The mask, or second value, of [`SeccompCompare::MaskedEqual`].
    #[serde(default)]
    pub value_two: u64,
    /// How.
    pub compare: SeccompCompare,
}

/// A comparison of 64-bit unsigned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompCompare {
    /// Not equal.
    NotEqual,
    /// Less than.
    Less,
    /// Less than or equal.
    LessOrEqual,
    /// Equal.
    Equal,
    /// Greater than or equal.
    GreaterOrEqual,
    /// Greater than.
    Greater,
    /// `argument & value == value_two`.
    MaskedEqual,
}
