//! One container from beginning to end.

use std::time::Duration;

use base::{Deadline, ProcessId};
use workload::{
    Driver, DriverError, ExitStatus, Isolation, Materials, Namespace, Network, ProcessSpec, RootFs,
    Signal, Streams, TimeOffsets,
};

use crate::fixture::{Fixture, block_on, soon};

#[test]
fn a_command_runs_and_its_output_and_code_come_back() {
    let Some(fixture) = Fixture::new() else { return };
    let (exit, output) = fixture.run(fixture.sh("echo hello; exit 3")).unwrap();
    assert_eq!(exit.status, ExitStatus::Code(3));
    assert!(!exit.out_of_memory);
    assert_eq!(output, "hello\n");
}

#[test]
fn a_signal_is_told_from_a_code_by_every_waiter() {
    let Some(fixture) = Fixture::new() else { return };
    block_on(async {
        let sandbox = fixture.create().await.unwrap();
        let spec = fixture.sh("exec sleep 100");
        let process = sandbox.spawn(spec, Streams::default(), soon()).await.unwrap();
        assert!(process.host_pid().is_some());
        process.signal(Signal::KILL).await.unwrap();
        let killed = ExitStatus::Signal(Signal::KILL);
        let (first, second) = tokio::join!(process.wait(), process.wait());
        assert_eq!((first.status, second.status), (killed, killed));
        assert_eq!(process.wait().await.status, killed);
        assert_eq!(process.host_pid(), None);
        let gone = process.signal(Signal::TERM).await.unwrap_err();
        assert!(matches!(gone, DriverError::State { .. }), "{gone}");
        sandbox.destroy(soon()).await.unwrap();
        sandbox.destroy(soon()).await.unwrap();
    });
}

#[test]
fn commands_that_cannot_be_run_are_told_in_dockers_words() {
    let Some(fixture) = Fixture::new() else { return };
    std::fs::write(fixture.lower().join("bin/plain"), "x").unwrap();
    let try_command = |command: &str| {
        let spec = ProcessSpec { args: vec![command.into()], ..fixture.main() };
        fixture.run(spec).unwrap_err().to_string()
    };
    let cases = [
        ("nope", "exec: \"nope\": executable file not found in $PATH"),
        ("/nope", "exec: \"/nope\": stat /nope: no such file or directory"),
        ("/bin/plain", "exec: \"/bin/plain\": permission denied"),
        ("plain", "exec: \"plain\": permission denied"),
        ("/bin", "exec: \"/bin\": is a directory"),
        ("/bin/sh/x", "exec: \"/bin/sh/x\": not a directory"),
    ];
    for (command, text) in cases {
        assert_eq!(try_command(command), text);
    }
    let broken = fixture.lower().join("bin/broken");
    std::fs::copy(fixture.lower().join("bin/busybox"), &broken).unwrap();
    std::fs::write(&broken, "no program").unwrap();
    assert_eq!(try_command("broken"), "exec: \"broken\": exec format error");
}

#[test]
fn every_namespace_is_its_own() {
    let Some(fixture) = Fixture::new() else { return };
    let kinds = ["mnt", "pid", "net", "uts", "ipc", "cgroup"];
    let output =
        fixture.says("for n in mnt pid net uts ipc cgroup; do readlink /proc/self/ns/$n; done");
    for (kind, inside) in kinds.iter().zip(output.lines()) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_ne!(outside.to_str(), Some(inside), "{kind}");
    }
    assert_eq!(output.lines().count(), kinds.len());
}

#[test]
fn the_hosts_namespaces_are_kept_where_that_is_asked() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.sandbox.network = Network::Host;
    fixture.sandbox.ipc = Namespace::Host;
    fixture.sandbox.uts = Namespace::Host;
    fixture.sandbox.hostname = None;
    fixture.container.pid = Namespace::Host;
    let output = fixture.says("for n in pid net uts ipc; do readlink /proc/self/ns/$n; done");
    for (kind, inside) in ["pid", "net", "uts", "ipc"].iter().zip(output.lines()) {
        let outside = std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
        assert_eq!(outside.to_str(), Some(inside), "{kind}");
    }
}

