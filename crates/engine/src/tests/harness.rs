//! An engine with everything around it in memory, and a host that outlives it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use base::{ContainerId, Digest};
use tempfile::TempDir;
use testkit::fake::Fake;
use workload::{Driver, Finding};

use crate::{
    Change, Config, Create, Engine, EngineError, ImageConfig, ImageMount, ImageUsage, ImageView,
    Import, NetworkMode, NetworkView, OnProgress, OpenError, Prune, Pruned, RemoveImage,
    engine::Parts,
    images::{ImageUse, Images},
    networks::{Attached, Joining, Known, Networks},
};

/// Whatever takes longer than this is stuck.
pub(super) const STUCK: Duration = Duration::from_secs(20);

/// A host: what is left when an engine is killed.
pub(super) struct World {
    pub(super) dir: TempDir,
    pub(super) fake: Fake,
    pub(super) images: Arc<FakeImages>,
    pub(super) networks: Arc<FakeNetworks>,
}

impl World {
    pub(super) fn new() -> World {
        World {
            dir: tempfile::tempdir().unwrap(),
            fake: Fake::new(),
            images: Arc::default(),
            networks: Arc::default(),
        }
    }

    pub(super) fn config(&self) -> Config {
        let dir = self.dir.path();
        Config::new(dir.join("data"), dir.join("run"), "test".to_owned())
    }

