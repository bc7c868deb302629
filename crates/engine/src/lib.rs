//! Composes images, networks, mounts and drivers into running sandboxes, and keeps the records.
//!
//! One actor per sandbox; decisions are the pure function `step`; intent is recorded before it is
//! acted upon. The engine knows no concrete driver, no client's protocol and no wire format:
//! [`Create`] is what every adapter's request becomes, [`Container`] what every adapter shows.

mod actor;
mod config;
mod disk;
mod doctor;
mod ending;
mod engine;
mod error;
mod events;
mod execs;
mod files;
mod fork;
#[doc(hidden)]
pub mod fuzzing;
mod gather;
mod health;
mod images;
mod journal;
mod log_options;
mod logs;
mod names;
mod networks;
mod plan;
mod pool;
mod record;
mod records;
mod registries;
mod registry;
mod request;
mod restart;
mod seat;
mod spec;
mod stats;
mod step;
mod stopped;
#[cfg(test)]
mod tests;
mod tidy;
mod transfer;
mod update;
mod userns;
mod view;
mod volume;

pub use ::registry::Credentials;
pub use config::{Config, Embedded, Ipv6, Lacks, OrdinaryUser};
pub use disk::{
    ContainerSize, DiskUsage, ImageMount, ImageSize, ImageUsage, LabelCondition, Prune, Pruned,
    Space,
};
pub use doctor::{Diagnosis, Leftover, Outcome};
pub use ending::Ending;
pub use engine::{Engine, OnProgress};
pub use error::{EngineError, OpenError};
pub use events::{
    Attributes, Event, EventFilter, EventKind, EventQuery, EventScope, EventStream, LabelFilter,
};
pub use health::{Health, HealthCheck, HealthResult, HealthStatus, HealthTest};
pub use log_options::{LogKind, LogOptionError, LogOptions, SyslogOptions};
pub use logs::LogStream;
pub use networks::{
    EndpointRequest, EndpointView, NetworkCreate, NetworkInfo, NetworkUser, Pool, PoolRequest,
};
pub use records::RecordsError;
pub use request::{
    Change, Commit, Create, DeviceRequest, ExecCreate, Fork, Import, LogQuery, MountKind,
    MountRequest, NamespaceMode, NetworkMode, PortRequest, Protocol, Remove, RemoveImage,
    SecurityOptions, Stop, UlimitRequest, VolumeMount, WaitFor,
};
pub use restart::{RestartPolicy, RestartPolicyError};
pub use seat::{Mark, Seat};
pub use stats::{ContainerStats, HostStats, Stats, StatsQuery};
pub use transfer::{
    DistributionView, LoginRequest, Pulled, TransferEvent, TransferNews, TransferRequest,
};
pub use update::Update;
pub use view::{
    Container, ContainerState, Created, ExecView, ImageAbout, ImageConfig, ImageHistory,
    ImageVariant, ImageView, Info, LogEntry, LogSource, NetworkView, PathChange, PathChangeKind,
    PortBinding, Progress, StateView, Summary,
};
pub use volume::{
    SnapshotView, VolumeCreate, VolumeLabel, VolumePrune, VolumeUsage, VolumeView, VolumesPruned,
};
