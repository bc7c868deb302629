//! A machine that is kept, as a row of `vm ls` and as the JSON of `vm inspect`.

use base::{ByteSize, chain, clock::Timestamp};
use machines::{Kept, Kernel, Name, Snapshot, State, Usage, disk::Place, net::Network};
use serde::Serialize;

use crate::{
    output::{format::Column, human},
    template::Value,
    time,
};

/// The columns of `vm ls`.
pub(crate) const COLUMNS: [Column; 10] = [
    ("CPUs", "CPUS"),
    ("CreatedAt", "CREATED AT"),
    ("Disks", "DISKS"),
    ("Kernel", "KERNEL"),
    ("Memory", "MEMORY"),
    ("Name", "NAME"),
    ("Network", "NETWORK"),
    ("Resident", "RESIDENT"),
    ("State", "STATE"),
    ("Status", "STATUS"),
];

/// The table of `vm ls`.
pub(crate) const TABLE: &str =
    "{{.Name}}\t{{.Status}}\t{{.CPUs}}\t{{.Memory}}\t{{.Resident}}\t{{.Kernel}}\t{{.Network}}";

/// The columns of `vm snapshot ls`.
pub(crate) const SNAPSHOT_COLUMNS: [Column; 6] = [
    ("CreatedAt", "CREATED AT"),
    ("CreatedSince", "CREATED"),
    ("Memory", "MEMORY"),
    ("Name", "NAME"),
    ("Parent", "PARENT"),
    ("Size", "SIZE"),
];

/// The table of `vm snapshot ls`.
pub(crate) const SNAPSHOT_TABLE: &str =
    "{{.Name}}\t{{.CreatedSince}}\t{{.Memory}}\t{{.Size}}\t{{.Parent}}";

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "CPUs")]
    cpus: String,
    created_at: String,
    disks: usize,
    kernel: String,
    memory: String,
    name: String,
    network: String,
    resident: String,
    state: String,
    status: String,
}

/// A machine as a row.
pub(crate) fn row(kept: &Kept, state: &State, usage: Option<Usage>, now: Timestamp) -> Value {
    let spec = &kept.spec;
    let resident = usage.map_or(String::new(), |usage| ByteSize(usage.resident_bytes).to_string());
    Value::of(&Row {
        cpus: spec.cpus.to_string(),
        created_at: time::table(seconds(spec.created)),
        disks: spec.disks.len(),
        kernel: kernel(&spec.kernel),
        memory: memory(spec.memory_bytes, usage),
        name: kept.name.to_string(),
        network: network(&spec.network),
        resident,
        state: state.word().to_owned(),
        status: status(state, now),
    })
}

/// A machine of which nothing can be said but why.
pub(crate) fn damaged(name: &Name, why: &dyn std::error::Error) -> Value {
    let status = format!("damaged: {}", chain(why));
    let state = "damaged".to_owned();
    Value::of(&Row { name: name.to_string(), state, status, ..Row::default() })
}

fn seconds(at: u64) -> Timestamp {
    Timestamp(at.saturating_mul(1_000_000_000))
}

/// What the guest has left of its memory, if some was taken from it, and how much it has.
fn memory(bytes: u64, usage: Option<Usage>) -> String {
    let given = usage.map_or(0, |usage| usage.given_bytes.min(bytes));
    match given {
        0 => ByteSize(bytes).to_string(),
        given => format!("{} of {}", ByteSize(bytes - given), ByteSize(bytes)),
    }
}

fn kernel(kernel: &Kernel) -> String {
    match kernel {
        Kernel::Named(name) => name.clone(),
        Kernel::Own(path) => path.display().to_string(),
    }
}

fn network(network: &Network) -> String {
    match network {
        Network::None => "none".to_owned(),
        Network::User { ports, .. } if ports.is_empty() => "user".to_owned(),
        Network::User { ports, .. } => {
            let ports: Vec<_> = ports.iter().map(ToString::to_string).collect();
            format!("user {}", ports.join(", "))
        }
    }
}

