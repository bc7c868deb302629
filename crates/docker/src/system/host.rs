//! Which limits the host's kernel grants.
//!
//! Source: moby, `pkg/sysinfo`; the kernel's cgroup-v1 and cgroup-v2 documents.

use std::{fs, path::Path};

/// Limits that a container can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Whether cgroups are version 2.
    pub(super) unified: bool,
    pub(super) memory: bool,
    pub(super) swap: bool,
    pub(super) cpu_shares: bool,
    pub(super) cpu_quota: bool,
    pub(super) cpuset: bool,
    pub(super) pids: bool,
    pub(super) oom_kill_disable: bool,
}

impl Limits {
    /// Looks below the directory where cgroups are mounted.
    pub(super) fn read(root: &Path) -> Limits {
        match fs::read_to_string(root.join("cgroup.controllers")) {
            Ok(controllers) => Limits::unified(&controllers),
            Err(_) => Limits::by_hierarchy(|file| root.join(file).exists()),
        }
    }

    fn unified(controllers: &str) -> Limits {
        let has = |name| controllers.split_whitespace().any(|controller| controller == name);
        Limits {
            unified: true,
            memory: has("memory"),
            // There is no such file in the root, and none without the kernel's CONFIG_SWAP.
            swap: has("memory") && Path::new("/proc/swaps").exists(),
            cpu_shares: has("cpu"),
            cpu_quota: has("cpu"),
            cpuset: has("cpuset"),
            pids: has("pids"),
            oom_kill_disable: false,
        }
    }

    fn by_hierarchy(has: impl Fn(&str) -> bool) -> Limits {
        Limits {
            unified: false,
            memory: has("memory/memory.limit_in_bytes"),
            swap: has("memory/memory.memsw.limit_in_bytes"),
            cpu_shares: has("cpu/cpu.shares"),
            cpu_quota: has("cpu/cpu.cfs_quota_us"),
            cpuset: has("cpuset/cpuset.cpus"),
            pids: has("pids/cgroup.procs"),
            oom_kill_disable: has("memory/memory.oom_control"),
        }
    }

    /// What is missing, in Docker's words.
    pub(super) fn warnings(&self) -> Vec<String> {
        let all = [
            (self.memory, "No memory limit support"),
            (!self.memory || self.swap, "No swap limit support"),
            (self.cpu_shares, "No cpu shares support"),
            (self.cpu_quota, "No cpu cfs quota support"),
            (self.cpuset, "No cpuset support"),
            (self.pids, "No pids limit support"),
        ];
        let missing = all.iter().filter(|(there, _)| !there);
        missing.map(|(_, text)| format!("WARNING: {text}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_warned_of() {
        let all = Limits::unified("cpuset cpu io memory pids\n");
        assert_eq!(all.warnings(), Vec::<String>::new());
        assert!(all.unified && !all.oom_kill_disable);
        let some = Limits::unified("cpu pids");
        let want = ["WARNING: No memory limit support", "WARNING: No cpuset support"];
        assert_eq!(some.warnings(), want);
    }

    #[test]
    fn version_1_is_looked_at_file_by_file() {
        let limits = Limits::by_hierarchy(|file| !file.contains("memsw"));
        assert!(limits.memory && limits.oom_kill_disable && !limits.unified);
        assert_eq!(limits.warnings(), ["WARNING: No swap limit support"]);
    }
}
