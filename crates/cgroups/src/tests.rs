//! Groups of this host's kernel, as it is and as if it had only one version.
//!
//! Every group is named after the test's process and removed whatever happens.

use std::{
    io::{BufRead, BufReader, Read},
    os::{fd::AsRawFd, unix::process::ExitStatusExt},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use base::{ByteSize, Deadline};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use workload::{CpuLimits, DeviceKind, DeviceRule, Limits, MemoryLimits};

use crate::{Cgroup, CgroupError, Hierarchy, Layout, MountView, files, making::file_of};

/// A group that goes away with its processes.
struct Fixture {
    group: Cgroup,
}

impl Fixture {
    fn new(hierarchy: &Hierarchy, test: &str, limits: &Limits) -> Result<Fixture, CgroupError> {
        Ok(Fixture { group: Cgroup::create(hierarchy, &name(test), limits)? })
    }

    /// A shell that joins the group and runs a script; its output is piped.
    fn shell(&self, script: &str) -> Child {
        let join = self.group.join().unwrap();
        let own = std::process::id();
        let mut files: Vec<String> =
            join.files.iter().map(|fd| format!("/proc/{own}/fd/{}", fd.as_raw_fd())).collect();
        files.extend(
            join.into.iter().map(|fd| format!("/proc/{own}/fd/{}/cgroup.procs", fd.as_raw_fd())),
        );
        let enter = format!("for f in \"$@\"; do echo 0 > $f || exit 99; done; echo in; {script}");
        let mut child = Command::new("sh")
            .args(["-c", &enter, "sh"])
            .args(files)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        // One byte at a time, so that what follows stays in the pipe.
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::with_capacity(1, stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "in\n");
        child
    }

    fn written(&self, controller: crate::controller::Controller, file: &str) -> String {
        let slot = self.group.hierarchy().home(controller).unwrap();
        let path = file_of(self.group.name().as_str(), file);
        files::read(slot, &path).unwrap().unwrap().trim().to_owned()
    }

    fn left(&self) -> usize {
        let slots = self.group.hierarchy().slots();
        slots.iter().filter(|slot| files::exists(slot, self.group.name().as_str())).count()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.group.kill(soon());
        let _ = self.group.remove(soon());
        let top = self.group.name().ancestors().next().unwrap().parse().unwrap();
        self.group.hierarchy().prune(&top);
    }
}

/// A name that no other test has, in this process or another.
fn name(test: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("/wythe-test-{}-{count}/{test}", std::process::id())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(10))
}

/// This host's hierarchies, and as if it had only one version; those that it has.
fn views() -> Vec<(&'static str, Hierarchy)> {
    let whole = Hierarchy::detect().unwrap();
    let (v1, v2) = (whole.only_v1(), whole.only_v2());
    [("whole", Some(whole)), ("v1", v1), ("v2", v2)]
        .into_iter()
        .filter_map(|(name, hierarchy)| Some((name, hierarchy?)))
        .collect()
}

#[test]
fn processes_join_are_listed_frozen_killed_and_removed() {
    if !testkit::need::root() {
        return;
    }
    for (view, hierarchy) in views() {
        let fixture = Fixture::new(&hierarchy, view, &Limits::default()).unwrap();
        let group = &fixture.group;
        let mut shell = fixture.shell("sleep 1000 & sleep 1000 & echo up; wait");
        let mut up = [0; 3];
        shell.stdout.as_mut().unwrap().read_exact(&mut up).unwrap();
        let pids = group.pids().unwrap();
        assert_eq!(pids.len(), 3, "{view}");
        assert!(pids.contains(&shell.id()), "{view}");
        assert!(matches!(
            Cgroup::create(&hierarchy, group.name().as_str(), &Limits::default()),
            Err(CgroupError::Busy { .. })
        ));

        assert!(!group.is_frozen().unwrap());
        group.freeze(soon()).unwrap();
        assert!(group.is_frozen().unwrap(), "{view}");
        group.thaw(soon()).unwrap();
        assert!(!group.is_frozen().unwrap(), "{view}");

        let passed = group.remove(Deadline::after(Duration::ZERO)).unwrap_err();
        assert!(matches!(passed, CgroupError::DeadlinePassed { .. }), "{view}: {passed}");

        group.freeze(soon()).unwrap();
        group.kill(soon()).unwrap();
        assert_eq!(shell.wait().unwrap().signal(), Some(9), "{view}");
        group.remove(soon()).unwrap();
        assert_eq!(fixture.left(), 0, "{view}");
        assert!(Cgroup::open(&hierarchy, group.name().as_str()).unwrap().is_none());
        group.remove(soon()).unwrap();
    }
}

