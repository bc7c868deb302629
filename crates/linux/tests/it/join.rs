//! Processes that join a container.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::Arc,
    time::Duration,
};

use workload::{DriverError, ExitStatus, ProcessSpec, Sandbox, Streams, TerminalSize, UserSpec};

use crate::fixture::{Fixture, block_on, soon};

/// Starts a container that does nothing and lets `inside` work with it.
fn with_container<T>(fixture: &Fixture, inside: impl AsyncFnOnce(&Arc<dyn Sandbox>) -> T) -> T {
    block_on(async {
        let sandbox = fixture.create().await.unwrap();
        let sleep = fixture.sh("exec sleep 1000");
        sandbox.spawn(sleep, Streams::default(), soon()).await.unwrap();
        let result = inside(&sandbox).await;
        sandbox.destroy(soon()).await.unwrap();
        result
    })
}

#[test]
fn an_exec_is_in_every_namespace_and_the_group_of_the_container() {
    let Some(fixture) = Fixture::new() else { return };
    let script = "for n in mnt pid net uts ipc cgroup; do [ $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) ] || echo $n differs; done; \
                  cmp /proc/1/cgroup /proc/self/cgroup && echo same; hostname; ls /proc/self/fd; \
                  grep CapEff /proc/self/status";
    let output = with_container(&fixture, async |sandbox| {
        let spec = fixture.exec("look", script);
        let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
        assert_eq!(process.wait().await.status, ExitStatus::Code(0));
        fixture.output("look")
    });
    assert_eq!(output, "same\ninside\n0\n1\n2\n3\nCapEff:\t00000000a80425fb\n");
}

#[test]
fn execs_have_their_own_user_code_and_errors() {
    let Some(fixture) = Fixture::new() else { return };
    with_container(&fixture, async |sandbox| {
        let spawn = |spec| sandbox.spawn(spec, Streams::default(), soon());
        let web = UserSpec::Named { name: "web".into(), groups: Vec::new() };
        let spec = ProcessSpec { user: web, ..fixture.exec("web", "id -u; exit 7") };
        assert_eq!(spawn(spec).await.unwrap().wait().await.status, ExitStatus::Code(7));
        assert_eq!(fixture.output("web"), "33\n");
        let spec = ProcessSpec { args: vec!["nope".into()], ..fixture.exec("bad", "") };
        let error = spawn(spec).await.unwrap_err();
        assert!(matches!(error, DriverError::CommandNotFound { .. }), "{error}");
        let mut spec = fixture.exec("lost", "true");
        spec.root = workload::ProcessRoot::Join("nobody".parse().unwrap());
        assert!(matches!(spawn(spec).await, Err(DriverError::Gone { .. })));
    });
}

#[test]
fn filters_hold_for_execs_with_and_without_no_new_privileges() {
    let Some(fixture) = Fixture::new() else { return };
    with_container(&fixture, async |sandbox| {
        for (name, nnp) in [("with", true), ("without", false)] {
            let mut spec = fixture.exec(name, "mkdir /x 2>&1; grep Seccomp: /proc/self/status");
            spec.no_new_privileges = nnp;
            let kernel = rustix::system::uname();
            let host = seccomp::Host {
                capabilities: &spec.capabilities.bounding,
                arch: seccomp::Arch::native().unwrap(),
                kernel: seccomp::KernelVersion::parse(&kernel.release().to_string_lossy()).unwrap(),
            };
            spec.seccomp = Some(seccomp::Profile::default_rules().resolve(host).into());
            let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
            process.wait().await;
            assert!(fixture.output(name).ends_with("Seccomp:\t2\n"), "{}", fixture.output(name));
        }
    });
}

