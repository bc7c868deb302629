//! What a process may do.

use workload::{
    CapabilitySets, ProcessSpec, Rlimit, SeccompAction, SeccompPolicy, SeccompRule, UserSpec,
    profile,
};

use crate::fixture::Fixture;

fn status(fixture: &Fixture, change: impl Fn(&mut ProcessSpec)) -> Vec<String> {
    let mut spec = fixture.sh("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status | cut -f2");
    change(&mut spec);
    let (_, output) = fixture.run(spec).unwrap();
    output.lines().map(str::to_owned).collect()
}

#[test]
fn capabilities_are_dockers_fourteen() {
    let Some(fixture) = Fixture::new() else { return };
    let lines = status(&fixture, |_| {});
    let (none, docker) = ("0000000000000000", "00000000a80425fb");
    assert_eq!(lines, [none, docker, docker, docker, none, "0", "0"]);
}

#[test]
fn an_ordinary_user_keeps_only_ambient_capabilities() {
    let Some(fixture) = Fixture::new() else { return };
    let bind: std::collections::BTreeSet<u8> =
        profile::capability("NET_BIND_SERVICE").into_iter().collect();
    let lines = status(&fixture, |spec| {
        spec.user = UserSpec::Ids { uid: 33, gid: 33, groups: Vec::new() };
        spec.capabilities = CapabilitySets {
            bounding: bind.clone(),
            effective: bind.clone(),
            permitted: bind.clone(),
            inheritable: bind.clone(),
            ambient: bind.clone(),
        };
        spec.no_new_privileges = true;
    });
    assert_eq!(lines, [["0000000000000400"; 5].as_slice(), &["1", "0"]].concat());
    let lines =
        status(&fixture, |spec| spec.user = UserSpec::Ids { uid: 33, gid: 33, groups: Vec::new() });
    assert_eq!(lines[1], "0000000000000000");
}

fn policy() -> SeccompPolicy {
    SeccompPolicy {
        default_action: SeccompAction::Allow,
        architectures: vec!["SCMP_ARCH_X86_64".into(), "SCMP_ARCH_AARCH64".into()],
        flags: Vec::new(),
        rules: vec![SeccompRule {
            names: vec!["mkdir".into(), "mkdirat".into()],
            action: SeccompAction::Errno(95),
            args: Vec::new(),
        }],
    }
}

#[test]
fn system_calls_are_filtered_with_and_without_no_new_privileges() {
    let Some(fixture) = Fixture::new() else { return };
    for nnp in [false, true] {
        let mut spec = fixture.sh("mkdir /x 2>&1; grep Seccomp: /proc/self/status");
        spec.seccomp = Some(policy().into());
        spec.no_new_privileges = nnp;
        let (_, output) = fixture.run(spec).unwrap();
        assert!(output.contains("not supported") && output.contains("\t2"), "{nnp}: {output}");
    }
}

#[test]
fn limits_are_set_and_those_the_host_cannot_grant_are_let_go() {
    let Some(fixture) = Fixture::new() else { return };
    let mut spec = fixture.sh("ulimit -n; ulimit -c");
    let rlimit =
        |resource, limit, required| Rlimit { resource, soft: limit, hard: limit, required };
    spec.rlimits = vec![rlimit(7, 99, true), rlimit(4, 0, true)];
    let (_, output) = fixture.run(spec.clone()).unwrap();
    assert_eq!(output, "99\n0\n");
    spec.rlimits = vec![rlimit(7, 99, true), rlimit(7, u64::MAX, false)];
    assert_eq!(fixture.run(spec).unwrap().1.lines().next(), Some("99"));
}

#[test]
fn labels_are_refused_by_name_where_the_host_has_none() {
    let Some(fixture) = Fixture::new() else { return };
    if std::path::Path::new("/sys/module/apparmor").exists() {
        return;
    }
    let mut spec = fixture.sh("true");
    spec.apparmor = Some("docker-default".into());
    let error = fixture.run(spec).unwrap_err().to_string();
    assert_eq!(error, "this host cannot do it: apparmor: AppArmor is not in force on this host");
}

#[test]
fn the_out_of_memory_score_is_raised() {
    let Some(fixture) = Fixture::new() else { return };
    let mut spec = fixture.sh("cat /proc/self/oom_score_adj");
    spec.oom_score_adj = Some(500);
    assert_eq!(fixture.run(spec.clone()).unwrap().1, "500\n");
    // Where it may not be lowered, that is let go.
    spec.oom_score_adj = Some(-500);
    fixture.run(spec).unwrap();
}

#[test]
fn the_session_keyring_is_the_sandboxs() {
    let Some(mut fixture) = Fixture::new() else { return };
    fixture.container.masked_paths.clear();
    let output = fixture.says("cat /proc/keys");
    assert!(output.contains(&format!("_ses.{}", fixture.sandbox.id)), "{output}");
}