#[test]
fn a_group_that_makes_processes_without_end_is_killed() {
    if !testkit::need::root() {
        return;
    }
    for (view, hierarchy) in views() {
        let fixture = Fixture::new(&hierarchy, view, &Limits::default()).unwrap();
        let mut shell =
            fixture.shell("while :; do (while :; do sleep 0.01 & wait; done) & sleep 0.05; done");
        std::thread::sleep(Duration::from_millis(200));
        fixture.group.kill(soon()).unwrap();
        assert_eq!(shell.wait().unwrap().signal(), Some(9), "{view}");
        fixture.group.remove(soon()).unwrap();
        assert_eq!(fixture.left(), 0, "{view}");
    }
}

#[test]
fn groups_made_inside_are_removed_too() {
    if !testkit::need::root() {
        return;
    }
    for (view, hierarchy) in views() {
        let fixture = Fixture::new(&hierarchy, view, &Limits::default()).unwrap();
        for slot in hierarchy.slots() {
            for below in ["a", "a/b", "a/c"] {
                let path = file_of(fixture.group.name().as_str(), below);
                // Hierarchies that the group is not in.
                let _ = files::make_dir(slot, &path);
            }
        }
        fixture.group.remove(soon()).unwrap();
        assert_eq!(fixture.left(), 0, "{view}");
    }
}

#[test]
fn limits_are_in_force_and_can_be_changed_both_ways() {
    if !testkit::need::root() {
        return;
    }
    use crate::controller::Controller::{Cpu, Cpuset, Memory, Pids};
    let hierarchy = Hierarchy::detect().unwrap();
    let limits = |mib: u64| Limits {
        memory: MemoryLimits {
            limit: Some(ByteSize(mib << 20)),
            swap: Some(workload::MemorySwap::Total(ByteSize(mib << 20))),
            ..MemoryLimits::default()
        },
        cpu: CpuLimits { shares: Some(512), ..CpuLimits::nano_cpus(500_000_000) },
        pids: Some(50),
        devices: Some(workload::profile::device_rules()),
        ..Limits::default()
    };
    let fixture = match Fixture::new(&hierarchy, "limits", &limits(64)) {
        Ok(fixture) => fixture,
        Err(CgroupError::Unsupported { .. }) if hierarchy.layout() == Layout::V2 => return,
        Err(error) => panic!("{error}"),
    };
    let usage = fixture.group.usage().unwrap();
    assert_eq!(usage.memory.limit, Some(ByteSize(64 << 20)));
    assert_eq!(usage.pids_limit, Some(50));
    for mib in [128, 32] {
        fixture.group.limit(&limits(mib)).unwrap();
        let usage = fixture.group.usage().unwrap();
        assert_eq!(usage.memory.limit, Some(ByteSize(mib << 20)));
    }
    let v1 = !hierarchy.home(Memory).unwrap().is_v2();
    if v1 {
        assert_eq!(fixture.written(Memory, "memory.memsw.limit_in_bytes"), (32 << 20).to_string());
        assert_eq!(fixture.written(Cpu, "cpu.cfs_quota_us"), "50000");
        assert_eq!(fixture.written(Cpu, "cpu.shares"), "512");
    }
    assert_eq!(fixture.written(Pids, "pids.max"), "50");

    // A cpuset was not asked for, so it comes now, and the processes with it.
    let mut shell = fixture.shell("exec sleep 1000");
    let cpu = CpuLimits { cpus: Some("0".into()), ..CpuLimits::default() };
    fixture.group.limit(&Limits { cpu, ..Limits::default() }).unwrap();
    assert_eq!(fixture.written(Cpuset, "cpuset.cpus"), "0");
    let status = std::fs::read_to_string(format!("/proc/{}/status", shell.id())).unwrap();
    assert!(status.contains("Cpus_allowed_list:\t0\n"), "{status}");
    fixture.group.kill(soon()).unwrap();
    shell.wait().unwrap();
}

