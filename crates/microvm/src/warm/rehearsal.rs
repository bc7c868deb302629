//! A container that is started once in a machine that was just saved, so that what its kernel and
//! agent execute for one has been decoded, and machines of its kind need not do it again.
//!
//! It goes the way of every first container, with the layers of the one for whom the machine was
//! booted. Of that one it runs nothing and has nothing else: its program is the agent's own, under a
//! name by which that knows to say a word and leave; there is no network, no share, and what it
//! changes is thrown away.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use base::Deadline;
use rustix::fs::{Mode, OFlags, open};
use shim::protocol::{REHEARSAL, Reply, Request};
use workload::{
    Bind, ContainerSpec, DriverError, Isolation, Mount, MountFlags, MountSource, ProcessRoot,
    ProcessSpec, SandboxSpec, UserSpec,
};

use super::{CODE, DISK};
use crate::{
    changes,
    control::{Boot, Order},
    driver::VmConfig,
    furniture::{FIRST, Wanted},
    link::Link,
    sandbox::{awake, chores_done, done, furnish, nonsense},
    translate,
};

/// The agent, as a machine sees it.
const AGENT: &str = "/proc/1/exe";

/// The disk that is thrown away.
const SCRATCH: &str = "rehearsal.disk";

/// How long it may take: whoever waits for a machine goes without it then, and is still in time.
const WITHIN: Duration = Duration::from_secs(5);

/// For whom a machine is booted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First<'a> {
    pub(crate) sandbox: &'a SandboxSpec,
    pub(crate) process: &'a ProcessSpec,
    pub(crate) container: &'a ContainerSpec,
    pub(crate) layers: &'a [PathBuf],
}

/// Starts the container in a machine that is taken up from this directory, and writes there what was
/// decoded for it.
pub(super) async fn rehearse(
    directory: &Path,
    config: &VmConfig,
    boot: &Boot,
    first: First<'_>,
    by: Deadline,
) -> Result<(), DriverError> {
    let by = Deadline::after(WITHIN).min(by);
    let scratch = directory.join(SCRATCH);
    changes::copy(&directory.join(DISK), &scratch)?;
    let played = play(directory, scratch.clone(), config, boot, first, by).await;
    // Nobody looks at it; it goes with the directory at the latest.
    let _ = fs::remove_file(scratch);
    played
}

async fn play(
    directory: &Path,
    changes: PathBuf,
    config: &VmConfig,
    boot: &Boot,
    first: First<'_>,
    by: Deadline,
) -> Result<(), DriverError> {
    let failed = |error: io::Error| DriverError::step("rehearse in a machine", &error);
    let link = Link::start(config, None, None)?;
    let wanted = Wanted { changes, layers: first.layers.to_vec(), shares: Vec::new() };
    let id = &first.process.id;
    let (_, fitted, handed) = furnish(&link, id, &wanted, boot, false).await?;
    let saved = open(directory, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let saved: OwnedFd = saved.map_err(|error| failed(error.into()))?;
    super::take_up(&link, &saved, boot).await?;
    let agent = link.agent(by).await?;
    let chores = awake()?.into_iter().chain(handed.chores(Some(&FIRST))?).collect();
    chores_done(&agent, chores, by).await?;
    let create = Request::Create {
        isolation: Isolation::Vm,
        spec: Box::new(first.sandbox.clone()),
        network: false,
    };
    agent.call(create, None, Some(by)).await?;
    let (process, container) = part(first);
    let spec = Box::new(cast(translate::container(&process, &container, &fitted)?));
    let (ticket, mut stream) = link.stream().await?;
    let spawn = Request::Spawn { spec, attached: true, output_only: false };
    let heard = tokio::task::spawn_blocking(move || io::copy(&mut stream, &mut io::sink()));
    let started = agent.call(spawn, Some(ticket), Some(by)).await?;
    if !matches!(started, Reply::Process { .. }) {
        return Err(nonsense(&started));
    }
    agent.call(Request::Wait { process: id.clone() }, None, Some(by)).await?;
    done(&agent.call(Request::Forget { process: id.clone() }, None, Some(by)).await?)?;
    let code = File::create_new(directory.join(CODE)).map_err(failed)?;
    link.order(&Order::SaveCode, &[code.as_fd()]).await?;
    link.kill().await?;
    // Its end is that of the machine.
    let _ = heard.await;
    Ok(())
}

/// The process as it is for real, but for what it executes and what the host shares with it.
fn part(first: First<'_>) -> (ProcessSpec, ContainerSpec) {
    let own = |mount: &&Mount| !matches!(mount.source, MountSource::Bind(_));
    let mounts = first.container.mounts.iter().filter(own).cloned().collect();
    let container =
        ContainerSpec { mounts, read_only_root: false, init: false, ..first.container.clone() };
    let process = ProcessSpec {
        args: vec![REHEARSAL.to_owned()],
        cwd: "/".into(),
        user: UserSpec::default(),
        terminal: None,
        ..first.process.clone()
    };
    (process, container)
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
