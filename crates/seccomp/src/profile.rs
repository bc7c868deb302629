//! Profiles: what is allowed to whom, before a host and its capabilities are known.

mod wire;

use std::{collections::BTreeSet, sync::LazyLock};

use base::ErrorKind;
use workload::{SeccompAction, SeccompArg, SeccompPolicy, SeccompRule};

use crate::Arch;

/// Longest profile in bytes. Docker's own has 17,000.
const PROFILE_BYTES_MAX: usize = 1 << 20;
/// Most rules. Docker's own has 56.
const RULES_MAX: usize = 4096;
/// Most names in all rules together. No architecture has 500 calls.
const NAMES_MAX: usize = 65_536;

/// A kernel version, as far as profiles care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KernelVersion {
    /// 6 of 6.18.
    pub major: u32,
    /// 18 of 6.18.
    pub minor: u32,
}

impl KernelVersion {
    /// Reads the beginning of `uname -r`: `6.18.3-amd64`.
    pub fn parse(release: &str) -> Option<KernelVersion> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let major = numbers.next()?.parse().ok()?;
        let minor = numbers.next()?.parse().ok()?;
        Some(KernelVersion { major, minor })
    }
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
pub struct Profile {
    default_action: SeccompAction,
    architectures: Architectures,
    flags: Vec<String>,
    rules: Vec<Rule>,
    listener: Option<Listener>,
}

/// Which architectures a profile judges.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Architectures {
    /// These; none is only the host's.
    Listed(Vec<String>),
    /// By the host's: it and its subordinate ones.
    ByHost(Vec<(String, Vec<String>)>),
}

/// One rule and when it counts.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    rule: SeccompRule,
    includes: Filter,
    excludes: Filter,
}

/// Conditions on the host; empty and absent ones say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Filter {
    /// Kernel numbers; a name that is not known is a capability nobody has.
    capabilities: Vec<Option<u8>>,
    arches: Vec<String>,
    min_kernel: Option<KernelVersion>,
}

/// Who decides on calls with [`SeccompAction::Notify`].
///
/// Source: OCI runtime-spec, config-linux.md, "Seccomp": `listenerPath`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listener {
    path: String,
    metadata: String,
}

/// Why a text is not a profile.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// It is not JSON, or not of this shape.
    #[error("the seccomp profile cannot be read")]
    Json(#[source] serde_json::Error),
    /// It is larger than any sensible profile.
    #[error("the seccomp profile has more than {limit} {what}")]
    TooLarge {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// A value has no meaning.
    #[error("seccomp profile: {what} \"{given}\" is not known")]
    Unknown {
        /// The field.
        what: &'static str,
        /// What was given.
        given: String,
    },
    /// A number is out of its range.
    #[error("seccomp profile: {what} {given} is too large")]
    Range {
        /// The field.
        what: &'static str,
        /// What was given.
        given: u64,
    },
    /// Two fields contradict each other.
    #[error("seccomp profile: use {one} or {other}, not both")]
    Both {
        /// One field.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
}

impl ProfileError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        ErrorKind::InvalidInput
    }
}

impl Profile {
    /// The rules that a container gets when nobody says otherwise: Docker's.
    ///
    /// Source: moby/profiles, `seccomp/default.json`, as of 2026.
    pub fn default_rules() -> &'static Profile {
        static DEFAULT: LazyLock<Profile> = LazyLock::new(|| {
            Profile::parse(include_bytes!("default.json")).expect("a test reads the same bytes")
        });
        &DEFAULT
    }

    /// Reads a profile: Docker's file format, or the OCI specification's `linux.seccomp`.
    ///
    /// # Errors
    /// If it is no such thing, or larger than the limits of this module.
    pub fn parse(json: &[u8]) -> Result<Profile, ProfileError> {
        if json.len() > PROFILE_BYTES_MAX {
            return Err(ProfileError::TooLarge { what: "bytes", limit: PROFILE_BYTES_MAX });
        }
        let wire: wire::Profile = serde_json::from_slice(json).map_err(ProfileError::Json)?;
        wire.try_into()
    }

    /// What the profile means on this host, for these capabilities.
    ///
    /// Rules that say what the default says anyway are left out, as runc does, so that they do
    /// not hide later ones.
    pub fn resolve(&self, host: Host<'_>) -> SeccompPolicy {
        let counts = |rule: &&Rule| {
            rule.includes.all_met(host)
                && !rule.excludes.any_met(host)
                && rule.rule.action != self.default_action
        };
        SeccompPolicy {
            default_action: self.default_action,
            architectures: self.architectures.on(host.arch),
            flags: self.flags.clone(),
            rules: self.rules.iter().filter(counts).map(|rule| rule.rule.clone()).collect(),
        }
    }

    /// The socket on which a supervisor waits for the listener's descriptor, if there is one.
    pub fn listener_path(&self) -> Option<&str> {
        self.listener.as_ref().map(|listener| listener.path.as_str())
    }

    /// What the supervisor is sent beside it, as it stands in the profile.
    pub fn listener_metadata(&self) -> Option<&str> {
        self.listener.as_ref().map(|listener| listener.metadata.as_str())
    }
}

impl Architectures {
    fn on(&self, host: Arch) -> Vec<String> {
        match self {
            Architectures::Listed(names) => names.clone(),
            Architectures::ByHost(map) => map
                .iter()
                .find(|(arch, _)| arch == host.scmp_name())
                .map(|(arch, below)| [std::slice::from_ref(arch), below].concat())
                .unwrap_or_default(),
        }
    }
}

impl Filter {
    /// For `includes`: everything that is said holds.
    fn all_met(&self, host: Host<'_>) -> bool {
        self.capabilities.iter().all(|capability| has(host, *capability))
            && (self.arches.is_empty() || self.has_arch(host))
            && self.min_kernel.is_none_or(|least| host.kernel >= least)
    }

    /// For `excludes`: anything that is said holds.
    fn any_met(&self, host: Host<'_>) -> bool {
        self.capabilities.iter().any(|capability| has(host, *capability))
            || self.has_arch(host)
            || self.min_kernel.is_some_and(|least| host.kernel >= least)
    }

    fn has_arch(&self, host: Host<'_>) -> bool {
        self.arches.iter().any(|arch| arch == host.arch.docker_name())
    }
}

fn has(host: Host<'_>, capability: Option<u8>) -> bool {
    capability.is_some_and(|number| host.capabilities.contains(&number))
}

/// Splits a rule that compares one argument twice into one rule per comparison: written for
/// Docker's first implementation, such rules mean "or". runc does the same.
fn split_repeated(rule: SeccompRule) -> Vec<SeccompRule> {
    let indexes: BTreeSet<u8> = rule.args.iter().map(|arg| arg.index).collect();
    if indexes.len() == rule.args.len() {
        return vec![rule];
    }
    let one = |arg: &SeccompArg| SeccompRule {
        names: rule.names.clone(),
        action: rule.action,
        args: vec![*arg],
    };
    rule.args.iter().map(one).collect()
}
