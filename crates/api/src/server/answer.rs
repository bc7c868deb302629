//! One request, one engine call, its replies.

use std::{
    fs::File,
    future::Future,
    os::fd::{AsFd as _, OwnedFd},
    pin::pin,
    task::{Context, Poll, Waker},
};

use base::ErrorKind;
use engine::{Create, Engine, EngineError, ExecCreate, LogQuery, Progress, Summary, WaitFor};
use tokio::{io::AsyncWriteExt as _, net::UnixStream, sync::watch};
use wire::{WireError, Writer};
use workload::{Attachment, TerminalSize};

use super::failure::failure;
use crate::{Failure, Reply, Request, log};

/// Log records are written together up to this many bytes.
const LOG_BATCH_BYTES: usize = 64 << 10;

/// Paths of one message; each is 4 KiB at most.
const PATHS_AT_ONCE: usize = 64;

/// What can end an answer early.
pub(super) enum Broken {
    /// The engine said no: the client is told.
    Engine(EngineError),
    /// The client cannot be told anything.
    Client(WireError),
}

impl From<EngineError> for Broken {
    fn from(error: EngineError) -> Broken {
        Broken::Engine(error)
    }
}

impl From<WireError> for Broken {
    fn from(error: WireError) -> Broken {
        Broken::Client(error)
    }
}

/// Carries a request out and sends its replies, the last of which ends the answer.
pub(super) async fn answer(
    engine: &Engine,
    request: Request,
    mut fds: Vec<OwnedFd>,
    to: &mut Writer,
) -> Result<(), WireError> {
    if fds.len() != request.descriptors() {
        let message = format!(
            "the request takes {} descriptors and came with {}",
            request.descriptors(),
            fds.len()
        );
        let failure = Failure { kind: ErrorKind::InvalidInput, message, hints: Vec::new() };
        return to.send(&Reply::Failed(failure), &[]).await;
    }
    // Boxed: the futures of all requests together are large, and there is one per connection.
    let last = match Box::pin(carry_out(engine, request, fds.pop(), to)).await {
        Ok(last) => last,
        Err(Broken::Engine(error)) => Reply::Failed(failure(engine, &error)),
        Err(Broken::Client(error)) => return Err(error),
    };
    to.send(&last, &[]).await
}

