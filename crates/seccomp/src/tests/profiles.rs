//! Profiles: read, resolved, refused.

use std::collections::BTreeSet;

use proptest::prelude::*;
use workload::{SeccompAction, SeccompPolicy, profile::capability};

use super::{
    default_capabilities,
    machine::{Call, run},
};
use crate::{Arch, FilterFlags, Host, KernelVersion, Profile, compile, tables};

const KERNEL: KernelVersion = KernelVersion { major: 6, minor: 18 };

fn resolve(profile: &Profile, capabilities: &BTreeSet<u8>) -> SeccompPolicy {
    profile.resolve(Host { capabilities, arch: Arch::X86_64, kernel: KERNEL })
}

fn default_policy() -> SeccompPolicy {
    resolve(Profile::default_rules(), &default_capabilities())
}

fn call(name: &str, args: [u64; 6]) -> Call {
    let number = tables::number(Arch::X86_64, name).unwrap();
    Call { arch: Arch::X86_64.audit(), number, args }
}

#[test]
fn the_default_rules_judge_as_dockers_do() {
    use SeccompAction::{Allow, Errno};
    let program = compile(&default_policy(), Arch::X86_64).unwrap();
    let first = |value| [value, 0, 0, 0, 0, 0];
    let cases = [
        (call("read", first(0)), Allow),
        (call("execve", first(0)), Allow),
        (call("ptrace", first(0)), Allow),
        (call("chroot", first(0)), Allow),
        (call("mount", first(0)), Errno(1)),
        (call("unshare", first(0)), Errno(1)),
        (call("keyctl", first(0)), Errno(1)),
        (call("io_uring_setup", first(0)), Errno(1)),
        (call("bpf", first(0)), Errno(1)),
        (call("clone3", first(0)), Errno(38)),
        (call("clone", first(0x11)), Allow),
        // CLONE_NEWUSER.
        (call("clone", first(0x1000_0011)), Errno(1)),
        (call("personality", first(0xffff_ffff)), Allow),
        (call("personality", first(0x0040_0000)), Errno(1)),
        // AF_UNIX, AF_NETLINK, AF_ALG, AF_VSOCK.
        (call("socket", first(1)), Allow),
        (call("socket", first(16)), Allow),
        (call("socket", first(38)), Errno(1)),
        (call("socket", first(40)), Errno(1)),
        // Newer than the rules.
        (Call { number: 467, ..call("read", first(0)) }, Errno(38)),
        (Call { number: 100_000, ..call("read", first(0)) }, Errno(38)),
        // x32's read, and i386's.
        (Call { number: 0x4000_0000, ..call("read", first(0)) }, Errno(38)),
        (Call { arch: Arch::X86.audit(), number: 3, args: first(0) }, Allow),
        (Call { arch: Arch::X86.audit(), number: 21, args: first(0) }, Errno(1)),
        (
            Call { arch: Arch::Aarch64.audit(), number: 63, args: first(0) },
            SeccompAction::KillProcess,
        ),
    ];
    for (call, expected) in cases {
        assert_eq!(run(&program, &call).0, expected, "{call:?}");
    }
}

#[test]
fn capabilities_open_their_calls() {
    let admin = BTreeSet::from([capability("SYS_ADMIN").unwrap()]);
    let program = compile(&resolve(Profile::default_rules(), &admin), Arch::X86_64).unwrap();
    for name in ["mount", "unshare", "clone3", "bpf", "setns"] {
        assert_eq!(run(&program, &call(name, [0; 6])).0, SeccompAction::Allow, "{name}");
    }
    let namespace = call("clone", [0x1000_0011, 0, 0, 0, 0, 0]);
    assert_eq!(run(&program, &namespace).0, SeccompAction::Allow);
    let program = compile(&resolve(Profile::default_rules(), &BTreeSet::new()), Arch::X86_64);
    assert_eq!(run(&program.unwrap(), &call("chroot", [0; 6])).0, SeccompAction::Errno(1));
}

#[test]
fn the_default_program_is_short_and_quick() {
    let program = compile(&default_policy(), Arch::X86_64).unwrap();
    let steps = |name| run(&program, &call(name, [1, 0, 0, 0, 0, 0])).1;
    let worst = tables::table(Arch::X86_64).iter().map(|(name, _)| steps(name)).max();
    let counts = (program.len(), steps("read"), steps("openat"), steps("clone"), worst);
    // All, and those that one call takes.
    assert_eq!(counts, (702, 11, 11, 14, Some(31)));
}

