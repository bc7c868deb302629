//! The `image` crate's store, as the engine wants it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, BufWriter, Read, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use base::{ByteSize, ContainerId, Digest, ErrorKind, clock::Timestamp};
use image::{
    Audit, ContainerUse, ExposeError, Load, Loaded, Options, Platform, Reference, RemoveError,
    Removed, ResolveError, Store, StoreError, TagError, wire,
};
use workload::Finding;

use super::{ImageUse, Images};
use crate::{
    Change, Commit, Create, EngineError, HealthCheck, HealthTest, ImageAbout, ImageConfig,
    ImageHistory, ImageMount, ImageSize, ImageUsage, ImageVariant, ImageView, Import, OpenError,
    Progress, Protocol, Prune, Pruned, RemoveImage, Space, engine::OnProgress, error::chain,
    plan::invalid,
};

/// Read and written at once.
const BUFFER_BYTES: usize = 1 << 20;

/// The store, and how many images it had when it was last changed.
#[derive(Debug)]
pub(crate) struct StoreImages {
    store: Arc<Store>,
    count: AtomicU64,
}

impl StoreImages {
    /// Opens the store of a data root.
    ///
    /// # Errors
    /// [`OpenError::Images`].
    pub(crate) fn open(data: &Path, run: &Path) -> Result<StoreImages, OpenError> {
        let options = Options {
            data: data.to_owned(),
            run: run.to_owned(),
            form: None,
            platform: Platform::host(),
        };
        let store = Store::open(&options).map_err(|error| OpenError::Images(chain(&error)))?;
        let images = StoreImages { store: Arc::new(store), count: AtomicU64::new(0) };
        images.recount();
        Ok(images)
    }

    fn view(&self, image: &image::Image) -> Result<ImageView, EngineError> {
        let form = match self.store.form() {
            image::Form::Erofs(_) => "erofs",
            image::Form::Directory(_) => "directory",
        };
        view(image, form)
    }
}

impl Images for StoreImages {
    fn store(&self) -> Option<Arc<Store>> {
        Some(Arc::clone(&self.store))
    }