async fn carry_out(
    engine: &Engine,
    request: Request,
    fd: Option<OwnedFd>,
    to: &mut Writer,
) -> Result<Reply, Broken> {
    match request {
        Request::Create(create) => {
            let created = engine.create(*create).await?;
            to.send(&Reply::Created(created), &[]).await?;
        }
        Request::Start { who, attach: _, output_only, size, wait } => {
            let attach = fd.map(|socket| attachment(socket, output_only));
            return start(engine, &who, attach, size, wait, to).await;
        }
        Request::Run { create, attach: _, size, wait } => {
            return run(engine, *create, fd.map(Attachment::from), size, wait, to).await;
        }
        Request::Attach { who, output_only } => {
            return attach(engine, &who, attachment(given(fd), output_only), to).await;
        }
        Request::Resize { who, size } => engine.resize(&who, size).await?,
        Request::Stop { who, stop } => engine.stop(&who, stop).await?,
        Request::Kill { who, signal } => engine.kill(&who, signal).await?,
        Request::Pause { who } => engine.pause(&who).await?,
        Request::Resume { who } => engine.resume(&who).await?,
        Request::Wait { who, until } => return Ok(Reply::Exit(engine.wait(&who, until).await?)),
        Request::Remove { who, remove } => engine.remove(&who, remove).await?,
        Request::Rename { who, name } => engine.rename(&who, name).await?,
        Request::Update { who, update } => engine.update(&who, *update).await?,
        Request::Restart { who, stop } => engine.restart(&who, stop).await?,
        Request::List => {
            for container in engine.list() {
                let summary = Box::new(Summary::from(&*container));
                to.send(&Reply::Summary(summary), &[]).await?;
            }
        }
        Request::Inspect { who } => {
            let container = Box::new(engine.inspect(&who)?.as_ref().clone());
            to.send(&Reply::Container(container), &[]).await?;
        }
        Request::Logs { who, query } => logs(engine, &who, query, given(fd)).await?,
        Request::Exec { who, exec, attach: _ } => {
            return Ok(Reply::Exec(exec_start(engine, &who, *exec, fd).await?));
        }
        Request::ExecWait { exec } => return Ok(Reply::Exit(engine.exec_wait(&exec).await?)),
        Request::ExecResize { exec, size } => engine.exec_resize(&exec, size).await?,
        Request::ExecInspect { exec } => {
            return Ok(Reply::ExecView(Box::new(engine.exec_inspect(&exec)?)));
        }
        Request::Stats(query) => {
            let stats = engine.stats(&query).await?;
            for container in stats.containers {
                to.send(&Reply::ContainerStats(Box::new(container)), &[]).await?;
            }
            return Ok(Reply::HostStats(stats.host));
        }
        Request::HostPids { who } => return Ok(Reply::Pids(engine.host_pids(&who).await?)),
        Request::Import(import) => {
            let (news, heard) = watch::channel(None);
            let work = engine.import(File::from(given(fd)), import, tell(news));
            return Ok(Reply::Name(with_progress(work, heard, to).await?));
        }
        Request::Pull(pull) => return super::transfer::pull(engine, *pull, to).await,
        Request::Push(push) => super::transfer::push(engine, *push, to).await?,
        Request::Login(login) => engine.login(*login).await?,
        Request::Load => return load(engine, given(fd), Vec::new(), to).await,
        Request::LoadPlatforms { platforms } => {
            return load(engine, given(fd), platforms, to).await;
        }
        Request::Save { images, platforms } => {
            engine.save(images, platforms, File::from(given(fd))).await?;
        }
        Request::Tag { from, to } => engine.tag(&from, &to).await?,
        Request::RemoveImage { image, remove } => {
            return Ok(Reply::Changes(engine.remove_image(&image, remove).await?));
        }
        Request::Images => {
            for image in engine.images().await? {
                to.send(&Reply::Image(Box::new(image)), &[]).await?;
            }
        }
        Request::ImageInspect { image, platform } => {
            let image = Box::new(engine.image_inspect(&image, platform).await?);
            to.send(&Reply::Image(image), &[]).await?;
        }
        Request::Events(query) => {
            let mut events = engine.events(*query);
            while let Some(event) = events.next().await? {
                to.send(&Reply::Event(Box::new(event.as_ref().clone())), &[]).await?;
            }
        }
        Request::Detached { who } => engine.detached(&who)?,
        Request::ExecDetached { exec } => engine.exec_detached(&exec)?,
        Request::Admission { protocol, port, inside } => {
            let admission = engine.admission(protocol, port, inside).await?;
            return Ok(Reply::Admission(Box::new(admission)));
        }
        Request::Doctor { repair } => {
            return Ok(Reply::Diagnosis(Box::new(engine.doctor(repair).await?)));
        }
        Request::PathStat { who, path } => {
            return Ok(Reply::PathStat(Box::new(engine.path_stat(&who, &path).await?)));
        }
        Request::ArchiveRead { who, path, name } => {
            engine.archive_read(&who, &path, name, given(fd)).await?;
        }
        Request::ArchiveWrite { who, path, unpack } => {
            engine.archive_write(&who, &path, given(fd), unpack).await?;
        }
        Request::Export { who } => engine.export(&who, given(fd)).await?,
        Request::ExportImage { image, platform } => {
            engine.export_image(&image, platform, given(fd)).await?;
        }
        Request::PathChanges { who } => {
            for part in engine.changes(&who).await?.chunks(PATHS_AT_ONCE) {
                to.send(&Reply::PathChanges(part.to_vec()), &[]).await?;
            }
        }
        Request::Fork { who, fork } => {
            for created in engine.fork(&who, fork).await? {
                to.send(&Reply::Created(created), &[]).await?;
            }
        }
        Request::Commit { who, commit } => {
            return Ok(Reply::Name(engine.commit(&who, *commit).await?));
        }
        Request::Network(request) => super::networks::carry_out(engine, *request, to).await?,
        Request::Volume(request) => super::volumes::carry_out(engine, request, fd, to).await?,
        Request::PruneImages(prune) => {
            return Ok(Reply::Pruned(engine.prune_images(prune).await?));
        }
        Request::PruneContainers(prune) => {
            return Ok(Reply::Pruned(engine.prune_containers(&prune).await?));
        }
        Request::DiskUsage => {
            return Ok(Reply::DiskUsage(Box::new(engine.disk_usage().await?)));
        }
        Request::ContainerSizes { who } => {
            return Ok(Reply::ContainerSizes(engine.container_sizes(&who).await?));
        }
        Request::MountImage { image, platform, target, namespace } => {
            let mounted = engine.mount_image(&image, platform, target, namespace).await;
            let (mount, overlay) = mounted?;
            to.send(&Reply::ImageMount(mount), &[overlay.as_fd()]).await?;
        }
        Request::ImageMounted { id } => engine.image_mounted(&id).await?,
        Request::ImageUnmounted { id } => engine.image_unmounted(&id).await?,
        Request::ImageMounts => return Ok(Reply::ImageMounts(engine.image_mounts().await?)),
        Request::Info => return Ok(Reply::Info(Box::new(engine.info()))),
    }
    Ok(Reply::Done)
}

/// The descriptor that [`answer`] has counted.
pub(super) fn given(fd: Option<OwnedFd>) -> OwnedFd {
    fd.expect("the request's descriptors were counted before it was carried out")
}

