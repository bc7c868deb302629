//! Golden plans: the order of a container's operations is its security, so a change of it shows.

use files::Identity;
use workload::{
    ContainerSpec, Isolation, Limits, Namespace, Network, ProcessRoot, ProcessSpec, RootFs,
    SandboxSpec, UserSpec, profile,
};

use super::{Extras, Facts, Filter, Input, Joined, container, describe, join};

fn sandbox() -> SandboxSpec {
    SandboxSpec {
        id: "box".parse().unwrap(),
        machine: workload::MachineSpec::default(),
        hostname: Some("inside".into()),
        domainname: None,
        network: Network::Given,
        ipc: Namespace::Private,
        uts: Namespace::Private,
        user: None,
        time: None,
        sysctls: [("net.ipv4.ip_forward".to_owned(), "1".to_owned())].into(),
        limits: Limits::default(),
        cgroup: None,
        taken_from: None,
    }
}

fn of_its_own() -> ContainerSpec {
    ContainerSpec {
        root: RootFs::Directory("/bundle/rootfs".into()),
        read_only_root: true,
        root_propagation: None,
        mounts: profile::mounts(base::ByteSize(1 << 20), false),
        devices: Vec::new(),
        masked_paths: vec!["/proc/kcore".into()],
        read_only_paths: vec!["/proc/sys".into()],
        pid: Namespace::Private,
        cgroup: Namespace::Private,
        init: false,
    }
}

fn process(root: ProcessRoot) -> ProcessSpec {
    ProcessSpec {
        id: base::ProcessId::main(),
        root,
        args: vec!["sh".into()],
        env: vec!["PATH=/bin".into()],
        cwd: "/work".into(),
        user: UserSpec::default(),
        umask: None,
        capabilities: profile::capability_sets([0, 1]),
        no_new_privileges: false,
        seccomp: None,
        apparmor: None,
        selinux: None,
        rlimits: Vec::new(),
        oom_score_adj: None,
        terminal: None,
        stdin: false,
        stdin_once: false,
        log: None,
        whole: false,
    }
}

fn described(process: &ProcessSpec, joined: Option<Joined>, ground: bool) -> String {
    let identity = Identity { uid: 1000, gid: 1000, groups: vec![5], home: "/home/user".into() };
    let filter = Filter { program: Vec::new(), flags: 0 };
    let input = Input {
        isolation: Isolation::Container,
        sandbox: &sandbox(),
        process,
        identity: &identity,
        filter: Some(&filter),
        facts: &Facts {
            last_capability: 40,
            apparmor: false,
            selinux: false,
            confined: None,
            ground,
        },
        cgroup_files: 1,
        view: None,
        extras: &Extras::default(),
    };
    let plan = joined.map_or_else(|| container(input), |joined| join(input, joined));
    describe(&plan.unwrap().ops)
}

#[test]
fn a_container_begins_in_this_order() {
    let process = process(ProcessRoot::Own(Box::new(of_its_own())));
    insta::assert_snapshot!(described(&process, None, false));
}

#[test]
fn where_mounts_begin_from_nothing_it_is_this_order() {
    let process = process(ProcessRoot::Own(Box::new(of_its_own())));
    insta::assert_snapshot!(described(&process, None, true));
}

#[test]
fn an_exec_joins_in_this_order() {
    let joined = Joined::of(Isolation::Container, &sandbox(), &of_its_own());
    let process = process(ProcessRoot::Join(base::ProcessId::main()));
    insta::assert_snapshot!(described(&process, Some(joined), false));
}
