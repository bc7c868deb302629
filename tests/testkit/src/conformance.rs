//! The driver conformance suite: what every driver must do, and leave undone.
//!
//! A driver's own tests implement [`Host`] and run each of [`CHECKS`] against it, one test per
//! check. The commands are those of the demo image, so that the same suite runs behind every
//! wall. A check fails by panicking with what it saw.

mod bench;
mod containers;
mod failure;
mod files;
mod io;
mod lifecycle;
mod resources;

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use base::{Deadline, SandboxId};
use workload::{ContainerSpec, Driver, SandboxHandle, SandboxSpec};

pub use bench::Bench;

/// Longest time anything in this suite may take: far above what it does take, so that a slow
/// machine does not fail it and a hang does.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What a driver's tests provide.
pub trait Host: Send + Sync {
    /// The driver under test, as an engine sees it.
    fn driver(&self) -> Arc<dyn Driver>;

    /// The driver as the next engine sees it after the one before was killed.
    fn restarted(&self) -> Arc<dyn Driver>;

    /// A sandbox that may be made here, with no limits of its own.
    fn sandbox(&self, id: &SandboxId) -> SandboxSpec;

    /// A container on a fresh copy of the demo image's root file system.
    fn container(&self, id: &SandboxId) -> ContainerSpec;

    /// The same with one more layer on top, in which `/layer` is.
    fn layered(&self, id: &SandboxId) -> ContainerSpec;

    /// The command that does on this driver what this one of the demo image's does.
    fn command(&self, args: &[&str]) -> Vec<String> {
        args.iter().map(|arg| (*arg).to_owned()).collect()
    }

    /// The handle that the sandbox of this id has, or would have.
    fn handle(&self, id: &SandboxId) -> SandboxHandle;

    /// A directory of the host that binds may name and logs may be written to.
    fn directory(&self) -> &std::path::Path;

    /// Everything of the host that a driver could have left behind for this sandbox: mounts,
    /// control groups, processes, sockets, files, and how many descriptors are open. Empty means
    /// nothing.
    fn residue(&self, id: &SandboxId) -> Vec<String>;
}

