//! A container that is started once in a machine that is saved then, so that what its kernel and
//! agent do for the first one is done, and what they execute for one has been decoded.
//!
//! It goes the way of every first container, with the layers of the one for whom the machine was
//! booted. Of that one it runs nothing and has nothing else: its program is the agent's own, under a
//! name by which that knows to say a word and leave; there is no network, no share and no limit; of
//! the environment there is where programs are; and what it changes is removed. The machine serves
//! others with the same layers, and what is in its memory is nobody's.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use base::Deadline;
use hv::Accel;
use shim::{
    Remote,
    protocol::{REHEARSAL, Reply, Request},
};
use workload::{
    Bind, ContainerSpec, DriverError, Isolation, Limits, Mount, MountFlags, MountSource,
    ProcessRoot, ProcessSpec, SandboxSpec, UserSpec,
};

use super::{CODE, DISK, Template};
use crate::{
    changes,
    control::Boot,
    furniture::{FIRST, Fitted, Wanted},
    link::Link,
    sandbox::{awake, chores_done, done, furnish, nonsense},
    translate,
};

/// The agent, as a machine sees it.
const AGENT: &str = "/proc/1/exe";

/// How long it may take: whoever waits for a machine goes without it then, and is still in time.
pub(super) const WITHIN: Duration = Duration::from_secs(5);

/// The name of the machine meanwhile.
const HOSTNAME: &str = "rehearsal";

/// For whom a machine is prepared.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First<'a> {
    pub(crate) sandbox: &'a SandboxSpec,
    pub(crate) process: &'a ProcessSpec,
    pub(crate) container: &'a ContainerSpec,
    pub(crate) layers: &'a [PathBuf],
}

impl First<'_> {
    /// How many disks it has: the numbers of machines' first ones are below it.
    pub(super) fn mounted(&self) -> u64 {
        1 + self.layers.len() as u64
    }
}

/// Takes up the booted machine, has its agent mount the layers and start the container, and saves it
/// into a directory.
pub(super) async fn rehearse(
    link: &Link,
    directory: &Path,
    booted: &Template,
    boot: &Boot,
    first: First<'_>,
    by: Deadline,
) -> Result<(), DriverError> {
    let disk = directory.join(DISK);
    changes::copy(&booted.path.join(DISK), &disk)?;
    let wanted = Wanted { changes: disk, layers: first.layers.to_vec(), shares: Vec::new() };
    let (_, fitted, handed) = furnish(link, &first.process.id, &wanted, boot, false).await?;
    super::take_up(link, &booted.directory, boot).await?;
    let agent = link.agent(by).await?;
    let chores = awake()?.into_iter().chain(handed.chores(booted.mounted)?).collect();
    chores_done(&agent, chores, by).await?;
    play(link, &agent, first, &fitted, by).await?;
    chores_done(&agent, translate::clear_changes(&FIRST), by).await?;
    drop(agent);
    let code = || File::create_new(directory.join(CODE));
    let code = (boot.accel == Accel::Soft).then(code).transpose();
    let code = code.map_err(|error| DriverError::step("keep what was decoded", &error))?;
    link.save(directory, code.as_ref()).await
}

/// Starts the container, waits for its end and clears it away.
async fn play(
    link: &Link,
    agent: &Remote,
    first: First<'_>,
    fitted: &Fitted,
    by: Deadline,
) -> Result<(), DriverError> {
    let (sandbox, process, container) = part(first);
    let create =
        Request::Create { isolation: Isolation::Vm, spec: Box::new(sandbox), network: false };
    agent.call(create, None, Some(by)).await?;
    let spec = Box::new(cast(translate::container(&process, &container, fitted)?));
    let (ticket, mut stream) = link.stream().await?;
    let spawn = Request::Spawn { spec, attached: true, output_only: false };
    let heard = tokio::task::spawn_blocking(move || io::copy(&mut stream, &mut io::sink()));
    let started = agent.call(spawn, Some(ticket), Some(by)).await?;
    if !matches!(started, Reply::Process { .. }) {
        return Err(nonsense(&started));
    }
    let process = process.id;
    agent.call(Request::Wait { process: process.clone() }, None, Some(by)).await?;
    done(&agent.call(Request::Forget { process }, None, Some(by)).await?)?;
    done(&agent.call(Request::Vacate, None, Some(by)).await?)?;
    // What it said has come to its end with it.
    let _ = tokio::time::timeout_at(by.instant().into(), heard).await;
    Ok(())
}

/// The container as it is for real, but for what it executes, what the host shares with it, and what
/// it is told.
fn part(first: First<'_>) -> (SandboxSpec, ProcessSpec, ContainerSpec) {
    let First { sandbox, process, container, .. } = first;
    let own =
        |mount: &&Mount| matches!(mount.source, MountSource::Tmpfs(_) | MountSource::Kernel(_));
    let mounts = container.mounts.iter().filter(own).cloned().collect();
    let container =
        ContainerSpec { mounts, read_only_root: false, init: false, ..container.clone() };
    let program = process.args.first().cloned();
    let process = ProcessSpec {
        args: [REHEARSAL.to_owned()].into_iter().chain(program).collect(),
        env: process.env.iter().filter(|one| one.starts_with("PATH=")).cloned().collect(),
        cwd: "/".into(),
        user: UserSpec::default(),
        rlimits: Vec::new(),
        oom_score_adj: None,
        terminal: None,
        ..process.clone()
    };
    let sandbox = SandboxSpec {
        hostname: Some(HOSTNAME.to_owned()),
        domainname: None,
        sysctls: BTreeMap::new(),
        limits: Limits::default(),
        ..sandbox.clone()
    };
    (sandbox, process, container)
}

/// Gives it the agent to execute, which is in the machine already.
fn cast(mut spec: ProcessSpec) -> ProcessSpec {
    if let ProcessRoot::Own(container) = &mut spec.root {
        container.mounts.push(Mount {
            target: REHEARSAL.into(),
            source: MountSource::Bind(Bind { path: AGENT.into(), recursive: false, idmap: None }),
            flags: MountFlags::default(),
            propagation: None,
        });
    }
    spec
}
