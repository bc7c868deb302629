//! The JSON of a profile: Docker's, of which the OCI specification's is a part.
//!
//! Sources: moby/profiles, `seccomp/seccomp.go`; OCI runtime-spec, config-linux.md, "Seccomp".
//! Fields that nobody documents are passed over, as Docker does.

use serde::Deserialize;
use workload::{SeccompAction, SeccompArg, SeccompCompare, SeccompRule, profile::capability};

use super::{
    Architectures, Filter, KernelVersion, Listener, NAMES_MAX, ProfileError, RULES_MAX, Rule,
    split_repeated,
};

/// `EPERM`: what is answered where a profile does not say.
const ERRNO_DEFAULT: u16 = 1;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    architectures: Option<Vec<String>>,
    #[serde(default)]
    arch_map: Option<Vec<ArchMap>>,
    #[serde(default)]
    flags: Option<Vec<String>>,
    #[serde(default)]
    listener_path: Option<String>,
    #[serde(default)]
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Option<Vec<Syscall>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ArchMap {
    architecture: String,
    #[serde(default)]
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscall {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Arg>>,
    #[serde(default)]
    includes: Option<Conditions>,
    #[serde(default)]
    excludes: Option<Conditions>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Arg {
    index: u64,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Conditions {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

impl TryFrom<Profile> for super::Profile {
    type Error = ProfileError;

    fn try_from(wire: Profile) -> Result<super::Profile, ProfileError> {
        let syscalls = wire.syscalls.unwrap_or_default();
        if syscalls.len() > RULES_MAX {
            return Err(ProfileError::TooLarge { what: "rules", limit: RULES_MAX });
        }
        let names = |call: &Syscall| call.names.as_ref().map_or(0, Vec::len);
        if syscalls.iter().map(names).sum::<usize>() > NAMES_MAX {
            return Err(ProfileError::TooLarge { what: "names", limit: NAMES_MAX });
        }
        let mut rules = Vec::new();
        for syscall in syscalls {
            rules.extend(read_rule(syscall)?);
        }
        let path = wire.listener_path.filter(|path| !path.is_empty());
        let metadata = wire.listener_metadata.unwrap_or_default();
        Ok(super::Profile {
            default_action: action(&wire.default_action, wire.default_errno_ret)?,
            architectures: architectures(wire.architectures, wire.arch_map)?,
            flags: wire.flags.unwrap_or_default(),
            rules,
            listener: path.map(|path| Listener { path, metadata }),
        })
    }
}

fn architectures(
    listed: Option<Vec<String>>,
    map: Option<Vec<ArchMap>>,
) -> Result<Architectures, ProfileError> {
    let (listed, map) = (listed.unwrap_or_default(), map.unwrap_or_default());
    if !listed.is_empty() && !map.is_empty() {
        return Err(ProfileError::Both { one: "architectures", other: "archMap" });
    }
    if map.is_empty() {
        return Ok(Architectures::Listed(listed));
    }
    let entry = |entry: ArchMap| (entry.architecture, entry.sub_architectures.unwrap_or_default());
    Ok(Architectures::ByHost(map.into_iter().map(entry).collect()))
}

fn read_rule(wire: Syscall) -> Result<Vec<Rule>, ProfileError> {
    let names = match (wire.name.filter(|name| !name.is_empty()), wire.names.unwrap_or_default()) {
        (None, names) => names,
        (Some(name), names) if names.is_empty() => vec![name],
        (Some(_), _) => return Err(ProfileError::Both { one: "name", other: "names" }),
    };
    let args = wire.args.unwrap_or_default().into_iter().map(read_arg).collect::<Result<_, _>>()?;
    let rule = SeccompRule { names, action: action(&wire.action, wire.errno_ret)?, args };
    let includes = conditions(wire.includes.unwrap_or_default())?;
    let excludes = conditions(wire.excludes.unwrap_or_default())?;
    let split = split_repeated(rule).into_iter();
    Ok(split
        .map(|rule| Rule { rule, includes: includes.clone(), excludes: excludes.clone() })
        .collect())
}

fn conditions(wire: Conditions) -> Result<Filter, ProfileError> {
    let min_kernel = match wire.min_kernel.filter(|text| !text.is_empty()) {
        None => None,
        Some(text) => match KernelVersion::parse(&text) {
            Some(version) => Some(version),
            None => return Err(unknown("minKernel", &text)),
        },
    };
    let capabilities = wire.caps.unwrap_or_default();
    Ok(Filter {
        capabilities: capabilities.iter().map(|name| capability(name)).collect(),
        arches: wire.arches.unwrap_or_default(),
        min_kernel,
    })
}

fn action(name: &str, errno: Option<u32>) -> Result<SeccompAction, ProfileError> {
    let number = match errno {
        None => ERRNO_DEFAULT,
        Some(given) => u16::try_from(given)
            .map_err(|_| ProfileError::Range { what: "errnoRet", given: given.into() })?,
    };
    Ok(match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => SeccompAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => SeccompAction::KillProcess,
        "SCMP_ACT_TRAP" => SeccompAction::Trap,
        "SCMP_ACT_ERRNO" => SeccompAction::Errno(number),
        "SCMP_ACT_TRACE" => SeccompAction::Trace(number),
        "SCMP_ACT_LOG" => SeccompAction::Log,
        "SCMP_ACT_ALLOW" => SeccompAction::Allow,
        "SCMP_ACT_NOTIFY" => SeccompAction::Notify,
        _ => return Err(unknown("action", name)),
    })
}

fn read_arg(wire: Arg) -> Result<SeccompArg, ProfileError> {
    let index = u8::try_from(wire.index).ok().filter(|index| *index <= 5);
    Ok(SeccompArg {
        index: index.ok_or(ProfileError::Range { what: "argument index", given: wire.index })?,
        value: wire.value,
        value_two: wire.value_two,
        compare: match wire.op.as_str() {
            "SCMP_CMP_NE" => SeccompCompare::NotEqual,
            "SCMP_CMP_LT" => SeccompCompare::Less,
            "SCMP_CMP_LE" => SeccompCompare::LessOrEqual,
            "SCMP_CMP_EQ" => SeccompCompare::Equal,
            "SCMP_CMP_GE" => SeccompCompare::GreaterOrEqual,
            "SCMP_CMP_GT" => SeccompCompare::Greater,
            "SCMP_CMP_MASKED_EQ" => SeccompCompare::MaskedEqual,
            _ => return Err(unknown("op", &wire.op)),
        },
    })
}

fn unknown(what: &'static str, given: &str) -> ProfileError {
    ProfileError::Unknown { what, given: given.chars().take(64).collect() }
}
