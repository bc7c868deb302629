//! What is wrong with this host and with what we have on it, and what may be cleared away.
//!
//! ```text
//! look ──▶ suspects ──a moment──▶ look again ──▶ those still there are left over ──▶ clear
//! ```
//!
//! Who looks does not stop what is under way: a container that comes or goes shows traces that no
//! record speaks of, for a moment. Only what is there in two looks is called a leftover.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use base::{Deadline, SandboxId};
use net::InterfaceName;
use serde::{Deserialize, Serialize};
use workload::{Driver, Finding, SandboxHandle};

use crate::{
    ContainerState, Engine, EngineError,
    actor::blocking,
    engine::{Shared, uses},
    error::chain,
    files::{self, failed},
};

/// Between two looks: longer than anything stays that goes by itself.
const MOMENT: Duration = Duration::from_secs(3);
/// How long a driver may take to clear one sandbox away.
const CLEAR_WAIT: Duration = Duration::from_secs(30);
/// Free room below which the data root is called full, in bytes.
const ROOM_MIN: u64 = 1 << 30;
/// Open files below which a daemon with many containers runs into trouble: a container takes five.
const DESCRIPTORS_MIN: u64 = 8192;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Diagnosis {
    /// What this host can do, and what is wrong with the records and the store.
    pub findings: Vec<Finding>,
    /// What nobody knows of, or knows as gone.
    pub leftovers: Vec<Leftover>,
}

/// Something that a crash left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftover {
    /// What it is, by its name on this host.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a leftover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nobody asked for it to go.
    Found,
    /// It is gone.
    Removed,
    /// It would not go.
    Stays(String),
}

/// A thing that is perhaps left over, and how it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Suspect {
    Sandbox { handle: SandboxHandle, what: String },
    Directory(PathBuf),
    Cable(InterfaceName),
    ImageFile(PathBuf),
    VolumeMount(PathBuf),
}

impl Suspect {
    fn what(&self) -> String {
        match self {
            Suspect::Sandbox { what, .. } => what.clone(),
            Suspect::Directory(path) => format!("directory {}", path.display()),
            Suspect::Cable(name) => format!("network link {name}"),
            Suspect::ImageFile(path) => format!("file {}", path.display()),
            Suspect::VolumeMount(path) => format!("mount points {}", path.display()),
        }
    }
}

impl Engine {
    /// Looks at the host and at what we have on it; with `repair`, clears away what is left over.
    /// Takes some seconds if anything is suspect.
    ///
    /// # Errors
    /// [`EngineError`] if the host cannot be looked at.
    pub async fn doctor(&self, repair: bool) -> Result<Diagnosis, EngineError> {
        let shared = self.shared();
        let mut findings = Vec::new();
        let mut seen = BTreeSet::new();
        for driver in shared.drivers.values() {
            let new = driver.probe().await;
            findings.extend(new.into_iter().filter(|finding| seen.insert(finding.subject.clone())));
        }
        let of_host = Arc::clone(shared);
        findings.extend(blocking("looking at the host", move || Ok(host(&of_host, repair))).await?);
        let mut suspects = look(shared).await?;
        if !suspects.is_empty() {
            tokio::time::sleep(MOMENT).await;
            let again = look(shared).await?;
            suspects.retain(|suspect| again.contains(suspect));
        }
        let mut leftovers = Vec::new();
        for suspect in suspects {
            let what = suspect.what();
            let outcome = match repair {
                false => Outcome::Found,
                true => match clear(shared, suspect).await {
                    Ok(()) => Outcome::Removed,
                    Err(failure) => Outcome::Stays(chain(&failure)),
                },
            };
            leftovers.push(Leftover { what, outcome });
        }
        Ok(Diagnosis { findings, leftovers })
    }
}

/// Everything that is there and should not be, by the records.
async fn look(shared: &Arc<Shared>) -> Result<Vec<Suspect>, EngineError> {
    let mut traces = Vec::new();
    for driver in shared.drivers.values() {
        let found = driver.traces().await;
        traces.extend(found.map_err(EngineError::Driver)?);
    }
    // The records are read last: what is made is on record before it is there.
    let alive: BTreeSet<SandboxId> = running(shared);
    let mut suspects: Vec<Suspect> = Vec::new();
    for trace in traces.into_iter().filter(|trace| !alive.contains(&trace.handle.sandbox)) {
        let known = suspects.iter().any(|suspect| suspect.what() == trace.what);
        if !known {
            suspects.push(Suspect::Sandbox { handle: trace.handle, what: trace.what });
        }
    }
    let shared = Arc::clone(shared);
    suspects.extend(blocking("looking for leftovers", move || resources(&shared)).await?);
    Ok(suspects)
}

