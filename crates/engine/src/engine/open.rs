//! Opening: records and host are brought together, and what still runs is taken over.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use base::Deadline;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tracing::{error, info, warn};
use workload::Driver;

use super::{Engine, Inner, Shared, forks::SAVE_WAIT, still::STANDS_STILL};
use crate::{
    Config, EngineError, OpenError,
    actor::{Actor, MAILBOX, first_view},
    error::chain,
    events::Events,
    execs::Execs,
    files::{self, Files},
    gather::HostFacts,
    images::{ImageUse, Images, StoreImages},
    networks::{HostNetworks, Known, Networks},
    pool,
    record::{Record, Stage},
    records::Records,
    registries::Registries,
    registry::{Entry, Registry, Snapshot},
    tidy::tidy,
    volume::Volumes,
};

/// Between two tries to delete what somebody is still writing.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What the engine composes beside drivers.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) images: Arc<dyn Images>,
    pub(crate) networks: Arc<dyn Networks>,
}

impl Engine {
    /// Opens the engine: takes the data root for itself, reads the records, brings host and
    /// records together, and re-adopts what still runs.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(config: Config, drivers: Vec<Arc<dyn Driver>>) -> Result<Engine, OpenError> {
        let parts = |config: &Config| {
            let images = Arc::new(StoreImages::open(&config.data, &config.run)?);
            let ports = config.user.as_ref().map(|user| Arc::clone(&user.ports));
            let networks = HostNetworks::new(config.bridge.clone(), config.ipv6, None, ports);
            let networks = networks.with_loopback(config.loopback.clone());
            let networks = Arc::new(networks.with_data(&config.data).map_err(|source| {
                let path = config.data.join("networks.json");
                OpenError::Files { step: "read", path, source }
            })?);
            Ok(Parts { images, networks })
        };
        Engine::open_with(config, drivers, parts).await
    }

    pub(crate) async fn open_with(
        config: Config,
        drivers: Vec<Arc<dyn Driver>>,
        parts: impl FnOnce(&Config) -> Result<Parts, OpenError> + Send + 'static,
    ) -> Result<Engine, OpenError> {
        let opened = tokio::task::spawn_blocking(move || open_blocking(config, drivers, parts));
        let failed = |error: tokio::task::JoinError| OpenError::Failed(error.to_string());
        let (shared, records) = opened.await.map_err(failed)??;
        let actors = Mutex::new(JoinSet::new());
        shared.tell_daemon("start");
        tokio::spawn(tidy(shared.events.told()));
        let engine = Engine { inner: Arc::new(Inner { shared: Arc::new(shared), actors }) };
        engine.take_over(records).await;
        Ok(engine)
    }

    /// Every container of the records gets its task, which finds what there is of it.
    async fn take_over(&self, records: Vec<Record>) {
        let shared = &self.inner.shared;
        let mut waiting = Vec::new();
        let mut marks = Vec::new();
        for mut record in records {
            if record.is_unborn() {
                record.stage = Stage::Removing;
            }
            let mark = shared.files.directory(&record.id).join(STANDS_STILL);
            if mark.exists() {
                if matches!(record.stage, Stage::Pausing | Stage::Paused) {
                    record.stage = Stage::Resuming;
                }
                marks.push(mark);
            }
            let (sender, mailbox) = mpsc::channel(MAILBOX);
            let snapshot = Snapshot {
                container: Arc::new(first_view(&record)),
                made: record.stage != Stage::Making,
                alive: false,
                logs: false,
                ends: 0,
                exit: record.exit,
                gone: false,
            };
            let entry = |_| Entry::new(record.id.clone(), record.layers.clone(), sender, snapshot);
            let name = Some(record.name.clone());
            let entry = match shared.registry.enter(&record.id, name, std::iter::empty(), entry) {
                Ok(entry) => entry,
                Err(failure) => {
                    error!(container = %record.id, error = chain(&failure), "two have one name");
                    continue;
                }
            };
            let (ready, told) = oneshot::channel();
            waiting.push(told);
            let actor = Actor::new(Arc::clone(shared), entry, mailbox, record, true);
            self.inner.spawn(actor.recover(ready));
        }
        let found = waiting.len();
        for told in waiting {
            // A task that ended without a word has logged why.
            told.await.ok();
        }
        for mark in marks {
            std::fs::remove_file(mark).ok();
        }
        self.inner.spawn(delete_abandoned(Arc::clone(shared)));
        if found > 0 {
            info!(containers = found, "containers are taken over");
        }
    }
}

