//! The container driver passes the conformance suite.

use std::{fs, path::Path, sync::Arc};

use base::SandboxId;
use linux::LinuxDriver;
use tempfile::TempDir;
use testkit::{conformance::Host, conformance_tests};
use workload::{
    ContainerSpec, Driver, Isolation, Limits, Namespace, Network, RootFs, SandboxHandle,
    SandboxSpec, profile,
};

/// The driver in this process. Nobody else keeps sandboxes, so the next engine is handed the same.
struct InProcess {
    driver: Arc<LinuxDriver>,
    home: TempDir,
}

impl InProcess {
    fn new() -> Option<InProcess> {
        if !testkit::need::root() {
            return None;
        }
        let home = tempfile::tempdir().expect("a directory can be made");
        let lower = home.path().join("lower");
        fs::create_dir(&lower).expect("the directory is ours");
        testkit::demo::fill(&lower);
        let driver = LinuxDriver::new(Isolation::Container, None).expect("this host has it all");
        Some(InProcess { driver: Arc::new(driver), home })
    }
}

impl Host for InProcess {
    fn driver(&self) -> Arc<dyn Driver> {
        Arc::clone(&self.driver) as Arc<dyn Driver>
    }

    fn restarted(&self) -> Arc<dyn Driver> {
        self.driver()
    }

    fn sandbox(&self, id: &SandboxId) -> SandboxSpec {
        SandboxSpec {
            id: id.clone(),
            hostname: Some("inside".into()),
            domainname: None,
            network: Network::None,
            ipc: Namespace::Private,
            uts: Namespace::Private,
            user: None,
            time: None,
            sysctls: Default::default(),
            limits: Limits { devices: Some(profile::device_rules()), ..Limits::default() },
            cgroup: None,
        }
    }

    fn container(&self, id: &SandboxId) -> ContainerSpec {
        let home = self.home.path().join(id.as_str());
        for name in ["upper", "work"] {
            fs::create_dir_all(home.join(name)).expect("the directory is ours");
        }
        ContainerSpec {
            root: RootFs::Overlay {
                lower: vec![self.home.path().join("lower")],
                upper: home.join("upper"),
                work: home.join("work"),
            },
            read_only_root: false,
            root_propagation: None,
            mounts: profile::mounts(base::ByteSize(1 << 20), false),
            devices: Vec::new(),
            masked_paths: profile::masked_paths(),
            read_only_paths: profile::read_only_paths(),
            pid: Namespace::Private,
            cgroup: Namespace::Private,
            init: false,
        }
    }

    fn handle(&self, id: &SandboxId) -> SandboxHandle {
        SandboxHandle { isolation: Isolation::Container, sandbox: id.clone(), token: String::new() }
    }

    fn directory(&self) -> &Path {
        self.home.path()
    }

    fn residue(&self, id: &SandboxId) -> Vec<String> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.contains(id.as_str())).map(str::to_owned);
        mounts.chain(groups(Path::new("/sys/fs/cgroup"), id.as_str(), 4)).collect()
    }
}

/// Control groups of this name, in every hierarchy.
fn groups(dir: &Path, name: &str, depth: u32) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let dirs = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.flat_map(|entry| match entry.file_name().to_str() {
        Some(found) if found.contains(name) => vec![entry.path().display().to_string()],
        _ if depth > 0 => groups(&entry.path(), name, depth - 1),
        _ => Vec::new(),
    })
    .collect()
}

conformance_tests!(
    all InProcess::new(),
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
        missing_commands_are_told_apart,
        names_are_taken_once,
        a_passed_deadline_leaves_nothing,
        a_cancelled_create_leaves_nothing,
        a_killed_client_loses_nothing,
        what_was_never_there_is_not_recovered,
    ]
);
