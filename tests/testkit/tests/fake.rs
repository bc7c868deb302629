//! The fake driver keeps the contract: the checks of the conformance suite that do not look into
//! a file system, which it has none of.

use std::{path::Path, sync::Arc};

use base::SandboxId;
use tempfile::TempDir;
use testkit::{
    conformance::Host,
    conformance_tests,
    fake::{Fake, Fault, Point},
};
use workload::{
    ContainerSpec, Driver, DriverError, Isolation, Limits, Namespace, Network, RootFs,
    SandboxHandle, SandboxSpec,
};

struct FakeHost {
    fake: Fake,
    directory: TempDir,
}

impl FakeHost {
    fn new() -> Option<FakeHost> {
        let directory = tempfile::tempdir().expect("a directory can be made");
        Some(FakeHost { fake: Fake::new(), directory })
    }
}

impl Host for FakeHost {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.fake.clone())
    }

    fn restarted(&self) -> Arc<dyn Driver> {
        self.driver()
    }

    fn sandbox(&self, id: &SandboxId) -> SandboxSpec {
        SandboxSpec {
            id: id.clone(),
            machine: workload::MachineSpec::default(),
            hostname: None,
            domainname: None,
            network: Network::None,
            ipc: Namespace::Private,
            uts: Namespace::Private,
            user: None,
            time: None,
            sysctls: Default::default(),
            limits: Limits::default(),
            cgroup: None,
            taken_from: None,
        }
    }

    fn container(&self, _: &SandboxId) -> ContainerSpec {
        ContainerSpec {
            root: RootFs::Directory("/nowhere".into()),
            read_only_root: false,
            root_propagation: None,
            mounts: Vec::new(),
            devices: Vec::new(),
            masked_paths: Vec::new(),
            read_only_paths: Vec::new(),
            pid: Namespace::Private,
            cgroup: Namespace::Private,
            init: false,
        }
    }

    fn layered(&self, id: &SandboxId) -> ContainerSpec {
        self.container(id)
    }

    fn command(&self, args: &[&str]) -> Vec<String> {
        let words = match args {
            ["true"] => vec!["exit", "0"],
            ["sh", "-c", script] => script.split(' ').collect(),
            ["sleep", "infinity"] => vec!["sleep"],
            ["stress", "--memory", ..] => vec!["hog"],
            other => other.to_vec(),
        };
        words.into_iter().map(str::to_owned).collect()
    }

    fn handle(&self, id: &SandboxId) -> SandboxHandle {
        SandboxHandle { isolation: Isolation::Container, sandbox: id.clone(), token: String::new() }
    }

    fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn residue(&self, id: &SandboxId) -> Vec<String> {
        self.fake.sandboxes().iter().filter(|left| *left == id).map(ToString::to_string).collect()
    }
}

conformance_tests!(
    FakeHost::new(),
    [
        exit_codes_are_reported,
        signals_end_processes,
        two_callers_wait,
        exec_without_main_is_refused,
        forgotten_processes_are_gone,
        destroy_kills_and_can_be_repeated,
        pause_stops_and_resume_goes_on,
        standard_input_reaches_the_process,
        memory_hogs_are_killed_and_reported,
        files_are_copied_both_ways,
        files_that_cannot_be_copied_are_refused,
        containers_end_one_by_one,
        names_are_taken_once,
        a_passed_deadline_leaves_nothing,
        a_cancelled_create_leaves_nothing,
        what_was_never_there_is_not_recovered,
    ]
);

/// The suite would be of no use if a broken driver passed it.
#[test]
#[should_panic(expected = "destroy: ")]
fn a_driver_that_cannot_destroy_fails_the_suite() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let host = FakeHost::new().expect("it needs nothing");
        let error = DriverError::Step { step: "kill".to_owned(), errno: 5 };
        host.fake.inject(Point::Destroy, Fault::Fail(error));
        testkit::conformance::run(&host, "exit_codes_are_reported").await;
    });
}
