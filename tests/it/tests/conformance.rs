//! The container driver passes the conformance suite as an engine sees it: in shims that the built
//! program forks, over their sockets, after the daemon is gone.

use std::{path::Path, sync::Arc};

use base::SandboxId;
use it::Shims;
use linux::LinuxDriver;
use testkit::{conformance::Host, conformance_tests, demo::Home};
use workload::{ContainerSpec, Driver, Isolation, SandboxHandle, SandboxSpec};

/// Shims of the program under test.
struct Containers {
    // Ends before its directory does.
    shims: Shims,
    home: Home,
}

impl Containers {
    fn new() -> Option<Containers> {
        let home = Home::new()?;
        let local = LinuxDriver::new(Isolation::Container, None, "/wythe-test")
            .expect("this host has it all");
        let (sockets, kernels) = (home.path().join("shims"), home.path().join("no-kernels"));
        Some(Containers { shims: Shims::new(&sockets, Arc::new(local), &kernels), home })
    }
}

impl Host for Containers {
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
        self.home.container(id)
    }

    fn layered(&self, id: &SandboxId) -> ContainerSpec {
        self.home.layered(id)
    }

    fn handle(&self, id: &SandboxId) -> SandboxHandle {
        SandboxHandle { isolation: Isolation::Container, sandbox: id.clone(), token: String::new() }
    }

    fn directory(&self) -> &Path {
        self.home.path()
    }

    fn residue(&self, id: &SandboxId) -> Vec<String> {
        self.shims.residue(id).into_iter().chain(self.home.residue(id)).collect()
    }
}

conformance_tests!(
    all Containers::new(),
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
