//! The client's side: one typed method per request.

mod volumes;

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

use base::{ContainerName, ErrorKind};
use engine::{
    Change, Container, Create, Created, Diagnosis, Event, EventQuery, ExecCreate, Fork, ImageView,
    Import, Info, LogQuery, Progress, Protocol, Remove, RemoveImage, Stop, Summary, Update,
    WaitFor,
};
use tokio::net::UnixStream;
use wire::{Conn, WireError};
use workload::{Exit, Signal, TerminalSize};

use crate::{Failure, Hello, PROTOCOL, Reply, Request};

/// Why a request was not answered as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers at the socket.
    #[error("cannot connect to the daemon at {path}")]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Client and daemon are of different versions.
    #[error(
        "the daemon (build {daemon}, protocol {protocol}) and this program (protocol {PROTOCOL}) \
         do not understand each other: restart the daemon with this program's build"
    )]
    Version {
        /// The daemon's build.
        daemon: String,
        /// The daemon's protocol.
        protocol: u32,
    },
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(Failure),
    /// The daemon went away before it had answered.
    #[error("the daemon went away before it answered")]
    Gone,
    /// The connection failed.
    #[error("the connection to the daemon failed")]
    Wire(#[from] WireError),
    /// The daemon gave an answer that does not belong to the request.
    #[error("the daemon gave an answer that does not belong to the question")]
    Unexpected,
}

impl ClientError {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            ClientError::Connect { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                ErrorKind::PermissionDenied
            }
            ClientError::Connect { .. } | ClientError::Gone => ErrorKind::Unavailable,
            ClientError::Version { .. } => ErrorKind::Unsupported,
            ClientError::Refused(failure) => failure.kind,
            ClientError::Wire(error) => error.kind(),
            ClientError::Unexpected => ErrorKind::Internal,
        }
    }
}

/// A connection to a daemon, for one request after the other.
#[derive(Debug)]
pub struct Client {
    conn: Conn,
    daemon: Hello,
}

/// Makes a typed method's end: the one reply it takes, everything else is unexpected.
macro_rules! expect {
    ($reply:expr, $variant:ident) => {
        if let Reply::$variant(value) = $reply { Ok(value) } else { Err(ClientError::Unexpected) }
    };
}

mod disk;
mod files;
mod networks;
mod stats;
mod transfer;

/// A socket for a container's streams.
#[derive(Clone, Copy, Debug)]
pub struct Socket<'f> {
    /// It.
    pub fd: BorrowedFd<'f>,
    /// Whether input comes from it.
    pub input: bool,
}

impl Client {
    /// Connects to the daemon at this socket.
    ///
    /// # Errors
    /// [`ClientError::Connect`], [`ClientError::Version`].
    pub async fn connect(path: &Path) -> Result<Client, ClientError> {
        let failed = |source| ClientError::Connect { path: path.to_owned(), source };
        let stream = UnixStream::connect(path).await.map_err(failed)?;
        let mut conn = Conn::new(stream);
        let hello = Hello { protocol: PROTOCOL, build: env!("CARGO_PKG_VERSION").to_owned() };
        conn.send(&hello, &[]).await?;
        let Some((daemon, _)) = conn.recv::<Hello>().await? else { return Err(ClientError::Gone) };
        if daemon.protocol != PROTOCOL {
            let Hello { protocol, build } = daemon;
            return Err(ClientError::Version { daemon: build, protocol });
        }
        Ok(Client { conn, daemon })
    }

    /// What the daemon said of itself.
    pub fn daemon(&self) -> &Hello {
        &self.daemon
    }

