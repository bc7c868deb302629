//! Profiles.
use crate::Arch;
use base::ErrorKind;
use std::collections::BTreeSet;
use workload::SeccompPolicy;

/// A kernel version, as far as profiles care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.18.
    pub major: u32,
    /// 18 of 6.18.
    pub minor: u32,
}

/// What a profile is resolved for.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The container's capabilities (its bounding set), by kernel number.
    pub capabilities: &'a BTreeSet<u8>,
    /// The host's architecture.
    pub arch: Arch,
    /// The host's kernel.
    pub kernel: KernelVersion,
}

/// A seccomp profile in Docker's form, or in the OCI's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {}

/// Why a text is not a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON, or not of this shape.
    #[error("the seccomp profile cannot be read")]
    Json(#[source] serde_json::Error),
}
impl ProfileError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl KernelVersion {
    /// Reads `uname -r`: `6.18.3-amd64`.
    pub fn parse(_release: &str) -> Option<KernelVersion> {
        None
    }
}

impl Profile {
    /// The rules that a container gets when nobody says otherwise: Docker's.
    pub fn default_rules() -> Profile {
        Profile {}
    }
    /// Reads a profile: Docker's file format, or the OCI specification's `linux.seccomp`.
    pub fn parse(_json: &[u8]) -> Result<Profile, ProfileError> {
        Ok(Profile {})
    }
    /// What the profile means on this host, for these capabilities.
    pub fn resolve(&self, _host: Host<'_>) -> Result<SeccompPolicy, ProfileError> {
        Ok(SeccompPolicy {
            default_action: workload::SeccompAction::Errno(1),
            architectures: Vec::new(),
            flags: Vec::new(),
            rules: Vec::new(),
        })
    }
}
