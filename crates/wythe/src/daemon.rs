//! The daemon, and the shims' fork server.
//!
//! The order of starting is the point of this file: the lock first, then the mount namespace while
//! there is one thread, then the runtime, the engine, the socket, and the word that it is ready.

use std::{fs::DirBuilder, io, os::unix::fs::DirBuilderExt as _, path::Path};

use api::Server;
use engine::Engine;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    net::UnixListener,
    signal::unix::{SignalKind, signal},
};
use tracing::{error, info};

use crate::{
    connect::{Endpoint, check_run_root, make_run_root},
    error::{CliError, chain},
    paths::Roots,
};

mod docker_hosts;
mod drivers;
mod embedded;
mod init;
mod instance;
mod listener;
mod lock;
mod log;
mod loopback;
pub(crate) mod machines;
mod namespace;
mod ready;
mod rootless;

pub(crate) use drivers::shim;
pub(crate) use embedded::DEMO;
pub(crate) use log::begin as begin_log;
pub(crate) use namespace::processes;
use ready::Ready;
pub(crate) use ready::{serving, stopping};
pub(crate) use rootless::find;

/// Pools of free memory that the daemon's threads share: they come and go, and what each left in a
/// pool of its own would stay there.
const MEMORY_POOLS: u8 = 2;

/// Flags of `wythe daemon`; the roots and the socket are flags before the command.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where images and containers are kept
    #[arg(long, value_name = "dir")]
    data_root: Option<std::path::PathBuf>,
    /// Where the socket is kept and what ends with a reboot
    #[arg(long, value_name = "dir")]
    run_root: Option<std::path::PathBuf>,
    /// Socket to serve
    #[arg(long, value_name = "path")]
    socket: Option<std::path::PathBuf>,
    /// Socket at which Docker's clients are served
    #[arg(long, value_name = "path")]
    docker_socket: Option<std::path::PathBuf>,
    #[command(flatten)]
    docker_hosts: docker_hosts::DockerHosts,
    /// Name of the default bridge
    #[arg(long, value_name = "name")]
    bridge: Option<net::InterfaceName>,
    /// IPv6 subnet of the default bridge: auto, off, or one such as fd12:3456:789a::/64
    #[arg(long, value_name = "subnet", default_value = "auto")]
    ipv6_subnet: engine::Ipv6,
    /// What carries an ordinary user's containers to the world; default: the first that works
    #[arg(long, value_name = "program")]
    rootless_network: Option<crate::outside::Router>,
    /// Leave the terminal, log to a file, and say on standard output when it serves
    #[arg(long, hide = true)]
    background: bool,
}

/// Serves until it is told to stop.
pub(crate) fn run(args: Args, endpoint: &Endpoint) -> Result<u8, CliError> {
    let background = args.background;
    let done = start(args, endpoint);
    if let (true, Err(error)) = (background, &done) {
        // Whoever started it reads this, or nobody.
        let _ = crate::output::line(&chain(error));
    }
    done.map(|()| 0)
}

fn start(args: Args, endpoint: &Endpoint) -> Result<(), CliError> {
    let ordinary = !rustix::process::geteuid().is_root();
    let roots = Roots {
        data: args.data_root.unwrap_or_else(|| endpoint.roots.data.clone()),
        run: args.run_root.unwrap_or_else(|| endpoint.roots.run.clone()),
    };
    make_run_root(&roots.run).map_err(|error| not_made(&roots.run, error))?;
    check_run_root(&roots.run)?;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&roots.data)
        .map_err(|error| not_made(&roots.data, error))?;
    let router = rootless::router(args.rootless_network)?;
    let docker_hosts = args.docker_hosts.check(ordinary)?;
    let lock = lock::take(&roots.lock())?;
    let ready = Ready::new(args.background);
    if args.background {
        // Fails for the leader of a process group, which one started in the background is not.
        let _ = rustix::process::setsid();
    }
    let log = args.background.then(|| roots.log());
    log::begin(log.as_deref(), endpoint.debug)?;
    end_on_panic(log);
    let shims = drivers::shim_directory(&roots);
    let (joined, user) = match ordinary {
        true => rootless::enter(&roots, &shims).map(|entered| (entered.joined, Some(entered)))?,
        false => namespace::enter(&shims)
            .map(|joined| (joined, None))
            .map_err(|error| CliError::io("enter a mount namespace for the daemon", error))?,
    };
    let user = user.map(|entered| entered.settle(router));
    let socket = args.socket.unwrap_or_else(|| endpoint.named.clone().unwrap_or(roots.socket()));
    let sockets = Sockets {
        docker: listener::own(&args.docker_socket.unwrap_or_else(|| roots.docker_socket()))?,
        // The last one: who finds it finds the others.
        own: listener::open(&socket)?,
        more: docker_hosts.open()?,
    };
    let bridge = args.bridge.unwrap_or_else(|| instance::bridge(&roots.run));
    let mut config =
        engine::Config::new(roots.data.clone(), roots.run.clone(), build_version().to_owned());
    config.bridge = bridge;
    if user.is_none() {
        let loopback = loopback::Loopback::new(roots.run.clone(), shims);
        config.loopback = Some(std::sync::Arc::new(loopback));
    }
    config.user = user;
    config.ipv6 = args.ipv6_subnet;
    config.embedded = embedded::images();
    sys::fork::share_memory(MEMORY_POOLS);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| CliError::io("start", error))?;
    let served = runtime.block_on(serve(config, &roots, joined, sockets, ready));
    // Threads that still wait for the kernel do not hold up the end.
    runtime.shutdown_background();
    drop(lock);
    served
}