    /// Sends a request.
    ///
    /// # Errors
    /// [`ClientError::Wire`].
    async fn ask(&mut self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        match self.conn.send(request, fds).await {
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
                Err(ClientError::Gone)
            }
            result => Ok(result?),
        }
    }

    /// Receives one reply; a failure is an error.
    async fn hear(&mut self) -> Result<Reply, ClientError> {
        Ok(self.hear_all().await?.0)
    }

    /// Receives one reply and what descriptors come with it.
    async fn hear_all(&mut self) -> Result<(Reply, Vec<OwnedFd>), ClientError> {
        match self.conn.recv().await {
            Ok(Some((Reply::Failed(failure), _))) => Err(ClientError::Refused(failure)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) | Err(WireError::Truncated { .. }) => Err(ClientError::Gone),
            Err(WireError::Io(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Err(ClientError::Gone)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn call(
        &mut self,
        request: Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, ClientError> {
        self.ask(&request, fds).await?;
        self.hear().await
    }

    async fn done(&mut self) -> Result<(), ClientError> {
        if self.hear().await? == Reply::Done { Ok(()) } else { Err(ClientError::Unexpected) }
    }

    async fn order(&mut self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(), ClientError> {
        self.ask(&request, fds).await?;
        self.done().await
    }

    /// Makes a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create(&mut self, create: Create) -> Result<Created, ClientError> {
        let reply = self.call(Request::Create(Box::new(create)), &[]).await?;
        let created = expect!(reply, Created)?;
        self.done().await?;
        Ok(created)
    }

    /// Makes and starts a container, attached to this socket if one is given. It runs when this
    /// answers. With `wait`, [`Client::exit`] tells how it ended and nothing else may be asked
    /// before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run(
        &mut self,
        create: Create,
        attach: Option<BorrowedFd<'_>>,
        size: Option<TerminalSize>,
        wait: bool,
    ) -> Result<Created, ClientError> {
        let create = Box::new(create);
        let request = Request::Run { create, attach: attach.is_some(), size, wait };
        let reply = self.call(request, attach.as_slice()).await?;
        let created = expect!(reply, Created)?;
        if !wait {
            self.done().await?;
        }
        Ok(created)
    }

    /// How what was run, started or attached to ended.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exit(&mut self) -> Result<Exit, ClientError> {
        expect!(self.hear().await?, Exit)
    }

    /// Starts a container, attached to this socket if one is given. It runs when this answers.
    /// With `wait`, [`Client::exit`] tells how it ended and nothing else may be asked before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn start(
        &mut self,
        who: &str,
        attach: Option<Socket<'_>>,
        size: Option<TerminalSize>,
        wait: bool,
    ) -> Result<(), ClientError> {
        let request = Request::Start {
            who: who.to_owned(),
            attach: attach.is_some(),
            output_only: attach.is_some_and(|socket| !socket.input),
            size,
            wait,
        };
        self.ask(&request, attach.map(|socket| socket.fd).as_slice()).await?;
        self.started().await?;
        if wait { Ok(()) } else { self.done().await }
    }

    /// Connects a socket to a container's streams. Then [`Client::exit`] tells how it ended, and
    /// nothing else may be asked before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn attach(&mut self, who: &str, socket: Socket<'_>) -> Result<(), ClientError> {
        let request = Request::Attach { who: who.to_owned(), output_only: !socket.input };
        self.ask(&request, &[socket.fd]).await?;
        self.started().await
    }

    async fn started(&mut self) -> Result<(), ClientError> {
        if self.hear().await? == Reply::Started { Ok(()) } else { Err(ClientError::Unexpected) }
    }

    /// Gives a container's terminal another size.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resize(&mut self, who: &str, size: TerminalSize) -> Result<(), ClientError> {
        self.order(Request::Resize { who: who.to_owned(), size }, &[]).await
    }

    /// Stops a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop(&mut self, who: &str, stop: Stop) -> Result<(), ClientError> {
        self.order(Request::Stop { who: who.to_owned(), stop }, &[]).await
    }

    /// Sends a container a signal.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn kill(&mut self, who: &str, signal: Signal) -> Result<(), ClientError> {
        self.order(Request::Kill { who: who.to_owned(), signal }, &[]).await
    }

    /// Pauses a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn pause(&mut self, who: &str) -> Result<(), ClientError> {
        self.order(Request::Pause { who: who.to_owned() }, &[]).await
    }

    /// Lets a container go on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn resume(&mut self, who: &str) -> Result<(), ClientError> {
        self.order(Request::Resume { who: who.to_owned() }, &[]).await
    }

    /// Waits for a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn wait(&mut self, who: &str, until: WaitFor) -> Result<Exit, ClientError> {
        expect!(self.call(Request::Wait { who: who.to_owned(), until }, &[]).await?, Exit)
    }

    /// Removes a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove(&mut self, who: &str, remove: Remove) -> Result<(), ClientError> {
        self.order(Request::Remove { who: who.to_owned(), remove }, &[]).await
    }

    /// Makes copies of a running container, which run.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fork(&mut self, who: &str, fork: Fork) -> Result<Vec<Created>, ClientError> {
        self.ask(&Request::Fork { who: who.to_owned(), fork }, &[]).await?;
        let mut copies = Vec::new();
        let mut reply = self.hear().await?;
        while let Reply::Created(created) = reply {
            copies.push(created);
            reply = self.hear().await?;
        }
        if reply == Reply::Done { Ok(copies) } else { Err(ClientError::Unexpected) }
    }

    /// Renames a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rename(&mut self, who: &str, name: ContainerName) -> Result<(), ClientError> {
        self.order(Request::Rename { who: who.to_owned(), name }, &[]).await
    }

    /// Gives a container new limits and another restart policy.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update(&mut self, who: &str, update: Update) -> Result<(), ClientError> {
        let update = Box::new(update);
        self.order(Request::Update { who: who.to_owned(), update }, &[]).await
    }

    /// Stops and starts a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn restart(&mut self, who: &str, stop: Stop) -> Result<(), ClientError> {
        self.order(Request::Restart { who: who.to_owned(), stop }, &[]).await
    }

    /// Every container, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn list(&mut self) -> Result<Vec<Summary>, ClientError> {
        self.ask(&Request::List, &[]).await?;
        let mut containers = Vec::new();
        let mut reply = self.hear().await?;
        while let Reply::Summary(summary) = reply {
            containers.push(*summary);
            reply = self.hear().await?;
        }
        if reply == Reply::Done { Ok(containers) } else { Err(ClientError::Unexpected) }
    }

    /// One container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn inspect(&mut self, who: &str) -> Result<Container, ClientError> {
        let reply = self.call(Request::Inspect { who: who.to_owned() }, &[]).await?;
        let container = expect!(reply, Container)?;
        self.done().await?;
        Ok(*container)
    }

    /// Has records written to this socket. Its other end is read with [`crate::LogReader`]; then
    /// [`Client::logs_end`] tells whether that was all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn logs(
        &mut self,
        who: &str,
        query: LogQuery,
        socket: impl AsFd,
    ) -> Result<(), ClientError> {
        self.ask(&Request::Logs { who: who.to_owned(), query }, &[socket.as_fd()]).await
    }

    /// Whether the records came to their end.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn logs_end(&mut self) -> Result<(), ClientError> {
        self.done().await
    }

    /// Starts a process in a container, and answers with its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exec(
        &mut self,
        who: &str,
        exec: ExecCreate,
        attach: Option<BorrowedFd<'_>>,
    ) -> Result<String, ClientError> {
        let (who, exec) = (who.to_owned(), Box::new(exec));
        let request = Request::Exec { who, exec, attach: attach.is_some() };
        expect!(self.call(request, attach.as_slice()).await?, Exec)
    }

    /// Waits for an exec.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exec_wait(&mut self, exec: &str) -> Result<Exit, ClientError> {
        expect!(self.call(Request::ExecWait { exec: exec.to_owned() }, &[]).await?, Exit)
    }

    /// Gives an exec's terminal another size.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exec_resize(&mut self, exec: &str, size: TerminalSize) -> Result<(), ClientError> {
        self.order(Request::ExecResize { exec: exec.to_owned(), size }, &[]).await
    }

    /// Host process ids of a container.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn host_pids(&mut self, who: &str) -> Result<Vec<u32>, ClientError> {
        expect!(self.call(Request::HostPids { who: who.to_owned() }, &[]).await?, Pids)
    }

    /// Makes an image of a root file system archive, and answers with its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn import(
        &mut self,
        import: Import,
        from: impl AsFd,
        progress: impl FnMut(Progress),
    ) -> Result<String, ClientError> {
        self.ask(&Request::Import(import), &[from.as_fd()]).await?;
        expect!(self.after_progress(progress).await?, Name)
    }

    /// Loads an image archive; of images for several platforms only these, if any are given.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn load(
        &mut self,
        from: impl AsFd,
        platforms: Vec<String>,
        progress: impl FnMut(Progress),
    ) -> Result<Vec<Change>, ClientError> {
        let request = match platforms.is_empty() {
            true => Request::Load,
            false => Request::LoadPlatforms { platforms },
        };
        self.ask(&request, &[from.as_fd()]).await?;
        expect!(self.after_progress(progress).await?, Changes)
    }

    async fn after_progress(
        &mut self,
        mut progress: impl FnMut(Progress),
    ) -> Result<Reply, ClientError> {
        let mut reply = self.hear().await?;
        while let Reply::Progress(news) = reply {
            progress(news);
            reply = self.hear().await?;
        }
        Ok(reply)
    }

    /// Writes images to an archive; of images for several platforms only these, if any are given.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn save(
        &mut self,
        images: Vec<String>,
        platforms: Vec<String>,
        to: impl AsFd,
    ) -> Result<(), ClientError> {
        self.order(Request::Save { images, platforms }, &[to.as_fd()]).await
    }

    /// Gives an image one more reference.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tag(&mut self, from: &str, to: &str) -> Result<(), ClientError> {
        self.order(Request::Tag { from: from.to_owned(), to: to.to_owned() }, &[]).await
    }

    /// Removes an image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_image(
        &mut self,
        image: &str,
        remove: RemoveImage,
    ) -> Result<Vec<Change>, ClientError> {
        let request = Request::RemoveImage { image: image.to_owned(), remove };
        expect!(self.call(request, &[]).await?, Changes)
    }

    /// Every image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn images(&mut self) -> Result<Vec<ImageView>, ClientError> {
        self.ask(&Request::Images, &[]).await?;
        let mut images = Vec::new();
        let mut reply = self.hear().await?;
        while let Reply::Image(image) = reply {
            images.push(*image);
            reply = self.hear().await?;
        }
        if reply == Reply::Done { Ok(images) } else { Err(ClientError::Unexpected) }
    }

    /// One image.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn image_inspect(
        &mut self,
        image: &str,
        platform: Option<String>,
    ) -> Result<ImageView, ClientError> {
        let request = Request::ImageInspect { image: image.to_owned(), platform };
        let reply = self.call(request, &[]).await?;
        let image = expect!(reply, Image)?;
        self.done().await?;
        Ok(*image)
    }

    /// Listens to what happens; [`Client::event`] hears one after the other.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn events(&mut self, query: EventQuery) -> Result<(), ClientError> {
        self.ask(&Request::Events(Box::new(query)), &[]).await
    }

    /// The next event; `None` when there will be no more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn event(&mut self) -> Result<Option<Event>, ClientError> {
        let reply = self.hear().await?;
        if reply == Reply::Done { Ok(None) } else { Ok(Some(*expect!(reply, Event)?)) }
    }

    /// Tells that one who was attached to a container has left it to itself.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn detached(&mut self, who: &str) -> Result<(), ClientError> {
        self.order(Request::Detached { who: who.to_owned() }, &[]).await
    }

    /// Tells that one who was attached to an exec has left it to itself.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn exec_detached(&mut self, exec: &str) -> Result<(), ClientError> {
        self.order(Request::ExecDetached { exec: exec.to_owned() }, &[]).await
    }

    /// What the host's own rules say of a published port that leads to the port `inside`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn admission(
        &mut self,
        protocol: Protocol,
        port: u16,
        inside: u16,
    ) -> Result<net::Admission, ClientError> {
        let request = Request::Admission { protocol, port, inside };
        Ok(*expect!(self.call(request, &[]).await?, Admission)?)
    }

    /// What is wrong with the host and with what the daemon has on it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn doctor(&mut self, repair: bool) -> Result<Diagnosis, ClientError> {
        Ok(*expect!(self.call(Request::Doctor { repair }, &[]).await?, Diagnosis)?)
    }

    /// The daemon in a few numbers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn info(&mut self) -> Result<Info, ClientError> {
        Ok(*expect!(self.call(Request::Info, &[]).await?, Info)?)
    }
}