#[test]
fn a_process_killed_for_memory_is_told_and_counted() {
    if !testkit::need::root() {
        return;
    }
    let hierarchy = Hierarchy::detect().unwrap();
    let memory = MemoryLimits {
        limit: Some(ByteSize(8 << 20)),
        swap: Some(workload::MemorySwap::Total(ByteSize(8 << 20))),
        ..MemoryLimits::default()
    };
    let fixture = Fixture::new(&hierarchy, "oom", &Limits { memory, ..Limits::default() }).unwrap();
    let watch = fixture.group.oom_watch().unwrap().unwrap();
    let ready = |timeout: Duration| {
        let timeout = Timespec::try_from(timeout).unwrap();
        poll(&mut [PollFd::new(&watch, PollFlags::IN)], Some(&timeout)).unwrap()
    };
    assert_eq!(ready(Duration::ZERO), 0);
    let mut shell = fixture.shell("exec dd if=/dev/zero of=/dev/null bs=64M count=1 2>/dev/null");
    assert_eq!(shell.wait().unwrap().signal(), Some(9));
    assert_eq!(ready(Duration::from_secs(10)), 1);
    watch.drain();
    assert_eq!(ready(Duration::ZERO), 0);
    assert_eq!(fixture.group.oom_kills().unwrap(), 1);
    assert_eq!(fixture.group.usage().unwrap().memory.oom_kills, 1);
}

