//! One call, carried out.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use base::{Deadline, ProcessId};
use tokio::sync::watch;
use workload::{
    Attachment, DriverError, Exit, Files, Forkable, Isolation, Materials, Pausable, ProcessSpec,
    Sandbox, SandboxSpec, Streams,
};

use super::{Shim, State, connection::Received};
use crate::protocol::{Reply, Request};

/// How long a destroyed sandbox's processes may take to have ended.
const EXITS: Duration = Duration::from_millis(500);

pub(super) async fn execute(
    shim: &Shim,
    call: Received,
    gone: watch::Receiver<bool>,
) -> Result<Reply, DriverError> {
    let Received { by, ticket, request, fds, .. } = call;
    let fd = match ticket {
        Some(ticket) => Some(shim.tickets.take(ticket, by).await?),
        None => fds.into_iter().next(),
    };
    match request {
        Request::Create { isolation, spec, network: _ } => {
            create(shim, isolation, *spec, fd, by).await
        }
        Request::Reclaim { .. } | Request::Leave => {
            let what = "this shim's sandbox".to_owned();
            Err(DriverError::State { what, state: "alive".to_owned() })
        }
        Request::Handle => {
            let sandbox = shim.sandbox(by).await?;
            Ok(sandbox_reply(&*sandbox))
        }
        Request::Spawn { spec, attached: _, output_only } => {
            let attached = fd.map(|socket| Attachment { socket, input: !output_only, mark: false });
            spawn(shim, *spec, attached, by).await
        }
        Request::Process { process } => {
            shim.process(&process).map(|process| Reply::Process { host_pid: process.host_pid() })
        }
        Request::Forget { process } => {
            shim.processes().remove(&process);
            shim.sandbox(by).await?.forget(&process).await;
            Ok(Reply::Done)
        }
        Request::Limit { limits } => {
            shim.sandbox(by).await?.limit(*limits).await.map(|()| Reply::Done)
        }
        Request::Usage => {
            shim.sandbox(by).await?.usage().await.map(|usage| Reply::Usage(Box::new(usage)))
        }
        Request::HostPids => shim.sandbox(by).await?.host_pids().await.map(Reply::HostPids),
        Request::Pause => {
            let sandbox = shim.sandbox(by).await?;
            pausable(&*sandbox)?.pause(by).await.map(|()| Reply::Done)
        }
        Request::Resume => {
            let sandbox = shim.sandbox(by).await?;
            pausable(&*sandbox)?.resume(by).await.map(|()| Reply::Done)
        }
        Request::Save { directory } => {
            let sandbox = shim.sandbox(by).await?;
            forkable(&*sandbox)?.save(&directory, by).await.map(|()| Reply::Done)
        }
        Request::Destroy => destroy(shim, by).await,
        Request::Vacate => vacate(shim, by).await,
        Request::Signal { process, signal } => {
            shim.process(&process)?.signal(signal).await.map(|()| Reply::Done)
        }
        Request::Resize { process, size } => {
            shim.process(&process)?.resize(size).await.map(|()| Reply::Done)
        }
        Request::Attach { process, output_only, mark } => {
            let socket = fd.ok_or_else(|| missing("the socket to attach"))?;
            let attachment = Attachment { socket, input: !output_only, mark };
            let at = shim.process(&process)?.attach(attachment).await?;
            Ok(at.map_or(Reply::Done, |at| Reply::Attached { at }))
        }
        Request::FileStat { process, path } => {
            let sandbox = shim.sandbox(by).await?;
            let stat = files(&*sandbox)?.stat(&process, &path).await?;
            Ok(Reply::FileStat(Box::new(stat)))
        }
        Request::FilesRead { process, path, name } => {
            let to = fd.ok_or_else(|| missing("where the archive goes"))?;
            let sandbox = shim.sandbox(by).await?;
            files(&*sandbox)?.read(&process, &path, &name, to).await.map(|()| Reply::Done)
        }
        Request::FilesWrite { process, path, unpack } => {
            let from = fd.ok_or_else(|| missing("where the archive comes from"))?;
            let sandbox = shim.sandbox(by).await?;
            files(&*sandbox)?.write(&process, &path, from, unpack).await.map(|()| Reply::Done)
        }
        Request::Wait { process } => wait(shim, &process, gone).await,
        Request::Chores(all) => match &shim.chores {
            Some(carry_out) => {
                for chore in all {
                    carry_out(chore, by).await?;
                }
                Ok(Reply::Done)
            }
            None => Err(DriverError::Unsupported {
                what: "chores of a machine".to_owned(),
                why: "this shim is in none of its own".to_owned(),
            }),
        },
    }
}

