//! Flags of seccomp(2).

use base::ErrorKind;
use workload::{SeccompAction, SeccompPolicy};

/// Flags with which a filter is loaded, as seccomp(2) numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FilterFlags(pub u32);

/// A flag that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("seccomp flag \"{given}\" is not known")]
pub struct FlagError {
    /// What was given.
    pub given: String,
}

impl FlagError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl FilterFlags {
    /// `SECCOMP_FILTER_FLAG_TSYNC`: all threads get the filter.
    pub const TSYNC: u32 = 1;
    /// `SECCOMP_FILTER_FLAG_LOG`: what is not allowed is written to the audit log.
    pub const LOG: u32 = 1 << 1;
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`: speculative store bypass stays allowed.
    pub const SPEC_ALLOW: u32 = 1 << 2;
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER`: the loader gets the supervisor's descriptor.
    pub const NEW_LISTENER: u32 = 1 << 3;
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`: a call the supervisor has taken waits killably.
    pub const WAIT_KILLABLE_RECV: u32 = 1 << 5;

    /// The flags that a policy asks for by name, and the listener if one of its actions is
    /// [`SeccompAction::Notify`].
    ///
    /// # Errors
    /// If a name is not known.
    pub fn of(policy: &SeccompPolicy) -> Result<FilterFlags, FlagError> {
        let mut flags = 0;
        for name in &policy.flags {
            flags |= match name.as_str() {
                "SECCOMP_FILTER_FLAG_TSYNC" => FilterFlags::TSYNC,
                "SECCOMP_FILTER_FLAG_LOG" => FilterFlags::LOG,
                "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => FilterFlags::SPEC_ALLOW,
                "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => FilterFlags::WAIT_KILLABLE_RECV,
                _ => return Err(FlagError { given: name.chars().take(64).collect() }),
            };
        }
        let mut actions =
            policy.rules.iter().map(|rule| rule.action).chain([policy.default_action]);
        if actions.any(|action| action == SeccompAction::Notify) {
            flags |= FilterFlags::NEW_LISTENER;
        }
        Ok(FilterFlags(flags))
    }
}