#[test]
fn a_terminal_is_the_containers_own_and_can_be_resized() {
    let Some(fixture) = Fixture::new() else { return };
    for exec in [false, true] {
        let script = "tty; stty size; stat -c %u $(tty); ls -l /dev/console | wc -l; read line; stty size; echo got $line";
        let name = if exec { "exec" } else { "main" };
        let mut spec = if exec { fixture.exec(name, script) } else { fixture.sh(script) };
        spec.terminal = Some(TerminalSize { rows: 33, columns: 77 });
        spec.stdin = true;
        let run = async |sandbox: &Arc<dyn Sandbox>| {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            let streams = Streams { attached: Some(std::os::fd::OwnedFd::from(theirs).into()) };
            let process = sandbox.spawn(spec, streams, soon()).await.unwrap();
            // What is typed earlier is echoed earlier: it waits until all but the last is there.
            let ready = || {
                let output = fixture.output(name).replace("ls: /dev/console", "");
                let after = output.split_once("77").map(|(_, rest)| rest.lines());
                let numbers = after.into_iter().flatten().map(str::trim);
                numbers.filter(|line| line.parse::<u32>().is_ok()).count() == 2
            };
            while !ready() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            process.resize(TerminalSize { rows: 20, columns: 40 }).await.unwrap();
            ours.write_all(b"word\n").unwrap();
            assert_eq!(process.wait().await.status, ExitStatus::Code(0));
            let mut seen = String::new();
            ours.read_to_string(&mut seen).unwrap();
            let gone = process.resize(TerminalSize { rows: 1, columns: 1 }).await;
            assert!(gone.is_err());
            seen
        };
        let seen = if exec {
            with_container(&fixture, run)
        } else {
            block_on(async {
                let sandbox = fixture.create().await.unwrap();
                let seen = run(&sandbox).await;
                sandbox.destroy(soon()).await.unwrap();
                seen
            })
        };
        let console = if exec { "0" } else { "1" };
        let pts = "/dev/pts/0";
        let want = format!("{pts}\r\n33 77\r\n0\r\n{console}\r\nword\r\n20 40\r\ngot word\r\n");
        let seen = seen.replace("ls: /dev/console: No such file or directory\r\n", "");
        assert_eq!(seen, want, "exec: {exec}");
    }
}

#[test]
fn a_paused_sandbox_takes_no_exec_and_goes_on_when_resumed() {
    let Some(fixture) = Fixture::new() else { return };
    with_container(&fixture, async |sandbox| {
        let pausable = sandbox.pausable().unwrap();
        pausable.pause(soon()).await.unwrap();
        pausable.pause(soon()).await.unwrap();
        let error = sandbox.spawn(fixture.exec("no", "true"), Streams::default(), soon()).await;
        assert!(matches!(error, Err(DriverError::State { .. })));
        pausable.resume(soon()).await.unwrap();
        let spec = fixture.exec("yes", "true");
        let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
        assert_eq!(process.wait().await.status, ExitStatus::Code(0));
        pausable.pause(soon()).await.unwrap();
        // And destroyed while it is paused.
    });
}

#[test]
fn usage_counts_processes_and_interfaces() {
    let Some(fixture) = Fixture::new() else { return };
    with_container(&fixture, async |sandbox| {
        let usage = sandbox.usage().await.unwrap();
        assert_eq!((usage.pids, usage.pids_limit), (Some(1), Some(100)));
        assert_eq!(usage.network, [], "loopback is not counted");
        assert_eq!(sandbox.host_pids().await.unwrap().len(), 1);
    });
}

#[test]
fn a_signal_ends_what_an_exec_started_where_that_is_wanted() {
    let Some(fixture) = Fixture::new() else { return };
    for whole in [true, false] {
        with_container(&fixture, async |sandbox| {
            let count = async || sandbox.host_pids().await.unwrap().len();
            // One of its children is an orphan before it is killed.
            let script = "sleep 1000 & (sleep 1000 &); echo orphaned; while :; do sleep 1000; done";
            let name = if whole { "all" } else { "one" };
            let spec = ProcessSpec { whole, ..fixture.exec(name, script) };
            let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
            // Before that its parent counts too.
            let orphaned = || fixture.output(name).contains("orphaned");
            while !orphaned() || count().await < 5 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            process.signal(workload::Signal::KILL).await.unwrap();
            let killed = ExitStatus::Signal(workload::Signal::KILL);
            assert_eq!(process.wait().await.status, killed);
            let left = if whole { 1 } else { 4 };
            while count().await > left {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            assert_eq!(count().await, left);
        });
    }
}
