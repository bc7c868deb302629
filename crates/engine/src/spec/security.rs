//! What a container's processes may ask of the kernel.

use std::collections::BTreeSet;

use seccomp::{Arch, Host, KernelVersion, Profile};
use workload::{CapabilitySets, Seccomp, profile};

use super::Facts;
use crate::{Create, EngineError, error::chain, plan::invalid};

/// The part of a process spec that is about trust.
pub(super) struct Security {
    pub(super) capabilities: CapabilitySets,
    pub(super) seccomp: Option<Seccomp>,
    pub(super) apparmor: Option<String>,
    pub(super) selinux: Option<String>,
}

/// What the processes of this container get. `privileged` is the container's or an exec's.
pub(super) fn resolve(
    config: &Create,
    facts: &Facts,
    privileged: bool,
) -> Result<Security, EngineError> {
    let capabilities = capabilities(config, facts.capabilities, privileged)?;
    Ok(Security {
        seccomp: filter(config, facts, privileged, &capabilities)?,
        capabilities: profile::capability_sets(capabilities),
        apparmor: config.security.apparmor.clone().filter(|name| name != "unconfined"),
        selinux: config.security.selinux.clone().filter(|label| label != "disable"),
    })
}

/// Docker's rule: `ALL` in either list replaces the default, and single names come last.
///
/// Source: moby, `oci/caps`, `TweakCapabilities`.
fn capabilities(
    config: &Create,
    given: u64,
    privileged: bool,
) -> Result<BTreeSet<u8>, EngineError> {
    let every = || (0..64).filter(|number| given >> number & 1 == 1).collect::<BTreeSet<u8>>();
    if privileged {
        return Ok(every());
    }
    let all = |names: &[String]| names.iter().any(|name| name.eq_ignore_ascii_case("all"));
    let numbers = |names: &[String]| -> Result<BTreeSet<u8>, EngineError> {
        let single = names.iter().filter(|name| !name.eq_ignore_ascii_case("all"));
        let number = |name: &String| {
            profile::capability(name)
                .ok_or_else(|| invalid("capability", format!("invalid capability: {name:?}")))
        };
        single.map(number).collect()
    };
    let security = &config.security;
    let (add, drop) = (numbers(&security.cap_add)?, numbers(&security.cap_drop)?);
    Ok(match (all(&security.cap_add), all(&security.cap_drop)) {
        (true, _) => every().difference(&drop).copied().collect(),
        (false, true) => add,
        (false, false) => {
            let default = profile::DEFAULT_CAPABILITIES.iter();
            let mut set: BTreeSet<u8> =
                default.filter_map(|name| profile::capability(name)).collect();
            set.retain(|number| !drop.contains(number));
            set.extend(add);
            set
        }
    })
}

fn filter(
    config: &Create,
    facts: &Facts,
    privileged: bool,
    capabilities: &BTreeSet<u8>,
) -> Result<Option<Seccomp>, EngineError> {
    let own;
    let profile = match config.security.seccomp.as_deref() {
        Some("unconfined") => return Ok(None),
        Some(text) => {
            own = Profile::parse(text.as_bytes())
                .map_err(|error| invalid("seccomp", chain(&error)))?;
            &own
        }
        None if privileged => return Ok(None),
        None => Profile::default_rules(),
    };
    let (major, minor) = facts.kernel;
    let arch = Arch::native().ok_or_else(|| {
        invalid("seccomp", "no filter for this processor: use unconfined".to_owned())
    })?;
    let host = Host { capabilities, arch, kernel: KernelVersion { major, minor } };
    Ok(Some(profile.resolve(host).into()))
}