/// One check.
pub type Check = for<'a> fn(&'a Bench<'a>) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Every check by name. [`conformance_tests!`](crate::conformance_tests) makes a test of each.
pub const CHECKS: &[(&str, Check)] = &[
    ("exit_codes_are_reported", |b| Box::pin(lifecycle::exit_codes_are_reported(b))),
    ("signals_end_processes", |b| Box::pin(lifecycle::signals_end_processes(b))),
    ("two_callers_wait", |b| Box::pin(lifecycle::two_callers_wait(b))),
    ("exec_shares_the_container", |b| Box::pin(lifecycle::exec_shares_the_container(b))),
    ("exec_without_main_is_refused", |b| Box::pin(lifecycle::exec_without_main_is_refused(b))),
    ("forgotten_processes_are_gone", |b| Box::pin(lifecycle::forgotten_processes_are_gone(b))),
    ("destroy_kills_and_can_be_repeated", |b| {
        Box::pin(lifecycle::destroy_kills_and_can_be_repeated(b))
    }),
    ("pause_stops_and_resume_goes_on", |b| Box::pin(lifecycle::pause_stops_and_resume_goes_on(b))),
    ("environment_user_and_directory_are_as_asked", |b| {
        Box::pin(lifecycle::environment_user_and_directory(b))
    }),
    ("output_is_logged_and_attached", |b| Box::pin(io::output_is_logged_and_attached(b))),
    ("standard_input_reaches_the_process", |b| Box::pin(io::standard_input_reaches_the_process(b))),
    ("without_standard_input_it_reads_as_empty", |b| {
        Box::pin(io::without_standard_input_it_reads_as_empty(b))
    }),
    ("a_terminal_has_a_size_that_changes", |b| Box::pin(io::a_terminal_has_a_size_that_changes(b))),
    ("late_attachers_see_what_comes", |b| Box::pin(io::late_attachers_see_what_comes(b))),
    ("no_descriptor_is_leaked_inside", |b| Box::pin(io::no_descriptor_is_leaked_inside(b))),
    ("memory_hogs_are_killed_and_reported", |b| {
        Box::pin(resources::memory_hogs_are_killed_and_reported(b))
    }),
    ("process_limits_hold_and_change", |b| Box::pin(resources::process_limits_hold_and_change(b))),
    ("usage_counts", |b| Box::pin(resources::usage_counts(b))),
    ("binds_and_tmpfs_appear", |b| Box::pin(resources::binds_and_tmpfs_appear(b))),
    ("a_read_only_root_cannot_be_written", |b| {
        Box::pin(resources::a_read_only_root_cannot_be_written(b))
    }),
    ("files_are_copied_both_ways", |b| Box::pin(files::files_are_copied_both_ways(b))),
    ("files_that_cannot_be_copied_are_refused", |b| {
        Box::pin(files::files_that_cannot_be_copied_are_refused(b))
    }),
    ("containers_have_files_of_their_own", |b| {
        Box::pin(containers::containers_have_files_of_their_own(b))
    }),
    ("containers_share_what_is_the_sandboxs", |b| {
        Box::pin(containers::containers_share_what_is_the_sandboxs(b))
    }),
    ("containers_end_one_by_one", |b| Box::pin(containers::containers_end_one_by_one(b))),
    ("output_of_each_container_is_its_own", |b| {
        Box::pin(containers::output_of_each_container_is_its_own(b))
    }),
    ("files_are_those_of_the_container_that_is_named", |b| {
        Box::pin(containers::files_are_those_of_the_container_that_is_named(b))
    }),
    ("what_is_done_to_a_sandbox_is_done_to_all_containers", |b| {
        Box::pin(containers::what_is_done_to_a_sandbox_is_done_to_all_containers(b))
    }),
    ("a_container_that_fails_leaves_the_others_alone", |b| {
        Box::pin(containers::a_container_that_fails_leaves_the_others_alone(b))
    }),
    ("containers_come_and_go", |b| Box::pin(containers::containers_come_and_go(b))),
    ("what_is_several_containers_is_not_copied", |b| {
        Box::pin(containers::what_is_several_containers_is_not_copied(b))
    }),
    ("missing_commands_are_told_apart", |b| Box::pin(failure::missing_commands_are_told_apart(b))),
    ("names_are_taken_once", |b| Box::pin(failure::names_are_taken_once(b))),
    ("a_passed_deadline_leaves_nothing", |b| {
        Box::pin(failure::a_passed_deadline_leaves_nothing(b))
    }),
    ("a_cancelled_create_leaves_nothing", |b| {
        Box::pin(failure::a_cancelled_create_leaves_nothing(b))
    }),
    ("a_killed_client_loses_nothing", |b| Box::pin(failure::a_killed_client_loses_nothing(b))),
    ("what_was_never_there_is_not_recovered", |b| {
        Box::pin(failure::what_was_never_there_is_not_recovered(b))
    }),
];

/// Runs one check by name and then looks for what it left behind.
///
/// # Panics
/// If the check fails, something is left, or there is no such check.
pub async fn run(host: &dyn Host, name: &str) {
    let check = CHECKS.iter().find(|(known, _)| *known == name);
    let (_, check) = check.unwrap_or_else(|| panic!("there is no check \"{name}\""));
    let bench = Bench::new(host, name);
    let done = tokio::time::timeout(4 * PATIENCE, check(&bench)).await;
    bench.clean().await;
    assert!(done.is_ok(), "{name}: not finished in time");
    assert_eq!(bench.residue(), Vec::<String>::new(), "{name}: left behind");
}

/// A deadline that only a hang can miss.
pub fn soon() -> Deadline {
    Deadline::after(PATIENCE)
}

/// Makes one `#[test]` of each named check: `conformance_tests!(host, [names])`, where the
/// expression gives `Option<impl Host>`, `None` where the driver cannot be tested here. With
/// `all` before the host, a check of the suite that is not named is a failure.
#[macro_export]
macro_rules! conformance_tests {
    (all $host:expr, [$($name:ident),+ $(,)?]) => {
        $crate::conformance_tests!($host, [$($name),+]);

        #[test]
        fn every_check_of_the_suite_is_run() {
            let run = [$(stringify!($name)),+];
            let all: Vec<&str> = $crate::conformance::CHECKS.iter().map(|(name, _)| *name).collect();
            assert_eq!(run.as_slice(), all.as_slice());
        }
    };
    ($host:expr, [$($name:ident),+ $(,)?]) => {
        $(
            #[test]
            fn $name() {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                let runtime = runtime.expect("a runtime can be made");
                runtime.block_on(async {
                    if let Some(host) = $host {
                        $crate::conformance::run(&host, stringify!($name)).await;
                    }
                });
            }
        )+
    };
}
