//! Limits, usage, mounts.

use base::ByteSize;
use workload::{
    Bind, ExitStatus, Limits, Mount, MountFlags, MountSource, ProcessRoot, ProcessSpec, Signal,
    Tmpfs,
};

use super::{
    Bench,
    bench::{destroy, ended, start},
};

pub(super) async fn memory_hogs_are_killed_and_reported(b: &Bench<'_>) {
    let limit = ByteSize(32 << 20);
    let sandbox = b.sandbox_with(|spec| spec.limits.memory.limit = Some(limit)).await;
    let spec = b.main(&*sandbox, &["stress", "--memory", "512m", "--seconds", "20"]);
    let exit = ended(&*start(&*sandbox, spec).await).await;
    assert_eq!(exit.status, ExitStatus::Signal(Signal::KILL));
    assert!(exit.out_of_memory, "{exit:?}");
    destroy(&*sandbox).await;
}

pub(super) async fn process_limits_hold_and_change(b: &Bench<'_>) {
    let sandbox = b.sandbox_with(|spec| spec.limits.pids = Some(4)).await;
    let spec = b.main(&*sandbox, &["sleep", "infinity"]);
    start(&*sandbox, spec).await;
    let crowd = "sleep 30 & sleep 30 & sleep 30 & sleep 30 & sleep 30 & echo all";
    let (text, _) = b.output(&*sandbox, b.exec("crowd", &["sh", "-c", crowd])).await;
    assert!(text.contains("sh: sleep:"), "some were refused: {text}");
    assert_eq!(sandbox.usage().await.expect("it runs").pids_limit, Some(4));
    let limits = Limits { pids: Some(64), ..Limits::default() };
    sandbox.limit(limits).await.expect("limits can be raised");
    assert_eq!(sandbox.usage().await.expect("it runs").pids_limit, Some(64));
    let (text, _) = b.output(&*sandbox, b.exec("room", &["sh", "-c", crowd])).await;
    assert!(!text.contains("sh: sleep:"), "none was refused: {text}");
    destroy(&*sandbox).await;
}

pub(super) async fn usage_counts(b: &Bench<'_>) {
    let sandbox = b.idle().await;
    let before = sandbox.usage().await.expect("it runs");
    let (_, status) =
        b.output(&*sandbox, b.exec("work", &["stress", "--cpu", "1", "--seconds", "1"])).await;
    assert_eq!(status, ExitStatus::Code(0));
    let after = sandbox.usage().await.expect("it runs");
    assert!(after.cpu.total_ns > before.cpu.total_ns, "{before:?} {after:?}");
    assert!(after.memory.current > ByteSize(0), "{after:?}");
    assert_eq!(after.pids, Some(1), "the main process alone is left");
    let main = sandbox.process(&base::ProcessId::main()).await.expect("it runs");
    let pids = sandbox.host_pids().await.expect("it runs");
    if let Some(pid) = main.host_pid() {
        assert!(pids.contains(&pid), "{pid} in {pids:?}");
    }
    destroy(&*sandbox).await;
}

pub(super) async fn binds_and_tmpfs_appear(b: &Bench<'_>) {
    let shared = b.path("shared");
    std::fs::create_dir_all(&shared).expect("the directory is ours");
    std::fs::write(shared.join("from-host"), "host\n").expect("the directory is ours");
    let bind = |target: &str, read_only| Mount {
        target: target.into(),
        source: MountSource::Bind(Bind { path: shared.clone(), recursive: true, idmap: None }),
        flags: MountFlags { read_only, ..MountFlags::default() },
        propagation: None,
    };
    let memory = Mount {
        target: "/made/for/memory".into(),
        source: MountSource::Tmpfs(Tmpfs { size: Some(ByteSize(1 << 20)), ..Tmpfs::default() }),
        flags: MountFlags { nosuid: true, nodev: true, ..MountFlags::default() },
        propagation: None,
    };
    let sandbox = b.sandbox().await;
    let script = "cat /rw/from-host; echo inside > /rw/from-inside; echo no > /ro/x; \
                  echo kept > /made/for/memory/file; cat /made/for/memory/file";
    let mut spec = b.main(&*sandbox, &["sh", "-c", script]);
    container(&mut spec).mounts.extend([bind("/rw", false), bind("/ro", true), memory]);
    let (text, _) = b.output(&*sandbox, spec).await;
    assert!(text.contains("host\n") && text.contains("kept\n"), "{text}");
    assert!(text.to_lowercase().contains("read-only file system"), "{text}");
    let inside = std::fs::read_to_string(shared.join("from-inside")).expect("it was written");
    assert_eq!(inside, "inside\n");
    destroy(&*sandbox).await;
}

pub(super) async fn a_read_only_root_cannot_be_written(b: &Bench<'_>) {
    let sandbox = b.sandbox().await;
    let mut spec = b.main(&*sandbox, &["touch", "/file"]);
    container(&mut spec).read_only_root = true;
    let (text, status) = b.output(&*sandbox, spec).await;
    assert_eq!(status, ExitStatus::Code(1), "{text}");
    assert!(text.to_lowercase().contains("read-only file system"), "{text}");
    destroy(&*sandbox).await;
}

fn container(spec: &mut ProcessSpec) -> &mut workload::ContainerSpec {
    match &mut spec.root {
        ProcessRoot::Own(container) => container,
        ProcessRoot::Join(_) => panic!("a main process has a container of its own"),
    }
}
