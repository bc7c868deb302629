//! The vm driver passes the conformance suite as an engine sees it: in shims that the built program
//! forks, each with a machine, booted from a real kernel on whatever carries out its instructions
//! here.

use std::{
    fs::File,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use base::{Deadline, ErrorKind, ProcessId, SandboxId};
use cgroups::Hierarchy;
use image::layer;
use it::{Shims, kernels};
use microvm::{VmConfig, VmDriver, Walls};
use testkit::{
    conformance::{Bench, Host},
    conformance_tests,
    demo::Home,
};
use workload::{
    ContainerSpec, Driver, DriverError, Isolation, RootFs, SandboxHandle, SandboxSpec, Streams,
};

/// Shims of the program under test, with the demo image as a layer.
struct Machines {
    // Ends before its directory does.
    shims: Shims,
    home: Home,
}

impl Machines {
    fn new() -> Option<Machines> {
        let (home, kernels) = (Home::new()?, kernels()?);
        pack(&home.path().join("lower"), &home.path().join("layer"));
        let sockets = home.path().join("shims");
        let local = VmDriver::new(nothing());
        Some(Machines { shims: Shims::new(&sockets, Arc::new(local), &kernels), home })
    }
}

/// The configuration of a driver that starts nothing in this process.
fn nothing() -> VmConfig {
    let walls = Walls {
        hierarchy: Hierarchy::detect().expect("the host has control groups"),
        group: "/wythe-machines".parse().expect("it is a name"),
        ground: None,
    };
    VmConfig {
        start: Arc::new(|_, _| Err(std::io::Error::other("machines are in shims"))),
        kernel: Arc::new(|_| Err(DriverError::Unreachable { why: "in shims".to_owned() })),
        walls,
        accel: None,
        warm: None,
    }
}

/// Makes a layer of a directory.
fn pack(directory: &Path, layer: &Path) {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(directory).args(["-c", "."]).stdout(Stdio::piped());
    let mut tar = tar.spawn().expect("tar can be started");
    let out = File::options().read(true).write(true).create_new(true).open(layer);
    let (archive, out) = (tar.stdout.take().expect("it is a pipe"), out.expect("it is ours"));
    layer::write_erofs(archive, &out, &layer::Limits::default(), &mut |_| ()).expect("a layer");
    assert!(tar.wait().expect("it was started").success());
}

impl Host for Machines {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::new(self.shims.driver())
    }

    fn restarted(&self) -> Arc<dyn Driver> {
        self.driver()
    }

    fn sandbox(&self, id: &SandboxId) -> SandboxSpec {
        self.home.sandbox(id)
    }

    fn container(&self, id: &SandboxId) -> ContainerSpec {
        let disk = self.home.path().join(format!("{id}.disk"));
        let images = vec![self.home.path().join("layer")];
        ContainerSpec { root: RootFs::Layers { images, disk }, ..self.home.container(id) }
    }

    fn layered(&self, id: &SandboxId) -> ContainerSpec {
        let mut container = self.container(id);
        if let RootFs::Layers { images, .. } = &mut container.root {
            let further = self.home.path().join("further-layer");
            pack(&self.home.layer(), &further);
            images.insert(0, further);
        }
        container
    }

    fn handle(&self, id: &SandboxId) -> SandboxHandle {
        SandboxHandle { isolation: Isolation::Vm, sandbox: id.clone(), token: String::new() }
    }

    fn directory(&self) -> &Path {
        self.home.path()
    }

    fn residue(&self, id: &SandboxId) -> Vec<String> {
        self.shims.residue(id).into_iter().chain(self.home.residue(id)).collect()
    }
}

conformance_tests!(
    all Machines::new(),
    [
        exit_codes_are_reported,
        signals_end_processes,
        two_callers_wait,
        exec_shares_the_container,
        exec_without_main_is_refused,
        forgotten_processes_are_gone,
        destroy_kills_and_can_be_repeated,
        pause_stops_and_resume_goes_on,
        environment_user_and_directory_are_as_asked,
        output_is_logged_and_attached,
        standard_input_reaches_the_process,
        without_standard_input_it_reads_as_empty,
        a_terminal_has_a_size_that_changes,
        late_attachers_see_what_comes,
        no_descriptor_is_leaked_inside,
        memory_hogs_are_killed_and_reported,
        process_limits_hold_and_change,
        usage_counts,
        binds_and_tmpfs_appear,
        a_read_only_root_cannot_be_written,
        files_are_copied_both_ways,
        files_that_cannot_be_copied_are_refused,
        containers_have_files_of_their_own,
        containers_share_what_is_the_sandboxs,
        containers_end_one_by_one,
        output_of_each_container_is_its_own,
        files_are_those_of_the_container_that_is_named,
        what_is_done_to_a_sandbox_is_done_to_all_containers,
        a_container_that_fails_leaves_the_others_alone,
        containers_come_and_go,
        what_is_several_containers_is_not_copied,
        missing_commands_are_told_apart,
        names_are_taken_once,
        a_passed_deadline_leaves_nothing,
        a_cancelled_create_leaves_nothing,
        a_killed_client_loses_nothing,
        what_was_never_there_is_not_recovered,
    ]
);

/// Containers come into a machine until it has no place left, which is said; one that goes makes
/// room for another.
#[test]
fn a_machine_has_as_many_containers_as_it_has_places() {
    let Some(host) = Machines::new() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(async {
        let bench = Bench::new(&host, "places");
        let sandbox = bench.idle().await;
        let by = || Deadline::after(Duration::from_secs(30));
        let further = |n: usize| {
            let id = format!("{}-{n}", sandbox.handle().sandbox).parse().expect("it is a name");
            bench.further(&format!("further-{n}"), host.container(&id), &["sleep", "infinity"])
        };
        // Ten places: the layer, which all have, and the changes of the first and eight more.
        for n in 0..8 {
            sandbox.spawn(further(n), Streams::default(), by()).await.expect("there is room");
        }
        let full = sandbox.spawn(further(8), Streams::default(), by()).await;
        let error = full.map(drop).expect_err("there is no room");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("of the 10 places"), "{error}");
        // Those that are there notice nothing, and the end of one makes room.
        let say = bench.exec_beside("further-3", "say", &["echo", "here"]);
        assert_eq!(bench.output(&*sandbox, say).await.0, "here\n");
        let third: ProcessId = "further-3".parse().expect("it is a name");
        let process = sandbox.process(&third).await.expect("it runs");
        process.signal(workload::Signal::KILL).await.expect("it runs");
        process.wait().await;
        sandbox.forget(&third).await;
        sandbox.spawn(further(8), Streams::default(), by()).await.expect("there is room again");
        sandbox.destroy(by()).await.expect("it goes");
    });
}