/// What the daemon listens at.
struct Sockets {
    /// For our own command line.
    own: listener::Listener,
    /// For Docker's clients.
    docker: listener::Listener,
    /// For those who come elsewhere.
    more: docker_hosts::Open,
}

async fn serve(
    config: engine::Config,
    roots: &Roots,
    joined: bool,
    sockets: Sockets,
    ready: Ready,
) -> Result<(), CliError> {
    let drivers = drivers::open(roots, joined).await?;
    // Not before: what containers inherit comes from the fork server, which runs by now.
    raise_descriptors();
    let engine = Engine::open(config, drivers.list())
        .await
        .map_err(|error| CliError::Usage(format!("cannot open the engine: {}", chain(&error))))?;
    let failed = |error| CliError::io("serve the socket", error);
    let accept =
        |listener: &listener::Listener| UnixListener::from_std(listener.socket()?).map_err(failed);
    let (own, for_docker) = (accept(&sockets.own)?, accept(&sockets.docker)?);
    let stop = stop_asked().map_err(failed)?;
    let server = Server::new(engine.clone(), build_version());
    let docker = docker::Server::new(engine.clone(), build_version());
    let mut for_docker = vec![listen::Listener::from(for_docker)];
    for_docker.extend(sockets.more.listeners()?);
    ready.tell();
    info!(version = build_version(), "serving");
    // Dropped at the end: they are ended then.
    let mut serving = tokio::task::JoinSet::new();
    for listener in for_docker {
        let docker = docker.clone();
        serving.spawn(async move {
            let served = docker.serve(listener, std::future::pending()).await;
            if let Err(error) = served {
                error!(%error, "Docker's clients are served no more");
            }
        });
    }
    let served = server.serve(own, stop).await;
    drop(serving);
    stopping();
    sockets.own.remove();
    sockets.docker.remove();
    sockets.more.remove();
    engine.close().await;
    drivers.stop().await;
    info!("stopped; containers run on");
    served.map_err(failed)
}

/// A panic of the thread that serves ends the daemon at once, as a kill would, which the next one
/// recovers from. Unwinding could wait for ever for what it cannot stop, behind a socket that
/// still listens. Tasks are another matter: who waits for one is told.
///
/// Whoever waits for a daemon in the background to serve is told here; nobody reads that later.
fn end_on_panic(log: Option<std::path::PathBuf>) {
    let tell = std::panic::take_hook();
    let serving = std::thread::current().id();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if std::thread::current().id() != serving {
            return;
        }
        if let Some(log) = &log {
            let payload = panic.payload();
            let text = payload.downcast_ref::<&str>().copied();
            let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
            let text = text.unwrap_or("without a word");
            let _ = crate::output::line(&format!("it panicked: {text}; see {}", log.display()));
        }
        std::process::abort();
    }));
}

/// As many descriptors as the daemon may have: each client is one, and there can be thousands.
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "fewer clients can be served than the host would let");
    }
}

/// Done when the daemon is asked to stop.
pub(crate) fn stop_asked() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Version of this build.
fn build_version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

fn not_made(path: &Path, error: io::Error) -> CliError {
    CliError::io(format!("make {}", path.display()), error)
}
