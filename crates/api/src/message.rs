//! What crosses the socket. Fields are added with `#[serde(default)]`; anything else raises
//! [`PROTOCOL`].

use std::path::PathBuf;

use base::{ContainerName, ErrorKind};
use engine::{
    Change, Commit, Container, ContainerSize, ContainerStats, Create, Created, Diagnosis,
    DiskUsage, Event, EventQuery, ExecCreate, ExecView, Fork, HostStats, ImageMount, ImageView,
    Import, Info, LogQuery, LoginRequest, PathChange, Progress, Protocol, Prune, Pruned, Pulled,
    Remove, RemoveImage, StatsQuery, Stop, Summary, TransferEvent, TransferRequest, Update,
    WaitFor,
};
use serde::{Deserialize, Serialize};
use workload::{Exit, FileStat, Signal, TerminalSize, Unpack};

use crate::{NetworkReply, NetworkRequest, VolumeReply, VolumeRequest};

/// Version of everything in this module. Client and daemon of different versions refuse each
/// other with a message that says which one is older.
pub const PROTOCOL: u32 = 1;

/// The first message in either direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`] of the speaker.
    pub protocol: u32,
    /// Version of the speaker's build, for people.
    pub build: String,
}

/// What can be asked. `who` is a name, an id or a unique beginning of an id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// [`Reply::Created`], then [`Reply::Done`].
    Create(Box<Create>),
    /// [`Reply::Started`], then [`Reply::Done`]. With `attach`, one descriptor: a socket for its
    /// streams.
    Start {
        /// Which container.
        who: String,
        /// Whether a socket comes along.
        attach: bool,
        /// Whether no input comes from that.
        #[serde(default)]
        output_only: bool,
        /// Size of its terminal.
        size: Option<TerminalSize>,
        /// Go on to tell how it ended, with [`Reply::Exit`] in place of [`Reply::Done`].
        wait: bool,
    },
    /// [`Reply::Created`] once it runs, then [`Reply::Done`]. With `attach`, one descriptor.
    Run {
        /// The container.
        create: Box<Create>,
        /// Whether a socket comes along.
        attach: bool,
        /// Size of its terminal.
        size: Option<TerminalSize>,
        /// Go on to tell how it ended, with [`Reply::Exit`] in place of [`Reply::Done`].
        wait: bool,
    },
    /// [`Reply::Started`], then [`Reply::Exit`] when it has ended. One descriptor: a socket for
    /// its streams.
    Attach {
        /// Which container.
        who: String,
        /// Whether no input comes from the socket.
        #[serde(default)]
        output_only: bool,
    },
    /// [`Reply::Done`].
    Resize {
        /// Which container.
        who: String,
        /// The size.
        size: TerminalSize,
    },
    /// [`Reply::Done`] when it has ended.
    Stop {
        /// Which container.
        who: String,
        /// How.
        stop: Stop,
    },
    /// [`Reply::Done`].
    Kill {
        /// Which container.
        who: String,
        /// With what.
        signal: Signal,
    },
    /// [`Reply::Done`].
    Pause {
        /// Which container.
        who: String,
    },
    /// [`Reply::Done`].
    Resume {
        /// Which container.
        who: String,
    },
    /// [`Reply::Exit`].
    Wait {
        /// Which container.
        who: String,
        /// For what.
        until: WaitFor,
    },
    /// [`Reply::Done`].
    Remove {
        /// Which container.
        who: String,
        /// How.
        remove: Remove,
    },
    /// [`Reply::Done`].
    Rename {
        /// Which container.
        who: String,
        /// Its name from then on.
        name: ContainerName,
    },
    /// [`Reply::Done`].
    Update {
        /// Which container.
        who: String,
        /// What changes.
        update: Box<Update>,
    },
    /// [`Reply::Done`].
    Restart {
        /// Which container.
        who: String,
        /// How it is stopped.
        stop: Stop,
    },
    /// Any number of [`Reply::Container`], then [`Reply::Done`].
    List,
    /// [`Reply::Container`], then [`Reply::Done`].
    Inspect {
        /// Which container.
        who: String,
    },
    /// [`Reply::Done`] when there is no more. One descriptor: a socket to which records are
    /// written as [`crate::LogReader`] reads them.
    Logs {
        /// Which container.
        who: String,
        /// Which records.
        query: LogQuery,
    },
    /// [`Reply::Exec`]: started. With `attach`, one descriptor.
    Exec {
        /// In which container.
        who: String,
        /// What.
        exec: Box<ExecCreate>,
        /// Whether a socket comes along.
        attach: bool,
    },
    /// [`Reply::Exit`].
    ExecWait {
        /// Which exec, by the id that [`Reply::Exec`] told.
        exec: String,
    },
    /// [`Reply::Done`].
    ExecResize {
        /// Which exec.
        exec: String,
        /// The size.
        size: TerminalSize,
    },
    /// [`Reply::ExecView`].
    ExecInspect {
        /// Which exec.
        exec: String,
    },
    /// Any number of [`Reply::ContainerStats`], then [`Reply::HostStats`].
    Stats(StatsQuery),
    /// [`Reply::Pids`].
    HostPids {
        /// Which container.
        who: String,
    },
    /// Any number of [`Reply::Progress`], then [`Reply::Name`], the image's id. One descriptor:
    /// the archive, open for reading.
    Import(Import),
    /// Any number of [`Reply::Transfer`], then [`Reply::Pulled`].
    Pull(Box<TransferRequest>),
    /// Any number of [`Reply::Transfer`], then [`Reply::Done`].
    Push(Box<TransferRequest>),
    /// [`Reply::Done`]: the registry takes the credentials.
    Login(Box<LoginRequest>),
    /// Any number of [`Reply::Progress`], then [`Reply::Changes`]. One descriptor, as for import.
    Load,
    /// As [`Request::Load`], of images for several platforms these alone.
    LoadPlatforms {
        /// Each `os/architecture[/variant]`.
        platforms: Vec<String>,
    },
    /// [`Reply::Done`]. One descriptor: where the archive goes, open for writing.
    Save {
        /// Which images.
        images: Vec<String>,
        /// Of images for several platforms these alone.
        #[serde(default)]
        platforms: Vec<String>,
    },
    /// [`Reply::Done`].
    Tag {
        /// Which image.
        from: String,
        /// The further reference.
        to: String,
    },
    /// [`Reply::Changes`].
    RemoveImage {
        /// Which image.
        image: String,
        /// How.
        remove: RemoveImage,
    },
    /// Any number of [`Reply::Image`], then [`Reply::Done`].
    Images,
    /// [`Reply::Image`], then [`Reply::Done`].
    ImageInspect {
        /// Which image.
        image: String,
        /// For which platform.
        #[serde(default)]
        platform: Option<String>,
    },
    /// About volumes: any number of [`Reply::Volume`], then [`Reply::Done`].
    Volume(VolumeRequest),
    /// About networks: any number of [`Reply::Network`], then [`Reply::Done`].
    Network(Box<NetworkRequest>),
    /// [`Reply::Pruned`].
    PruneImages(Prune),
    /// [`Reply::Pruned`].
    PruneContainers(Prune),
    /// [`Reply::DiskUsage`].
    DiskUsage,
    /// [`Reply::ContainerSizes`].
    ContainerSizes {
        /// Which containers.
        who: Vec<String>,
    },
    /// [`Reply::ImageMount`] with one descriptor, a mount that is nowhere yet, then
    /// [`Reply::Done`]. Whoever moves it to
    /// its target asks [`Request::ImageMounted`] then, and unmounts it if that fails.
    MountImage {
        /// Which image.
        image: String,
        /// For which platform.
        platform: Option<String>,
        /// The directory that it will be mounted on.
        target: PathBuf,
        /// In which mount namespace, as `/proc/PID/ns/mnt` names it.
        namespace: PathBuf,
    },
    /// [`Reply::Done`].
    ImageMounted {
        /// The mount's id.
        id: String,
    },
    /// [`Reply::Done`].
    ImageUnmounted {
        /// The mount's id.
        id: String,
    },
    /// [`Reply::ImageMounts`].
    ImageMounts,
    /// [`Reply::Info`].
    Info,
    /// Any number of [`Reply::Event`], then [`Reply::Done`] when the time is up.
    Events(Box<EventQuery>),
    /// [`Reply::Done`]: one who was attached has left the container to itself.
    Detached {
        /// Which container.
        who: String,
    },
    /// [`Reply::Done`]: one who was attached has left the exec to itself.
    ExecDetached {
        /// Which exec.
        exec: String,
    },
    /// [`Reply::Admission`].
    Admission {
        /// Protocol of a published port.
        protocol: Protocol,
        /// The host's port.
        port: u16,
        /// The container's port.
        inside: u16,
    },
    /// [`Reply::Diagnosis`].
    Doctor {
        /// Clear away what is left over.
        repair: bool,
    },
    /// [`Reply::PathStat`].
    PathStat {
        /// Which container.
        who: String,
        /// What in it.
        path: String,
    },
    /// [`Reply::Done`]. One descriptor: where the archive goes, open for writing.
    ArchiveRead {
        /// Which container.
        who: String,
        /// What in it.
        path: String,
        /// What its top is called.
        name: Option<String>,
    },
    /// [`Reply::Done`]. One descriptor: the archive, open for reading.
    ArchiveWrite {
        /// Which container.
        who: String,
        /// Into which directory.
        path: String,
        /// How.
        unpack: Unpack,
    },
    /// [`Reply::Done`]. One descriptor: where the archive goes, open for writing.
    Export {
        /// Which container.
        who: String,
    },
    /// [`Reply::Done`]. One descriptor, as for export: all files of an image.
    ExportImage {
        /// Which image.
        image: String,
        /// For which platform.
        platform: Option<String>,
    },
    /// Any number of [`Reply::PathChanges`], then [`Reply::Done`].
    PathChanges {
        /// Of which container.
        who: String,
    },
    /// A [`Reply::Created`] for each copy, then [`Reply::Done`]; all of them run.
    Fork {
        /// Which container.
        who: String,
        /// How.
        fork: Fork,
    },
    /// [`Reply::Name`], the image's id.
    Commit {
        /// Which container.
        who: String,
        /// How.
        commit: Box<Commit>,
    },
}