#[test]
fn only_allowed_devices_open() {
    if !testkit::need::root() {
        return;
    }
    let rule = |allow, major: Option<u32>, minor| DeviceRule {
        allow,
        kind: major.map(|_| DeviceKind::Character),
        major,
        minor,
        read: true,
        write: true,
        mknod: true,
    };
    let devices = |minor| Limits {
        devices: Some(vec![rule(false, None, None), rule(true, Some(1), Some(minor))]),
        ..Limits::default()
    };
    // 1:5 is /dev/zero, 1:7 is /dev/full.
    let script = "for d in zero full; do (: < /dev/$d) 2>&- && echo $d; done";
    for (view, hierarchy) in views() {
        let fixture = Fixture::new(&hierarchy, view, &devices(5)).unwrap();
        let opens = || {
            let output = fixture.shell(script).wait_with_output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(opens(), "zero\n", "{view}");
        fixture.group.limit(&devices(7)).unwrap();
        assert_eq!(opens(), "full\n", "{view}");
    }
}

#[test]
fn a_version_2_controller_is_handed_down_the_path() {
    if !testkit::need::root() {
        return;
    }
    let Some(hierarchy) = Hierarchy::detect().unwrap().only_v2() else { return };
    let hugepages = vec![("2MB".to_owned(), ByteSize(4 << 20))];
    let limits = Limits { hugepages, ..Limits::default() };
    let fixture = match Fixture::new(&hierarchy, "a/b", &limits) {
        Ok(fixture) => fixture,
        // No such controller or page size on this host: then the error says so.
        Err(error) => return assert!(matches!(error, CgroupError::Unsupported { .. }), "{error}"),
    };
    let max = fixture.written(crate::controller::Controller::Hugetlb, "hugetlb.2MB.max");
    assert_eq!(max, (4 << 20).to_string());
    let mut parent = fixture.group.name().ancestors().rev();
    let (top, parent) = (parent.next_back().unwrap().to_owned(), parent.next().unwrap().to_owned());
    fixture.group.remove(soon()).unwrap();
    hierarchy.prune(&parent.parse().unwrap());
    hierarchy.prune(&top.parse().unwrap());
}

#[test]
fn a_limit_the_kernel_refuses_leaves_nothing() {
    if !testkit::need::root() {
        return;
    }
    let hierarchy = Hierarchy::detect().unwrap();
    let cpu = CpuLimits { cpus: Some("4000".into()), ..CpuLimits::default() };
    let limits = Limits { cpu, ..Limits::default() };
    let name = name("refused");
    assert!(Cgroup::create(&hierarchy, &name, &limits).is_err());
    let top = name.split('/').nth(1).unwrap();
    assert!(hierarchy.slots().iter().all(|slot| !files::exists(slot, top)));
}

#[test]
fn an_exec_joins_where_the_first_process_went() {
    if !testkit::need::root() {
        return;
    }
    let hierarchy = Hierarchy::detect().unwrap();
    let Some(v2) = hierarchy.v2() else { return };
    let fixture = Fixture::new(&hierarchy, "beside", &Limits::default()).unwrap();
    let mut shell = fixture.shell("exec sleep 1000");
    let below = file_of(fixture.group.name().as_str(), "init");
    files::make_dir(v2, &below).unwrap();
    files::write(v2, &file_of(&below, "cgroup.procs"), &shell.id().to_string()).unwrap();
    let path = |join: crate::Join| {
        let fd = join.into.unwrap();
        std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    };
    let group = v2.mounted.point.join(fixture.group.name().as_str());
    assert_eq!(path(fixture.group.join().unwrap()), group);
    assert_eq!(path(fixture.group.join_beside(shell.id()).unwrap()), group.join("init"));
    // Somebody else's process is no reason to leave the group.
    assert_eq!(path(fixture.group.join_beside(std::process::id()).unwrap()), group);
    fixture.group.kill(soon()).unwrap();
    shell.wait().unwrap();
}

#[test]
fn the_view_shows_every_hierarchy_of_the_group() {
    if !testkit::need::root() {
        return;
    }
    let hierarchy = Hierarchy::detect().unwrap();
    let fixture = Fixture::new(&hierarchy, "view", &Limits::default()).unwrap();
    match fixture.group.mount_view() {
        MountView::V2(host) => assert!(host.join("cgroup.procs").exists()),
        MountView::V1(entries) => {
            assert_eq!(entries.len(), fixture.left());
            assert!(entries.iter().all(|entry| entry.host.join("cgroup.procs").exists()));
        }
    }
}

#[test]
fn a_group_for_other_programs_is_everywhere() {
    if !testkit::need::root() {
        return;
    }
    let hierarchy = Hierarchy::detect().unwrap();
    let group = Cgroup::create_in_all(&hierarchy, &name("all"), &Limits::default()).unwrap();
    let fixture = Fixture { group };
    assert_eq!(fixture.left(), hierarchy.slots().len());
    let mut shell = fixture.shell("exec sleep 1000");
    fixture.group.kill(soon()).unwrap();
    shell.wait().unwrap();
}

#[test]
fn used_time_is_counted() {
    if !testkit::need::root() {
        return;
    }
    for (view, hierarchy) in views() {
        let fixture = Fixture::new(&hierarchy, view, &Limits::default()).unwrap();
        let mut shell = fixture.shell("exec dd if=/dev/zero of=/dev/null bs=1M count=200 2>&-");
        shell.wait().unwrap();
        let cpu = fixture.group.usage().unwrap().cpu;
        assert!(cpu.total_ns > 0, "{view}: {cpu:?}");
    }
}

#[test]
fn this_host_has_findings() {
    let hierarchy = Hierarchy::detect().unwrap();
    let findings = hierarchy.findings();
    assert!(findings.iter().any(|finding| finding.subject == "cgroup controller memory"));
}
