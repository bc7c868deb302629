//! `HostConfig`, but for the network.

use engine::{Create, LogOptions, RestartPolicy, SecurityOptions, UlimitRequest};
use std::collections::BTreeMap;
use workload::{Isolation, TerminalSize, profile};

use super::{limits, mounts, namespaces, ports};
use crate::{
    error::ApiError,
    fields::Fields,
    spec::{host, security},
};

pub(super) fn read(
    given: &mut Fields<'_>,
    create: &mut Create,
    runtime: Option<String>,
    warnings: &mut Vec<String>,
) -> Result<(), ApiError> {
    create.isolation = isolation(given, runtime)?;
    create.limits = limits::read(given)?;
    create.cgroup_parent = given.text("CgroupParent")?;
    create.devices = limits::devices(given)?;
    create.device_rules = given.take("DeviceCgroupRules")?;
    create.ulimits = ulimits(given)?;
    limits::refused(given)?;
    create.mounts = mounts::read(given)?;
    create.volumes_from = given.take("VolumesFrom")?;
    create.volume_driver = given.text("VolumeDriver")?;
    create.shm_size = given.above_zero("ShmSize")?.map(base::ByteSize);
    create.read_only = given.take("ReadonlyRootfs")?;
    create.ports = ports::bindings(given)?;
    create.publish_all = given.take("PublishAllPorts")?;
    resolver(given, create)?;
    namespaces::read(given, create)?;
    create.security = security_options(given)?;
    create.sysctls = given.take("Sysctls")?;
    create.groups = given.take("GroupAdd")?;
    create.oom_score_adj = given.some::<i16>("OomScoreAdj")?.filter(|badness| *badness != 0);
    create.init = given.take("Init")?;
    create.auto_remove = given.take("AutoRemove")?;
    create.restart = restart(given.object("RestartPolicy")?)?.unwrap_or_default();
    create.log = log(given)?;
    create.terminal_size = size(given)?;
    given.refuse("Links", "use networks, on which containers find each other by name")?;
    given.refuse("StorageOpt", "what a container writes has no limit of its own")?;
    given.refuse("Annotations", "annotations are for OCI runtimes")?;
    // The client's own file; never used; gone; gone.
    given.ignore(&["ContainerIDFile", "Cgroup", "LxcConf", "DiskQuota"]);
    if create.limits.memory.disable_oom_killer && create.limits.memory.limit.is_none() {
        let text = "OOM killer is disabled for the container, but no memory limit is set, this \
                    can result in the system running out of resources.";
        warnings.push(text.to_owned());
    }
    Ok(())
}

/// Docker's own runtimes are its word for containers; ours are named as isolations are.
fn isolation(given: &mut Fields<'_>, older: Option<String>) -> Result<Isolation, ApiError> {
    let isolation = match given.text("Isolation")?.as_deref() {
        None | Some("default") => None,
        Some(word @ ("process" | "hyperv")) => {
            let why =
                format!("invalid isolation '{word}' on linux: use container, vm, wasm or host");
            return Err(given.wrong("Isolation", why));
        }
        Some(word) => Some(word.parse().map_err(|error| given.wrong("Isolation", error))?),
    };
    let runtime = match given.text("Runtime")?.or(older).as_deref() {
        None | Some("runc" | "io.containerd.runc.v2" | "wythe") => None,
        Some(word @ ("container" | "vm" | "wasm" | "host")) => {
            Some(word.parse().map_err(|error| given.wrong("Runtime", error))?)
        }
        Some(word) => {
            let why = format!("unknown or invalid runtime name: {word}");
            return Err(given.wrong("Runtime", why));
        }
    };
    match (isolation, runtime) {
        (Some(one), Some(other)) if one != other => {
            let why = format!("{other} contradicts the isolation {one}");
            Err(given.wrong("Runtime", why))
        }
        (one, other) => Ok(one.or(other).unwrap_or_default()),
    }
}

fn ulimits(given: &mut Fields<'_>) -> Result<Vec<UlimitRequest>, ApiError> {
    let limit = |value: i64| u64::try_from(value).unwrap_or(u64::MAX);
    let mut ulimits = Vec::new();
    for mut one in given.objects("Ulimits")? {
        let name = one.take("Name")?;
        let (soft, hard) = (limit(one.take("Soft")?), limit(one.take("Hard")?));
        one.done()?;
        ulimits.push(UlimitRequest { name, soft, hard });
    }
    Ok(ulimits)
}