impl Request {
    /// How many descriptors come with it.
    pub fn descriptors(&self) -> usize {
        match self {
            Request::Start { attach, .. }
            | Request::Run { attach, .. }
            | Request::Exec { attach, .. } => usize::from(*attach),
            Request::Attach { .. }
            | Request::Logs { .. }
            | Request::Import(_)
            | Request::Load
            | Request::Save { .. }
            | Request::ArchiveRead { .. }
            | Request::ArchiveWrite { .. }
            | Request::Export { .. }
            | Request::ExportImage { .. }
            | Request::LoadPlatforms { .. } => 1,
            Request::Volume(request) => request.descriptors(),
            Request::Create(_)
            | Request::Network(_)
            | Request::Resize { .. }
            | Request::Stop { .. }
            | Request::Kill { .. }
            | Request::Pause { .. }
            | Request::Resume { .. }
            | Request::Wait { .. }
            | Request::Remove { .. }
            | Request::Rename { .. }
            | Request::Update { .. }
            | Request::Restart { .. }
            | Request::List
            | Request::Inspect { .. }
            | Request::ExecWait { .. }
            | Request::ExecResize { .. }
            | Request::ExecInspect { .. }
            | Request::Stats(_)
            | Request::HostPids { .. }
            | Request::Tag { .. }
            | Request::RemoveImage { .. }
            | Request::Images
            | Request::ImageInspect { .. }
            | Request::PathStat { .. }
            | Request::PathChanges { .. }
            | Request::Commit { .. }
            | Request::Fork { .. }
            | Request::Events(_)
            | Request::Detached { .. }
            | Request::ExecDetached { .. }
            | Request::Doctor { .. }
            | Request::PruneImages(_)
            | Request::PruneContainers(_)
            | Request::DiskUsage
            | Request::ContainerSizes { .. }
            | Request::MountImage { .. }
            | Request::ImageMounted { .. }
            | Request::ImageUnmounted { .. }
            | Request::ImageMounts
            | Request::Admission { .. }
            | Request::Pull(_)
            | Request::Push(_)
            | Request::Login(_)
            | Request::Info => 0,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It is done, or that was all.
    Done,
    /// It was not done.
    Failed(Failure),
    /// A container was made.
    Created(Created),
    /// A container runs, and streams are attached as asked.
    Started,
    /// A container or exec ended.
    Exit(Exit),
    /// A container.
    Container(Box<Container>),
    /// A container in a list of them.
    Summary(Box<Summary>),
    /// An exec was started; its id.
    Exec(String),
    /// An exec.
    ExecView(Box<ExecView>),
    /// What a container uses.
    ContainerStats(Box<ContainerStats>),
    /// What there is on the host.
    HostStats(HostStats),
    /// Host process ids.
    Pids(Vec<u32>),
    /// How far it has come.
    Progress(Progress),
    /// What happens to an image on its way.
    Transfer(TransferEvent),
    /// What was pulled.
    Pulled(Vec<Pulled>),
    /// The id of something new.
    Name(String),
    /// What happened to the image store.
    Changes(Vec<Change>),
    /// An image.
    Image(Box<ImageView>),
    /// Something about volumes.
    Volume(VolumeReply),
    /// Something about networks.
    Network(NetworkReply),
    /// What went.
    Pruned(Pruned),
    /// What takes room on the disk.
    DiskUsage(Box<DiskUsage>),
    /// How large containers are.
    ContainerSizes(Vec<ContainerSize>),
    /// An image, ready to be mounted.
    ImageMount(ImageMount),
    /// Images that are mounted.
    ImageMounts(Vec<ImageMount>),
    /// The daemon in a few numbers.
    Info(Box<Info>),
    /// Something happened.
    Event(Box<Event>),
    /// What is wrong, and what is left over.
    Diagnosis(Box<Diagnosis>),
    /// What the host's own rules say of a port.
    Admission(Box<net::Admission>),
    /// What is at a path.
    PathStat(Box<FileStat>),
    /// What a container changed of its image.
    PathChanges(Vec<PathChange>),
}

impl Reply {
    /// Whether nothing more comes in answer to the request.
    pub fn ends(&self) -> bool {
        match self {
            Reply::Created(_)
            | Reply::Started
            | Reply::Container(_)
            | Reply::Summary(_)
            | Reply::Image(_)
            | Reply::Volume(_)
            | Reply::Network(_)
            | Reply::Event(_)
            | Reply::PathChanges(_)
            | Reply::ImageMount(_)
            | Reply::ContainerStats(_)
            | Reply::Transfer(_)
            | Reply::Progress(_) => false,
            Reply::Done
            | Reply::Failed(_)
            | Reply::Exit(_)
            | Reply::Exec(_)
            | Reply::ExecView(_)
            | Reply::HostStats(_)
            | Reply::Pids(_)
            | Reply::Name(_)
            | Reply::Pulled(_)
            | Reply::Changes(_)
            | Reply::PathStat(_)
            | Reply::Info(_)
            | Reply::Diagnosis(_)
            | Reply::Pruned(_)
            | Reply::DiskUsage(_)
            | Reply::ContainerSizes(_)
            | Reply::Admission(_)
            | Reply::ImageMounts(_) => true,
        }
    }
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What the client can do about it.
    pub kind: ErrorKind,
    /// What was asked and what was wrong, causes included.
    pub message: String,
    /// What would be right: sentences for people.
    #[serde(default)]
    pub hints: Vec<String>,
}