fn missing(what: &str) -> DriverError {
    DriverError::Invalid { what: what.to_owned(), why: "it did not come".to_owned() }
}

fn sandbox_reply(sandbox: &dyn Sandbox) -> Reply {
    Reply::Sandbox {
        handle: sandbox.handle(),
        pausable: sandbox.pausable().is_some(),
        files: sandbox.files().is_some(),
        forkable: sandbox.forkable().is_some(),
    }
}

fn pausable(sandbox: &dyn Sandbox) -> Result<&dyn Pausable, DriverError> {
    sandbox.pausable().ok_or_else(|| DriverError::Unsupported {
        what: "pause".to_owned(),
        why: "the driver cannot".to_owned(),
    })
}

fn forkable(sandbox: &dyn Sandbox) -> Result<&dyn Forkable, DriverError> {
    sandbox.forkable().ok_or_else(|| DriverError::Unsupported {
        what: "fork".to_owned(),
        why: "the driver cannot".to_owned(),
    })
}

fn files(sandbox: &dyn Sandbox) -> Result<&dyn Files, DriverError> {
    sandbox.files().ok_or_else(|| DriverError::Unsupported {
        what: "files".to_owned(),
        why: "the driver cannot reach them".to_owned(),
    })
}

/// Makes the sandbox this shim is for; a second one is refused.
async fn create(
    shim: &Shim,
    isolation: Isolation,
    spec: SandboxSpec,
    network: Option<OwnedFd>,
    by: Deadline,
) -> Result<Reply, DriverError> {
    let id = spec.id.clone();
    if !shim.is_to_create(&id) {
        return Err(DriverError::Exists { what: "this shim's sandbox".to_owned() });
    }
    let made = match (shim.make_driver)(isolation) {
        Ok(driver) => driver.create(spec, Materials { network }, by).await,
        Err(error) => Err(error),
    };
    match made {
        Ok(sandbox) => {
            let reply = sandbox_reply(&*sandbox);
            shim.state.send_replace(State::Live(sandbox));
            Ok(reply)
        }
        Err(error) => {
            shim.end(&id);
            Err(error)
        }
    }
}

async fn spawn(
    shim: &Shim,
    spec: ProcessSpec,
    attached: Option<Attachment>,
    by: Deadline,
) -> Result<Reply, DriverError> {
    let sandbox = shim.sandbox(by).await?;
    let process = sandbox.spawn(spec, Streams { attached }, by).await?;
    let reply = Reply::Process { host_pid: process.host_pid() };
    shim.processes().insert(process.id().clone(), process);
    Ok(reply)
}

/// Destroys the sandbox and ends the shim. Who asks again while that is under way gets the same.
async fn destroy(shim: &Shim, by: Deadline) -> Result<Reply, DriverError> {
    let sandbox = match shim.sandbox(by).await {
        Ok(sandbox) => sandbox,
        Err(DriverError::Gone { .. }) => return Ok(Reply::Destroyed(exits(shim).await)),
        Err(error) => return Err(error),
    };
    sandbox.destroy(by).await?;
    let exits = exits(shim).await;
    shim.end(&sandbox.handle().sandbox);
    Ok(Reply::Destroyed(exits))
}

/// Destroys the sandbox, so that there is room for another one.
async fn vacate(shim: &Shim, by: Deadline) -> Result<Reply, DriverError> {
    if shim.directory.is_some() {
        return Err(DriverError::Unsupported {
            what: "another sandbox".to_owned(),
            why: "this shim's socket has the name of its own".to_owned(),
        });
    }
    shim.sandbox(by).await?.destroy(by).await?;
    shim.processes().clear();
    shim.state.send_replace(State::Empty);
    Ok(Reply::Done)
}

/// How everybody ended, so that the client can tell when the shim is gone.
async fn exits(shim: &Shim) -> Vec<(ProcessId, Exit)> {
    let processes: Vec<_> = shim.processes().values().map(Arc::clone).collect();
    let by = Deadline::after(EXITS);
    let mut exits = Vec::new();
    for process in processes {
        if let Ok(exit) = tokio::time::timeout_at(by.instant().into(), process.wait()).await {
            exits.push((process.id().clone(), exit));
        }
    }
    exits
}

/// Waits for a process, for as long as the client is there to hear of it.
async fn wait(
    shim: &Shim,
    id: &ProcessId,
    mut gone: watch::Receiver<bool>,
) -> Result<Reply, DriverError> {
    let process = shim.process(id)?;
    tokio::select! {
        exit = process.wait() => Ok(Reply::Exit(exit)),
        _ = gone.wait_for(|gone| *gone) => {
            Err(DriverError::Unreachable { why: "nobody waits any more".to_owned() })
        }
    }
}
