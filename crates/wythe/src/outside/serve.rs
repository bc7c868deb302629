//! The process's work: connections of daemons, and its end.

use std::{
    cell::RefCell,
    fs, io,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
    process::Command,
    rc::Rc,
};

use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Interest,
        unix::AsyncFd,
    },
    net::{UnixListener, UnixStream},
    task::LocalSet,
};

use super::{
    Answer, IdRange, Refused, Request,
    factory::Factory,
    ports::Ports,
    way_out::{Router, WayOut},
};

/// Longest request, in bytes: the ways to all the ports of a few thousand containers.
const REQUEST_BYTES_MAX: u64 = 4 << 20;

/// What it keeps.
struct State {
    network: Option<Network>,
    /// File that names what carries its packets out.
    note: PathBuf,
}

/// The network it serves.
struct Network {
    /// The namespace's inode number.
    inode: u64,
    factory: Rc<Factory>,
    ports: Ports,
    /// None where it needs none.
    way_out: Option<Result<WayOut, String>>,
}

/// Serves the socket that is standard input until nobody needs it.
pub(super) fn run(socket: &Path, shims: &Path) -> io::Result<()> {
    let listener = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?;
    let null = fs::File::open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    // A session of its own: it has no terminal that could hang up.
    let _ = rustix::process::setsid();
    // It is only for `ps`.
    let _ = rustix::thread::set_name(c"wythe-outside");
    let listener = std::os::unix::net::UnixListener::from(listener);
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served =
        LocalSet::new().block_on(&runtime, serve(listener, shims, socket.with_extension("way")));
    // Whoever connected meanwhile starts another one.
    let _ = fs::remove_file(socket);
    served
}

async fn serve(
    listener: std::os::unix::net::UnixListener,
    shims: &Path,
    note: PathBuf,
) -> io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let state = Rc::new(RefCell::new(State { network: None, note }));
    // The first daemon has started this process and is on its way.
    let (mut daemon, _) = listener.accept().await?;
    loop {
        // One at a time: a daemon holds the lock of its run root. When its connection breaks, it
        // is gone.
        let _ = converse(daemon, &state).await;
        daemon = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            () = all_ended(shims) => return Ok(()),
        };
    }
}

/// Done when every shim that is there now has ended: without a daemon there will be no others.
async fn all_ended(shims: &Path) {
    let processes: Vec<OwnedFd> = crate::daemon::processes(shims).collect();
    for process in processes {
        // A pidfd is readable when its process has ended: pidfd_open(2).
        let Ok(process) = watch(process) else { continue };
        let _ = process.readable().await;
    }
}

#[expect(
    deprecated,
    reason = "the safe constructor is unsound for types that change their descriptor, which an \
              OwnedFd never does (tokio#8587); the one in its place is unsafe for all types"
)]
fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

async fn converse(stream: UnixStream, state: &Rc<RefCell<State>>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        (&mut read).take(REQUEST_BYTES_MAX).read_line(&mut line).await?;
        if line.is_empty() {
            return Ok(());
        }
        let request = serde_json::from_str(&line)?;
        let answer = state.borrow_mut().answer(request).unwrap_or_else(Answer::Refused);
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        write.write_all(&line).await?;
    }
}

impl State {
    fn answer(&mut self, request: Request) -> Result<Answer, Refused> {
        match request {
            Request::Identify { pid, uids, gids } => {
                identify("newuidmap", pid, &uids)?;
                identify("newgidmap", pid, &gids)?;
                Ok(Answer::Done)
            }
            Request::Settle { pid, router } => {
                let network = self.settle(pid, router)?;
                let name = |way_out: &Result<WayOut, String>| {
                    way_out.as_ref().map(WayOut::name).map_err(String::clone)
                };
                let none = || Ok("the host's own".to_owned());
                Ok(Answer::Settled(network.way_out.as_ref().map_or_else(none, name)))
            }
            Request::Hold { protocol, address } => {
                let held = self.network()?.ports.hold(protocol, address);
                let doing = format!("hold port {address}/{protocol} of the host");
                Ok(Answer::Held(held.map_err(|error| Refused::io(&doing, &error))?))
            }
            Request::Release { protocol, address } => {
                self.network()?.ports.release(protocol, address);
                Ok(Answer::Done)
            }
            Request::Lead(forwards) => {
                self.network()?.ports.lead(&forwards);
                Ok(Answer::Done)
            }
        }
    }

    fn network(&mut self) -> Result<&mut Network, Refused> {
        let none = || Refused { errno: None, why: "no network is served yet".to_owned() };
        self.network.as_mut().ok_or_else(none)
    }

    fn settle(&mut self, pid: u32, router: Option<Router>) -> Result<&mut Network, Refused> {
        let inode = fs::metadata(format!("/proc/{pid}/ns/net"))
            .map_err(|error| Refused::io("find the daemon's network", &error))?
            .ino();
        let note = self.note.clone();
        if self.network.as_ref().is_none_or(|network| network.inode != inode) {
            // What served another one goes first: its ports may be wanted again.
            self.network = None;
            let own = fs::metadata("/proc/self/ns/net").is_ok_and(|own| own.ino() == inode);
            let factory = Rc::new(match own {
                // Root's daemon, which is on the host itself.
                true => Factory::Here,
                false => Factory::start(pid)
                    .map_err(|error| Refused::io("enter the daemon's network", &error))?,
            });
            self.network = Some(Network {
                inode,
                ports: Ports::new(Rc::clone(&factory)),
                way_out: (!own).then(|| WayOut::open(pid, router, &factory, &note)),
                factory,
            });
        }
        let network = self.network()?;
        // What is missing may have been installed meanwhile, and another may be asked for.
        if let Some(way_out) = &mut network.way_out
            && way_out.as_mut().map_or(true, |way_out| !way_out.serves(router))
        {
            // Both cannot lead out at a time.
            *way_out = Err(String::new());
            *way_out = WayOut::open(pid, router, &network.factory, &note);
        }
        Ok(network)
    }
}

/// Has a set-user-id helper write a map.
fn identify(helper: &str, pid: u32, ranges: &[IdRange]) -> Result<(), Refused> {
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for (inside, outside, count) in ranges {
        command.args([inside, outside, count].map(u32::to_string));
    }
    let output = command.output().map_err(|error| Refused::io(&format!("run {helper}"), &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Refused { errno: None, why: format!("{helper} refuses the ids of /etc/sub*id: {said}") })
}
