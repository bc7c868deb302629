//! What processes cost, as the kernel counts it. Source: proc(5).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Numbers of the processes of this name, one of whose arguments is in this directory.
///
/// What a process executes says nothing of a shim: it has a root of its own, from which its
/// program cannot be reached.
pub(crate) fn named(name: &str, beneath: &Path) -> Result<Vec<u32>> {
    let beneath = beneath.to_string_lossy();
    let of = |pid: &u32| {
        let read = |file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        read("comm").trim_end() == name && read("cmdline").contains(&*beneath)
    };
    let entries =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(entries.filter_map(|name| name.parse().ok()).filter(of).collect())
}

/// Numbers of the processes that these started, and of those that they started in turn.
pub(crate) fn descendants(of: &[u32]) -> Result<Vec<u32>> {
    let entries =
        fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let all: Vec<(u32, u32)> = entries
        .filter_map(|name| name.parse().ok())
        .filter_map(|pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
            Some((pid, parent.trim().parse().ok()?))
        })
        .collect();
    let mut found: Vec<u32> = Vec::new();
    loop {
        let known = |pid: &u32| of.contains(pid) || found.contains(pid);
        let new = all.iter().filter(|(pid, parent)| known(parent) && !known(pid));
        let new: Vec<u32> = new.map(|(pid, _)| *pid).collect();
        if new.is_empty() {
            return Ok(found);
        }
        found.extend(new);
    }
}

/// Their proportional set sizes together, in MiB.
pub(crate) fn pss_mib(pids: &[u32]) -> f64 {
    let one = |pid: &u32| field(format!("/proc/{pid}/smaps_rollup").into(), "Pss:").unwrap_or(0.0);
    pids.iter().map(one).sum::<f64>() / 1024.0
}

/// A process's resident set size, in MiB.
pub(crate) fn rss_mib(pid: u32) -> Result<f64> {
    field(format!("/proc/{pid}/status").into(), "VmRSS:")
        .map(|kib| kib / 1024.0)
        .with_context(|| format!("process {pid} is gone"))
}

/// Bytes that they made the kernel write to disks, together.
pub(crate) fn written_bytes(pids: &[u32]) -> f64 {
    let one = |pid: &u32| field(format!("/proc/{pid}/io").into(), "write_bytes:").unwrap_or(0.0);
    pids.iter().map(one).sum()
}

/// Memory that is there to be had, in MiB.
pub(crate) fn available_mib() -> Result<f64> {
    let kib = field("/proc/meminfo".into(), "MemAvailable:").context("/proc/meminfo")?;
    Ok(kib / 1024.0)
}

/// The number behind a word of a file of the kernel's.
fn field(path: PathBuf, name: &str) -> Option<f64> {
    let text = fs::read_to_string(path).ok()?;
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}