/// How it stands, since when, and how it came to that.
fn status(state: &State, now: Timestamp) -> String {
    let ago = |at: u64| time::human(time::between(seconds(at), now));
    match state {
        State::Created => "created".to_owned(),
        State::Running { since: None } => "starting or ending".to_owned(),
        State::Running { since: Some(since) } => format!("running {}", ago(*since).to_lowercase()),
        State::Ended(end) => {
            format!("{} {} ago: {}", state.word(), ago(end.at).to_lowercase(), end.how.sentence())
        }
        State::Killed { began } => {
            let began = ago(*began).to_lowercase();
            format!("killed: its process is gone without a word; it had begun {began} ago")
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Detail<'a> {
    name: &'a Name,
    id: &'a str,
    created: String,
    state: &'static str,
    status: String,
    process: Option<u32>,
    directory: String,
    #[serde(rename = "CPUs")]
    cpus: u8,
    memory_bytes: u64,
    resident_bytes: Option<u64>,
    balloon_asked_bytes: Option<u64>,
    balloon_given_bytes: Option<u64>,
    accelerator: Option<hv::Accel>,
    kernel: String,
    initrds: usize,
    arguments: &'a str,
    acpi: bool,
    disks: Vec<DiskDetail>,
    network: &'a Network,
    snapshots: Vec<SnapshotDetail<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SnapshotDetail<'a> {
    name: &'a Name,
    created: String,
    size_bytes: u64,
    parent: Option<&'a Name>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DiskDetail {
    path: String,
    format: machines::disk::Format,
    read_only: bool,
    own: bool,
    cloud_init: bool,
    backing: Vec<String>,
}

/// Everything about a machine.
pub(crate) fn detail(
    kept: &Kept,
    state: &State,
    usage: Option<Usage>,
    snapshots: &[Snapshot],
) -> Value {
    let spec = &kept.spec;
    let snapshots = snapshots.iter().map(|snapshot| SnapshotDetail {
        name: &snapshot.name,
        created: time::rfc3339(Some(seconds(snapshot.manifest.created))),
        size_bytes: snapshot.bytes,
        parent: snapshot.manifest.parent.as_ref(),
    });
    let disks = spec.disks.iter().map(|disk| DiskDetail {
        path: disk.path(&kept.directory).display().to_string(),
        format: disk.format,
        read_only: disk.read_only,
        own: matches!(disk.place, Place::Own(_)),
        cloud_init: disk.seed,
        backing: disk.backing.iter().map(|path| path.display().to_string()).collect(),
    });
    Value::of(&Detail {
        name: &kept.name,
        id: &spec.uuid,
        created: time::rfc3339(Some(seconds(spec.created))),
        state: state.word(),
        status: status(state, Timestamp::now()),
        process: usage.map(|usage| usage.pid),
        directory: kept.directory.display().to_string(),
        cpus: spec.cpus,
        memory_bytes: spec.memory_bytes,
        resident_bytes: usage.map(|usage| usage.resident_bytes),
        balloon_asked_bytes: usage.map(|usage| usage.asked_bytes),
        balloon_given_bytes: usage.map(|usage| usage.given_bytes),
        accelerator: spec.accel,
        kernel: kernel(&spec.kernel),
        initrds: spec.initrds,
        arguments: &spec.arguments,
        acpi: spec.acpi,
        disks: disks.collect(),
        network: &spec.network,
        snapshots: snapshots.collect(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct SnapshotRow {
    created_at: String,
    created_since: String,
    memory: String,
    name: String,
    parent: String,
    size: String,
}

/// A snapshot as a row.
pub(crate) fn snapshot_row(snapshot: &Snapshot, now: Timestamp) -> Value {
    let created = seconds(snapshot.manifest.created);
    Value::of(&SnapshotRow {
        created_at: time::table(created),
        created_since: time::human(time::between(created, now)) + " ago",
        memory: ByteSize(snapshot.manifest.machine.memory_bytes).to_string(),
        name: snapshot.name.to_string(),
        parent: snapshot.manifest.parent.as_ref().map(Name::to_string).unwrap_or_default(),
        size: human::size(snapshot.bytes),
    })
}

#[cfg(test)]
mod tests {
    use machines::{Ended, How};

    use super::*;

    #[test]
    fn an_end_is_told_in_a_sentence() {
        let now = seconds(1000);
        let said = |state: &State| status(state, now);
        assert_eq!(said(&State::Running { since: Some(820) }), "running 3 minutes");
        let end = Ended { at: 995, how: How::Panicked };
        assert_eq!(said(&State::Ended(end)), "panicked 5 seconds ago: its kernel panicked");
        assert!(said(&State::Killed { began: 995 }).starts_with("killed: its process is gone"));
    }

    #[test]
    fn memory_that_was_given_back_is_shown() {
        let usage = Usage { given_bytes: 64 << 20, ..Usage::default() };
        assert_eq!(memory(256 << 20, Some(usage)), "192MiB of 256MiB");
        assert_eq!(memory(256 << 20, None), "256MiB");
    }
}