    fn recount(&self) {
        let count = self.store.list().map_or(0, |list| list.len());
        self.count.store(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn find_for(&self, name: &str, wanted: Option<&str>) -> Result<ImageView, EngineError> {
        let wanted = wanted.map(platform).transpose()?;
        self.view(&self.store.image(name, wanted.as_ref()).map_err(unresolved)?)
    }

    fn mount(
        &self,
        container: &ContainerId,
        layers: &[Digest],
    ) -> Result<Vec<PathBuf>, EngineError> {
        let mounted = self.store.mount(container.as_str(), layers);
        mounted.map_err(|error| wrong(error.kind(), &error))
    }

    fn files(&self, layers: &[Digest]) -> Result<Vec<PathBuf>, EngineError> {
        self.store.layer_files(layers).ok_or_else(|| EngineError::Unsupported {
            what: "layers as files".to_owned(),
            why: "this host keeps them as directories: its kernel has no EROFS".to_owned(),
        })
    }

    fn unmount(&self, container: &ContainerId) {
        self.store.unmount(container.as_str());
    }

    fn findings(&self) -> Vec<Finding> {
        let mut findings = self.store.findings().to_vec();
        findings.push(sound(self.store.audit(&[], false)));
        findings
    }

    fn strays(&self, uses: &[ImageUse]) -> Result<Vec<PathBuf>, EngineError> {
        let uses: Vec<_> = uses.iter().filter_map(container_use).collect();
        let audit = self.store.audit(&uses, false);
        let audit = audit.map_err(|error| wrong(error.kind(), &error))?;
        Ok(audit.extra.into_iter().map(|extra| extra.path).collect())
    }

    fn unmount_idle(&self) {
        self.store.unmount_idle();
    }

    fn list(&self) -> Result<Vec<ImageView>, EngineError> {
        let list = self.store.list().map_err(|error| wrong(error.kind(), &error))?;
        list.iter().map(|summary| self.find(&summary.id.to_string())).collect()
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    fn import(
        &self,
        from: File,
        import: &Import,
        progress: OnProgress,
    ) -> Result<String, EngineError> {
        let name = import.reference.as_deref().map(reference).transpose()?;
        let platform = match import.platform.as_deref() {
            None => Platform::host(),
            Some(text) => platform(text)?,
        };
        let import = image::Import {
            name,
            platform,
            changes: import.changes.clone(),
            message: import.message.clone(),
            now: Timestamp::now(),
        };
        let input = BufReader::with_capacity(BUFFER_BYTES, from);
        let made = self.store.import(input, &import, &mut |news| tell(&progress, &news));
        let made = made.map_err(|error| wrong(error.kind(), &error))?;
        self.recount();
        Ok(made.id.to_string())
    }

    fn commit(
        &self,
        parent: &str,
        layer: &mut (dyn Read + Send),
        commit: &Commit,
        config: &Create,
    ) -> Result<String, EngineError> {
        let name = commit.reference.as_deref().map(reference).transpose()?;
        let parent = parent.parse();
        let parent = parent.map_err(|error: base::DigestError| invalid("image", chain(&error)))?;
        let words = config.entrypoint.iter().flatten().chain(&config.command);
        let made = image::Commit {
            parent,
            name,
            author: commit.author.clone(),
            message: commit.message.clone(),
            created_by: words.map(String::as_str).collect::<Vec<_>>().join(" "),
            changes: commit.changes.clone(),
            now: Timestamp::now(),
        };
        let id = self.store.commit(layer, &made, |of_image| configure(of_image, config));
        let id = id.map_err(|error| wrong(error.kind(), &error))?;
        self.recount();
        Ok(id.to_string())
    }

    fn load(
        &self,
        from: File,
        wanted: &[String],
        progress: OnProgress,
    ) -> Result<Vec<Change>, EngineError> {
        let load = Load { platforms: platforms(wanted)?, name: None, now: Timestamp::now() };
        let input = BufReader::with_capacity(BUFFER_BYTES, from);
        let loaded = self.store.load(input, &load, &mut |news| tell(&progress, &news));
        let loaded = loaded.map_err(|error| wrong(error.kind(), &error))?;
        self.recount();
        Ok(loaded.iter().flat_map(changes).collect())
    }

    fn save(&self, names: &[String], wanted: &[String], to: File) -> Result<(), EngineError> {
        let wanted = platforms(wanted)?;
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let mut out = BufWriter::with_capacity(BUFFER_BYTES, to);
        let saved = self.store.save(&names, &wanted, &mut out, &mut |_| ());
        saved.map_err(|error| wrong(error.kind(), &error))?;
        out.flush().map_err(crate::files::failed("write", Path::new("the archive")))
    }

    fn tag(&self, from: &str, to: &str) -> Result<(), EngineError> {
        let tagged = self.store.tag(from, to, Timestamp::now());
        tagged.map(drop).map_err(|error| match error {
            TagError::Resolve(error) => unresolved(error),
            TagError::Reference(_) | TagError::Digest(_) | TagError::Store(_) => {
                wrong(error.kind(), &error)
            }
        })
    }

    fn remove(
        &self,
        name: &str,
        remove: &RemoveImage,
        uses: &[ImageUse],
    ) -> Result<Vec<Change>, EngineError> {
        let wanted = platforms(&remove.platforms)?;
        let uses: Vec<_> = uses.iter().filter_map(container_use).collect();
        let removed = self.store.remove(name, remove.force, &wanted, &uses);
        let removed = removed.map_err(|error| match error {
            RemoveError::Resolve(error) => unresolved(error),
            RemoveError::Conflict(_) | RemoveError::Store(_) => wrong(error.kind(), &error),
        })?;
        self.recount();
        Ok(removed.into_iter().map(change).collect())
    }

    fn prune(&self, prune: &Prune, uses: &[ImageUse]) -> Result<Pruned, EngineError> {
        let uses: Vec<_> = uses.iter().filter_map(container_use).collect();
        let wanted = |config: &wire::ImageConfig| {
            let labels = config.config.as_ref().and_then(|config| config.labels.as_ref());
            prune.takes(config.created_at(), labels.unwrap_or(&BTreeMap::new()))
        };
        let pruned = self.store.prune(prune.all, &wanted, &uses);
        let pruned = pruned.map_err(|error| wrong(error.kind(), &error))?;
        self.recount();
        Ok(Pruned {
            containers: Vec::new(),
            images: pruned.removed.into_iter().map(change).collect(),
            bytes: pruned.bytes,
        })
    }

    fn usage(&self, uses: &[ImageUse]) -> Result<ImageUsage, EngineError> {
        let uses: Vec<_> = uses.iter().filter_map(container_use).collect();
        let usage = self.store.usage(&uses).map_err(|error| wrong(error.kind(), &error))?;
        let space = |space: image::Space| Space {
            files: space.files,
            bytes: space.bytes,
            reclaimable: space.reclaimable,
        };
        let size = |size: &image::ImageSize| ImageSize {
            id: size.id.to_string(),
            shared: size.shared,
            unique: size.unique,
        };
        Ok(ImageUsage {
            images: usage.images.iter().map(size).collect(),
            layers: space(usage.layers),
            archives: space(usage.blobs),
        })
    }

    fn expose(
        &self,
        name: &str,
        wanted: Option<&str>,
        target: &Path,
        namespace: &Path,
    ) -> Result<(ImageMount, OwnedFd), EngineError> {
        let wanted = wanted.map(platform).transpose()?;
        match self.store.expose(name, wanted.as_ref(), target, namespace) {
            Ok((mount, overlay)) => Ok((image_mount(mount), overlay)),
            Err(ExposeError::Resolve(error)) => Err(unresolved(error)),
            Err(error) => Err(wrong(error.kind(), &error)),
        }
    }

    fn keep_exposed(&self, id: &str) -> Result<bool, EngineError> {
        self.store.keep_image_mount(id).map_err(|error| wrong(error.kind(), &error))
    }

    fn conceal(&self, id: &str) -> bool {
        self.store.forget_image_mount(id)
    }

    fn exposed(&self) -> Vec<ImageMount> {
        self.store.image_mounts().into_iter().map(image_mount).collect()
    }

    fn collect(&self, uses: &[ImageUse]) -> Result<(), EngineError> {
        let uses: Vec<_> = uses.iter().filter_map(container_use).collect();
        self.store.collect(&uses).map(drop).map_err(|error| wrong(error.kind(), &error))
    }
}

pub(crate) fn platform(text: &str) -> Result<Platform, EngineError> {
    text.parse().map_err(|error| invalid("platform", chain(&error)))
}

fn platforms(texts: &[String]) -> Result<Vec<Platform>, EngineError> {
    texts.iter().map(|text| platform(text)).collect()
}

fn change(removed: Removed) -> Change {
    match removed {
        Removed::Untagged(name) => Change::Untagged(Reference::familiar(&name)),
        Removed::Deleted(digest) => Change::Deleted(digest.to_string()),
    }
}

fn image_mount(mount: image::ImageMount) -> ImageMount {
    ImageMount {
        source: mount.source(),
        image: mount.image.to_string(),
        id: mount.id,
        name: mount.name,
        target: mount.target,
    }
}

pub(crate) fn wrong(kind: ErrorKind, error: &dyn std::error::Error) -> EngineError {
    EngineError::Image { kind, text: chain(error) }
}

pub(crate) fn unresolved(error: ResolveError) -> EngineError {
    let ResolveError::NotFound { name, similar } = error else {
        return wrong(error.kind(), &error);
    };
    EngineError::NoSuchImage(match similar {
        Some(similar) => format!("{name}; did you mean {similar}?"),
        None => name,
    })
}

pub(crate) fn reference(text: &str) -> Result<Reference, EngineError> {
    text.parse().map_err(|error: image::reference::ReferenceError| wrong(error.kind(), &error))
}

/// Whether all is there that the images need.
fn sound(audit: Result<Audit, StoreError>) -> Finding {
    let subject = "image store".to_owned();
    let audit = match audit {
        Ok(audit) => audit,
        Err(error) => {
            return Finding { subject, works: false, detail: chain(&error), mend: None };
        }
    };
    let missing = audit.blobs_missing.len() + audit.layers_missing.len();
    if audit.is_sound() {
        let detail = format!("{} needed by images, all there", ByteSize(audit.bytes_needed));
        return Finding { subject, works: true, detail, mend: None };
    }
    let mend = Some("load or import the images again whose containers do not start".to_owned());
    Finding { subject, works: false, detail: format!("{missing} files are missing"), mend }
}

/// An id that is none was never one of this store.
fn container_use(held: &ImageUse) -> Option<ContainerUse> {
    Some(ContainerUse {
        container: held.container.short().to_owned(),
        image: held.image_id.parse().ok()?,
        layers: held.layers.clone(),
        running: held.running,
    })
}

fn changes(loaded: &Loaded) -> Vec<Change> {
    match loaded.references.as_slice() {
        [] => vec![Change::Loaded(loaded.id.to_string())],
        names => names.iter().map(|name| Change::Loaded(name.familiar())).collect(),
    }
}

fn tell(progress: &OnProgress, news: &image::Progress) {
    let (doing, done, total) = match news {
        image::Progress::Reading { bytes } => ("reading".to_owned(), *bytes, None),
        image::Progress::Layer { blob, bytes, total } => {
            (format!("layer {}", short(blob)), *bytes, Some(*total))
        }
        image::Progress::LayerReady { blob, .. } => (format!("layer {}", short(blob)), 1, Some(1)),
        image::Progress::Writing { bytes, total } => ("writing".to_owned(), *bytes, Some(*total)),
    };
    progress(Progress { doing, done, total });
}

fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

fn view(image: &image::Image, form: &str) -> Result<ImageView, EngineError> {
    let wire::ImageConfig { created, architecture, variant, os, config, history, .. } =
        &image.config;
    let mut references: Vec<_> = image.references.iter().map(Reference::familiar).collect();
    references.sort();
    references.dedup();
    Ok(ImageView {
        id: image.id.to_string(),
        manifest: image.manifest.to_string(),
        references,
        created: created.clone(),
        os: os.clone(),
        architecture: architecture.clone(),
        size: image.layer_bytes.iter().sum(),
        variant: variant.clone(),
        target: image.target.to_string(),
        layer_bytes: image.layer_bytes.clone(),
        variants: image.variants.iter().map(image_variant).collect(),
        containers: 0,
        layers: image.layers.iter().map(ToString::to_string).collect(),
        config: config.as_ref().map(image_config).transpose()?.unwrap_or_default(),
        history: history.iter().map(step).collect(),
        about: about(image, form),
    })
}

fn about(image: &image::Image, form: &str) -> ImageAbout {
    let config = &image.config;
    let container = config.config.as_ref();
    ImageAbout {
        digests: image.digests.iter().map(Reference::familiar).collect(),
        tagged: image.tagged,
        media_type: image.media_type.clone(),
        target_bytes: image.target_bytes,
        author: config.author.clone(),
        comment: config.comment.clone(),
        docker_version: config.docker_version.clone(),
        on_build: container.and_then(|container| container.on_build.clone()),
        shell: container.and_then(|container| container.shell.clone()),
        form: form.to_owned(),
    }
}

fn image_variant(variant: &image::Variant) -> ImageVariant {
    ImageVariant {
        platform: variant.platform.to_string(),
        id: variant.id.to_string(),
        manifest: variant.manifest.to_string(),
        media_type: variant.media_type.clone(),
        manifest_bytes: variant.manifest_bytes,
        size: variant.bytes,
        blob_bytes: variant.blob_bytes,
    }
}

fn image_config(config: &wire::ContainerConfig) -> Result<ImageConfig, EngineError> {
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let ports = config.exposed_ports.iter().flatten();
    Ok(ImageConfig {
        entrypoint: config.entrypoint.clone(),
        command: config.cmd.clone(),
        env: config.env.clone().unwrap_or_default(),
        working_dir: text(&config.working_dir),
        user: text(&config.user),
        labels: config.labels.clone().unwrap_or_default(),
        stop_signal: config.stop_signal.clone(),
        expose: ports.map(|(port, _)| exposed(port)).collect::<Result<_, _>>()?,
        health: config.healthcheck.as_ref().map(|check| health(check, config.shell.as_ref())),
        volumes: config.volumes.iter().flatten().map(|(path, _)| path.clone()).collect(),
    })
}

/// An image's configuration as its container has it. What a container has no say in stays.
fn configure(image: &mut wire::ContainerConfig, config: &Create) {
    let list = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    image.user = config.user.clone().unwrap_or_default();
    image.working_dir = config.working_dir.clone().unwrap_or_default();
    image.env = list(&config.env);
    image.entrypoint = config.entrypoint.as_deref().and_then(list);
    image.cmd = list(&config.command);
    image.labels = (!config.labels.is_empty()).then(|| config.labels.clone());
    image.stop_signal = config.stop_signal.map(|signal| signal.to_string());
    let ports = config.expose.iter().map(|(port, protocol)| {
        let protocol = match protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        (format!("{port}/{protocol}"), wire::Empty {})
    });
    image.exposed_ports = (!config.expose.is_empty()).then(|| ports.collect());
    image.healthcheck = config.health.as_ref().map(healthcheck);
}

/// A check as an image has it; what is not said is 0.
fn healthcheck(check: &HealthCheck) -> wire::Healthcheck {
    let time = |time: Option<Duration>| {
        time.map_or(0, |time| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
    };
    wire::Healthcheck {
        test: check.test.to_words(),
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: check.retries.map_or(0, i64::from),
    }
}

/// Times below zero are as little said as none.
fn health(check: &wire::Healthcheck, shell: Option<&Vec<String>>) -> HealthCheck {
    let time = |nanoseconds: i64| {
        u64::try_from(nanoseconds).ok().filter(|time| *time > 0).map(Duration::from_nanos)
    };
    HealthCheck {
        test: HealthTest::from_words(&check.test),
        interval: time(check.interval),
        timeout: time(check.timeout),
        start_period: time(check.start_period),
        start_interval: time(check.start_interval),
        retries: u32::try_from(check.retries).ok().filter(|most| *most > 0),
        shell: shell.cloned(),
    }
}

/// Reads `80/tcp`, `53/udp`, `80`.
fn exposed(text: &str) -> Result<(u16, Protocol), EngineError> {
    let bad = || invalid("image", format!("exposed port {text:?} is not a port"));
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(bad()),
    };
    Ok((port.parse().map_err(|_| bad())?, protocol))
}

fn step(step: &wire::History) -> ImageHistory {
    ImageHistory {
        created: step.created.clone(),
        created_by: step.created_by.clone(),
        comment: step.comment.clone(),
        empty_layer: step.empty_layer,
    }
}
