//! What a sandbox may use.

use base::ByteSize;
use workload::{ExitStatus, Limits, MemoryLimits, MemorySwap, Signal, Streams};

use crate::fixture::{Fixture, block_on, soon};

#[test]
fn a_memory_hog_is_killed_and_reported() {
    let Some(mut fixture) = Fixture::new() else { return };
    let limit = ByteSize(24 << 20);
    fixture.sandbox.limits.memory = MemoryLimits {
        limit: Some(limit),
        swap: Some(MemorySwap::Total(limit)),
        ..MemoryLimits::default()
    };
    let mut spec = fixture.sh("");
    spec.args = ["tail", "-c", "100000000", "/dev/zero"].map(str::to_owned).to_vec();
    let (exit, _) = fixture.run(spec).unwrap();
    assert_eq!(exit.status, ExitStatus::Signal(Signal::KILL));
    assert!(exit.out_of_memory);
}

#[test]
fn processes_are_limited_and_limits_can_be_changed() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.sandbox.limits.pids = Some(4);
    let (_, output) = fixture
        .run(fixture.sh("for i in 1 2 3 4 5 6 7 8; do sleep 10 & done 2>&1; echo done"))
        .unwrap();
    assert!(output.contains("fork"), "{output}");
    block_on(async {
        let sandbox = fixture.create().await.unwrap();
        sandbox.limit(Limits { pids: Some(50), ..Limits::default() }).await.unwrap();
        let spec = fixture.sh("for i in 1 2 3 4 5 6 7 8; do true & done 2>/dev/null; wait; exit 0");
        let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
        assert_eq!(process.wait().await.status, ExitStatus::Code(0));
        assert_eq!(sandbox.usage().await.unwrap().pids_limit, Some(50));
        sandbox.destroy(soon()).await.unwrap();
    });
}

#[test]
fn devices_beyond_the_allow_list_are_refused() {
    let Some(fixture) = Fixture::new() else { return };
    let output = fixture.says("mknod /dev/mem c 1 1 && cat /dev/mem 2>&1 | head -c 100");
    assert!(output.contains("Operation not permitted"), "{output}");
}