#[test]
fn every_name_of_the_default_rules_exists_somewhere() {
    // Calls of architectures that have no table here.
    const ELSEWHERE: [&str; 14] = [
        "arm_fadvise64_64",
        "arm_sync_file_range",
        "breakpoint",
        "cacheflush",
        "fstatat64",
        "recv",
        "riscv_flush_icache",
        "riscv_hwprobe",
        "s390_pci_mmio_read",
        "s390_pci_mmio_write",
        "s390_runtime_instr",
        "send",
        "set_tls",
        "swapcontext",
    ];
    const ALSO: [&str; 5] =
        ["semop", "semtimedop", "sync_file_range2", "utimensat_time64", "clock_settime64"];
    let all: BTreeSet<u8> = (0..=40).collect();
    let policy = resolve(Profile::default_rules(), &all);
    let unknown: Vec<&String> = policy
        .rules
        .iter()
        .flat_map(|rule| &rule.names)
        .filter(|name| {
            [Arch::X86_64, Arch::X86, Arch::Aarch64]
                .iter()
                .all(|arch| tables::number(*arch, name).is_none())
        })
        .filter(|name| !ELSEWHERE.contains(&name.as_str()) && !ALSO.contains(&name.as_str()))
        .collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn an_oci_profile_is_read() {
    let profile = Profile::parse(
        br#"{
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"],
            "listenerPath": "/run/agent.sock",
            "listenerMetadata": "x",
            "syscalls": [
                {"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"},
                {"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5,
                 "args": [{"index": 1, "value": 10, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]},
                {"names": ["read"], "action": "SCMP_ACT_ALLOW"}
            ]
        }"#,
    )
    .unwrap();
    assert_eq!(
        (profile.listener_path(), profile.listener_metadata()),
        (Some("/run/agent.sock"), Some("x"))
    );
    let policy = resolve(&profile, &BTreeSet::new());
    assert_eq!(policy.architectures, ["SCMP_ARCH_X86_64"]);
    assert_eq!(policy.rules.len(), 2, "a rule that says what the default says is left out");
    assert_eq!(policy.rules[1].action, SeccompAction::Errno(5));
    assert_eq!((policy.rules[1].args[0].value, policy.rules[1].args[0].value_two), (10, 2));
    let flags = FilterFlags::of(&policy).unwrap();
    assert_eq!(flags.0, FilterFlags::LOG | FilterFlags::NEW_LISTENER);
    let unknown = SeccompPolicy { flags: vec!["X".into()], ..policy };
    assert!(FilterFlags::of(&unknown).is_err());
}

#[test]
fn an_argument_compared_twice_means_or() {
    let profile = Profile::parse(
        br#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"name": "socket", "action": "SCMP_ACT_ALLOW", "args": [
                {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}]}"#,
    )
    .unwrap();
    let program = compile(&resolve(&profile, &BTreeSet::new()), Arch::X86_64).unwrap();
    let verdicts =
        [1, 2, 3].map(|family| run(&program, &call("socket", [family, 0, 0, 0, 0, 0])).0);
    use SeccompAction::{Allow, Errno};
    assert_eq!(verdicts, [Allow, Allow, Errno(1)]);
}

#[test]
fn conditions_on_the_host_are_heeded() {
    let rules = |condition: &str| {
        let json = format!(
            r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                {{"names": ["read"], "action": "SCMP_ACT_ALLOW", {condition}}}]}}"#
        );
        let chown = BTreeSet::from([0]);
        resolve(&Profile::parse(json.as_bytes()).unwrap(), &chown).rules.len()
    };
    for (condition, counts) in [
        (r#""includes": {}, "excludes": null"#, 1),
        (r#""includes": {"caps": ["CAP_CHOWN"]}"#, 1),
        (r#""includes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}"#, 0),
        (r#""includes": {"caps": ["CAP_OF_TOMORROW"]}"#, 0),
        (r#""excludes": {"caps": ["CAP_CHOWN", "CAP_KILL"]}"#, 0),
        (r#""includes": {"arches": ["arm64"]}"#, 0),
        (r#""excludes": {"arches": ["amd64"]}"#, 0),
        (r#""includes": {"minKernel": "6.18"}"#, 1),
        (r#""includes": {"minKernel": "6.19"}"#, 0),
        (r#""excludes": {"minKernel": "4.8"}"#, 0),
    ] {
        assert_eq!(rules(condition), counts, "{condition}");
    }
}

#[test]
fn what_is_no_profile_is_refused() {
    let many = format!(
        r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}}"#,
        vec![r#"{"names": ["read"], "action": "SCMP_ACT_TRAP"}"#; 5000].join(",")
    );
    for bad in [
        "",
        "{}",
        r#"{"defaultAction": "ALLOW"}"#,
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 70000}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["A"], "archMap": [{"architecture": "B"}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_TRAP"}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_TRAP", "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["a"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 0, "op": "EQ"}]}]}"#,
        &many,
        &" ".repeat(2 << 20),
    ] {
        let head: String = bad.chars().take(80).collect();
        assert!(Profile::parse(bad.as_bytes()).is_err(), "{head}");
    }
}

#[test]
fn kernel_versions_are_read() {
    let version = |major, minor| Some(KernelVersion { major, minor });
    for (text, expected) in
        [("6.18.44-x", version(6, 18)), ("4.8", version(4, 8)), ("5", None), ("x", None)]
    {
        assert_eq!(KernelVersion::parse(text), expected, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Profile::parse(&bytes);
    }

    #[test]
    fn a_damaged_profile_is_refused_or_compiles(at in 0_usize..13_000, byte in any::<u8>()) {
        let mut json = include_bytes!("../default.json").to_vec();
        let at = at.min(json.len() - 1);
        json[at] = byte;
        if let Ok(profile) = Profile::parse(&json) {
            let _ = compile(&resolve(&profile, &default_capabilities()), Arch::X86_64);
        }
    }
}
