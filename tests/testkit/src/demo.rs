//! The demo image's root file system as a directory, for drivers under test.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    path::{Path, PathBuf},
};

use base::SandboxId;
use tempfile::TempDir;
use workload::{ContainerSpec, Limits, Namespace, Network, RootFs, SandboxSpec, profile};

/// A directory in which containers on the demo image's root file system are made and looked for.
#[derive(Debug)]
pub struct Home(TempDir);

impl Home {
    /// A new one, or nothing where we are not root.
    pub fn new() -> Option<Home> {
        if !crate::need::root() {
            return None;
        }
        let dir = tempfile::tempdir().expect("a directory can be made");
        fs::create_dir(dir.path().join("lower")).expect("the directory is ours");
        fill(&dir.path().join("lower"));
        Some(Home(dir))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// A sandbox with the defaults of an engine and no network.
    pub fn sandbox(&self, id: &SandboxId) -> SandboxSpec {
        SandboxSpec {
            id: id.clone(),
            machine: workload::MachineSpec::default(),
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
            taken_from: None,
        }
    }

    /// A container with the defaults of an engine.
    pub fn container(&self, id: &SandboxId) -> ContainerSpec {
        let home = self.path().join(id.as_str());
        for name in ["upper", "work"] {
            fs::create_dir_all(home.join(name)).expect("the directory is ours");
        }
        ContainerSpec {
            root: RootFs::Overlay {
                lower: vec![self.path().join("lower")],
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

    /// The same with a further layer on top.
    pub fn layered(&self, id: &SandboxId) -> ContainerSpec {
        let mut container = self.container(id);
        if let RootFs::Overlay { lower, .. } = &mut container.root {
            lower.insert(0, self.layer());
        }
        container
    }

    /// A directory with what a further layer has on top of that: one file, `/layer`.
    pub fn layer(&self) -> PathBuf {
        let layer = self.path().join("further");
        fs::create_dir_all(&layer).expect("the directory is ours");
        fs::write(layer.join("layer"), "further\n").expect("the directory is ours");
        layer
    }

    /// Mounts and control groups that are left of a sandbox.
    pub fn residue(&self, id: &SandboxId) -> Vec<String> {
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

/// Tools that the conformance suite calls.
const TOOLS: [&str; 12] =
    ["cat", "echo", "env", "id", "ls", "pwd", "sh", "sleep", "stress", "touch", "true", "tty"];

/// Fills an empty directory with the demo program, a link for each tool, and what every root has.
///
/// # Panics
/// If the program cannot be compiled or the directory cannot be written.
fn fill(root: &Path) {
    for dir in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(root.join(dir)).expect("the directory is ours");
    }
    let open = fs::Permissions::from_mode(0o1777);
    fs::set_permissions(root.join("tmp"), open).expect("the directory is ours");
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n").expect("it is ours");
    fs::copy(program(), root.join("demo")).expect("the program is a file");
    for tool in TOOLS {
        symlink("/demo", root.join("bin").join(tool)).expect("the directory is ours");
    }
}

/// The demo program, linked statically.
fn program() -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/demo/src");
    crate::compile::compiled("testkit-demo", &source)
}