async fn load(
    engine: &Engine,
    from: OwnedFd,
    platforms: Vec<String>,
    to: &mut Writer,
) -> Result<Reply, Broken> {
    let (news, heard) = watch::channel(None);
    let work = engine.load(File::from(from), platforms, tell(news));
    Ok(Reply::Changes(with_progress(work, heard, to).await?))
}

async fn run(
    engine: &Engine,
    create: Create,
    attach: Option<Attachment>,
    size: Option<TerminalSize>,
    wait: bool,
    to: &mut Writer,
) -> Result<Reply, Broken> {
    let (created, ending) = engine.run_watched(create, attach, size).await?;
    to.send(&Reply::Created(created), &[]).await?;
    if wait { Ok(Reply::Exit(ending.exit().await?)) } else { Ok(Reply::Done) }
}

async fn start(
    engine: &Engine,
    who: &str,
    attach: Option<Attachment>,
    size: Option<TerminalSize>,
    wait: bool,
    to: &mut Writer,
) -> Result<Reply, Broken> {
    let auto_remove = engine.inspect(who)?.config.auto_remove;
    let until = if auto_remove { WaitFor::Removed } else { WaitFor::NextExit };
    // Looked out for before the start: what ends at once and removes itself is not missed.
    let ending = engine.ending(who, until)?;
    engine.start(who, attach, size).await?;
    to.send(&Reply::Started, &[]).await?;
    if wait { Ok(Reply::Exit(ending.exit().await?)) } else { Ok(Reply::Done) }
}

fn attachment(socket: OwnedFd, output_only: bool) -> Attachment {
    Attachment { socket, input: !output_only, mark: false }
}

async fn attach(
    engine: &Engine,
    who: &str,
    attachment: Attachment,
    to: &mut Writer,
) -> Result<Reply, Broken> {
    let ending = engine.ending(who, WaitFor::NotRunning)?;
    engine.attach(who, attachment).await?;
    to.send(&Reply::Started, &[]).await?;
    Ok(Reply::Exit(ending.exit().await?))
}

async fn exec_start(
    engine: &Engine,
    who: &str,
    exec: ExecCreate,
    attach: Option<OwnedFd>,
) -> Result<String, EngineError> {
    let id = engine.exec_create(who, exec).await?;
    engine.exec_start(&id, attach).await?;
    Ok(id)
}

/// Writes records to the socket until there are no more or nobody reads them.
async fn logs(
    engine: &Engine,
    who: &str,
    query: LogQuery,
    socket: OwnedFd,
) -> Result<(), EngineError> {
    let invalid = |error: std::io::Error| EngineError::Invalid {
        what: "logs".to_owned(),
        why: format!("the descriptor is no stream socket: {error}"),
    };
    let socket = std::os::unix::net::UnixStream::from(socket);
    socket.set_nonblocking(true).map_err(invalid)?;
    let mut socket = UnixStream::from_std(socket).map_err(invalid)?;
    let mut records = engine.logs(who, query).await?;
    let mut batch = Vec::with_capacity(LOG_BATCH_BYTES);
    let mut open = true;
    while open {
        {
            // The same future is looked at and then waited for, so that no record is lost.
            let mut next = pin!(records.next());
            let ready = match peek(next.as_mut()) {
                Poll::Ready(record) => Some(record),
                Poll::Pending if batch.is_empty() => Some(next.await),
                Poll::Pending => {
                    if write(&mut socket, &mut batch).await.is_err() {
                        return Ok(());
                    }
                    Some(next.await)
                }
            };
            match ready.transpose()?.flatten() {
                Some(record) => log::encode(&record, &mut batch),
                None => open = false,
            }
        }
        if (batch.len() >= LOG_BATCH_BYTES || !open)
            && write(&mut socket, &mut batch).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes and empties the batch.
async fn write(socket: &mut UnixStream, batch: &mut Vec<u8>) -> std::io::Result<()> {
    socket.write_all(batch).await?;
    batch.clear();
    Ok(())
}

/// Whether the future is done already. Who finds it pending waits for it in earnest, or drops it.
fn peek<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// Passes on the latest news only: a client that reads slowly does not hold up the work.
fn tell(news: watch::Sender<Option<Progress>>) -> engine::OnProgress {
    Box::new(move |progress| {
        news.send_replace(Some(progress));
    })
}

async fn with_progress<T>(
    work: impl Future<Output = Result<T, EngineError>>,
    mut heard: watch::Receiver<Option<Progress>>,
    to: &mut Writer,
) -> Result<T, Broken> {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return Ok(done?),
            Ok(()) = heard.changed() => {
                let latest = heard.borrow_and_update().clone();
                if let Some(latest) = latest {
                    to.send(&Reply::Progress(latest), &[]).await?;
                }
            }
        }
    }
}