#[test]
fn names_clocks_and_parameters_are_the_sandboxs() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.sandbox.domainname = Some("example".into());
    fixture.sandbox.time = Some(TimeOffsets { monotonic: (0, 0), boottime: (86_400_000, 0) });
    let parameters = [("net.ipv4.ip_forward", "1"), ("kernel.shmmax", "12345")];
    fixture.sandbox.sysctls =
        parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let output = fixture.says(
        "hostname; cat /proc/sys/kernel/domainname /proc/sys/net/ipv4/ip_forward \
         /proc/sys/kernel/shmmax; cut -d. -f1 /proc/uptime; ip -o addr show lo | head -1; echo $$",
    );
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[..4], ["inside", "example", "1", "12345"]);
    assert!(lines[4].parse::<u64>().unwrap() >= 86_400_000, "{}", lines[4]);
    assert!(lines[5].contains("127.0.0.1"), "loopback is up: {}", lines[5]);
    assert_eq!(lines[6], "1", "it is process 1");
}

#[test]
fn parameters_of_the_host_are_refused() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.sandbox.sysctls = [("kernel.panic".to_owned(), "1".to_owned())].into();
    let error = fixture.run(fixture.sh("true")).unwrap_err();
    assert!(error.to_string().starts_with("sysctl kernel.panic: "), "{error}");
}

#[test]
fn no_descriptor_of_the_host_leaks_inside() {
    let Some(fixture) = Fixture::new() else { return };
    let output = fixture.says("ls /proc/self/fd");
    // Three streams, and what ls reads the directory with.
    assert_eq!(output, "0\n1\n2\n3\n");
}

#[test]
fn the_environment_has_a_home_and_the_working_directory_is_made() {
    let Some(fixture) = Fixture::new() else { return };
    let mut spec = fixture.sh("pwd; echo $HOME; umask; id -u; id -G; stat -c %a .");
    spec.cwd = "/deep/er".into();
    spec.umask = Some(0o077);
    spec.user = workload::UserSpec::Named { name: "web".into(), groups: vec!["7".into()] };
    let (_, output) = fixture.run(spec).unwrap();
    assert_eq!(output, "/deep/er\n/srv\n0077\n33\n33 7 29\n755\n");
}

#[test]
fn a_host_process_sees_the_host() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.driver = linux::LinuxDriver::new(Isolation::Host, None, "/wythe-test").unwrap();
    fixture.container.root = RootFs::Directory("/".into());
    fixture.container.mounts.clear();
    let mut spec = fixture.sh("readlink /proc/self/ns/mnt; cat /proc/self/cgroup");
    spec.args[0] = "/bin/sh".into();
    let (_, output) = fixture.run(spec).unwrap();
    let outside = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(output.lines().next(), outside.to_str());
    assert!(output.contains("/wythe-test/"), "{output}");
}

#[test]
fn a_deadline_that_has_passed_is_kept() {
    let Some(fixture) = Fixture::new() else { return };
    block_on(async {
        let passed = Deadline::after(Duration::ZERO);
        let spec = fixture.sandbox.clone();
        let late = fixture.driver.create(spec, Materials::default(), passed).await;
        assert!(matches!(late, Err(DriverError::DeadlinePassed { .. })));
    });
}

#[test]
fn ids_are_used_once_and_forgotten_when_told() {
    let Some(fixture) = Fixture::new() else { return };
    block_on(async {
        let sandbox = fixture.create().await.unwrap();
        let twice = fixture.create().await.unwrap_err();
        assert!(matches!(twice, DriverError::Exists { .. }), "{twice}");
        let main = sandbox.spawn(fixture.sh("true"), Streams::default(), soon()).await.unwrap();
        let twice = sandbox.spawn(fixture.sh("true"), Streams::default(), soon()).await;
        assert!(matches!(twice, Err(DriverError::Exists { .. })));
        main.wait().await;
        assert!(sandbox.process(&ProcessId::main()).await.is_some());
        sandbox.forget(&ProcessId::main()).await;
        assert!(sandbox.process(&ProcessId::main()).await.is_none());
        sandbox.destroy(soon()).await.unwrap();
        let gone = sandbox.usage().await.unwrap_err();
        assert!(matches!(gone, DriverError::Gone { .. }), "{gone}");
    });
}