fn resolver(given: &mut Fields<'_>, create: &mut Create) -> Result<(), ApiError> {
    for address in given.take::<Vec<String>>("Dns")? {
        let bad = |_| given.wrong("Dns", format!("invalid IP address: {address}"));
        create.dns.push(address.parse().map_err(bad)?);
    }
    create.dns_search = given.take("DnsSearch")?;
    create.dns_options = given.take("DnsOptions")?;
    for text in given.take::<Vec<String>>("ExtraHosts")? {
        let bad = |why| given.wrong("ExtraHosts", format!("invalid extra host {text:?}: {why}"));
        create.extra_hosts.push(host::mapping(&text).map_err(bad)?);
    }
    Ok(())
}

fn security_options(given: &mut Fields<'_>) -> Result<SecurityOptions, ApiError> {
    let options = SecurityOptions {
        privileged: given.take("Privileged")?,
        cap_add: capabilities(given.words("CapAdd")?),
        cap_drop: capabilities(given.words("CapDrop")?),
        ..SecurityOptions::default()
    };
    let texts: Vec<String> = given.take("SecurityOpt")?;
    let wrong = |text: &str, why: String| {
        let text: String = text.chars().take(64).collect();
        given.wrong("SecurityOpt", format!("invalid --security-opt {text:?}: {why}"))
    };
    // A profile's text comes with the request: its file is the client's.
    let text = |text: &str| match text.trim_start().starts_with('{') {
        true => Ok(text.to_owned()),
        false => Err(wrong("seccomp", "the profile's JSON text belongs here".to_owned())),
    };
    let options = security::options(options, &texts, text, wrong)?;
    let masked = paths(given, "MaskedPaths", &profile::MASKED_PATHS)?;
    let read_only = paths(given, "ReadonlyPaths", &profile::READ_ONLY_PATHS)?;
    if masked != read_only && !options.privileged {
        let why = "it and ReadonlyPaths are both empty (systempaths=unconfined), or both as usual";
        return Err(given.unbuilt("MaskedPaths", why));
    }
    Ok(SecurityOptions { unmasked: options.unmasked || (masked && read_only), ..options })
}

/// As our own command line writes them: in capitals, and without what `inspect` puts before them.
fn capabilities(names: Option<Vec<String>>) -> Vec<String> {
    let bare = |name: &String| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name)
    };
    names.unwrap_or_default().iter().map(bare).collect()
}

/// Whether none of the paths is meant: an empty list, where no list is the usual one.
fn paths(given: &mut Fields<'_>, name: &str, usual: &[&str]) -> Result<bool, ApiError> {
    match given.some::<Vec<String>>(name)? {
        None => Ok(false),
        Some(list) if list.is_empty() => Ok(true),
        Some(list) if list.iter().all(|path| usual.contains(&path.as_str())) => Ok(false),
        Some(_) => Err(given.unbuilt(name, "paths of one's own choice")),
    }
}

/// `RestartPolicy`, if it says anything.
///
/// # Errors
/// 400, in Docker's words.
pub(super) fn restart(mut given: Fields<'_>) -> Result<Option<RestartPolicy>, ApiError> {
    let name = given.text("Name")?;
    let most = given.take::<i64>("MaximumRetryCount")?;
    let text = match (name.as_deref().unwrap_or_default(), most) {
        (name, 0) => name.to_owned(),
        (name, most) => format!("{name}:{most}"),
    };
    let policy = text.parse().map_err(|error| given.wrong("Name", error))?;
    given.done()?;
    Ok(name.map(|_| policy))
}

fn log(given: &mut Fields<'_>) -> Result<LogOptions, ApiError> {
    let mut log = given.object("LogConfig")?;
    let driver = log.text("Type")?;
    let options: BTreeMap<String, Option<String>> = log.take("Config")?;
    let pairs = options.iter().map(|(key, value)| (key.as_str(), value.as_deref().unwrap_or("")));
    // Docker's own default: docker-py shows no output of a container that has another.
    let driver = driver.as_deref().unwrap_or("json-file");
    let options =
        LogOptions::parse(Some(driver), pairs).map_err(|error| given.wrong("LogConfig", error))?;
    log.done()?;
    Ok(options)
}

/// `ConsoleSize`: height and width. Nothing is as if it were not there.
fn size(given: &mut Fields<'_>) -> Result<Option<TerminalSize>, ApiError> {
    let [rows, columns] = given.take::<[u16; 2]>("ConsoleSize")?;
    Ok((rows > 0 && columns > 0).then_some(TerminalSize { rows, columns }))
}