/// Sandboxes that may be there: of containers that run, or on their way in or out.
fn running(shared: &Shared) -> BTreeSet<SandboxId> {
    let entries = shared.registry.entries();
    let entries = entries.iter().filter(|entry| {
        let idle = [ContainerState::Created, ContainerState::Exited];
        let snapshot = entry.snapshot.borrow();
        !idle.contains(&snapshot.container.state.state) || entry.live().sandbox.is_some()
    });
    entries.filter_map(|entry| entry.id.as_str().parse().ok()).collect()
}

fn resources(shared: &Shared) -> Result<Vec<Suspect>, EngineError> {
    let cables = shared.networks.strays()?;
    let ids = |shared: &Shared| -> BTreeSet<String> {
        shared.registry.entries().iter().map(|entry| entry.id.to_string()).collect()
    };
    let files = shared.images.strays(&uses(shared))?;
    let directories = shared.files.orphans(|| ids(shared));
    let directories = directories.map_err(failed("look through", &shared.config.data))?;
    let directories = directories.into_iter().map(Suspect::Directory);
    let files = files.into_iter().map(Suspect::ImageFile);
    let mounts = shared.volumes.store.idle_mounts().into_iter().map(Suspect::VolumeMount);
    let cables = cables.into_iter().map(Suspect::Cable);
    Ok(directories.chain(files).chain(cables).chain(mounts).collect())
}

async fn clear(shared: &Arc<Shared>, suspect: Suspect) -> Result<(), EngineError> {
    if let Suspect::Sandbox { handle, .. } = suspect {
        let driver = shared.drivers.get(&handle.isolation).cloned();
        let driver = driver.ok_or(EngineError::NoDriver(handle.isolation))?;
        let cleared = clear_sandbox(&*driver, handle).await;
        return cleared.map_err(EngineError::Driver);
    }
    let shared = Arc::clone(shared);
    blocking("clearing it away", move || match suspect {
        Suspect::Sandbox { .. } => Ok(()),
        Suspect::Directory(path) => files::remove(&path).map_err(failed("remove", &path)),
        Suspect::Cable(cable) => shared.networks.remove_stray(&cable),
        Suspect::ImageFile(_) => shared.images.collect(&uses(&shared)),
        Suspect::VolumeMount(_) => {
            shared.volumes.store.unmount_idle();
            Ok(())
        }
    })
    .await
}

async fn clear_sandbox(
    driver: &dyn Driver,
    handle: SandboxHandle,
) -> Result<(), workload::DriverError> {
    let by = Deadline::after(CLEAR_WAIT);
    match driver.recover(handle, by).await? {
        Some(sandbox) => sandbox.destroy(by).await,
        None => Ok(()),
    }
}

/// What only the engine knows of this host.
fn host(shared: &Shared, repair: bool) -> Vec<Finding> {
    let mut findings = shared.images.findings();
    findings.extend(shared.networks.findings(repair));
    findings.push(shared.records.finding());
    findings.push(volumes(shared));
    findings.push(room(&shared.config.data));
    findings.push(descriptors());
    findings
}

fn volumes(shared: &Shared) -> Finding {
    let subject = "volumes".to_owned();
    let faults = shared.volumes.store.faults();
    let faults = faults.unwrap_or_else(|error| vec![chain(&error)]);
    if faults.is_empty() {
        let count = shared.volumes.store.list().len();
        let detail = format!("{count} of them, records and content are there");
        return Finding { subject, works: true, detail, mend: None };
    }
    let mend = "put back what is missing from a copy, or move the directory away; then restart the \
                daemon";
    Finding { subject, works: false, detail: faults.join("; "), mend: Some(mend.to_owned()) }
}

fn room(data: &std::path::Path) -> Finding {
    let subject = "room for data".to_owned();
    match rustix::fs::statvfs(data) {
        Ok(disk) => {
            if disk.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
                let detail = format!("{} is read-only", data.display());
                let mend = "see why in the kernel's log (dmesg), check the file system, mount it \
                            writable and start the daemon again";
                return Finding { subject, works: false, detail, mend: Some(mend.to_owned()) };
            }
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            // Some file systems have no fixed number of files, and say 0.
            let files = disk.f_files == 0 || disk.f_favail > 1000;
            let works = free >= ROOM_MIN && files;
            let shown = base::ByteSize(free);
            let detail = format!("{shown} free at {}", data.display());
            let mend = (!works).then(|| "wythe system prune, or a larger disk".to_owned());
            Finding { subject, works, detail, mend }
        }
        Err(error) => {
            let detail = format!("{}: {error}", data.display());
            Finding { subject, works: false, detail, mend: None }
        }
    }
}

fn descriptors() -> Finding {
    let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let works = most.is_none_or(|most| most >= DESCRIPTORS_MIN);
    let detail = match most {
        Some(most) => format!("the daemon may have {most} open"),
        None => "the daemon may have any number open".to_owned(),
    };
    let mend =
        (!works).then(|| format!("start the daemon with ulimit -n {DESCRIPTORS_MIN} or more"));
    Finding { subject: "descriptors".to_owned(), works, detail, mend }
}