/// Deletes what a killed daemon had saved, when nobody writes to it any more.
async fn delete_abandoned(shared: Arc<Shared>) {
    let mut closing = shared.closing.subscribe();
    let by = Deadline::after(SAVE_WAIT);
    while !by.passed() && !*closing.borrow() {
        let files = shared.files.clone();
        if pool::run(move || files.delete_abandoned()).await == Some(true) {
            return;
        }
        // What is left then is deleted when the engine is next opened.
        tokio::time::timeout(LOOK_AGAIN, closing.changed()).await.ok();
    }
}

fn open_blocking(
    config: Config,
    drivers: Vec<Arc<dyn Driver>>,
    parts: impl FnOnce(&Config) -> Result<Parts, OpenError>,
) -> Result<(Shared, Vec<Record>), OpenError> {
    let lock = files::lock(&config.data)?;
    files::make_private(&config.run).map_err(|source| OpenError::Files {
        step: "make",
        path: config.run.clone(),
        source,
    })?;
    let files = Files::open(&config.data, &config.run)?;
    let (records, mut found) = Records::open(&config.data)?;
    found.sort_by(|a, b| (a.created, &a.id).cmp(&(b.created, &b.id)));
    let Parts { images, networks } = parts(&config)?;

    let known: BTreeSet<_> = found.iter().map(|record| record.id.to_string()).collect();
    if let Err(failure) = files.remove_orphans(&known) {
        warn!(error = %failure, "orphans cannot be looked for");
    }
    adopt(&found, &*images, &*networks);
    let events = Events::default();
    let volumes = Volumes::open(&config.data, &config.run, &found, events.clone())?;
    let drivers: HashMap<_, _> =
        drivers.into_iter().map(|driver| (driver.capabilities().isolation, driver)).collect();
    let registries = Registries::new(&config.data);
    let shared = Shared {
        config,
        drivers,
        registry: Registry::default(),
        execs: Execs::default(),
        events,
        files,
        images,
        networks,
        volumes,
        registries,
        host: HostFacts::read(),
        closing: watch::Sender::new(false),
        records,
        _lock: lock,
    };
    Ok((shared, found))
}

/// Leases and mounts as the records have them. What cannot be had again costs the container that
/// needs it, not the daemon.
fn adopt(records: &[Record], images: &dyn Images, networks: &dyn Networks) {
    let report = |what: &'static str, result: Result<(), EngineError>| {
        if let Err(failure) = result {
            error!(error = chain(&failure), "{what}");
        }
    };
    let uses: Vec<_> = records.iter().map(image_use).collect();
    for held in uses.iter().filter(|held| held.running) {
        report("layers are not mounted", images.mount(&held.container, &held.layers).map(drop));
    }
    report("the image store is not tidied", images.collect(&uses));
    let plugged: Vec<_> = records
        .iter()
        .filter(|record| record.network.address.is_some())
        .map(|record| Known {
            id: record.id.clone(),
            name: record.name.to_string(),
            view: record.network.clone(),
        })
        .collect();
    report("the network is not as the records have it", networks.adopt(&plugged));
}

/// A container, as far as its image cares.
pub(super) fn image_use(record: &Record) -> ImageUse {
    ImageUse {
        container: record.id.clone(),
        image_id: record.image_id.clone(),
        layers: record.layers.clone(),
        running: !matches!(record.stage, Stage::Idle | Stage::Making),
    }
}
