//! update: other limits for a container that is there.

use std::{io::Read as _, path::Path};

use base::ByteSize;
use oci_spec::runtime::LinuxResources;
use serde_json::{Value, json};
use workload::Limits;

use super::{
    Context,
    args::{Parsed, UsageError},
    convert,
    error::OciError,
    lifecycle, record,
    status::Status,
};

/// `update`.
pub(super) fn update(context: &Context, arguments: &Parsed) -> Result<(), OciError> {
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if arguments.value(flag).is_some() {
            let why = "Intel RDT is not among what this runtime controls";
            return Err(OciError::Unsupported { flag, why });
        }
    }
    let resources = match arguments.value("resources") {
        Some("-") => from_stdin()?,
        Some(path) => record::read_json(Path::new(path))?,
        None => from_flags(arguments)?,
    };
    let held = context.hold(arguments.container())?;
    match lifecycle::status(context, &held.container)? {
        Status::Created | Status::Running | Status::Paused => {}
        Status::Creating | Status::Stopped => return Err(held.container.not_running()),
    }
    let group = lifecycle::cgroup(context, &held.container.record)?;
    let group = group.ok_or_else(|| held.container.not_running())?;
    Ok(group.limit(&limits(&resources)?)?)
}

fn from_stdin() -> Result<LinuxResources, OciError> {
    let mut json = Vec::new();
    let read = std::io::stdin().take(record::CONFIG_BYTES_MAX).read_to_end(&mut json);
    read.map_err(OciError::io("read standard input"))?;
    let path = "standard input".into();
    serde_json::from_slice(&json).map_err(|source| OciError::Json { path, source })
}

/// New limits; -1 lifts one, which a container that is made has no need to say.
fn limits(resources: &LinuxResources) -> Result<Limits, OciError> {
    /// What the `cgroups` crate takes for no limit.
    const UNLIMITED: u64 = u64::MAX;
    let lifted = |value: Option<i64>| value.is_some_and(|value| value < 0);
    let mut limits = convert::limits(resources)?;
    if let Some(memory) = resources.memory() {
        if lifted(memory.limit()) {
            limits.memory.limit = Some(ByteSize(UNLIMITED));
        }
        if lifted(memory.reservation()) {
            limits.memory.reservation = Some(ByteSize(UNLIMITED));
        }
    }
    if lifted(resources.cpu().as_ref().and_then(|cpu| cpu.quota())) {
        limits.cpu.quota_us = Some(UNLIMITED);
    }
    if lifted(resources.pids().as_ref().map(|pids| pids.limit())) {
        limits.pids = Some(UNLIMITED);
    }
    // What is not given stays, devices too.
    Ok(limits)
}

/// The resources that flags describe, by way of the specification's JSON.
fn from_flags(arguments: &Parsed) -> Result<LinuxResources, OciError> {
    let numbers = [
        ("blkio-weight", "blockIO", "weight"),
        ("cpu-period", "cpu", "period"),
        ("cpu-quota", "cpu", "quota"),
        ("cpu-share", "cpu", "shares"),
        ("cpu-rt-period", "cpu", "realtimePeriod"),
        ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
        ("cpu-idle", "cpu", "idle"),
        ("pids-limit", "pids", "limit"),
    ];
    let texts = [("cpuset-cpus", "cpu", "cpus"), ("cpuset-mems", "cpu", "mems")];
    let sizes = [
        ("memory", "memory", "limit"),
        ("memory-reservation", "memory", "reservation"),
        ("memory-swap", "memory", "swap"),
    ];
    let mut resources = json!({});
    for (flag, part, field) in numbers {
        if let Some(number) = arguments.number::<i64>(flag)? {
            resources[part][field] = number.into();
        }
    }
    for (flag, part, field) in texts {
        if let Some(text) = arguments.value(flag) {
            resources[part][field] = text.into();
        }
    }
    for (flag, part, field) in sizes {
        if let Some(text) = arguments.value(flag) {
            resources[part][field] = size(arguments, flag, text)?;
        }
    }
    let path = "flags".into();
    serde_json::from_value(resources).map_err(|source| OciError::Json { path, source })
}

/// A number of bytes, with a unit if need be, or -1.
fn size(arguments: &Parsed, flag: &'static str, text: &str) -> Result<Value, UsageError> {
    let bytes = match text {
        "-1" => Some(-1),
        text => text.parse::<ByteSize>().ok().and_then(|size| i64::try_from(size.bytes()).ok()),
    };
    let why = "write a number and b, k, m, g or t, or -1";
    bytes.map(Value::from).ok_or_else(|| arguments.wrong(flag, text, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::args;
    use workload::MemorySwap;

    fn check(line: &str) -> Result<Limits, OciError> {
        let words = line.split_whitespace().map(str::to_owned);
        let parsed = args::parse(&args::command("update").unwrap().1, words).unwrap();
        limits(&from_flags(&parsed)?)
    }

    #[test]
    fn flags_set_what_they_name_and_nothing_else() {
        let limits = check("--memory 32m --cpu-quota 5000 --pids-limit 9 box").unwrap();
        let mut want = Limits { pids: Some(9), ..Limits::default() };
        want.memory.limit = Some(ByteSize(32 << 20));
        want.cpu.quota_us = Some(5000);
        assert_eq!(limits, want);
    }

    #[test]
    fn minus_one_lifts_a_limit() {
        let line = "--memory -1 --memory-swap -1 --cpu-quota -1 --pids-limit -1 box";
        let limits = check(line).unwrap();
        assert_eq!(limits.memory.limit, Some(ByteSize(u64::MAX)));
        assert_eq!(limits.memory.swap, Some(MemorySwap::Unlimited));
        assert_eq!((limits.cpu.quota_us, limits.pids), (Some(u64::MAX), Some(u64::MAX)));
    }

    #[test]
    fn a_size_that_is_none_is_refused_by_flag() {
        let error = check("--memory lots box").unwrap_err().to_string();
        assert!(error.contains("\"lots\"") && error.contains("--memory"), "{error}");
    }
}