    /// An engine on this host. One that was dropped a moment ago may still be letting go.
    pub(super) async fn engine(&self) -> Engine {
        let by = tokio::time::Instant::now() + STUCK;
        loop {
            let drivers: Vec<Arc<dyn Driver>> = vec![Arc::new(self.fake.clone())];
            let (images, networks) = (Arc::clone(&self.images), Arc::clone(&self.networks));
            let parts = move |_: &Config| Ok::<_, OpenError>(Parts { images, networks });
            match Engine::open_with(self.config(), drivers, parts).await {
                Ok(engine) => return engine,
                Err(OpenError::Locked(_)) if tokio::time::Instant::now() < by => {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                Err(error) => panic!("the engine does not open: {error}"),
            }
        }
    }

    /// Nothing is left of any container; what it wrote is deleted soon.
    pub(super) async fn assert_clean(&self) {
        assert!(self.fake.sandboxes().is_empty(), "sandboxes are left");
        assert!(self.networks.plugged().is_empty(), "leases are left");
        assert!(self.images.mounted().is_empty(), "mounts are left");
        let left = |path| std::fs::read_dir(self.dir.path().join(path)).unwrap().count();
        assert_eq!(left("data/containers") + left("run/containers"), 0, "directories are left");
        soon("what it wrote is deleted", || left("data/trash") == 0).await;
    }
}

/// A container that runs this.
pub(super) fn of(command: &[&str]) -> Create {
    Create {
        image: "image".to_owned(),
        command: command.iter().map(|word| (*word).to_owned()).collect(),
        network: NetworkMode::Bridge,
        ..Create::default()
    }
}

/// The same with a name.
pub(super) fn named(name: &str, command: &[&str]) -> Create {
    Create { name: Some(name.parse().unwrap()), ..of(command) }
}

/// The same, removing itself.
pub(super) fn transient(command: &[&str]) -> Create {
    Create { auto_remove: true, ..of(command) }
}

/// Waits for something that must come about.
pub(super) async fn soon(what: &str, done: impl Fn() -> bool) {
    let by = tokio::time::Instant::now() + STUCK;
    while !done() {
        assert!(tokio::time::Instant::now() < by, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// One image, `image`, without layers.
#[derive(Debug, Default)]
pub(super) struct FakeImages {
    mounted: Mutex<BTreeSet<ContainerId>>,
    pub(super) broken: Mutex<bool>,
}

impl FakeImages {
    pub(super) fn mounted(&self) -> BTreeSet<ContainerId> {
        self.mounted.lock().unwrap().clone()
    }
}

fn not_here<T>() -> Result<T, EngineError> {
    let why = "the fake has one image".to_owned();
    Err(EngineError::Unsupported { what: "images".to_owned(), why })
}

impl Images for FakeImages {
    fn store(&self) -> Option<Arc<image::Store>> {
        None
    }

    fn recount(&self) {}

    fn find_for(&self, name: &str, _: Option<&str>) -> Result<ImageView, EngineError> {
        if name != "image" {
            return Err(EngineError::NoSuchImage(name.to_owned()));
        }
        Ok(ImageView {
            id: Digest::from_sha256([1; 32]).to_string(),
            manifest: Digest::from_sha256([2; 32]).to_string(),
            references: vec!["image:latest".to_owned()],
            created: None,
            os: "linux".to_owned(),
            architecture: "amd64".to_owned(),
            size: 0,
            variant: None,
            target: Digest::from_sha256([2; 32]).to_string(),
            layer_bytes: Vec::new(),
            variants: Vec::new(),
            containers: 0,
            layers: Vec::new(),
            config: ImageConfig { command: Some(vec!["sleep".to_owned()]), ..Default::default() },
            history: Vec::new(),
            about: Default::default(),
        })
    }

    fn mount(
        &self,
        container: &ContainerId,
        _layers: &[Digest],
    ) -> Result<Vec<PathBuf>, EngineError> {
        if *self.broken.lock().unwrap() {
            return not_here();
        }
        self.mounted.lock().unwrap().insert(container.clone());
        Ok(vec!["/layer".into()])
    }

    fn files(&self, _layers: &[Digest]) -> Result<Vec<PathBuf>, EngineError> {
        Ok(vec!["/layer.erofs".into()])
    }

    fn unmount(&self, container: &ContainerId) {
        self.mounted.lock().unwrap().remove(container);
    }

    fn findings(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn strays(&self, _: &[ImageUse]) -> Result<Vec<PathBuf>, EngineError> {
        Ok(Vec::new())
    }

    fn unmount_idle(&self) {
        assert!(self.mounted().is_empty(), "there are containers");
    }

    fn list(&self) -> Result<Vec<ImageView>, EngineError> {
        Ok(vec![self.find("image")?])
    }

    fn count(&self) -> u64 {
        1
    }

    fn import(&self, _: File, _: &Import, _: OnProgress) -> Result<String, EngineError> {
        not_here()
    }

    fn commit(
        &self,
        _: &str,
        _: &mut (dyn std::io::Read + Send),
        _: &crate::Commit,
        _: &Create,
    ) -> Result<String, EngineError> {
        not_here()
    }

    fn load(&self, _: File, _: &[String], _: OnProgress) -> Result<Vec<Change>, EngineError> {
        not_here()
    }

    fn save(&self, _: &[String], _: &[String], _: File) -> Result<(), EngineError> {
        not_here()
    }

    fn prune(&self, _: &Prune, _: &[ImageUse]) -> Result<Pruned, EngineError> {
        Ok(Pruned::default())
    }

    fn usage(&self, _: &[ImageUse]) -> Result<ImageUsage, EngineError> {
        Ok(ImageUsage::default())
    }

    fn expose(
        &self,
        _: &str,
        _: Option<&str>,
        _: &Path,
        _: &Path,
    ) -> Result<(ImageMount, OwnedFd), EngineError> {
        not_here()
    }

    fn keep_exposed(&self, _: &str) -> Result<bool, EngineError> {
        Ok(false)
    }

    fn conceal(&self, _: &str) -> bool {
        false
    }

    fn exposed(&self) -> Vec<ImageMount> {
        Vec::new()
    }

    fn tag(&self, _: &str, _: &str) -> Result<(), EngineError> {
        not_here()
    }

    fn remove(&self, _: &str, _: &RemoveImage, _: &[ImageUse]) -> Result<Vec<Change>, EngineError> {
        not_here()
    }

    /// What an engine that opens does not know as mounted is not.
    fn collect(&self, uses: &[ImageUse]) -> Result<(), EngineError> {
        let running = |id: &ContainerId| uses.iter().any(|u| u.running && u.container == *id);
        self.mounted.lock().unwrap().retain(running);
        Ok(())
    }
}

/// Addresses in memory.
#[derive(Debug, Default)]
pub(super) struct FakeNetworks {
    plugged: Mutex<BTreeMap<ContainerId, Ipv4Addr>>,
    pub(super) broken: Mutex<bool>,
}

impl FakeNetworks {
    pub(super) fn plugged(&self) -> BTreeMap<ContainerId, Ipv4Addr> {
        self.plugged.lock().unwrap().clone()
    }
}

impl Networks for FakeNetworks {
    fn attach(&self, id: &ContainerId, _: &Joining) -> Result<Attached, EngineError> {
        if *self.broken.lock().unwrap() {
            return not_here();
        }
        let mut plugged = self.plugged.lock().unwrap();
        let mut free = (2..=254).map(|last| Ipv4Addr::new(10, 0, 0, last));
        let address = free.find(|a| !plugged.values().any(|taken| taken == a)).unwrap();
        assert!(plugged.insert(id.clone(), address).is_none(), "it is plugged in already");
        let view = NetworkView {
            address: Some(address),
            prefix: 24,
            gateway: Some(Ipv4Addr::new(10, 0, 0, 1)),
            ..NetworkView::default()
        };
        Ok(Attached { namespace: File::open("/dev/null").unwrap().into(), view })
    }

    fn prepare(&self) {}

    fn resolver(&self) -> Option<std::net::IpAddr> {
        None
    }

    fn detach(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.plugged.lock().unwrap().remove(id);
        Ok(())
    }

    fn connect(
        &self,
        _: &ContainerId,
        _: &Joining,
        _: std::os::fd::BorrowedFd<'_>,
    ) -> Result<NetworkView, EngineError> {
        not_here()
    }

    fn disconnect(
        &self,
        _: &ContainerId,
        _: &str,
        _: std::os::fd::BorrowedFd<'_>,
    ) -> Result<NetworkView, EngineError> {
        not_here()
    }

    fn resume(
        &self,
        _: &ContainerId,
        _: &crate::networks::Resolving,
        _: std::os::fd::BorrowedFd<'_>,
    ) -> Result<(), EngineError> {
        Ok(())
    }

    fn rename(&self, _: &ContainerId, _: &str) {}

    fn create(&self, _: crate::NetworkCreate) -> Result<crate::NetworkInfo, EngineError> {
        not_here()
    }

    fn list(&self) -> Vec<crate::NetworkInfo> {
        Vec::new()
    }

    fn find(&self, _: &str) -> Result<crate::NetworkInfo, EngineError> {
        not_here()
    }

    fn remove(&self, _: &str) -> Result<crate::NetworkInfo, EngineError> {
        not_here()
    }

    fn adopt(&self, plugged: &[Known]) -> Result<(), EngineError> {
        let known = plugged.iter().filter_map(|one| Some((one.id.clone(), one.view.address?)));
        *self.plugged.lock().unwrap() = known.collect();
        Ok(())
    }

    fn strays(&self) -> Result<Vec<net::InterfaceName>, EngineError> {
        Ok(Vec::new())
    }

    fn remove_stray(&self, _: &net::InterfaceName) -> Result<(), EngineError> {
        Ok(())
    }

    fn admission(&self, _: crate::Protocol, _: u16, _: u16) -> Result<net::Admission, EngineError> {
        Ok(net::Admission::default())
    }

    fn warnings(&self, _: bool) -> Vec<String> {
        Vec::new()
    }

    fn findings(&self, _: bool) -> Vec<Finding> {
        let (subject, detail) = ("network".to_owned(), "it is in memory".to_owned());
        vec![Finding { subject, works: true, detail, mend: None }]
    }

    fn remove_unused(&self) -> Result<(), EngineError> {
        Ok(())
    }
}
